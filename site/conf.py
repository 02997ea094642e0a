"""How Sphinx renders the course: saved outputs are shown, nothing is run, nothing is fetched.

`make site` calls it through build.py, which lays the pages out in site/_source first.
"""

import importlib.util
import shutil
from pathlib import Path

project = "Embedding models"
author = ""
html_show_copyright = False
html_title = "Embedding models"
root_doc = "index"
language = "en"

extensions = ["myst_nb"]
exclude_patterns = ["**/.ipynb_checkpoints"]
nb_execution_mode = "off"
nb_ipywidgets_js = {}  # sliders need a kernel; their script would come from the network
nb_merge_streams = True
nb_render_markdown_format = "gfm"
myst_enable_extensions = ["dollarmath", "amsmath", "html_image"]
myst_heading_anchors = 4
mathjax_path = "mathjax/tex-chtml.js"
suppress_warnings = ["mystnb.unknown_mime_type"]  # a slider's state: the picture or text beside it is shown

html_theme = "sphinx_book_theme"
html_static_path = ["_static"]
html_css_files = ["course.css"]
html_js_files = ["course.js"]
html_copy_source = False
html_show_sourcelink = False
html_last_updated_fmt = None
html_theme_options = {
    "extra_footer": "Code: MIT. Prose and tables: CC BY 4.0.",
    "show_toc_level": 2,
    "home_page_in_toc": True,
    "use_download_button": False,
    "use_fullscreen_button": True,
    "show_navbar_depth": 1,
    "navbar_persistent": [],  # the sidebar has the search box
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}


def copy_mathjax(app, error):
    """MathJax comes from a package: the program and its fonts, a twelfth of what the package holds."""
    if error is None and app.builder.format == "html":
        package = (
            Path(importlib.util.find_spec("sphinx-mathjax-offline").origin).parent / "static" / "mathjax"
        )
        folder = Path(app.outdir) / "_static" / "mathjax"
        shutil.copytree(package / "output" / "chtml", folder / "output" / "chtml", dirs_exist_ok=True)
        shutil.copy(package / "tex-chtml.js", folder)


def setup(app):
    app.connect("build-finished", copy_mathjax)
