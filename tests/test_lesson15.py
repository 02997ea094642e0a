"""Lesson 15: its definitions against trusted libraries, its checks, its recipe's table, and what its prose says."""

import logging
import re
import runpy

import books
import faiss
import numpy as np
import pandas as pd
import pytest
import small_and_cheap as recipe
import torch
from sentence_transformers.util.quantization import quantize_embeddings
from torch.nn.functional import normalize

from helpers import data, documentation, judging, ranking, training
from helpers.exercises import lesson15
from helpers.intervals import interval

LESSON, SOLUTION = books.path("15"), books.path("15", solutions=True)
TABLE = pd.read_csv(books.ROOT / "models" / "recipes" / "small_and_cheap.tsv", sep="\t")


def lesson(*names, **given):
    return books.definitions(LESSON, *names, given=given)


def unit(rows, width=384, seed=0):
    return normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)), dim=1).numpy()


# rulers ------------------------------------------------------------------------------------


def test_the_rulers_are_the_houses():
    space = lesson("reciprocal_ranks", "ndcg")
    scores = torch.tensor([[0.9, 0.2, 0.1], [0.8, 0.5, 0.1], [0.3, 0.3, 0.3]])
    assert space["reciprocal_ranks"](scores).tolist() == pytest.approx([1, 1 / 2, 1 / 3])
    assert space["reciprocal_ranks"](scores, [1, 0, 2]).tolist() == pytest.approx([1 / 2, 1, 1 / 3])
    q, a = torch.from_numpy(unit(20)), torch.from_numpy(unit(20, seed=1))
    assert np.allclose(space["reciprocal_ranks"](q @ a.T), 1 / ranking.ranks(q, a))
    space |= {"found_in": np.array(["a", "b", "a", "c"]), "grades": [{"a": 2}, {"c": 1, "b": 2}]}
    found = space["ndcg"]([[0.1, 0.9, 0.5, 0.3], [0.4, 0.1, 0.2, 0.9]])
    assert found == pytest.approx(
        [judging.ndcg(["b", "a", "c"], {"a": 2}), judging.ndcg(["c", "a", "b"], {"c": 1, "b": 2})]
    )


def test_fused_adds_places_and_not_scores():
    fused = lesson("fused")["fused"]
    one, other = torch.tensor([[9.0, 5.0, 1.0]]), np.array([[0.2, 0.3, 0.1]])
    wanted = [1 / 60 + 1 / 61, 1 / 61 + 1 / 60, 1 / 62 + 1 / 62]
    assert fused(one, other)[0].tolist() == pytest.approx(wanted)
    assert torch.equal(fused(one * 100, other), fused(one, other))


# shorter vectors, fewer bits ---------------------------------------------------------------


def test_the_loss_is_lesson_6s():
    loss = lesson("in_batch_loss")["in_batch_loss"]
    q, a = torch.randn(8, 16), torch.randn(8, 16)
    scores = 20 * normalize(q, dim=1) @ normalize(a, dim=1).T
    assert loss(q, a).item() == pytest.approx(training.contrastive_loss(scores).item(), abs=1e-6)


def test_the_matrix_learns_its_first_columns():
    """Pairs that agree in their last numbers alone: trained, the first columns find them."""
    draw = torch.Generator().manual_seed(0)
    q, a = torch.randn(300, 384, generator=draw), torch.randn(300, 384, generator=draw)
    a[:, 300:] = q[:, 300:]
    given = {"axes": torch.eye(384), "taught_q": normalize(q, dim=1), "taught_a": normalize(a, dim=1)}
    space = lesson("train_matrix", "in_batch_loss", "reciprocal_ranks", **given)
    matrix = torch.from_numpy(space["train_matrix"]((384, 48), steps=150))
    scores = {
        name: normalize(x, dim=1) @ normalize(y, dim=1).T
        for name, (x, y) in {
            "first": (q[:100, :48], a[:100, :48]),
            "trained": ((q[:100] @ matrix)[:, :48], (a[:100] @ matrix)[:, :48]),
        }.items()
    }
    found = {name: space["reciprocal_ranks"](s).mean() for name, s in scores.items()}
    assert found["first"] < 0.2 and found["trained"] > 0.8, found


def test_steps_turned_back_are_within_half_a_step():
    taught, x = unit(500, seed=3), unit(50, seed=4)
    low, high = taught.min(axis=0), taught.max(axis=0)
    inside = np.clip(x, low, high)
    space = lesson("to_int8", taught=torch.from_numpy(taught), quantize_embeddings=quantize_embeddings)
    step = (high - low) / 255
    assert (np.abs(space["to_int8"](inside) - inside) <= 1.001 * step).all()
    space = lesson("short_int8", taught=torch.from_numpy(taught), axes=torch.eye(384))
    short = space["short_int8"](96)(inside)
    assert short.shape == (50, 96) and (np.abs(short - inside[:, :96]) <= 0.501 * step[:96]).all()


def test_signs_rank_as_faiss_counts_bits():
    p, q = unit(400), unit(5, seed=1)
    index = faiss.IndexBinaryFlat(384)
    index.add(quantize_embeddings(p, precision="ubinary"))
    away, _ = index.search(quantize_embeddings(q, precision="ubinary"), 400)
    by_signs = np.sort((384 - np.sign(q) @ np.sign(p).T) / 2, axis=1)
    assert np.array_equal(away, by_signs.astype(int))


def test_rescored_reads_the_candidates_alone():
    full = {"firsts": unit(12), "rests": unit(60, seed=1), "asked": unit(3), "cuts": unit(60, seed=2)}
    kept = {}
    space = lesson(
        "rescored",
        full=full,
        to_int8=lambda x: x,
        reciprocal_ranks=lambda s: kept.setdefault("pairs", s),
        ndcg=lambda s: kept.setdefault("judged", s),
    )
    space["rescored"](2)
    for bed, (q, p) in {"pairs": ("firsts", "rests"), "judged": ("asked", "cuts")}.items():
        read = np.isfinite(kept[bed])
        assert (read.sum(axis=1) == 20).all()
        assert np.allclose(kept[bed][read], (full[q] @ full[p].T)[read])


# smaller networks --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def minilm():
    return recipe.minilm()


def test_layers_are_left_out_of_a_copy(minilm):
    for with_layers in (lesson("with_layers")["with_layers"], recipe.with_layers):
        texts = ["a short text", "another one, and a longer one"]
        whole = with_layers(minilm, list(range(6)))
        assert np.array_equal(whole.encode(texts), minilm.encode(texts))
        two = with_layers(minilm, (0, 5))
        kept = two[0].auto_model.encoder.layer
        assert len(kept) == 2 and len(minilm[0].auto_model.encoder.layer) == 6
        own = minilm[0].auto_model.encoder.layer[5].attention.self.query.weight
        assert torch.equal(kept[1].attention.self.query.weight, own)
        assert not np.allclose(two.encode(texts), minilm.encode(texts), atol=1e-2)


def test_the_lessons_student_is_the_recipes(minilm, monkeypatch):
    """Two steps of each, on the same texts: the same weights."""
    pairs = documentation.pairs("train").sample(40, random_state=0)
    texts = [*pairs["question"], *pairs["answer"]]
    teacher = recipe.minilm(64)
    wanted = torch.from_numpy(recipe.encode(recipe.minilm(), texts))
    space = lesson("teach", "with_layers")
    mine = space["with_layers"](teacher, (0, 5))
    losses = space["teach"](mine, texts, wanted, steps=2)
    assert losses[1] < losses[0]
    steps_of = recipe.steps_of

    def shortened(model, texts, steps, batch, lr):
        assert (steps, batch, lr) == (40, 64, 1e-3)
        return steps_of(model, texts, 2, batch, lr)

    monkeypatch.setattr(recipe, "steps_of", shortened)
    theirs = recipe.student(pairs)
    for one, other in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_whole_number_weights_give_nearly_the_same_vectors(minilm, tmp_path):
    texts = ["How do I leave out rows?", "A text of more words than the one before it, and another clause."]
    wanted = recipe.encode(minilm, texts)
    logging.getLogger().addHandler(logging.NullHandler())
    whole = recipe.onnx_int8(tmp_path)
    assert ((whole(texts) * wanted).sum(axis=1) > 0.97).all()
    names = ["input_ids", "attention_mask"]
    space = lesson("pooled", "from_file", tokenizer=minilm.tokenizer, names=names)
    by_onnx = space["from_file"](tmp_path / "minilm.onnx", threads=1)
    assert np.abs(space["pooled"](by_onnx, texts, size=1).numpy() - wanted).max() < 1e-5
    bert = minilm[0].auto_model
    assert np.abs(space["pooled"](lambda batch: bert(**batch)[0], texts).numpy() - wanted).max() < 1e-5
    small = lesson("in_int8", "quietly")["in_int8"](minilm)
    again = small.encode(texts, normalize_embeddings=True)
    assert ((again * wanted).sum(axis=1) > 0.9).all() and not np.allclose(again, wanted, atol=1e-4)


def test_a_table_row_is_the_mean_of_the_pieces():
    class Pieces:
        def __call__(self, texts, **_):
            return {"input_ids": [[ord(letter) for letter in text] for text in texts]}

    rows = {ord("a"): 0, ord("b"): 1}
    look_up = lesson("look_up", tokenizer=Pieces(), row_of=rows)["look_up"]
    found = look_up(torch.tensor([[3.0, 0.0], [0.0, 4.0]]), ["a", "aab"])
    assert torch.allclose(found, normalize(torch.tensor([[3.0, 0.0], [2.0, 4 / 3]]), dim=1))
    assert torch.equal(look_up(torch.eye(2), ["za"]), look_up(torch.eye(2), ["a"]))  # z is not in the table
    for nothing in ("z", ""):
        with pytest.raises(ValueError, match="one of the texts has no piece that is in the table"):
            look_up(torch.eye(2), ["a", nothing])


# the bill ----------------------------------------------------------------------------------


def test_the_bill_adds_up_and_a_budget_has_an_end():
    ndcg = {"MiniLM": 0.5, "int8": 0.4, "as good": 0.495}
    space = lesson(
        "bill",
        "best_within",
        prices={"a GB of memory a month": 4.0, "a GB of disk a month": 0.1, "an hour of a core": 0.05},
        sets={"MiniLM": (1000, 2000, "MiniLM"), "int8": (100, 2000, "fast"), "as good": (900, 0, "fast")},
        a_passage={"MiniLM": 0.036, "fast": 0.0036},
        rows={name: {"judged": np.array([x])} for name, x in ndcg.items()},
    )
    lines = space["bill"](1_000_000)
    assert list(lines.loc["MiniLM"]) == pytest.approx([0.5, 1, 2, 10, 0.5, 4.2])
    assert list(lines.loc["int8"]) == pytest.approx([0.4, 0.1, 2, 1, 0.05, 0.6])
    assert space["best_within"](1_000_000, 5) == "as good" and space["best_within"](1_000_000, 1) == "int8"
    with pytest.raises(ValueError, match="nothing here keeps 1,000,000 passages for 0.1 euros a month"):
        space["best_within"](1_000_000, 0.1)


# the recipe's table ------------------------------------------------------------------------


def wide():
    return TABLE.pivot(index="question_id", columns="model", values="ndcg")


def test_the_table_has_every_row_on_every_question():
    assert len(TABLE) == wide().size and TABLE["ndcg"].between(0, 1).all()
    assert set(wide().index) == set(data.docs_questions()["question_id"])
    named = {name for name in recipe.NAMES if name not in ("Matryoshka", recipe.SECOND)}
    stages = {f"cross-encoder, {deep} passages" for deep in (5, 10, 20)} | {"cross-encoder int8, 10 passages"}
    stages |= {f"cross-encoder to layer {layer}, 10 passages" for layer in recipe.EXITS}
    stages |= {f"BM25, {stage}" for stage in stages}
    assert set(wide()) == named | stages | {f"Matryoshka, {width} numbers" for width in recipe.WIDTHS}


def test_minilms_row_is_the_one_of_lesson_14s_table():
    other = pd.read_csv(books.ROOT / "models" / "recipes" / "docs_models.tsv", sep="\t")
    other = other[other["model"] == "MiniLM"].set_index("question_id")["ndcg"]
    assert (wide()["MiniLM"] - other).abs().max() < 1e-3


def test_nothing_that_is_searched_was_trained_on():
    trained = set(documentation.pairs("train")["library"])
    assert not trained & set(documentation.SEARCHED)
    assert not trained & set(documentation.pairs("test")["library"])


def test_a_second_stage_orders_what_it_reads_and_nothing_else():
    """Two questions over forty passages; the passages are numbers, and the second stage likes large ones."""
    first = np.random.default_rng(0).random((2, 40))
    best = np.argsort(-first, axis=1)[:, :30]
    after = np.argsort(-recipe.reranked(first, best, best.astype(float), 10), axis=1)
    for before, row in zip(np.argsort(-first, axis=1), after, strict=True):
        assert list(row[:10]) == sorted(before[:10], reverse=True) and list(row[10:]) == list(before[10:])


def test_a_head_is_judged_on_questions_that_it_was_not_fitted_on():
    """The score is a number of the state for even questions, and its opposite for odd ones."""
    states = np.random.default_rng(0).standard_normal((8, 30, 5))
    scores = states[:, :, 0] * np.where(np.arange(8) % 2, -1, 1)[:, None]
    found = recipe.left_early(states, scores)
    assert np.corrcoef(found.ravel(), scores.ravel())[0, 1] < -0.9


def test_pairs_are_read_as_the_library_reads_them():
    questions = ["What are rows?", "How are columns added?"]
    passages = ["A table has rows and columns.", "Columns are added with assign.", "It rains."]
    read = recipe.read_pairs(questions, passages, np.array([[0, 2], [1, 0]]))
    assert read["states"].shape == (2, 12, 2, 384)
    from sentence_transformers import CrossEncoder

    from helpers import models

    folder = str(models.path("cross-encoder/ms-marco-MiniLM-L-12-v2", quiet=True))
    model = CrossEncoder(folder, device="cpu", activation_fn=torch.nn.Identity())
    wanted = model.predict([(questions[0], passages[0]), (questions[1], passages[1])])
    assert read["scores"][:, 0] == pytest.approx(wanted, abs=1e-4)
    assert read["int8"][:, 0] == pytest.approx(wanted, abs=1.5)
    assert read["scores"][0, 0] > read["scores"][0, 1]


# prose -------------------------------------------------------------------------------------


def prose():
    """All prose of the lesson, in one line."""
    return " ".join(" ".join(c.source.split()) for c in books.read(LESSON).cells if c.cell_type == "markdown")


def row(name):
    """What the lesson shows of a row: pairs, judged, and what it lost on each."""
    cells = "baselines shorter matrix bits rescored short_int8 student static onnx_int8 splade".split()
    shown = "\n".join(books.shown("15", tag) for tag in cells)
    line = next(line for line in shown.splitlines() if re.match(re.escape(name) + r" +[\d,]+ bytes", line))
    pairs, judged = re.search(r"pairs (\S+)", line), re.search(r"judged (\S+)", line)
    lost = re.findall(r"(?:pairs|judged) \S+ (\S+) \[", line)
    return [float(x) for x in (pairs.group(1), judged.group(1), *lost)]


def of_widths(bed, way):
    found = re.search(rf"{bed} +{way} +(\S+) +(\S+) +(\S+) +(\S+)", books.shown("15", "widths"))
    return dict(zip((384, 192, 96, 48), map(float, found.groups()), strict=True))


def stage(name):
    return float(re.search(rf"(?m)^{re.escape(name)} +(\S+) ", books.shown("15", "stages")).group(1))


def written(number):
    """A score as the prose writes it: .475."""
    return f"{abs(number):.3f}".removeprefix("0")


def test_the_numbers_of_the_prose_are_those_of_the_outputs():
    text = prose()
    first, turned, trained = (
        of_widths("judged", way) for way in ("first numbers", "rotated", "Matryoshka matrix")
    )
    network = of_widths("judged", "whole network")
    on_pairs = {way: of_widths("pairs", way) for way in ("rotated", "Matryoshka matrix")}
    w = written
    for said in (
        f"And how much of {w(row('MiniLM')[1])} is that?",
        f"{w(turned[192])} of {w(turned[384])}, and with a quarter they keep {w(turned[96])}",
        f"The first numbers lose {w(first[384] - first[192])} and {w(first[384] - first[96])}",
        f"{w(on_pairs['Matryoshka matrix'][48])} against {w(on_pairs['rotated'][48])} at 48 numbers",
        f"and even at 384 ({w(trained[384])})",
        f"nearly as good as it was ({w(network[384])})",
        f"are at {w(network[96])} where MiniLM's are at {w(first[96])}",
        f"the rotated ones are ahead ({w(turned[96])})",
        f"they lose {w(row('int8, steps compared')[3])}; turned back",
        f"One bit a number leaves {w(row('bits')[1])}.",
        f"{w(row('bits, question in full')[1])} for the same 48 bytes",
        f"With forty candidates by their bits {w(row('bits, best 40 by int8')[1])} is back",
        f"lose half a hundredth on the judged questions, which may be luck, and {w(row('rotated 192, int8')[2])}",
        f"numbers find ({w(row('bits, question in full')[1])} and {w(row('rotated 96, int8')[1])})",
        f"the pairs lose {w(row('3 layers')[2])} without a step",
        f"({w(row('2 layers, taught')[0])} and {w(row('3 layers')[0])})",
        f"from {w(row('2 layers')[1])} to {w(row('2 layers, taught')[1])}: far from six layers, and BM25 is at "
        f"{w(row('BM25')[1])}",
        f"{w(row('static')[1])} on the judged questions is below BM25",
        f"Reading ten passages lifts BM25's {w(row('BM25')[1])} to {w(stage('BM25, cross-encoder, 10 passages'))}",
        f"twenty to {w(stage('BM25, cross-encoder, 20 passages'))}",
        f"whole-number weights ({w(stage('BM25, cross-encoder int8, 10 passages'))})",
        f"leaving after layer 8 of 12 ({w(stage('BM25, cross-encoder to layer 8, 10 passages'))})",
        f"after layer 6 it is {w(stage('BM25, cross-encoder to layer 6, 10 passages'))}, a loss",
        f"of the gain ({w(stage('BM25, cross-encoder to layer 4, 10 passages'))})",
        f"stay {w(row('MiniLM')[1] - stage('BM25, cross-encoder, 20 passages'))} below MiniLM, and "
        f"{w(stage('ColBERT (stand-in), alone') - stage('BM25, cross-encoder, 20 passages'))} below ColBERT's",
        f"half, int8 | half a hundredth | {w(row('rotated 192, int8')[2])} |",
        f"best forty by int8 | {w(row('bits, best 40 by int8')[3])} |",
        f"whole-number weights | {w(row('int8 (ONNX)')[3])} |",
        f"teach two layers | {w(row('2 layers, taught')[3])} | {w(row('2 layers, taught')[2])} |",
        f"or BM25 | {w(row('static')[3])}; {w(row('BM25')[3])} | {w(row('static')[2])}; {w(row('BM25')[2])} |",
        f"{w(row('MiniLM')[1] - stage('BM25, cross-encoder, 20 passages'))} |",
        f"{network[96] / network[384]:.0%} with the trained network, {first[96] / first[384]:.0%} without".replace(
            "%", " %"
        ),
        f"{row('int8, steps compared')[1] / row('MiniLM')[1]:.0%} with the steps compared".replace("%", " %"),
        f"{row('bits, best 40 by int8')[1] / row('MiniLM')[1]:.0%} (judged; 40".replace("%", " %"),
        f"MiniLM {w(row('MiniLM')[1])}, distilled here {w(row('static')[1])}",
        f"judged: {w(row('SPLADE')[1])}, BM25 {w(row('BM25')[1])}",
    ):
        assert said in text, said


def test_half_a_hundredth_is():
    assert row("rotated 192, int8")[3] == pytest.approx(-0.005, abs=0.002)


def test_what_the_prose_calls_a_difference_is_one():
    """And what it calls none is none: the ends of the intervals that are shown."""
    shown = "\n".join(books.shown("15", tag) for tag in ("bits", "rescored", "short_int8", "onnx_int8"))

    def ends(name, bed):
        line = next(x for x in shown.splitlines() if re.match(re.escape(name) + r" +[\d,]+ bytes", x))
        return [float(x) for x in re.search(rf"{bed} \S+ \S+ \[(\S+) (\S+)\]", line).groups()]

    assert ends("int8, steps compared", "judged")[1] < 0 <= ends("int8", "judged")[1] + 1e-3
    for name in ("int8", "int8, both sides", "bits, best 40 by int8", "int8 (ONNX)"):
        assert ends(name, "pairs")[1] > -0.001, name  # "nothing that is seen"
    forms = books.shown("15", "chosen")
    assert (
        re.search(r"layer 6 .*a loss", forms) and len(re.findall(r"(?:int8|layer 8) .*no diff", forms)) == 2
    )
    assert ends("rotated 192, int8", "judged")[1] > 0 > ends("rotated 192, int8", "pairs")[1]
    assert ends("int8 (ONNX)", "judged")[1] > 0
    stages = books.shown("15", "stages")
    behind = re.findall(r"(?m)^cross-encoder.*", stages)
    assert len(behind) == 8 and all("no difference" in line for line in behind)
    gains = re.findall(r"(?m)^BM25, cross-encoder.*a gain$", stages)
    assert len(gains) == 6 and not [line for line in gains if "layer 4" in line or "layer 6" in line]
    names = books.shown("15", "names")
    assert not re.search(r"(?m)^(pairs|judged).*a gain$", names)
    assert float(re.search(r"BM25 +MRR (\S+)", names).group(1)) == 1
    assert 0.2 < 1 - float(re.search(r"names +MiniLM +MRR (\S+)", names).group(1)) < 0.25  # a good fifth
    ours, sparse = re.search(r"names +at rank 1: MiniLM (\d+)%, .*?, SPLADE (\d+)%", names).groups()
    assert f"first for {ours} % of the names; SPLADE loses less, {sparse} %" in prose()
    begins = re.search(r"names +SPLADE +MRR \S+ +minus MiniLM \S+ \[(\S+),", names).group(1)
    assert float(begins) == pytest.approx(0, abs=0.02)  # next to 0


def test_the_librarys_names_are_those_of_the_prose():
    from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss

    assert f"`{MatryoshkaLoss.__name__}`, in `sentence_transformers.sentence_transformer.losses`" in prose()
    linked = re.findall(r"\]\(\.\./([^)]+)\)", "\n".join(c.source for c in books.read(LESSON).cells))
    assert linked and all((books.ROOT / name).exists() for name in linked)


def test_the_bill_of_the_prose():
    space = lesson(
        "bill",
        prices={"a GB of memory a month": 4.0, "a GB of disk a month": 0.1, "an hour of a core": 0.05},
        sets={"a": (1536, 1536, "x"), "b": (192, 192, "x"), "c": (48, 432, "x")},
        a_passage={"x": 1.0},
        rows={name: {"judged": np.zeros(1)} for name in "abc"},
    )
    month = [f"{x:,.0f}" for x in space["bill"](10**9)["euros a month"]]
    assert f"cost {month[0]} euros a month" in prose() and f"{month[1]} as 192 rotated" in prose()
    assert f"and {month[2]} as bits" in prose()
    for line in ("1536, 1536", "192, 192", "48, 432"):
        assert any(f"({line}," in c.source for c in books.code(books.read(LESSON)))


# exercises ---------------------------------------------------------------------------------


def test_the_checks_take_the_worked_answers_and_refuse_others(capsys):
    names = ("hamming", "matryoshka_loss", "good_enough")
    books.judge_exercises(lesson15, SOLUTION, capsys, *names)

    def loss(q, a, widths, weights, length=True, cut=True, temperature=20.0, mean=False):
        total = 0.0
        for width, weight in zip(widths, weights, strict=True):
            x, y = (q[:, :width], a[:, :width]) if cut else (q, a)
            x, y = (normalize(x, dim=1), normalize(y, dim=1)) if length else (x, y)
            scores = temperature * x @ y.T
            total += weight * torch.nn.functional.cross_entropy(scores, torch.arange(len(q)))
        return total / len(widths) if mean else total

    def before_the_cut(q, a, *rest):
        return loss(normalize(q, dim=1), normalize(a, dim=1), *rest, length=False)

    counted = books.definitions(SOLUTION, "hamming")["hamming"]
    wrong = {
        "hamming": [
            lambda a, b: (a[:, None] != b[None]).sum(axis=2),
            lambda a, b: np.bitwise_count(a[:, None] ^ b[None]).sum(axis=2, dtype=np.uint8),
            lambda a, b: counted(b, a),
            lambda a, b: 8 * a.shape[1] - counted(a, b),
            lambda a, b: counted(a, b) * np.nan,
            lambda a, b: a,
        ],
        "matryoshka_loss": [
            lambda *x: loss(*x, length=False),
            lambda *x: loss(*x, cut=False),
            lambda *x: loss(*x, temperature=1.0),
            lambda *x: loss(*x, mean=True),
            lambda q, a, widths, weights: loss(q, a, widths, [1.0] * len(widths)),
            before_the_cut,
            lambda *x: float("nan"),
        ],
        "good_enough": [
            lambda own, base, loss: bool((own - base).mean() > -loss),
            lambda own, base, loss: interval(own - base)[1] > -loss,
            lambda own, base, loss: interval(own - base)[0] > 0,
            lambda own, base, loss: interval(own - base)[0] > loss,
            lambda own, base, loss: interval(own)[0] > interval(base)[0] - loss,
            lambda own, base, loss: interval(base - own)[0] > -loss,
            lambda *_: True,
            lambda *_: False,
            lambda *_: 1,
        ],
    }
    for name, answers in wrong.items():
        for answer in answers:
            getattr(lesson15, name)(answer)
            assert capsys.readouterr().out.startswith("Not yet: "), name


def test_the_recipe_says_what_it_makes_without_making_it(capsys):
    with pytest.raises(SystemExit), pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["small_and_cheap.py", "--help"])
        runpy.run_path(recipe.__file__, run_name="__main__")
    assert "--only" in capsys.readouterr().out


def test_a_graph_finds_what_comparing_all_finds():
    """Where usearch is installed; its bits may come out higher, as the prose says."""
    for name, there, here in re.findall(
        r"usearch, (\w+): judged (\S+); (\S+) above", books.shown("15", "usearch-forms")
    ):
        assert float(there) > float(here) - 0.01, name
