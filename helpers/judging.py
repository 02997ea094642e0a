"""Judge one's own search: grades for passages, stages compared, numbers chosen on one half and reported on the other.

    from helpers import judging
    todo = judging.pool(own, questions)              # passages to grade, blind: in an order that says nothing
    judging.grade(own, question, row, 2)             # kept at once, in grades.tsv of the collection
    result = judging.tune(own)                       # what is best, on which half, with which interval

A grade is 2 (answers the question), 1 (helps) or 0 (does not). It belongs to a source and the words of a passage
there, so that it holds when the documents are cut in another way.
"""

import csv
import hashlib
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from helpers import collection, files, tables, texts
from helpers.collection import Collection
from helpers.intervals import verdict

if TYPE_CHECKING:
    import pandas

COLUMNS = ["question", "source", "grade", "text"]
GRADES = {"2": "answers the question", "1": "helps", "0": "does not"}
WEIGHTS = [round(0.1 * i, 1) for i in range(11)]
FEWEST = 8  # judged questions; fewer make no two halves
LEAST = 6  # words by which a passage is known again under another file


def questions(path: str | Path) -> list[str]:
    """Questions of a file: a table with a column `question`, or a text with one on each line; each once.

    Words stand one space apart, as in the table of grades."""
    path = Path(path)
    if path.suffix.lower() in (".tsv", ".csv", ".jsonl", ".ndjson", ".json", ".parquet"):
        found = tables.read(path, ["question"])["question"]
    else:
        found = [line for line in tables.text(path).split("\n") if line.strip()]
        header = [cell.strip() for cell in found[0].split("\t")] if found else []
        if len(header) > 1 and "question" in header:
            found = tables.read(path, ["question"])["question"]
        elif found and found[0].strip().casefold() == "question":
            found = found[1:]
    found = list(dict.fromkeys(_spaced(question) for question in found))
    if not found:
        raise ValueError(f"{path.name} holds no question; write one on each line")
    return texts.as_list(found, "question")


# ---------------------------------------------------------------- grades


def grades(path: str | Path) -> "pandas.DataFrame":
    """Judgements: question, source, grade (0, 1 or 2), text (a passage, or a few words of it).

    Of two for the same question, source and text the later one counts. Raises ValueError in one sentence.
    """
    import pandas

    path = Path(path)
    if not path.exists():
        return pandas.DataFrame(columns=COLUMNS)
    rows = tables.read(path, ["question", "source", "grade", "text"], numbers=["grade"], quoting=False)
    _check(path, rows)
    rows["grade"] = rows["grade"].astype(int)
    rows["question"] = rows["question"].map(_spaced)
    return rows.drop_duplicates(["question", "source", "text"], keep="last").reset_index(drop=True)


def grade(own: Collection, question: str, source: str, text: str, given: int) -> None:
    """Keep one judgement at once: a line at the end of the collection's grades.tsv, on the disk when this returns.

    text: a passage as `ask` gives it, whose title and section are left out, or some words of it on one line."""
    if str(given) not in GRADES:
        raise ValueError(f"{given!r} is no grade; give 2 (answers), 1 (helps) or 0 (does not)")
    for what, cell in (("question", question), ("source", source), ("text", text)):
        texts.as_list([cell], what)  # one empty cell would spoil the whole table
    place = own.folder / "grades.tsv"
    line = "\t".join(
        _cell(*each) for each in zip(COLUMNS, (question, source, given, body(text)), strict=True)
    )
    whole = not place.exists() or place.read_bytes()[-1:] in (b"\n", b"")
    with place.open("a", encoding="utf-8") as file:
        if not file.tell():
            file.write("\t".join(COLUMNS) + "\n")
        file.write(("" if whole else "\n") + line + "\n")
        file.flush()
        os.fsync(file.fileno())


def add(own: Collection, path: str | Path) -> int:
    """Take the judgements of a file: question, source, grade, text; a row without a grade is left out.

    Returns how many are new. Raises as `grades`; nothing is taken from a file with a wrong row.
    """
    import pandas

    path, place = Path(path), own.folder / "grades.tsv"
    rows = tables.read(path, ["question", "source", "text"], rest=True, quoting=_marked(path))
    if "grade" not in rows:
        raise ValueError(f"{path.name}: no column 'grade'")
    rows["grade"] = [str(given).strip().removesuffix(".0") for given in rows["grade"]]
    rows = rows[~rows["grade"].isin(["", "nan", "None", "<NA>"])]
    _check(path, rows)
    before = grades(place)
    both = _as_cells(pandas.concat([before, rows[COLUMNS]]))
    both = both.drop_duplicates(["question", "source", "text"], keep="last")
    write(both, place)
    return len(both) - len(before)


def write(rows: "pandas.DataFrame", path: Path) -> None:
    """Write a table as `add` and `grades` read it: cells on one line each, quotation marks as they stand."""
    with files.put_whole(path) as part:
        _as_cells(rows).to_csv(part, sep="\t", index=False, quoting=csv.QUOTE_NONE)


def body(text: str) -> str:
    """A passage without its first line, which is its title and section."""
    return text.partition("\n")[2].strip() or text


def _as_cells(rows: "pandas.DataFrame") -> "pandas.DataFrame":
    return rows.assign(**{column: [_cell(column, value) for value in rows[column]] for column in rows})


def _cell(column: str, value: object) -> str:
    return re.sub(r"[\t\r\n]", " ", str(value)) if column == "source" else _spaced(str(value))


def _spaced(text: str) -> str:
    return " ".join(text.split())


def _marked(path: Path) -> bool | None:
    """True for a table with tabs in which each cell with a comma or a mark stands in marks, as Excel saves it."""
    if path.suffix.lower() not in (".tsv", ".txt"):
        return None
    special = [cell for cell in re.split(r"[\t\n]", tables.text(path)) if re.search('[,"]', cell)]
    return all(re.fullmatch('"([^"]|"")*"', cell) for cell in special) or None


def _check(path: Path, rows: "pandas.DataFrame") -> None:
    wrong = rows[~rows["grade"].isin(list(GRADES))]
    if len(wrong):
        raise ValueError(
            f"{path.name}, line {wrong.index[0] + 2}: the grade {wrong['grade'].iloc[0]!r} is none of 0, 1 and 2"
        )


def relevance(passages: "pandas.DataFrame", judged: "pandas.DataFrame") -> dict[str, dict[str, int]]:
    """The grade of each passage for each question: {question: {id: grade}}, where there is one.

    A judgement belongs to a passage of its source that holds its text, or that its text holds, or with
    which it shares half of the shorter one's three-word runs; title and section do not count. Of several with
    other texts that belong to one passage the highest counts. Where its source
    is gone (the file has another name now), it belongs to any passage that holds its text or is held by it, if
    the text has at least LEAST words: fewer may stand anywhere.
    """
    bare = {
        source: [(row.id, words(row.text.partition("\n")[2])) for row in rows.itertuples()]
        for source, rows in passages.groupby("source")
    }
    found = {}
    for row in judged.itertuples():
        of_question = found.setdefault(row.question, {})
        told = words(body(row.text))
        if row.source in bare:
            names = [name for name, other in bare[row.source] if same(told, other)]
        else:
            long = len(told.split()) >= LEAST
            names = [name for of in bare.values() for name, other in of if long and held(told, other)]
        for name in names:
            of_question[name] = max(int(row.grade), of_question.get(name, 0))
    return found


def words(text: str) -> str:
    return " ".join(["", *re.findall(r"\w+", text.casefold()), ""])


def held(one: str, other: str) -> bool:
    return (one in other or other in one) and bool(one.strip()) and bool(other.strip())


def same(one: str, other: str) -> bool:
    if held(one, other):
        return True
    short, long = sorted((one.split(), other.split()), key=len)
    runs = {tuple(short[i : i + 3]) for i in range(len(short) - 2)}
    shared = runs & {tuple(long[i : i + 3]) for i in range(len(long) - 2)}
    return len(runs) > 4 and len(shared) >= 0.5 * len(runs)


def pool(own: Collection, asked: Sequence[str], k: int = 5) -> "pandas.DataFrame":
    """What is to be judged: the first k passages of every stage for each question, without those judged already.

    Columns question, id, source, section, page, text; the order within a question is by a hash, so that it
    does not tell which stage brought a passage up, nor how high.
    """
    import pandas
    from tqdm.auto import tqdm

    if k < 1:
        raise ValueError(f"k={k} pools nothing; give at least 1")
    rows = []
    known = relevance(own.passages(), grades(own.folder / "grades.tsv"))
    asked = [_spaced(question) for question in texts.as_list(asked, "question")]  # as in grades.tsv
    for question in tqdm(asked, desc="asking", disable=len(asked) < 5, leave=False):
        found = own.stages(question, collection.STAGES)
        union = pandas.concat([one[:k] for one in found.values()])
        union = union[~union.index.duplicated()].reset_index()
        union["question"] = question
        union["order"] = [hashlib.sha256(f"{question}{name}".encode()).hexdigest() for name in union["id"]]
        union = union[~union["id"].isin(known.get(question, {}))]
        rows.append(union.sort_values("order"))
    return pandas.concat(rows)[["question", "id", "source", "section", "page", "text"]].reset_index(drop=True)


def in_terminal(
    own: Collection, todo: "pandas.DataFrame", reading: Callable = input, saying: Callable = print
) -> int:
    """Grade by the keyboard: 2, 1 or 0, s to pass over, q to stop. Each is kept at once. Returns how many."""
    done = 0
    for at, row in enumerate(todo.itertuples(), 1):
        place = " · ".join(filter(None, [row.source, row.section, f"page {row.page}" if row.page else ""]))
        saying(f"\n[{at} of {len(todo)}]  {row.question}\n\n{place}\n{row.text.partition(chr(10))[2]}\n")
        while (
            said := reading("2 answers, 1 helps, 0 does not, s skip, q stop: ").strip().casefold()
        ) not in {
            *GRADES,
            "s",
            "q",
        }:
            saying("one of 2, 1, 0, s, q")
        if said == "q":
            break
        if said != "s":
            grade(own, row.question, row.source, row.text, int(said))
            done += 1
    return done


def widget(own: Collection, todo: "pandas.DataFrame"):
    """Buttons that grade `todo` in a notebook; each click is kept at once. Returns the widget to show."""
    import ipywidgets

    at = iter(todo.itertuples())
    shown, count = ipywidgets.HTML(), ipywidgets.Label()
    state = {"row": None, "n": 0}

    def following() -> None:
        state["row"] = next(at, None)
        state["n"] += 1
        row = state["row"]
        if row is None:
            shown.value, count.value = "<b>All are judged.</b>", ""
            return
        place = " · ".join(filter(None, [row.source, row.section, f"page {row.page}" if row.page else ""]))
        question, place, text = (_safe(part) for part in (row.question, place, row.text.partition("\n")[2]))
        shown.value = f"<h3>{question}</h3><p><i>{place}</i></p><p style='max-width:45em'>{text}</p>"
        count.value = f"{state['n']} of {len(todo)}"

    def button(given: str, words: str):
        one = ipywidgets.Button(description=words, tooltip=f"grade {given}" if given else words)

        def click(_):
            row = state["row"]
            if row is not None:
                if given:
                    grade(own, row.question, row.source, row.text, int(given))
                following()

        one.on_click(click)
        return one

    buttons = [button(given, words) for given, words in GRADES.items()] + [button("", "skip")]
    following()
    return ipywidgets.VBox([count, shown, ipywidgets.HBox(buttons)])


def _safe(text: str) -> str:
    import html

    return html.escape(text)


# ---------------------------------------------------------------- measures


def ndcg(names: Sequence[str], known: dict[str, int], k: int = 10) -> float:
    """nDCG@k of a list of passages, best first, by pytrec_eval; a passage without a grade counts 0."""
    import pytrec_eval

    judge = pytrec_eval.RelevanceEvaluator({"question": known}, {f"ndcg_cut.{k}"})
    run = {name: 1 / place for place, name in enumerate(dict.fromkeys(names), 1)}
    found = judge.evaluate({"question": run}).get("question", {})
    return found.get(f"ndcg_cut_{k}", 0.0)


def reciprocal_rank(names: Sequence[str], known: dict[str, int], k: int = 10, least: int = 2) -> float:
    """1 / the place of the first passage with at least this grade among the first k, else 0 (its mean: MRR@k)."""
    return next((1 / place for place, name in enumerate(names[:k], 1) if known.get(name, 0) >= least), 0.0)


def compared(after: "pandas.Series", before: "pandas.Series") -> str:
    """One stage minus another on the same questions: `intervals.verdict`, and how many questions they are.

    Raises ValueError for fewer than two questions, and where the two are not of the same questions.
    """
    if len(after) != len(before):
        raise ValueError(f"{len(after)} scores and {len(before)} are not of the same questions")
    if other := len(set(after.index) ^ set(before.index)):
        raise ValueError(
            f"{other} questions have a score on one side alone; compare scores of the same questions"
        )
    if len(after) > 1 and not (after - before).any():
        return f"{0:+.3f}, the same on all {len(after)} questions"
    return f"{verdict(after, before)} in {len(after)} questions"


def needed(after: "pandas.Series", before: "pandas.Series") -> int | None:
    """How many questions in all would settle a difference as large and as uneven as this one; None where it is 0.

    The 95 % interval of a mean is about 1.96 standard deviations / sqrt(n) to either side.
    """
    gap = after - before
    if len(gap) < 2:
        raise ValueError(f"{len(gap)} question says nothing of the others; judge more")
    mean = abs(gap.mean())
    return math.ceil((1.96 * gap.std() / mean) ** 2) if mean > 1e-9 else None


@dataclass
class Tuned:
    """What `tune` found. table: a row a stage, with the half that chose and the other; chosen: the numbers kept;
    scores: nDCG@10 of each stage (columns) on each question of the other half; said: sentences."""

    table: "pandas.DataFrame"
    chosen: dict
    scores: "pandas.DataFrame"
    said: list[str]


def tune(own: Collection, absent: Sequence[str] = (), least: str = "vectors", keep: bool = True) -> Tuned:
    """Choose the stage and its numbers on one half of the judged questions; report on the other half.

    Questions are split by a hash. absent: at least two questions that the documents do not answer, for the threshold
    of `answer`. least: the stage with which the chosen one is compared. keep: write what was chosen to the collection.
    Raises ValueError for fewer than 8 judged questions with a right passage, and for one absent question.
    """
    import pandas
    from tqdm.auto import tqdm

    if len(set(absent)) == 1:
        raise ValueError("one question without an answer cannot choose and report too; give at least two")
    judged = grades(own.folder / "grades.tsv")
    known = relevance(own.passages(), judged)
    asked = [q for q, of in known.items() if max(of.values(), default=0) > 0]
    if len(asked) < FEWEST:
        raise ValueError(
            f"{len(asked)} judged questions have a passage that answers or helps; judge at least {FEWEST}, "
            "better thirty"
        )
    asked.sort(key=lambda q: hashlib.sha256(q.encode()).hexdigest())
    first, other = asked[::2], asked[1::2]
    found, nearness = {}, {}
    for question in tqdm(asked, desc="asking", leave=False):
        by = own.stages(question, ["vectors", "BM25"])
        nearness[question] = float(by["vectors"]["score"].iloc[0])
        for weight in WEIGHTS:
            found["fused", weight, question] = collection.weighted(by["vectors"], by["BM25"], weight, least=0)
        found["vectors", None, question], found["BM25", None, question] = by["vectors"], by["BM25"]

    def score(stage, number, some):
        return pandas.Series([ndcg(list(found[stage, number, q].index), known[q]) for q in some], some)

    weight = max(WEIGHTS, key=lambda w: score("fused", w, first).mean())
    own.settings.setdefault("chosen", {})
    before = dict(own.settings["chosen"])
    own.settings["chosen"] = before | {"weight": weight}
    for question in tqdm(asked, desc="reading with the cross-encoder", leave=False):
        by = own.stages(question, ["fused", "reranked"])
        found["reranked", None, question] = by["reranked"]
        for read in WEIGHTS:
            top = by["fused"][: collection.READ]
            found["blended", read, question] = collection.weighted(by["reranked"], top, read)
    read = max(WEIGHTS, key=lambda r: score("blended", r, first).mean())
    own.settings["chosen"] = before
    numbers = {"vectors": None, "BM25": None, "fused": weight, "reranked": None, "blended": read}
    rows, scores = [], {}
    for stage, number in numbers.items():
        scores[stage] = score(stage, number, other)
        mrr = pandas.Series(
            [reciprocal_rank(list(found[stage, number, q].index), known[q]) for q in other], other
        ).mean()
        top = [_judged(found[stage, number, q], known[q]) for q in other]
        rows.append(
            {
                "stage": stage,
                "number": number,
                "chosen on": score(stage, number, first).mean(),
                "nDCG@10": scores[stage].mean(),
                "MRR@10": mrr,
                "judged": sum(top) / len(top),
            }
        )
    table = pandas.DataFrame(rows)
    best = table.loc[table["chosen on"].idxmax(), "stage"]
    scores = pandas.DataFrame(scores)
    dropped = len(known) - len(asked)
    said = [
        *([f"{dropped} questions without a right passage are left out"] if dropped else []),
        f"chosen on {len(first)} questions: {best}"
        + (f", weight of the vectors {weight}" if best not in ("vectors", "BM25") else "")
        + (f", of the cross-encoder {read}" if best == "blended" else ""),
        f"on the other {len(other)}: nDCG@10 {scores[best].mean():.3f}, minus {least} "
        f"{compared(scores[best], scores[least])}",
    ]
    reported = said[-1]
    if "no difference" in reported and (enough := needed(scores[best], scores[least])):
        more = max(1, enough - len(other))
        said.append(f"about {more:,} more questions would settle it, if it stays as large as it looks")
    chosen = {"stage": best, "weight": weight, "read": read}
    chosen["how"] = f"chosen on {len(first)} questions, {reported}"
    if len(absent):
        chosen["threshold"], of_threshold = threshold(own, nearness, absent)
        said.append(of_threshold)
    if keep:
        collection.choose(own, **chosen)
    return Tuned(table, chosen, scores, said)


def _judged(rows, known) -> float:
    top = list(rows.index[:10])
    return sum(name in known for name in top) / len(top) if top else 1.0


def threshold(own: Collection, inside: dict[str, float], absent: Sequence[str]) -> tuple[float, str]:
    """The least cosine at which an answer is given: chosen on every other question, reported on the rest.

    inside: {question with an answer: cosine of its nearest passage}; absent: questions without one; at least two
    of each, else ValueError.
    """
    outside = {q: collection.nearest(own, q) for q in texts.as_list(absent, "question")}
    ins, outs = ([near[q] for q in sorted(near, key=_hash)] for near in (inside, outside))
    if min(len(ins), len(outs)) < 2:
        raise ValueError(
            f"{len(ins)} questions with an answer and {len(outs)} without are too few; give two of each"
        )

    def errors(cut, of_in, of_out):
        return sum(x < cut for x in of_in) / len(of_in), sum(x >= cut for x in of_out) / len(of_out)

    cuts = sorted(set(ins[::2]) | set(outs[::2]))
    cut = min(cuts, key=lambda c: sum(errors(c, ins[::2], outs[::2])))
    refused, answered = errors(cut, ins[1::2], outs[1::2])
    return cut, (
        f"an answer from cosine {cut:.2f} on, chosen on {len(ins[::2])} questions with an answer and "
        f"{len(outs[::2])} without; on the others ({len(ins[1::2])} and {len(outs[1::2])}) {refused:.0%} are refused "
        f"wrongly, {answered:.0%} answered wrongly"
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
