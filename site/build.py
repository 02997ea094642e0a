"""Render the course as a site: python site/build.py [--out DIR]

Reads notebooks, cards and pages as they are in the repository, lays them out in the same folders beside
the result, so that a link that works in JupyterLab works on the site, and lets Sphinx render them.
Nothing is run and nothing is fetched: what a page shows is what the notebook has saved.

COURSE_REPOSITORY=owner/name, a repository on GitHub, puts links to Binder, Colab and Codespaces on each
lesson and on the first page, and notebooks for Colab into colab/. With --buttons nothing is rendered: the
links go into README.md.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import glossary
import lessons
import nbformat
import slides
import translate

from helpers import files

ROOT = lessons.ROOT
OUT = ROOT / "site" / "_build" / "html"
PAGES = ["docs/*.md", "docs/guide/*.md", "models/README.md", "shared_data/README.md", "CONTRIBUTING.md"]
BESIDE = {  # pages of the navigation after the lessons; what is not there yet is left out
    "For teachers": ["docs/guide/README", "docs/guide/[0-9][0-9]", "docs/grading", "docs/classroom_server"],
    "To look up": ["docs/glossary", "figures_you_will_see", "models/README", "shared_data/README"],
    "Behind the course": ["docs/beyond_one_machine", "CONTRIBUTING", "docs/licences"],
}
LANGUAGES = {"de": "Deutsch", "fr": "français", "es": "español", "it": "italiano", "pt_BR": "português"}
COLAB = """\
# On Colab: fetches the course and installs what Colab lacks; two to four minutes, once a session
import os
import subprocess
import sys

course = "/content/course"
if not os.path.isdir(course):
    address = "https://github.com/OWNER/NAME"
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", address, course], check=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    subprocess.run([*pip, "-r", f"{course}/requirements.lock"], check=True)
os.environ["COURSE_MODELS"] = "bundled"
os.chdir(f"{course}/notebooks")
sys.path.insert(0, course)"""
BUTTONS = re.compile(r"(?m)^(<!-- buttons.*-->\n)(?:Open lesson 0 in .*\n)?")
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")


def repository() -> str | None:
    """owner/name from COURSE_REPOSITORY. Raises ValueError for what is neither that nor empty."""
    name = os.environ.get("COURSE_REPOSITORY", "").strip()
    if name and not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ValueError(f"COURSE_REPOSITORY is {name!r}: give owner/name, as in github.com/owner/name")
    return name or None


def linked_files(text: str, folder: Path) -> set[Path]:
    """Files of the repository that a page in `folder` links to and that are no pages: tables, scripts."""
    found = {(folder / link).resolve() for link, _ in LINK.findall(text)}
    return {p for p in found if p.is_file() and p.suffix not in {".md", ".ipynb"}}


def on_the_site(text: str, folder: Path) -> str:
    """A page's links as the site needs them: the README is the first page, a folder is its list."""

    def one(found: re.Match) -> str:
        link, anchor = found[1], found[2] or ""
        target = (folder / link).resolve()
        if target == ROOT / "README.md":
            return re.sub(r"README\.md$", "index.md", link) + anchor
        if target.is_dir():
            return link.rstrip("/") + "/index.md"
        return link + anchor

    return LINK.sub(one, text)


def mirror(source: Path, page: Path, text: str, name: str | None = None) -> None:
    """Put a page into the source tree, and the files that it links to beside it."""
    target = source / (name or page.relative_to(ROOT))
    target.parent.mkdir(parents=True, exist_ok=True)
    text = text.replace("```mermaid", "```text")  # drawn by a script of a network, so shown as it is written
    target.write_text(on_the_site(text, page.parent), encoding="utf-8")
    for path in linked_files(text, page.parent):
        copy = source / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def ways_in(path: Path, github: str | None) -> str:
    """The line under a lesson's title: slides, the teacher's page, and where it opens without installing."""
    ways = [f'<a href="../slides/{path.stem}.html">Slides</a>']
    if (ROOT / "docs" / "guide" / f"{path.name[:2]}.md").exists():
        ways.append(f"[For teachers](../docs/guide/{path.name[:2]}.md)")
    if github:
        ways.append(f"Open in {elsewhere(path, github)}")
    return " · ".join(ways)


def elsewhere(path: Path, github: str) -> str:
    """Links that open a lesson where nothing need be installed."""
    binder = f"https://mybinder.org/v2/gh/{github}/main?urlpath=lab/tree/notebooks/{path.name}"
    colab = f"https://colab.research.google.com/github/{github}/blob/gh-pages/colab/{path.name}"
    return f"[Binder]({binder}) · [Colab]({colab}) · [Codespaces](https://codespaces.new/{github})"


def with_buttons(readme: str, github: str) -> str:
    """The README with these links below its line `<!-- buttons ... -->`, in place of those that stand there.

    Raises ValueError for a README without that line.
    """
    line = f"Open lesson 0 in {elsewhere(lessons.every()[0], github)}\n"
    found, times = BUTTONS.subn(lambda place: f"{place[1]}{line}", readme)
    if times != 1:
        raise ValueError("README.md has no line, or several, that begin with <!-- buttons: put one back")
    return found


def under_title(text: str, line: str) -> str:
    """A page's text with a line of links under its title."""
    title, rest = text.split("\n", 1)
    return f"{title}\n\n{line}\n{rest}"


def write_buttons(readme: Path, github: str | None) -> None:
    """Put the links of `with_buttons` into README.md itself, for whoever reads it on GitHub."""
    if not github:
        raise ValueError("name your copy: make buttons COURSE_REPOSITORY=owner/name")
    with files.put_whole(readme) as part:
        part.write_text(with_buttons(readme.read_text(encoding="utf-8"), github), encoding="utf-8")


def draws(cell: nbformat.NotebookNode) -> bool:
    """Is a cell's code there for a figure? On a page the figure is enough, and the code waits behind a click."""
    return "figures.show(" in cell.source and len(cell.source.splitlines()) > 7


def lesson(source: Path, path: Path, github: str | None) -> None:
    """A lesson's page: the notebook, with ways in under its title and its terms linked to the glossary."""
    book = nbformat.read(path, as_version=4)
    glossary.link(book)
    ways = ways_in(path, github)
    for language, paths in translate.languages().items():
        if path in paths:
            ways += f" · [{LANGUAGES.get(language, language)}]({language}/{path.name})"
    book.cells[0].source = under_title(book.cells[0].source, ways)
    for cell in book.cells:
        cell.metadata = {"tags": ["hide-input"]} if cell.cell_type == "code" and draws(cell) else {}
    mirror(source, path, nbformat.writes(book))


def solution(source: Path, path: Path) -> None:
    """A page of worked answers, whose code waits behind a click."""
    book = nbformat.read(path, as_version=4)
    book.metadata["orphan"] = True  # reached from its lesson and from the list of solutions
    what = "the set-up"
    for cell in book.cells:
        found = re.match(r"\*\*(\d+) · ", cell.source)
        what = f"the answer to {found[1]}" if found else what
        cell.metadata = {}
        if cell.cell_type == "code":
            prompts = {"code_prompt_show": f"Show {what}", "code_prompt_hide": f"Hide {what}"}
            cell.metadata = {"tags": ["hide-cell"], "mystnb": prompts}
    every = sorted(path.parent.glob("[0-9][0-9]_*.ipynb"))
    place = every.index(path)
    ways = [
        f"[Lesson {int(p.name[:2])}]({p.name})" for p in every[max(place - 1, 0) : place + 2] if p != path
    ]
    ways = (
        f"[The lesson](../{path.name}) · [all solutions](index.md) · solutions to "
        + " and ".join(ways).lower()
    )
    book.cells[0].source = under_title(book.cells[0].source, ways)
    mirror(source, path, nbformat.writes(book))


def for_teachers(page: Path) -> str:
    """The line under the title of a page of the teacher's guide."""
    found = [p for p in lessons.every() if p.name[:2] == page.stem]
    if not found:
        return (
            "For each lesson: [its page](00.md), slides, questions in the notebook, [grading](../grading.md)."
        )
    ways = [f"[The lesson](../../notebooks/{found[0].name})"]
    ways.append(f'<a href="../../slides/{found[0].stem}.html">Slides</a> (arrow keys; S for the notes)')
    if lessons.solution(found[0]).exists():
        ways.append(f"[Solutions](../../notebooks/solutions/{found[0].name})")
    return " · ".join(ways)


def contents(pages: list[str], caption: str) -> str:
    return (
        "\n".join(["```{toctree}", f":caption: {caption}", ":maxdepth: 1", ":hidden:", "", *pages, "```"])
        + "\n"
    )


def lay_out(source: Path, github: str | None) -> None:
    """Fill the folder that Sphinx reads from the repository."""
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    for path in lessons.every():
        lesson(source, path, github)
    solutions = sorted((ROOT / "notebooks" / "solutions").glob("[0-9][0-9]_*.ipynb"))
    for path in solutions:
        solution(source, path)
    for path in sorted({p for pattern in PAGES for p in ROOT.glob(pattern)}):
        text = path.read_text(encoding="utf-8")
        mirror(source, path, under_title(text, for_teachers(path)) if path.parent.name == "guide" else text)
    shutil.copytree(ROOT / "notebooks" / "pictures", source / "notebooks" / "pictures")
    shutil.copytree(ROOT / "site" / "_static", source / "_static")

    listed = "\n".join(f"- [Lesson {int(p.name[:2])}]({p.name})" for p in solutions)
    text = f"# Solutions\n\nOne way to do each exercise. The code waits behind a click.\n\n{listed}\n"
    (source / "notebooks" / "solutions" / "index.md").write_text(text, encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    readme = with_buttons(readme, github) if github else readme
    figures = re.search(r"(?ms)^## (Figures you will see\n.*?)(?=^## )", readme)[1]
    mirror(source, ROOT / "README.md", "# " + figures, "figures_you_will_see.md")
    trees = [
        contents([*(f"notebooks/{p.stem}" for p in lessons.every()), "notebooks/solutions/index"], "Lessons")
    ]
    trees.append(contents(in_other_languages(source), "Other languages"))
    for caption, patterns in BESIDE.items():
        found = [p for pattern in patterns for p in sorted(source.glob(f"{pattern}.md"))]
        trees.append(contents([p.relative_to(source).with_suffix("").as_posix() for p in found], caption))
    mirror(source, ROOT / "README.md", with_doors(readme) + "\n" + "\n".join(trees), "index.md")


def with_doors(readme: str) -> str:
    """The README as the first page: who only wants to read or to teach need not install."""
    doors = """
- **Read** here, with nothing to install: [lesson 0](notebooks/00_start_here.ipynb), then on by the list; the
  [glossary](docs/glossary.md) explains the terms. LANGUAGES
- **Teach**: [the teacher's guide](docs/guide/README.md), slides on each lesson's page, [grading](docs/grading.md),
  [a server for a class](docs/classroom_server.md).
- **Run** it yourself:
"""
    links = [
        f"[{LANGUAGES.get(language, language)}](notebooks/{language}/{path.name})"
        for language, paths in translate.languages().items()
        for path in paths[:1]
    ]
    doors = doors.replace("LANGUAGES", f"Lesson 0 in {', '.join(links)}." if links else "")
    return re.sub(r"(?m)^```\nmake lab", lambda found: f"{doors}\n{found[0]}", readme, count=1)


def in_other_languages(source: Path) -> list[str]:
    """Lay out what is translated; returns the pages' names."""
    pages = []
    for language, paths in translate.languages().items():
        for path in paths:
            book = translate.from_one_deeper(translate.translated(path, language))
            page = path.parent / language / path.name
            after = [p for p in lessons.every() if p > path][:1]
            ways = [
                f"[English](../{path.name})",
                f'<a href="../../slides/{path.stem}.html">Slides (English)</a>',
            ]
            ways += [f"[→ {int(p.name[:2])} (English)](../{p.name})" for p in after]
            book.cells[0].source = under_title(book.cells[0].source, " · ".join(ways))
            mirror(source, page, nbformat.writes(book))
            pages.append(page.relative_to(ROOT).with_suffix("").as_posix())
    return pages


def for_colab(path: Path, github: str) -> nbformat.NotebookNode:
    """A lesson with a first cell that fetches the course and installs what Colab lacks."""
    book = nbformat.read(path, as_version=4)
    first = COLAB.replace("OWNER/NAME", github)
    book.cells.insert(0, nbformat.v4.new_code_cell(first, id="colab"))
    return book


def build(out: Path) -> int:
    """Render the course to `out`; any warning is an error. Returns Sphinx's exit status."""
    github = repository()
    source = out.parent / "source"
    lay_out(source, github)
    options = ["-b", "html", "-W", "--keep-going", "-q", "-E", "-c", str(ROOT / "site")]
    options += ["-d", str(out.parent / "doctrees"), str(source), str(out)]
    done = subprocess.run([sys.executable, "-m", "sphinx", *options], check=False)
    if done.returncode:
        return done.returncode
    for language, paths in translate.languages().items():
        for path in paths:
            page = out / "notebooks" / language / f"{path.stem}.html"
            text = page.read_text(encoding="utf-8")
            page.write_text(re.sub(r'(<html[^>]*lang=)"en"', rf'\1"{language}"', text), encoding="utf-8")
    if github:
        (out / "colab").mkdir(exist_ok=True)
        for path in lessons.every():
            nbformat.write(for_colab(path, github), out / "colab" / path.name)
    slides.build(out / "slides", [])
    print(f"{len(list(out.rglob('*.html')))} pages: open {out / 'index.html'}")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="where the pages go (site/_build/html)")
    parser.add_argument("--buttons", action="store_true", help="only write the links into README.md")
    args = parser.parse_args()
    try:
        if args.buttons:
            sys.exit(write_buttons(ROOT / "README.md", repository()))
        sys.exit(build(args.out.resolve()))
    except (ValueError, OSError) as error:
        sys.exit(str(error))
