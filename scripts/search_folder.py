"""Search a folder of your own documents, judge what it finds, and make it better.

    python scripts/search_folder.py index FOLDER --store DIR        # read, cut, embed; again: only what has changed
    python scripts/search_folder.py ask "When is the shed open?" --store DIR [--k 10] [--json]
    python scripts/search_folder.py ask --questions FILE --store DIR --out RESULT.tsv
    python scripts/search_folder.py judge --store DIR --questions FILE          # by keyboard: 2, 1 or 0, kept at once
    python scripts/search_folder.py judge --store DIR --questions FILE --out TODO.tsv   # or in a table ...
    python scripts/search_folder.py judge --store DIR --graded TODO.tsv                 # ... read back
    python scripts/search_folder.py tune --store DIR [--absent FILE]            # choose on one half, report on the other
    python scripts/search_folder.py adapt --store DIR --pairs FILE              # train, re-embed, before and after

FOLDER holds Markdown, HTML, text, PDF, Word, notebooks and CSV, or is a table with the columns `source` and
`text`. A file that cannot be read is named and the rest is read. FILE has one question a line, or a column
`question`; of --pairs, `question` and `source` or `text`. All that is made lies in DIR; nothing leaves the machine.
"""

import argparse
import csv
import json
import pathlib
import sys

from helpers import adapting, collection, documents, files, judging, texts


def index(args: argparse.Namespace) -> None:
    own = collection.index(args.folder, args.store, args.size)
    for source, sentence in own.failed.items():
        where = source.rpartition("/")[0]
        print(f"left out: {sentence}{f' (in {where})' if where else ''}", file=sys.stderr)
    if not args.folder.is_file():
        kinds = sorted(path.suffix or path.name for path in documents.listed(args.folder)[1])
        if kinds:
            print(
                f"left out: {len(kinds)} of other kinds ({', '.join(sorted(set(kinds))[:8])})",
                file=sys.stderr,
            )
    did = own.changed
    print(
        f"{did['documents']} documents, {did['passages']} passages; read {did['read']}, embedded {did['embedded']} "
        f"passages, kept {did['kept']}; documents gone: {did['gone']}"
    )
    if not did["passages"]:
        raise ValueError("no document could be read")


def ask(args: argparse.Namespace) -> None:
    if (args.question is None) == (args.questions is None):
        raise ValueError("give one question, or a file of them with --questions")
    asked = [args.question] if args.questions is None else judging.questions(args.questions)
    texts.as_list(asked, "question")
    _room_for(args.out)
    own = collection.load(args.store)
    rows, nothing = [], []
    from tqdm.auto import tqdm

    for question in tqdm(asked, desc="asking", disable=len(asked) < 5):
        found = own.ask(question, args.k, args.stage)
        nothing += [question] if found.empty else []
        for row in found.itertuples():
            place = (row.rank, row.source, row.section, row.page or "", round(float(row.score), 4))
            rows.append((question, *place, " ".join(row.text.partition("\n")[2].split())))
    columns = ["question", "rank", "source", "section", "page", "score", "text"]
    least = own.chosen["threshold"]
    far = [q for q in asked if collection.nearest(own, q) < least] if least is not None and rows else []
    if far and (args.out or args.json or len(asked) > 1):
        print(
            f"perhaps not in these documents, the nearest passage being below cosine {least:.2f}: "
            f"{len(far)} of {len(asked)} questions ({'; '.join(far[:3])}{'; …' if len(far) > 3 else ''})",
            file=sys.stderr,
        )
    if args.out:
        with files.put_whole(args.out) as part, part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t", lineterminator="\n")
            writer.writerows([columns, *rows, *((question, *[""] * 6) for question in nothing)])
        print(f"{len(asked)} questions, {len(rows)} passages: {args.out}")
    elif args.json:
        print(
            json.dumps([dict(zip(columns, row, strict=True)) for row in rows], ensure_ascii=False, indent=1)
        )
    else:
        told = own.answer(asked[0], args.stage) if args.question and rows else None
        if told and not told["answer"]:
            print("not in these documents (nearest passages below)\n")
        elif told:
            print(f"{told['answer']}  [{_place(told['source'], told['section'], told['page'])}]\n")
        for question, rank, source, section, page, score, text in rows:
            if rank == 1 and len(asked) > 1:
                print(f"\n{question}")
            words = ", ".join(collection.matched(question, text))
            print(f"{rank:2}. {score:.3f}  {_place(source, section, page)}")
            print(f"      {text[:300]}{'…' if len(text) > 300 else ''}")
            print(f"      words in common: {words or 'none'}")
        for question in nothing:
            print(f"\n{question}\nnothing found" if len(asked) > 1 else "nothing found")


def _room_for(out: pathlib.Path | None) -> None:
    """Raises OSError where a result could not be written, before there is one."""
    if out and out.is_dir():
        raise IsADirectoryError(f"{out} is a folder; name a file in it")
    if out and not out.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {out.parent}; make it, or name another")


def _place(source: str, section: str, page) -> str:
    return " · ".join(filter(None, [source, section, f"page {page}" if page else ""]))


def judge(args: argparse.Namespace) -> None:
    own = collection.load(args.store)
    if args.graded:
        print(f"{judging.add(own, args.graded)} new judgements taken")
        return
    if args.questions is None:
        raise ValueError("name a file of questions with --questions, or a graded table with --graded")
    _room_for(args.out)
    todo = judging.pool(own, judging.questions(args.questions), args.k)
    if args.out:
        rows = todo.assign(grade="", text=todo["text"].map(judging.body))
        judging.write(rows[["question", "source", "section", "page", "grade", "text"]], args.out)
        print(
            f"{len(todo)} passages to judge: {args.out}. Write 2, 1 or 0 under `grade`, then: judge --graded {args.out}"
        )
        return
    try:
        done = judging.in_terminal(own, todo)
    except (EOFError, KeyboardInterrupt):
        print("\nstopped; what was judged is kept")
        return
    print(f"{done} of {len(todo)} judged")


def tune(args: argparse.Namespace) -> None:
    own = collection.load(args.store)
    absent = judging.questions(args.absent) if args.absent else []
    found = judging.tune(own, absent)
    print(found.table.round(3).to_string(index=False), *found.said, sep="\n")


def adapt(args: argparse.Namespace) -> None:
    own = collection.load(args.store)
    pairs, left_out = adapting.pairs(own, args.pairs)
    for sentence in left_out[:20]:
        print(f"left out: {sentence}", file=sys.stderr)
    report = adapting.adapt(own, pairs, seed=args.seed, force=args.force, epochs=args.epochs)
    print(*report.said, sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="index, ask, judge, tune or adapt"
    )

    def command(function, **about):
        one = commands.add_parser(function.__name__, **about)
        one.add_argument(
            "--store", type=pathlib.Path, required=True, help="the folder in which the search is kept"
        )
        one.set_defaults(run=function)
        return one

    one = command(index, help="read a folder into the store, or what has changed in it")
    one.add_argument("folder", type=pathlib.Path)
    one.add_argument(
        "--size", type=int, help=f"pieces of a passage, at most {collection.LONGEST}; default: 128"
    )
    one = command(ask, help="ask one question, or a file of them")
    one.add_argument("question", nargs="?")
    one.add_argument("--questions", type=pathlib.Path)
    one.add_argument(
        "--k",
        type=int,
        default=10,
        help=f"passages for each question; reranked and blended read {collection.READ} and show no more",
    )
    one.add_argument("--stage", choices=collection.STAGES, help="default: what tune chose, else fused")
    how = one.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true")
    how.add_argument("--out", type=pathlib.Path, help="write a table")
    one = command(judge, help="grade what the stages find, blind")
    one.add_argument("--questions", type=pathlib.Path)
    one.add_argument("--graded", type=pathlib.Path, help="take the grades of a table")
    one.add_argument("--out", type=pathlib.Path, help="write what is to be judged to a table")
    one.add_argument("--k", type=int, default=5, help="passages of each stage that are pooled")
    one = command(tune, help="choose stage and numbers on half of the judged questions")
    one.add_argument(
        "--absent", type=pathlib.Path, help="questions that the documents do not answer, two or more"
    )
    one = command(adapt, help="train the encoder on questions whose passages are known")
    one.add_argument("--pairs", type=pathlib.Path, required=True)
    one.add_argument("--epochs", type=int, default=adapting.EPOCHS)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--force", action="store_true", help="use the trained model whatever was measured")
    args = parser.parse_args()
    try:
        args.run(args)
    except KeyboardInterrupt:
        print(
            "\nstopped; what was written is whole, and the same command goes on from there", file=sys.stderr
        )
        sys.exit(130)
    except (ValueError, TypeError, OSError, RuntimeError, FloatingPointError) as e:
        sys.exit(files.sentence(e))


if __name__ == "__main__":
    main()
