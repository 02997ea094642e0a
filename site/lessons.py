"""The course's lessons by their numbers, for the scripts of this folder."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"


def every() -> list[Path]:
    """The notebooks of all lessons, in reading order."""
    return sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


def named(numbers: list[str]) -> list[Path]:
    """The lessons of these numbers, "03", in reading order; without a number, all of them.

    Raises ValueError for a number that no lesson has.
    """
    known = [path.name[:2] for path in every()]
    unknown = sorted(set(numbers) - set(known))
    if unknown:
        raise ValueError(
            f"no lesson {' '.join(unknown)}: give two digits each, from {known[0]} to {known[-1]}"
        )
    return [path for path in every() if not numbers or path.name[:2] in numbers]


def one(number: str) -> Path:
    """The lesson of one number. Raises ValueError where there is none."""
    return named([number])[0]


def solution(path: Path) -> Path:
    """Where a lesson's worked answers are, or would be."""
    return path.parent / "solutions" / path.name
