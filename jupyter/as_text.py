"""A notebook as text, for `git diff`: prose, code with its tags, and what each cell showed.

A picture is its alt text and the first digits of its sha256. Needs nothing but Python: git calls
this twice for every notebook that changed, and to import nbconvert or nbdime takes over a second.
"""

import hashlib
import json
import sys
from pathlib import Path


def joined(text: str | list[str]) -> str:
    """A text as a notebook's file holds it, in one piece or line by line."""
    return text if isinstance(text, str) else "".join(text)


def shown(output: dict) -> str:
    """What one output of a cell says, ending its last line."""
    if output["output_type"] == "error":
        return f"{output['ename']}: {output['evalue']}\n"
    data = output.get("data", {})
    text = joined(output.get("text") or data.get("text/plain", ""))
    if "image/png" in data:
        text += f" [picture {hashlib.sha256(joined(data['image/png']).encode()).hexdigest()[:8]}]"
    return text if text.endswith("\n") else f"{text}\n"


def as_text(book: dict) -> str:
    """The cells of a notebook (the JSON of its file, format 4), one below the other."""
    parts = []
    for cell in book["cells"]:
        source = joined(cell["source"])
        if cell["cell_type"] != "code":
            parts.append(source)
            continue
        tags = " ".join(["python", *cell["metadata"].get("tags", [])])
        parts.append(f"```{tags}\n{source}\n```")
        lines = "".join(map(shown, cell["outputs"])).splitlines()
        if lines:
            parts.append("\n".join(f"    {line}".rstrip() for line in lines))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    text = as_text(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    sys.stdout.buffer.write(text.encode())
