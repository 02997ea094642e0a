"""What the lessons of this course share: models and data on disk, figures, exercise checks.

Importing `helpers` is quick. A module imports torch, gensim or matplotlib only in the function
that needs it; those that are about networks (encoders, training, checkpoints, processes, zoo) import
torch at the top.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def cache() -> Path:
    """A folder for what is made once and can be made again; it exists and can be written.

    COURSE_CACHE where it is set, else .cache/ of the course, else (a course that lies in a
    read-only place) a folder in the reader's home.
    """
    if os.environ.get("COURSE_CACHE"):
        folder = Path(os.environ["COURSE_CACHE"])
    elif os.access(ROOT, os.W_OK):
        folder = ROOT / ".cache"
    else:
        folder = Path.home() / ".cache" / "embedding-models-course"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
