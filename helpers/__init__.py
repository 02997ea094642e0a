"""What the lessons of this course share: models and data on disk, figures, exercise checks.

Importing `helpers` is quick. Each module imports torch, gensim or matplotlib only in the
function that needs it.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
