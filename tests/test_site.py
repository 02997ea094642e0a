"""The rendered course: built without a warning, every link leads somewhere, and a browser finds nothing amiss.

What renders it is in requirements-site.lock; where that is not installed these tests are skipped.
"""

import importlib.metadata
import os
import re
import subprocess
import sys
import time
from urllib.parse import unquote, urlsplit

import books
import chromium
import nbformat
import pytest

pytest.importorskip("myst_nb", reason="the site's tools are not installed: make site brings them")
from bs4 import BeautifulSoup

BUDGET = 60 * 2**20  # bytes
FACTS = {  # what a newcomer looks up -> the page that must be among the first results
    "temperature loss of eight questions": "notebooks/05_contrastive_loss_trick",
    "anisotropy": "docs/glossary",
    "late chunking": "notebooks/16_the_field_today",
    "reciprocal rank fusion": "notebooks/13_retrieve_and_rerank",
}


def built(folder, **env):
    """Run the build as `make site` does, with no network but loopback: (its result, the pages' folder)."""
    out = folder / "html"
    command = [sys.executable, books.ROOT / "tests" / "offline.py", sys.executable]
    command += [books.ROOT / "site" / "build.py", "--out", out]
    bare = {k: v for k, v in os.environ.items() if k != "COURSE_REPOSITORY"}
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=bare | env)
    return done, out


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    done, out = built(tmp_path_factory.mktemp("site"), COURSE_REPOSITORY="owner/name")
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    return out


@pytest.fixture(scope="module")
def pages(site):
    """Each page's path, its parsed text by its name."""
    files = [p for p in sorted(site.rglob("*.html")) if "_static" not in p.parts]
    return {p: BeautifulSoup(p.read_text(encoding="utf-8"), "html.parser") for p in files}


@pytest.fixture(scope="module")
def browser():
    with chromium.opened(1280, 720) as driver:
        yield driver


def test_every_lesson_and_card_has_its_page(site):
    wanted = [f"notebooks/{p.stem}" for p in books.LESSONS]
    wanted += [f"notebooks/solutions/{p.stem}" for p in books.SOLUTIONS]
    wanted += [f"docs/guide/{p.name[:2]}" for p in books.LESSONS] + [
        f"slides/{p.stem}" for p in books.LESSONS
    ]
    wanted += ["docs/guide/README", "docs/glossary", "docs/grading", "docs/classroom_server"]
    wanted += ["models/README", "shared_data/README", "figures_you_will_see", "search", "index"]
    assert [name for name in wanted if not (site / f"{name}.html").exists()] == []
    assert sum(p.stat().st_size for p in site.rglob("*") if p.is_file()) < BUDGET


def test_every_link_leads_somewhere(site, pages):
    """Files and anchors of the site itself; an address of the net must be one that a page may name."""
    lost, ids = [], {}
    for path, page in pages.items():
        ids[path] = {tag["id"] for tag in page.find_all(id=True)} | {
            a["name"] for a in page.find_all("a", attrs={"name": True})
        }
    for path, page in pages.items():
        for tag in page.find_all(["a", "img", "link", "script"]):
            address = tag.get("href") or tag.get("src") or ""
            parts = urlsplit(address)
            if parts.scheme in ("http", "https"):
                if tag.name != "a":
                    lost.append(f"{path.relative_to(site)} loads {address}")
                continue
            if parts.scheme or not address or address == "#":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists() or target.is_dir():
                lost.append(f"{path.relative_to(site)}: {address}")
            elif (
                parts.fragment
                and target in ids
                and "slides" not in target.parts
                and unquote(parts.fragment) not in ids[target]
            ):
                lost.append(f"{path.relative_to(site)}: no {address}")
    assert lost == []


def test_every_figure_has_its_alt_text_and_every_lesson_its_neighbours(site, pages):
    for book in books.LESSONS:
        page = pages[site / "notebooks" / f"{book.stem}.html"]
        figures = sum(
            "image/png" in o.get("data", {}) for c in books.code(books.read(book)) for o in c.outputs
        )
        alts = [i.get("alt", "") for i in page.select("div.cell_output img")]
        assert len(alts) == figures and all(len(alt) > 30 for alt in alts), book.name
        assert page.select("a.right-next") and page.select("a.left-prev"), book.name


def test_a_page_says_what_its_notebook_says_and_nothing_was_run(site, pages):
    for book in books.LESSONS:
        page = pages[site / "notebooks" / f"{book.stem}.html"].get_text()
        for cell in books.code(books.read(book)):
            for output in cell.outputs:
                first = next(
                    (line.strip() for line in output.get("text", "").splitlines() if line.strip()), ""
                )
                assert first in page, f"{book.name}: {first}"


def test_the_code_of_solutions_waits_behind_a_click(site, pages):
    for book in books.SOLUTIONS:
        page = pages[site / "notebooks" / "solutions" / f"{book.stem}.html"]
        cells = page.select("div.cell div.cell_input")
        assert cells and all(cell.find_parent("details") for cell in cells), book.name


def test_each_lesson_leads_to_the_glossary_slides_and_services(site, pages):
    for book in books.LESSONS:
        links = [a["href"] for a in pages[site / "notebooks" / f"{book.stem}.html"].select("article a[href]")]
        to = lambda part, links=links: [link for link in links if part in link]
        assert len({*to("docs/glossary.html#")}) >= 3, f"{book.name} links {to('glossary')}"
        assert to(f"slides/{book.stem}.html") and to(f"guide/{book.name[:2]}.html")
        assert to(f"mybinder.org/v2/gh/owner/name/main?urlpath=lab/tree/notebooks/{book.name}")
        assert to(f"colab/{book.name}") and to("codespaces.new/owner/name")


def test_without_a_repository_no_page_offers_a_service(tmp_path, monkeypatch):
    import build

    monkeypatch.delenv("COURSE_REPOSITORY", raising=False)
    assert build.repository() is None
    assert "Binder" not in build.ways_in(books.path("03"), None)
    for wrong in ("owner", "https://github.com/owner/name", "owner/name/more", "owner/na me"):
        monkeypatch.setenv("COURSE_REPOSITORY", wrong)
        with pytest.raises(ValueError, match="give owner/name"):
            build.repository()


def test_the_first_page_leads_to_the_services(site, pages):
    links = [a["href"] for a in pages[site / "index.html"].select("article a[href]")]
    assert [link for link in links if "mybinder.org/v2/gh/owner/name" in link and "00_start_here" in link]
    assert "https://codespaces.new/owner/name" in links


def test_buttons_go_into_the_readme_once_and_follow_its_address(tmp_path, monkeypatch):
    import build

    readme, before = tmp_path / "README.md", (books.ROOT / "README.md").read_text(encoding="utf-8")
    readme.write_text(before, encoding="utf-8")
    for github in ("one/copy", "another/copy", "another/copy"):
        build.write_buttons(readme, github)
        lines = readme.read_text(encoding="utf-8").splitlines()
        (at,) = [i for i, line in enumerate(lines) if line.startswith("Open lesson 0 in [Binder]")]
        assert lines[at].count(github) == 3 and lines[at - 1].startswith("<!-- buttons")
        assert lines[:at] + lines[at + 1 :] == before.splitlines()
    with pytest.raises(ValueError, match="name your copy"):
        build.write_buttons(readme, None)
    readme.write_text("# A page\n", encoding="utf-8")
    with pytest.raises(ValueError, match="put one back"):
        build.write_buttons(readme, "one/copy")
    assert readme.read_text(encoding="utf-8") == "# A page\n"


def test_the_first_cell_for_colab_fetches_installs_and_opens_a_model(site, tmp_path):
    """Its code as it stands, with this repository for GitHub's and a folder here for Colab's."""
    book = nbformat.read(site / "colab" / books.path("03").name, as_version=4)
    first = book.cells[0].source
    assert (
        "https://github.com/owner/name" in first
        and book.cells[1].source == books.read(books.path("03")).cells[0].source
    )
    first = first.replace("https://github.com/owner/name", (books.ROOT / ".git").as_uri())
    first = first.replace("/content/course", str(tmp_path / "course"))
    first += "\nfrom helpers import models\nprint(models.__file__, models.path('sentence-transformers/all-MiniLM-L6-v2'))"
    done = subprocess.run([sys.executable, "-c", first], capture_output=True, encoding="utf-8", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "course" / "helpers") in done.stdout


@chromium.is_here
def test_a_browser_finds_no_barrier(site, pages, browser):
    """axe-core, WCAG 2.1 A and AA, on every page in a light and a dark room."""
    axe = next(
        f for f in importlib.metadata.files("axe-playwright-python") if f.name == "axe.min.js"
    ).read_text(encoding="utf-8")
    script = """const done = arguments[arguments.length - 1];
        axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'], resultTypes: ['violations']})
           .then(r => done(r.violations.map(v => v.id + ': ' + v.nodes[0].html.slice(0, 160))))"""
    # of each colour of code, in cells and in outputs, one word is enough: axe's time grows with a page's length
    once = """document.head.insertAdjacentHTML('beforeend', '<style>* {transition: none !important}</style>')
        const seen = new Set()
        for (const word of document.querySelectorAll('.highlight pre span[class]')) {
            const kind = word.className + ' in ' + word.closest('.cell_input, .cell_output, body').className
            seen.has(kind) ? word.replaceWith(...word.childNodes) : seen.add(kind)
        }"""
    found = []
    for path in pages:
        modes = (
            ("light", "dark")
            if path.stem in ("index", "03_cross_encoder_scoring", "glossary", "03")
            else ("light",)
        )
        browser.get(path.as_uri())
        browser.execute_script(axe)
        browser.execute_script(once)
        for mode in modes:
            browser.execute_script("document.documentElement.dataset.theme = arguments[0]", mode)
            found += [
                f"{path.relative_to(site)}, {mode}: {said}" for said in browser.execute_async_script(script)
            ]
    assert found == []


@chromium.is_here
def test_the_page_fits_a_phone(site, pages):
    with chromium.opened(390, 800) as phone:
        wide = []
        for path in pages:
            if "slides" not in path.parts:
                phone.get(path.as_uri())
                width = phone.execute_script("return document.documentElement.scrollWidth")
                wide += [f"{path.relative_to(site)}: {width}"] * (width > 390)
    assert wide == []


@chromium.is_here
@pytest.mark.parametrize("words", FACTS)
def test_search_finds_it(site, browser, words):
    browser.get(f"{(site / 'search.html').as_uri()}?q={words.replace(' ', '+')}")
    for _ in range(100):
        found = [
            a.get_attribute("href") for a in browser.find_elements("css selector", "#search-results li a")
        ]
        if any(FACTS[words] in link for link in found[:5]):
            return
        time.sleep(0.2)
    raise AssertionError(f"{words}: {found[:8]}")


@chromium.is_here
def test_slides_fit_and_can_be_read_from_the_back(site, browser):
    """12 to 20 a lesson; none is larger than 1280 × 720; code has at most 12 lines, of 20 pixels and more."""
    look = """Reveal.slide(arguments[0]);
        const s = Reveal.getCurrentSlide(), code = [...s.querySelectorAll('.highlight pre')];
        return [s.scrollHeight, s.scrollWidth, s.innerText.trim().length + s.querySelectorAll('img').length,
                Math.max(0, ...code.map(c => c.innerText.trim().split('\\n').length)),
                Math.min(99, ...[...s.querySelectorAll('pre, td, p, li')].map(e => parseFloat(getComputedStyle(e).fontSize)))]"""
    for book in books.LESSONS:
        browser.get((site / "slides" / f"{book.stem}.html").as_uri())
        many = browser.execute_script("return Reveal.getTotalSlides()")
        assert 12 <= many <= 20, f"{book.name}: {many} slides"
        for number in range(many):
            high, wide, filled, lines, size = browser.execute_script(look, number)
            place = f"{book.name}, slide {number + 1}"
            assert high <= 720 and wide <= 1280, f"{place}: {wide} × {high}"
            assert filled and lines <= 12 and size >= 20, f"{place}: {lines} lines of code, {size} px"
        assert browser.execute_script(
            "return [...document.images].every(i => i.complete && i.naturalWidth && i.alt)"
        )


def test_a_lesson_that_is_not_there_is_one_sentence(tmp_path):
    import slides

    with pytest.raises(ValueError, match="no lesson 99: give two digits each"):
        slides.build(tmp_path, ["99"])


def test_two_tags_change_what_has_a_slide():
    """`no-slide` takes the answer of a prediction out, and the next cell answers; `slide` adds a cell."""
    import slides

    def of(*marks):
        book = books.read(books.path("00"))
        for tag, cell_id in marks:
            next(c for c in book.cells if c.id == cell_id).metadata["tags"] = [tag]
        return [cell.source for slide in slides.slides("00", book) for cell in slide]

    unanswered, machine = books.cell("00", "unanswered"), books.code(books.read(books.path("00")))[0]
    assert unanswered.source in of() and machine.source not in of()
    assert unanswered.source not in of(("no-slide", unanswered.id))
    assert len(of(("slide", machine.id))) > len(of())


def test_every_prediction_has_its_slide_with_the_guide_s_words_for_it():
    """Also one inside a paragraph or with a colon: else the notes of all that follow would be another's."""
    import slides

    for book in books.LESSONS:
        number = book.name[:2]
        said = slides.said_by_the_guide(number)
        deck = slides.slides(number, books.read(book))
        asking = [slide for slide in deck if any(slides.PREDICT in cell.source for cell in slide)]
        assert [slide[-1].source for slide in asking] == said, book.name


def test_a_question_keeps_its_list_and_the_paragraph_before_it():
    import slides

    of = slides.prediction
    assert of("## A\n\nNo guess here.") is None
    assert of("## A\n\n**Predict first.** What?") == ("", "**Predict first.** What?")
    assert of("Two are left.\n\n**Predict first.** Which?\n\n- a\n- b\n\nMore.") == (
        "Two are left.",
        "**Predict first.** Which?\n\n- a\n- b",
    )
    assert of("Two are left. **Predict first:** which?") == ("Two are left.", "**Predict first:** which?")
    assert of("Three:\n\n- a\n- b\n\n**Predict first.** Which?")[0] == "Three:\n\n- a\n- b"
    assert of(f"{'long ' * 200}\n\n**Predict first.** Which?")[0] == ""
    assert of("| a |\n|---|\n\n**Predict first.** Which?")[0] == ""


def test_a_warning_stops_the_build(tmp_path, monkeypatch):
    """A link that leads nowhere is no page that gets published."""
    import build

    lay_out = build.lay_out

    def with_a_dead_link(source, github):
        lay_out(source, github)
        page = source / "docs" / "glossary.md"
        page.write_text(page.read_text(encoding="utf-8") + "\n[nowhere](nowhere.md)\n", encoding="utf-8")

    monkeypatch.setattr(build, "lay_out", with_a_dead_link)
    monkeypatch.delenv("COURSE_REPOSITORY", raising=False)
    assert build.build(tmp_path / "html") != 0
    assert not (tmp_path / "html" / "slides").exists()


def test_the_glossary_says_where_a_term_is_first_used():
    """The first lesson whose prose has the term, in any of its spellings, is the one that the glossary names."""
    import glossary

    prose = {}
    for book in books.LESSONS:
        cells = [
            c for c in books.read(book).cells if c.cell_type == "markdown" and "quiz" not in books.tags(c)
        ]
        cells[0].source = cells[0].source.replace("[glossary](../docs/glossary.md)", "")
        text = "\n\n".join(c.source for c in cells)
        text = re.split(r"(?m)^## References", text)[0]  # the title of a work is no use
        text = re.sub(r"```.*?```|`[^`\n]*`|\]\([^)]*\)", " ", text, flags=re.S)
        prose[book.name] = text
    page = glossary.PAGE.read_text(encoding="utf-8")
    assert list(glossary.terms()) == sorted(glossary.terms(), key=lambda t: t.lower().lstrip("["))
    for heading, (_, spellings) in glossary.terms().items():
        body = re.search(rf"(?ms)^## {re.escape(heading)}$(.*?)(?=^## |\Z)", page)[1]
        named = re.search(r"First used in \[lesson \d+\]\(\.\./notebooks/([^)]+)\)", body)[1]
        every = "|".join(glossary.spelling(s) for s in spellings)
        uses = [
            name
            for name, text in prose.items()
            if re.search(rf"(?<![\w-])(?:{every})(?:e?s)?(?![\w-])", text, re.I)
        ]
        assert uses and uses[0] == named, f"{heading}: first in {uses[:1]}, the glossary says {named}"
