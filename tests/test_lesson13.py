"""Lesson 13: its fusion, MMR and thresholds are the libraries', its table is what the recipe computes,
its vectors are MiniLM's, and nothing leaves the machine unless the reader says so."""

import http.server
import json
import re
import threading

import books
import docs_retrieval as recipe
import numpy as np
import pandas as pd
import pytest

from helpers import data, documentation, kept_vectors
from helpers.exercises import lesson13
from helpers.intervals import interval

LESSON, SOLUTION = books.path("13"), books.path("13", solutions=True)
TABLE = books.ROOT / "models" / "recipes" / "docs_retrieval.tsv"


@pytest.fixture(scope="module")
def space():
    return books.definitions(
        LESSON,
        "cut",
        "whole",
        "title",
        "make_passages",
        "checked",
        "best_first",
        "rrf",
        "weighted",
        "blend",
        "mmr",
        "make_prompt",
        "ask_model",
        "errors",
        "beyond",
        given={"share_read": 0.3},
    )


@pytest.fixture(scope="module")
def lines():
    return pd.read_csv(TABLE, sep="\t")


# cutting ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "overlap"), [(1, 0), (4, 0), (4, 3), (10, 4), (100, 20)])
@pytest.mark.parametrize("n", [1, 4, 5, 9, 100, 101, 180, 181, 333])
def test_cut_leaves_nothing_out_and_repeats_the_overlap_alone(space, n, size, overlap):
    words = [f"w{i}" for i in range(n)]
    pieces = [piece.split() for piece in space["cut"](" ".join(words), size, overlap)]
    assert [word for i, p in enumerate(pieces) for word in p[overlap if i else 0 :]] == words
    assert all(len(p) <= size for p in pieces) and all(len(p) == size for p in pieces[:-1])
    assert all(len(p) > overlap for p in pieces[1:])  # a last piece is more than a repetition


def test_the_helper_cuts_and_names_as_the_lesson(space):
    corpus = documentation.corpus()
    corpus = corpus[corpus["library"].isin(documentation.SEARCHED)]
    ours, theirs = space["make_passages"](corpus), documentation.passages()
    assert ours["text"].tolist() == theirs["text"].tolist() and ours["id"].is_unique
    assert ours["object"].tolist() == theirs["object"].tolist()
    text = corpus["text"].iloc[100] * 5
    for size, overlap in ((100, 20), (50, 10), (7, 0)):
        assert space["cut"](text, size, overlap) == documentation.cut(text, size, overlap)


@pytest.mark.parametrize("overlap", [-1, 100, 120])
def test_an_overlap_that_cannot_be_is_refused(space, overlap):
    with pytest.raises(ValueError, match=f"the overlap must be from 0 to 99 words, not {overlap}"):
        space["cut"]("some words", 100, overlap)


def test_whole_finds_the_sentences_that_a_border_cuts(space):
    text = "One two three. Four five six. Seven eight nine. Ten eleven."
    for size, overlap in ((4, 0), (5, 2), (6, 3), (100, 0), (3, 0)):
        pieces = space["cut"](text, size, overlap)
        found = [any(s in piece for piece in pieces) for s in re.split(r"(?<=\.) ", text)]
        assert space["whole"](text, size, overlap) == found


# the vectors --------------------------------------------------------------------------------


def test_the_kept_vectors_are_those_of_the_passages_and_minilms():
    from sentence_transformers import SentenceTransformer

    from helpers import models

    texts = documentation.passages()["text"]
    vectors, found = kept_vectors.lookup(texts)
    assert found.all()
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    rows = np.random.default_rng(0).choice(len(texts), 16, replace=False)
    minilm = SentenceTransformer(str(models.path("sentence-transformers/all-MiniLM-L6-v2")), device="cpu")
    fresh = minilm.encode(list(texts.iloc[rows]), normalize_embeddings=True)
    assert ((fresh * vectors[rows]).sum(axis=1) > 0.999).all()
    assert kept_vectors.FILE.stat().st_size < 3.5e6


def test_a_text_that_is_not_kept_is_not_found_and_a_saved_one_is(tmp_path):
    vectors, found = kept_vectors.lookup(["a text that stands nowhere"])
    assert not found.any() and not vectors.any()
    draw = np.random.default_rng(0).normal(size=(3, 8)).astype("f")
    file = kept_vectors.save(["b", "a", "b"], draw, tmp_path / "some.npz")
    for wrong in (draw[:2], draw[0]):
        with pytest.raises(ValueError, match="are not one for each of 3 texts"):
            kept_vectors.save(["b", "a", "b"], wrong, tmp_path / "some.npz")
    vectors, found = kept_vectors.lookup(["a", "x", "b"], file)
    assert found.tolist() == [True, False, True]
    assert vectors[0] == pytest.approx(draw[1] / np.linalg.norm(draw[1]), abs=0.01)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut short"])
def test_a_file_without_vectors_is_refused_in_a_sentence(tmp_path, content):
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(ValueError, match="bad.npz does not hold passages' vectors"):
        kept_vectors.lookup(["a"], tmp_path / "bad.npz")


def test_what_the_lesson_embedded_itself_is_what_is_kept():
    assert float(re.search(r"a moment ago: at least (\S+)", books.shown("13", "kept")).group(1)) >= 0.999


# ingest -------------------------------------------------------------------------------------


def test_ingest_adds_what_is_missing_and_nothing_twice(tmp_path):
    import lancedb
    import pyarrow as pa

    space = books.definitions(LESSON, "missing_from", "ingest")
    space["kept_vectors"] = kept_vectors
    space["embed"] = lambda texts: np.ones((len(texts), 384), dtype="f")
    schema = pa.schema(
        [(name, pa.string()) for name in ("id", "library", "kind", "object")]
        + [("chunk", pa.int32()), ("text", pa.string()), ("vector", pa.list_(pa.float32(), 384))]
    )
    table = lancedb.connect(tmp_path).create_table("passages", schema=schema)
    rows = documentation.passages()[:50].assign(id=[f"id{i}" for i in range(50)])
    assert space["ingest"](table, rows[:30], batch=8) == 30
    assert space["ingest"](table, rows, batch=8) == 20
    assert space["ingest"](table, rows) == 0
    assert table.count_rows() == 50
    new = rows[:1].assign(id="new", text="a text of the reader's own")
    assert space["ingest"](table, new) == 1
    vector = table.search().where("id = 'new'").to_list()[0]["vector"]
    assert vector == [1.0] * 384  # not kept, so embedded


# fusion -------------------------------------------------------------------------------------


def lists(n=40, seed=0):
    draw = np.random.default_rng(seed)
    names = [f"p{i:02}" for i in range(n)]
    for size in (n, n // 2):
        picked = draw.permutation(names)[:size]
        scores = np.sort(draw.random(size))[::-1] * 10
        yield pd.DataFrame({"object": picked, "score": scores}, index=picked)


def test_rrf_is_lancedbs(space):
    import pyarrow as pa
    from lancedb.rerankers import RRFReranker

    first, second = lists()
    number = {name: i for i, name in enumerate(first.index)}
    tables = [
        pa.table({"_rowid": pa.array([number[n] for n in x.index], pa.uint64()), "name": list(x.index)})
        for x in (first, second)
    ]
    theirs = RRFReranker(K=60).rerank_hybrid("", *tables).to_pandas().set_index("name")["_relevance_score"]
    ours = space["rrf"](first, second)["score"]
    assert ours.index.is_unique
    assert ours.to_dict() == pytest.approx(theirs.to_dict(), rel=1e-4)


def test_lancedbs_own_fusion_has_our_order_if_it_sees_as_many(space):
    shown = books.shown("13", "hybrid")
    for name in (r"RRFReranker\(K=60\)", r"LinearCombinationReranker\(weight=0\.6, fill=1\.0\)"):
        full, short = (
            int(re.search(rf"^{name}, limit +{k}: (\d+) of", shown, re.M).group(1)) for k in (100, 10)
        )
        assert full == 10 and short < 10


def test_weighted_is_scikit_learns_minmax(space):
    from sklearn.preprocessing import minmax_scale

    first, second = lists()
    for weight in (0, 0.3, 1):
        parts = [pd.Series(minmax_scale(x["score"]), x.index) for x in (first, second)]
        wanted = (weight * parts[0]).add((1 - weight) * parts[1], fill_value=0)
        got = space["weighted"](first, second, weight)["score"]
        assert got.to_dict() == pytest.approx(wanted.to_dict()) and got.is_monotonic_decreasing
    for few in (first[:1], first[:0]):  # one passage, and none at all
        for got in (space["weighted"](few, second, 0.5), space["weighted"](second, few, 0.5)):
            assert set(got.index) >= set(second.index) and got["score"].notna().all()
    assert space["rrf"](first[:0], second).index.tolist() == second.index.tolist()


def test_the_recipe_fuses_as_the_lesson(space):
    first, second = lists()
    pd.testing.assert_frame_equal(space["rrf"](first, second), recipe.rrf(first, second))
    pd.testing.assert_frame_equal(space["weighted"](first, second, 0.3), recipe.weighted(first, second, 0.3))
    read = second[::2].assign(score=1.0 / np.arange(1, len(second[::2]) + 1))
    pd.testing.assert_frame_equal(space["blend"](read, first), recipe.blend(read, first, 0.3))


@pytest.mark.parametrize("lam", [0.0, 0.3, 0.5, 0.8, 1.0])
def test_mmr_is_langchains(space, lam):
    from langchain_core.vectorstores.utils import maximal_marginal_relevance

    draw = np.random.default_rng(1).normal(size=(41, 16))
    draw /= np.linalg.norm(draw, axis=1, keepdims=True)
    wanted = maximal_marginal_relevance(draw[0], list(draw[1:]), lambda_mult=lam, k=10)
    assert space["mmr"](draw[0], draw[1:], lam) == wanted
    assert sorted(space["mmr"](draw[0], draw[1:6], lam)) == [0, 1, 2, 3, 4]  # fewer than k


# the table ----------------------------------------------------------------------------------


def test_the_table_has_every_question_once_a_stage(lines):
    judged = data.docs_questions()
    best = judged.groupby("question_id")["grade"].max()
    assert len(best[best > 0]) >= 100
    for stage, rows in lines.groupby("stage"):
        assert sorted(rows["question_id"]) == sorted(best[best > 0].index), stage
        assert rows["ndcg"].between(0, 1).all() and rows["recall"].between(0, 1).all()


def test_every_judged_object_is_one_of_the_corpus():
    judged = data.docs_questions()
    assert not set(judged["object"]) - set(documentation.passages()["object"])


def test_the_lesson_measured_what_the_table_says(lines):
    mean = lines.groupby("stage")["ndcg"].mean()
    text = books.shown("13", "stages")
    for stage in ("BM25", "vectors", "fused by rank", "fused by score"):
        table, mine = re.search(rf"^ *{stage} +(\S+) .* (\S+)$", text, re.M).groups()
        assert float(table) == pytest.approx(mean[stage], abs=6e-4)
        assert float(mine) == pytest.approx(mean[stage], abs=0.005), stage


def prose():
    """All markdown of the lesson, its lines joined."""
    cells = books.read(LESSON).cells
    return " ".join(" ".join(cell.source.split()) for cell in cells if cell.cell_type == "markdown")


def minus(number, form=".3f"):
    return format(number, form).replace("-", "−")


def said(gap):
    """A mean difference as the prose writes it."""
    low, high = interval(gap)
    return f"{minus(gap.mean(), '+.3f')}, interval {minus(low)} to {minus(high)}"


def chosen_share(lines):
    """The weight of the cross-encoder that is best on the first half of the questions."""
    ndcg = in_order(lines)
    tried = {stage: ndcg[stage][::2].mean() for stage in ndcg if stage.startswith("blended 20, ")}
    return float(max(tried, key=tried.get).rpartition(" ")[2])


def in_order(lines):
    """nDCG@10 of each stage, a row a question, in the order of the questions."""
    table = lines.pivot(index="question_id", columns="stage", values="ndcg")
    ids = data.docs_questions()["question_id"].drop_duplicates()
    return table.loc[[q for q in ids if q in table.index]]


def test_mmr_takes_what_is_about_something_else():
    at_one, at_less = re.search(
        r"lambda 1.0:\n(.*)\nlambda 0.8:\n(.*)", books.shown("13", "diverse"), re.S
    ).groups()
    assert "frame.DataFrame.duplicated" in at_one and "frame.DataFrame.duplicated" not in at_less
    about = ["duplic" in name for name in at_less.split()]
    assert about == [True] + 5 * [False] and "only the first of the six passages is still about" in prose()
    marks = dict(re.findall(r"lambda (\S+): .* nDCG@10 (\S+)", books.shown("13", "mmr")))
    assert "{} at λ = 1, {} at 0.7, {} at 0.".format(*marks.values()) in prose()


def test_what_chose_a_number_does_not_judge_it(lines):
    """Verdicts on stages with a chosen weight come from the other half, and are what the prose says."""
    ndcg, share = in_order(lines), chosen_share(lines)
    other, mean, text = ndcg[1::2], ndcg.mean(), prose()
    shown = books.shown("13", "verdicts")
    gap = other["fused by score"] - other["vectors"]
    low, high = interval(gap)
    assert low < 0 < high
    line = f"{gap.mean():+.3f} ({low:+.3f} to {high:+.3f})  n =  63  no difference seen in 63 questions"
    assert f"fused by score minus vectors alone: {line}" in shown
    assert not re.search(r"(fused by score|blended).* n = 126", shown)
    assert not re.search(r"^(BM25|fused by rank|reranked \d+) +minus .* n =  63", shown, re.M)
    needed = int(np.ceil((1.96 * gap.std() / gap.mean()) ** 2))
    assert f"about {needed} questions, {needed - 63} more" in books.shown("13", "needed")
    assert f"has {mean['fused by score']:.3f} on all 126 questions" in text
    assert f"The other 63 say {said(gap)}: no difference from vectors alone" in text
    assert f"With about {needed} questions that chose nothing, {needed - 63} more than these 63" in text
    blend = other[f"blended 100, {share}"] - other["vectors"]
    in_17 = "63 questions saw no gain over the vectors, neither by fusion nor by the blend"
    assert interval(blend)[0] < 0 < interval(blend)[1] and in_17 in books.path("17").read_text("utf-8")
    behind = other["fused by score"] - other["BM25"]
    assert interval(behind)[0] > 0 and f"on the same 63 ({said(behind)})" in text
    step = other[f"blended 100, {share}"] - other["fused by score"]
    assert interval(step)[0] < 0 < interval(step)[1] and f"({said(step)}, 63 questions)" in text
    assert f"From vectors alone 63 questions show no difference ({said(gap)})" in text
    assert f"no gain in nDCG@10 was seen ({said(step)})" in text


def test_the_cross_encoder_adds_nothing_to_the_fused_list(lines):
    """What the prose says of the original cross-encoder on the documentation."""
    ndcg = in_order(lines)
    mean, text = ndcg.mean(), prose()
    assert mean["reranked 100"] < mean["reranked 50"] < mean["reranked 20"] < mean["fused by rank"] + 0.001
    assert interval(ndcg["reranked 100"] - ndcg["BM25"])[0] > 0
    assert f"BM25 has {mean['BM25']:.3f}, vectors {mean['vectors']:.3f}" in text
    assert f"has {mean['reranked 100']:.3f} against the {mean['fused by rank']:.3f}" in text
    assert f"{mean['reranked 100']:.3f} against {mean['BM25']:.3f}." in text
    assert mean[["BM25", "vectors", "fused by rank", "fused by score"]].is_monotonic_increasing
    found = re.findall(r"over judged objects alone (\S+)", books.shown("13", "unjudged"))
    assert found == sorted(found)


def test_the_share_of_the_cross_encoder_is_the_first_halfs(lines):
    shown = books.shown("13", "share_read")
    assert f"chosen: {chosen_share(lines)}" in shown


def test_no_cut_is_better_and_two_are_worse(lines):
    ndcg, text = in_order(lines), prose()
    seen = {}
    for cut in ("untitled", "50-10", "200-40", "100-0", "whole"):
        for stage in ("BM25", "vectors", "fused by rank"):
            low, high = interval(ndcg[f"{stage}, {cut}"] - ndcg[stage])
            if not low < 0 < high:
                seen[stage, cut] = high
    assert set(seen) == {("vectors", "200-40"), ("BM25", "50-10")} and max(seen.values()) < 0
    assert f"worse for BM25 ({said(ndcg['BM25, 50-10'] - ndcg['BM25'])})" in text
    assert f"worse for vectors ({said(ndcg['vectors, 200-40'] - ndcg['vectors'])})" in text
    whole, ours = ndcg["vectors, whole"].mean(), ndcg["vectors"].mean()
    assert f"gives vectors {whole:.3f} instead of {ours:.3f}" in text


def test_the_live_rerank_is_the_tables(lines):
    """12 questions and 50 candidates, read live, against the same 12 of the table's row."""
    ids = data.docs_questions()["question_id"].drop_duplicates()
    for stage, tag in (("reranked 50", "live"), ("blended 50", "blended")):
        name = f"{stage}, {chosen_share(lines)}" if tag == "blended" else stage
        kept = lines[lines["stage"] == name].set_index("question_id")["ndcg"]
        asked = [q for q in ids if q in kept.index]
        sample = asked[1::2][::5][:12]
        found = float(re.search(rf"{stage}: nDCG@10 (\S+),", books.shown("13", tag)).group(1))
        assert found == pytest.approx(kept[sample].mean(), abs=0.015), stage


@pytest.fixture(scope="module")
def home():
    """Stage -> reciprocal rank of the right answer within ten places, a row a question."""
    table = pd.read_csv(TABLE.with_name("qa_retrieval.tsv"), sep="\t")
    places = table.pivot(index="question", columns="stage", values="place")
    assert len(places) == len(data.qa_pairs(part="test")) and places.notna().all(axis=None)
    return (1 / places).where(places.isin(range(1, 11)), 0)


def test_where_two_stages_pay_on_the_courses_own_answers(home):
    text = prose()
    places = pd.read_csv(TABLE.with_name("qa_retrieval.tsv"), sep="\t")
    places = places.pivot(index="question", columns="stage", values="place")
    bm25, vectors = "BM25", "vectors"
    added = home[f"{bm25}, reranked 20"] - home[bm25]
    assert interval(added)[0] > 0.05
    assert f"{home[bm25].mean():.3f} to {home[f'{bm25}, reranked 20'].mean():.3f} ({said(added)})" in text
    assert (
        f"fused by rank has room too ({said(home['fused by rank, reranked 20'] - home['fused by rank'])})"
        in text
    )
    more = home[f"{vectors}, reranked 20"] - home[vectors]
    assert interval(more)[0] < 0 < interval(more)[1] and f"can see ({said(more)})" in text
    assert f"rank even costs here ({said(home['fused by rank'] - home[vectors])})" in text
    assert f"first for {100 * (places[vectors] == 1).mean():.0f} %, and reading" in text
    among, at_first = places[bm25].between(1, 20).mean(), (places[bm25] == 1).mean()
    assert f"first 20 for {100 * among:.0f} % of the questions and first for {100 * at_first:.0f} %" in text
    assert f"it added {added.mean():.3f} to the MRR@10 of BM25's list" in text


def test_the_live_rerank_of_the_courses_answers_is_the_tables():
    shown = books.shown("13", "home_live")
    live, kept = (
        [float(x) for x in re.search(rf"{name}.* BM25 (\S+), reranked (\S+)$", shown, re.M).groups()]
        for name in ("live:", "the table")
    )
    assert live == pytest.approx(kept, abs=0.05)


def test_measure_of_the_recipe_counts_an_object_by_its_first_passage():
    rows = pd.DataFrame({"object": ["b", "a", "b", "c"]}, index=list("wxyz"))
    scores = recipe.measure({"q": rows}, {"q": {"a": 1, "b": 0}})
    assert scores.loc["q", "ndcg"] == pytest.approx(1 / np.log2(3)) and scores.loc["q", "recall"] == 1
    empty = recipe.measure({"q": rows, "r": rows[:0]}, {"q": {"a": 1}, "r": {"a": 1}})
    assert empty.loc["r"].tolist() == [0, 0]


# the last step -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def last_step():
    """grade, passage and sentence scores of the first ten passages, a row a question in order."""
    table = pd.read_csv(TABLE.with_name("docs_answers.tsv"), sep="\t").fillna({"grade": 0})
    judged = data.docs_questions()
    answerable = set(judged.loc[judged["grade"] > 0, "question_id"])
    ids = [q for q in judged["question_id"].drop_duplicates() if q in answerable]
    assert len(table) == 10 * len(ids)
    return [
        table.pivot(index="question_id", columns="place", values=name).loc[ids]
        for name in ("grade", "passage", "sentence")
    ]


def test_the_recipe_cuts_sentences_as_the_lesson(space):
    import docs_answers

    text = "a name in words: One. Two? Three: four!  Five"
    pairs = []
    with_model = books.definitions(LESSON, "extract")
    with_model["cross"] = type(
        "Cross", (), {"predict": lambda self, p, **more: pairs.extend(p) or np.arange(len(p))}
    )()
    taken = with_model["extract"]("How?", pd.DataFrame({"object": ["a.b"], "text": [text]}))
    assert [s for _, s in pairs] == docs_answers.sentences(text) == ["One.", "Two?", "Three: four!", "Five"]
    assert taken == ("Five", "a.b")


def test_the_grades_of_the_last_step_are_those_of_the_judgements():
    table = pd.read_csv(TABLE.with_name("docs_answers.tsv"), sep="\t")
    known = data.docs_questions().set_index(["question_id", "object"])["grade"]
    wanted = known.reindex(pd.MultiIndex.from_frame(table[["question_id", "object"]])).to_numpy()
    assert np.array_equal(table["grade"].to_numpy(), wanted, equal_nan=True)
    assert (table.groupby("question_id")["passage"].diff().dropna() <= 1e-4).all()


def test_what_the_lesson_says_of_the_last_step(last_step):
    grade, _, sentence = last_step
    text = prose()

    def right(k):
        taken = sentence.loc[:, :k].to_numpy().argmax(axis=1)
        return pd.Series(grade.to_numpy()[np.arange(len(grade)), taken] == 2, grade.index)

    there = {k: (grade.loc[:, :k] == 2).any(axis=1).mean() for k in (1, 3, 5, 10)}
    shown = books.shown("13", "last_step")
    for k in (1, 3, 5, 10):
        assert re.search(rf"^ +{k} +{there[k]:.1%} .* {right(k).mean():.1%} +\S+$", shown, re.M), k
    assert (
        f"for {there[3]:.0%} of the questions, in one of ten for {there[10]:.0%}".replace("%", " %") in text
    )
    assert (
        f"for {right(1).mean():.0%} of the questions with one passage and {right(10).mean():.0%} with ten".replace(
            "%", " %"
        )
        in text
    )
    low, high = interval(1.0 * right(10) - right(1))
    assert low < 0 < high
    table = pd.read_csv(TABLE.with_name("docs_answers.tsv"), sep="\t")
    unjudged = table["grade"].isna().groupby(table["place"]).mean()
    assert (
        f"{unjudged[1]:.0%} of the first passages and {unjudged[10]:.0%} of the tenth".replace("%", " %")
        in text
    )
    both = books.shown("13", "both_scores")
    assert "better" not in both and "both of 10, passage 0.0" in both
    assert re.findall(r"^.{26}(\S+%)", both, re.M) == ["25.4%"] * 3
    assert "the three ways are right for 25 % each" in text
    assert f"no right passage stands for {1 - there[3]:.0%} of the questions".replace("%", " %") in text
    taken = f"a right one for {there[10]:.0%}, and it is taken for {right(10).mean():.0%}"
    assert taken.replace("%", " %") in text
    assert f"among ten for {there[10]:.0%} of the questions".replace("%", " %") in text
    assert f"from a right source for {right(10).mean():.0%}.".replace("%", " %") in text


def test_the_live_answers_name_the_tables_sources():
    agree, of = re.search(r"(\d+) of (\d+) answers", books.shown("13", "answers_live")).groups()
    assert int(of) == 12 and int(agree) >= 10


# prompt, answer, refusal --------------------------------------------------------------------


@pytest.mark.parametrize("question", ["", "   ", None, 3])
def test_no_question_is_refused(space, question):
    with pytest.raises(ValueError, match="write a question: a string with at least one word"):
        space["checked"](question)


def test_the_prompt_numbers_its_passages_and_names_their_sources(space):
    rows = pd.DataFrame({"object": ["one.a", "two.b"], "text": ["First text.", "Second text."]})
    prompt = space["make_prompt"]("What now?", rows)
    assert "[1] one.a\nFirst text." in prompt and "[2] two.b\nSecond text." in prompt
    assert "[3]" not in prompt and "not in these documents" in prompt
    assert prompt.endswith("Question: What now?\nAnswer:")


def test_errors_of_a_threshold(space):
    inside, outside = np.array([0.2, 0.5, 0.6, 0.7]), np.array([0.1, 0.5])
    assert space["errors"](0.5, inside, outside) == (0.25, 0.5)


@pytest.fixture
def server():
    """A language model on loopback: it keeps what it was sent and replies."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.got.append((self.path, self.headers.get("Authorization"), json.loads(body)))
            self.send_response(self.server.status)
            self.end_headers()
            self.wfile.write(json.dumps(self.server.reply).encode())

        def log_message(self, *given):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.got, server.status = [], 200
    server.reply = {"choices": [{"message": {"role": "assistant", "content": "Use drop_duplicates [1]."}}]}
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_the_prompt_goes_to_the_readers_address(space, server, monkeypatch):
    monkeypatch.setenv("COURSE_LLM_URL", f"http://127.0.0.1:{server.server_port}/v1/")
    monkeypatch.setenv("COURSE_LLM_MODEL", "small")
    monkeypatch.setenv("COURSE_LLM_KEY", "abc")
    assert space["ask_model"]("a prompt") == "Use drop_duplicates [1]."
    path, key, body = server.got[0]
    assert (path, key, body["model"]) == ("/v1/chat/completions", "Bearer abc", "small")
    assert body["messages"] == [{"role": "user", "content": "a prompt"}]


@pytest.mark.parametrize(
    ("status", "reply"), [(500, {}), (200, {}), (200, {"choices": []}), (404, {"error": "no"})]
)
def test_a_model_that_does_not_answer_is_said_in_a_sentence(space, server, monkeypatch, status, reply):
    server.status, server.reply = status, reply
    monkeypatch.setenv("COURSE_LLM_URL", f"http://127.0.0.1:{server.server_port}/v1")
    monkeypatch.delenv("COURSE_LLM_KEY", raising=False)
    with pytest.raises(RuntimeError, match="no answer from the language model at http://127.0.0.1"):
        space["ask_model"]("a prompt")
    assert server.got[0][1] is None


def test_nothing_is_sent_as_the_lesson_stands():
    assert "Off. To turn it on, set COURSE_LLM_URL" in books.shown("13", "language_model")
    assert "Off. To turn it on: pip install pymilvus" in books.shown("13", "milvus")
    assert "the same prompt: True" in books.shown("13", "langchain")


# beyond one machine -------------------------------------------------------------------------


def test_beyond_counts_hours_and_gigabytes(space):
    table = space["beyond"](1000 / 3.6)
    assert table["hours on one"].tolist() == ["1.0", "100.0", "10000.0"]
    assert table["machines for a day"].tolist() == [1, 5, 417]
    assert table["GB float32"].tolist() == pytest.approx([1.536, 153.6, 15360])
    with pytest.raises(ValueError, match="the rate must be above 0"):
        space["beyond"](0)


# exercises ----------------------------------------------------------------------------------


def test_the_checks_accept_the_solutions(capsys):
    solutions = books.definitions(SOLUTION, "pack", "standard", "cheapest")
    for name in ("pack", "standard", "cheapest"):
        getattr(lesson13, name)(solutions[name])
        assert capsys.readouterr().out.startswith("Right:")


def z_scores(
    first, second, weight, ddof=0, equal=1.0, middle=np.mean, together=False, absent=min, swap=False, ids=None
):
    """The answer to exercise 2, with a mistake for each setting that is not the default."""
    scaled = []
    for scores in (first, second):
        values = np.array([*first.values(), *second.values()] if together else list(scores.values()), float)
        unequal = values.max() > values.min()  # the standard deviation of three times 0.1 is not quite 0
        spread = values.std(ddof=min(ddof, len(values) - 1)) if unequal else equal
        scaled.append({i: (s - middle(values)) / spread for i, s in scores.items()})
    low = [absent(z.values()) for z in scaled]
    low = low[::-1] if swap else low
    return {
        i: weight * scaled[0].get(i, low[0]) + (1 - weight) * scaled[1].get(i, low[1])
        for i in (ids(first, second) if ids else first | second)
    }


def naive(first, second, weight):
    """z-scores that take a list for one of equal scores where its standard deviation is 0."""
    scaled = []
    for scores in (first, second):
        values = np.array(list(scores.values()), float)
        scaled.append(dict(zip(scores, (values - values.mean()) / (values.std() or 1), strict=True)))
    low = [min(z.values()) for z in scaled]
    return {
        i: weight * scaled[0].get(i, low[0]) + (1 - weight) * scaled[1].get(i, low[1]) for i in first | second
    }


def by(**settings):
    return lambda first, second, weight: z_scores(first, second, weight, **settings)


def costly(cost_of, candidates=lambda inside, outside: np.r_[inside, outside]):
    """The answer to exercise 3, with another cost or other thresholds to choose from."""
    return lambda i, o, c: min(candidates(i, o), key=lambda t: cost_of(i, o, c, t))


def right_cost(i, o, c, t):
    return (i < t).mean() + c * (o >= t).mean()


def between(inside, outside):
    """The middles between neighbouring scores."""
    scores = np.unique(np.r_[inside, outside])
    return (scores[:-1] + scores[1:]) / 2


WRONG = [
    ("pack", lambda s, n: [" ".join(s)], "a sentence too many"),
    ("pack", lambda s, n: list(s), "three short sentences"),
    ("pack", lambda s, n: documentation.cut(" ".join(s), n, 0), "longer than the size"),
    ("pack", lambda s, n: [" ".join(s[i : i + 2]) for i in range(0, len(s), 2)], "three short sentences"),
    (
        "pack",  # after a long sentence every other by itself
        lambda s, n: s if s and len(s[0].split()) > n else packed(s, n),
        "a long sentence first",
    ),
    (
        "standard",
        lambda a, b, w: {i: w * a.get(i, 0) + (1 - w) * b.get(i, 0) for i in a | b},
        "the same two ids",
    ),
    ("standard", lambda a, b, w: 3, "cannot be compared"),
    ("standard", by(ddof=1), "the same two ids"),
    ("standard", by(middle=lambda values: 0), "the same two ids"),
    ("standard", lambda a, b, w: z_scores(a, b, 1 - w), "the same two ids"),
    ("standard", lambda a, b, w: z_scores(a, b, 0.5), "the same two ids"),
    ("standard", by(together=True), "the same two ids"),
    ("standard", by(middle=np.median), "ids that one list does not have"),
    ("standard", by(absent=lambda z: 0), "ids that one list does not have"),
    ("standard", by(absent=max), "ids that one list does not have"),
    ("standard", by(swap=True), "ids that one list does not have"),
    ("standard", by(ids=lambda a, b: a), "ids that one list does not have"),
    ("standard", by(ids=lambda a, b: b), "ids that one list does not have"),
    ("standard", by(ids=lambda a, b: [i for i in a if i in b]), "ids that one list does not have"),
    ("standard", by(equal=float("nan")), "equal scores in the first"),  # 0 / 0
    ("standard", naive, "equal scores in the first"),
    (
        "standard",  # an error only where a list has one entry
        lambda a, b, w: z_scores(a, b, w) if len(b) > 1 else [][0],
        "one entry in the second stopped with IndexError",
    ),
    ("cheapest", lambda i, o, c: float(np.median(i)), "two clouds that lie apart"),
    ("cheapest", costly(lambda i, o, c, t: right_cost(i, o, 1, t)), "ten times"),
    ("cheapest", costly(lambda i, o, c, t: (i <= t).mean() + c * (o >= t).mean()), "costs a tenth"),
    ("cheapest", costly(lambda i, o, c, t: (i < t).mean() + c * (o > t).mean()), "clouds that overlap"),
    ("cheapest", costly(lambda i, o, c, t: (i < t).sum() + c * (o >= t).sum()), "costs a tenth"),
    ("cheapest", costly(lambda i, o, c, t: c * (i < t).mean() + (o >= t).mean()), "ten times"),
    ("cheapest", costly(right_cost, lambda i, o: o), "two clouds that lie apart"),
    ("cheapest", costly(right_cost, lambda i, o: i), "above all right ones"),
    (
        "cheapest",
        lambda i, o, c: (i.mean() + o.mean()) / 2,
        "gives 0.475 (mean cost 0.000), which is none of",
    ),
    ("cheapest", costly(right_cost, between), "which is none of the scores in inside and outside"),
    (
        "cheapest",  # refuse everything, where that costs less
        costly(right_cost, lambda i, o: np.r_[i, o, np.inf]),
        "gives inf (mean cost 1.000), which is none of the scores in inside and outside; it should be 0.700",
    ),
    ("cheapest", lambda i, o, c: float("inf"), "which is none of the scores in inside and outside"),
    ("cheapest", lambda i, o, c: [][0], "IndexError"),
]


def packed(sentences, size):
    return books.definitions(SOLUTION, "pack")["pack"](sentences, size)


@pytest.mark.parametrize(("name", "wrong", "says"), WRONG)
def test_the_checks_explain_wrong_answers(capsys, name, wrong, says):
    getattr(lesson13, name)(wrong)
    out = capsys.readouterr().out
    assert out.startswith("Not yet:") and says in out


@pytest.mark.parametrize("name", ["pack", "standard", "cheapest"])
def test_an_empty_answer_is_told_what_it_should_give(capsys, name):
    getattr(lesson13, name)(lambda *given: ...)
    assert capsys.readouterr().out.startswith("Not yet written:")


# the questions ------------------------------------------------------------------------------


HEAD = "question_id\tquestion\tobject\tgrade\tnote\n"


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("q1\tHow?\tnumpy.mean\t3\t\n", "row 2: grade is '3'; it must be 0, 1 or 2"),
        (
            "q1\tHow?\tnumpy.mean\t2\t\nq1\tWhy?\tnumpy.sum\t0\t\n",
            "row 3: question_id 'q1' stands for another",
        ),
        ("q1\tHow?\tnumpy.mean\t2\t\nq1\tHow?\tnumpy.mean\t1\t\n", "row 3: 'numpy.mean' is judged twice"),
        ("q1\tHow?\t\t2\t\n", "column 'object' is empty"),
    ],
)
def test_a_bad_table_of_questions_is_said_in_a_sentence(tmp_path, rows, says):
    (tmp_path / "mine.tsv").write_text(HEAD + rows, encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(says)) as e:
        data.docs_questions(tmp_path / "mine.tsv")
    assert str(e.value).startswith("mine.tsv, ")


def test_a_good_table_of_questions_is_read(tmp_path):
    (tmp_path / "mine.tsv").write_text(
        HEAD + "q1\tHow?\tnumpy.mean\t2\tits first line\nq1\tHow?\tnumpy.sum\t0\t\n", encoding="utf-8"
    )
    found = data.docs_questions(tmp_path / "mine.tsv")
    assert list(found) == ["question_id", "question", "object", "grade"]
    assert found["grade"].tolist() == [2, 0]
