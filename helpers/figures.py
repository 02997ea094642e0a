"""One look for every figure of the course, and alt text on each of them.

The palette is Okabe and Ito's (2008), which colour-blind readers can tell apart.
"""

import base64
import html
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, AMBER, BLACK, GREY = "#56B4E9", "#E69F00", "#000000", "#757575"
PALETTE = [BLUE, ORANGE, GREEN, PINK, SKY, AMBER, BLACK]


def style() -> None:
    """Set matplotlib's defaults: large type, no top and right spines, the palette above."""
    import matplotlib.pyplot as plt
    from cycler import cycler

    plt.rcParams.update(
        {
            "figure.figsize": (8, 5),
            "figure.dpi": 110,
            "savefig.bbox": "tight",
            "font.size": 13,
            "axes.titlesize": 15,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.titlepad": 12,
            "axes.labelsize": 13,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": cycler(color=PALETTE),
            "lines.linewidth": 2.2,
            "legend.frameon": False,
            "svg.hashsalt": "course",
        }
    )


def contrast(colour: object, other: object = "white") -> float:
    """The contrast of two colours, 1 to 21, as WCAG 2.1 defines it by their relative luminance."""
    import numpy as np
    from matplotlib.colors import to_rgb

    channels = np.array([to_rgb(colour), to_rgb(other)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    dark, light = sorted(linear @ [0.2126, 0.7152, 0.0722])
    return (light + 0.05) / (dark + 0.05)


def words_on(colour: object) -> str:
    """Black or white for words on a coloured field: whichever has the higher contrast."""
    return max("black", "white", key=lambda words: contrast(words, colour))


def darken_text(fig: "Figure", least: float = 4.5) -> None:
    """Darken a figure's coloured words until they can be read on white: a contrast of 4.5 or more.

    Lines and dots keep their colours, and so does light text, which stands on a dark field.
    """
    import colorsys

    from matplotlib.colors import to_rgb
    from matplotlib.text import Text

    for text in fig.findobj(Text):
        hue, light, saturation = colorsys.rgb_to_hls(*to_rgb(text.get_color()))
        if light < 0.85 and contrast(text.get_color()) < least:
            while contrast(colorsys.hls_to_rgb(hue, light, saturation)) < least:
                light -= 0.01
            text.set_color(colorsys.hls_to_rgb(hue, light, saturation))


def show(fig: "Figure", alt: str) -> None:
    """Display a figure with its alt text, and close it.

    The picture goes out as a PNG whose metadata carry the text, and as an HTML <img>, which
    is what JupyterLab shows and a screen reader reads. Raises ValueError for an empty alt.
    """
    import matplotlib.pyplot as plt
    from IPython.display import display

    if not alt.strip():
        raise ValueError("say in a sentence what the figure shows (alt)")
    darken_text(fig)
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", metadata={"Software": None})
    plt.close(fig)
    png = base64.b64encode(buffer.getvalue()).decode()
    page = f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{png}">'
    bundle = {"text/html": page, "image/png": png, "text/plain": f"Figure: {alt}"}
    display(bundle, metadata={"image/png": {"alt": alt}}, raw=True)


def label_points(
    ax: "Axes",
    points: "np.ndarray",
    labels: Sequence[str],
    avoid: "np.ndarray | None" = None,
    **text: object,
) -> None:
    """Write a label beside each point, moved apart where two would overlap.

    points: (n, 2) in data coordinates; labels: n strings; avoid: (m, 2), further places that
    no label may cover; text: font settings. Uses the library adjustText.
    """
    import numpy as np
    from adjustText import adjust_text

    middle = {"ha": "center", "va": "center"}  # no side is preferred
    texts = [ax.text(x, y, w, **middle | text) for (x, y), w in zip(points, labels, strict=True)]
    full = points if avoid is None else np.vstack([points, avoid])
    forces = {"force_static": (0.8, 1.0), "force_text": (0.6, 0.8), "explode_radius": 80}
    line = {"arrowstyle": "-", "color": GREY, "lw": 0.8}
    # it seldom settles, and left to itself it stops by the clock: no two pictures would be equal
    adjust_text(
        texts, x=full[:, 0], y=full[:, 1], ax=ax, expand=(1.25, 1.6), arrowprops=line, iter_lim=500, **forces
    )


def heatmap(ax: "Axes", matrix: "np.ndarray", labels: Sequence[str], **options: object) -> None:
    """A square heatmap with the value in each cell. matrix: (n, n); labels: n strings."""
    import seaborn

    settings = {
        "annot": True,
        "fmt": ".2f",
        "cmap": "cividis",
        "vmin": 0,
        "vmax": 1,
        "square": True,
        "annot_kws": {"size": 10},
        "xticklabels": labels,
        "yticklabels": labels,
    } | options
    seaborn.heatmap(matrix, ax=ax, **settings)
    ax.tick_params(axis="y", rotation=0)
    if any(len(tick.get_text()) > 3 for tick in ax.get_xticklabels()):
        ax.tick_params(axis="x", rotation=45)
        for tick in ax.get_xticklabels():
            tick.set_ha("right")
