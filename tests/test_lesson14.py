"""Lesson 14: its definitions against trusted libraries, its checks, and what its prose says."""

import math
import re

import books
import docs_models as recipe
import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from test_lessons_backwards import run_all
from torch.nn.functional import normalize

from helpers import data, documentation, models, pooling, ranking, training, zoo
from helpers.exercises import lesson14

LESSON = books.path("14")
TABLE = books.ROOT / "models" / "recipes" / "docs_models.tsv"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def lesson(*names, **given):
    return books.definitions(LESSON, *names, given={"pooling": pooling, **given})


def table(tokens, seed, dim=16):
    return normalize(torch.randn(tokens, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_encode_is_the_helpers_and_the_librarys():
    from sentence_transformers import SentenceTransformer

    space = lesson("encode")
    texts = ["Who wrote Emma?", "Jane Austen.", "In September the swallows leave for the south."]
    folder = models.path(MINILM, quiet=True)
    wanted = SentenceTransformer(str(folder), device="cpu").encode(texts, convert_to_tensor=True)
    assert torch.allclose(space["encode"](texts, folder), wanted, atol=1e-5)
    assert torch.allclose(
        space["encode"](texts, folder),
        zoo.load(*books.settings()["MiniLM"], quiet=True).encode_queries(texts),
        atol=1e-5,
    )
    prefixed = space["encode"](texts, folder, before="query: ")
    assert torch.allclose(prefixed, space["encode"](["query: " + t for t in texts], folder), atol=1e-5)
    assert not torch.allclose(prefixed, wanted, atol=1e-2)
    with pytest.raises(ValueError, match="one of the texts is empty"):
        space["encode"](["who?", " "], folder)


def test_reciprocal_ranks_count_ties_against_the_answer():
    scores = torch.tensor([[0.9, 0.2, 0.1], [0.8, 0.5, 0.1], [0.3, 0.3, 0.3]])
    found = lesson("reciprocal_ranks")["reciprocal_ranks"]
    assert found(scores).tolist() == pytest.approx([1, 1 / 2, 1 / 3])
    assert found(scores, [1, 0, 2]).tolist() == pytest.approx([1 / 2, 1, 1 / 3])
    ranks = ranking.ranks(torch.eye(3), torch.eye(3))
    assert found(torch.eye(3)).tolist() == (1 / ranks).tolist()


def test_maxsim_is_the_librarys():
    from sentence_transformers.util import maxsim

    mine = lesson("maxsim")["maxsim"]
    for tokens in ((3, 5), (1, 1), (32, 20)):
        q, p = table(tokens[0], 1), table(tokens[1], 2)
        assert mine(q, p).item() == pytest.approx(maxsim([q], [p]).item(), abs=1e-4)
    for q, p in (
        (torch.ones(3), torch.ones(2, 3)),
        (torch.ones(2, 4), torch.ones(2, 3)),
        (torch.ones(0, 3), torch.ones(2, 3)),
    ):
        with pytest.raises(ValueError, match="two tables of token vectors with as many columns"):
            mine(q, p)


def test_pieces_are_the_rows_and_explain_adds_up():
    from sentence_transformers import MultiVectorEncoder

    colbert = MultiVectorEncoder(str(models.path("colbert-ir/colbertv2.0", quiet=True)), device="cpu")
    mark = {"query": "[unused0]", "document": "[unused1]"}
    space = lesson("pieces", "words_only", "explain", colbert=colbert, mark=mark)
    passage = "It rains (a lot), they say: all year."
    assert len(space["pieces"](passage, "document")) == len(colbert.encode_document(passage))
    assert len(space["pieces"]("who?", "query")) == len(colbert.encode_query("who?")) == 32
    said = space["explain"]("Who wrote Emma?", passage)
    score = colbert.similarity([colbert.encode_query("Who wrote Emma?")], [colbert.encode_document(passage)])
    assert said.startswith(f"{score.item():.1f}, words ")
    total, parts = said.split(":  ")
    alone = [float(part.split()[-1]) for part in parts.split(", ")]
    assert len(alone) == 3 and "[MASK]" not in parts
    assert float(total.split()[-1]) == pytest.approx(sum(alone), abs=0.07)
    with pytest.raises(ValueError, match="write a question and a passage"):
        space["explain"](" ", passage)
    with pytest.raises(ValueError, match=r"the question has \d+ tokens; ColBERT reads 32"):
        space["explain"]("why " * 40, passage)


def test_a_perfect_models_loss_has_the_floor_that_the_lesson_names():
    space = lesson("false_negatives")
    labels = torch.arange(10).repeat(6)
    cells = space["false_negatives"](labels)
    assert int(cells.sum()) == 60 * 5 and not bool(cells.diagonal().any())
    perfect = 100.0 * (labels[:, None] == labels[None, :])
    assert training.contrastive_loss(perfect).item() == pytest.approx(math.log(6), abs=1e-4)
    assert training.contrastive_loss(perfect.masked_fill(cells, -1e4)).item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("spare", [False, True])
def test_the_lessons_clip_is_trained_in_both_directions(spare):
    """Three steps of train_clip against three with transformers' own symmetric loss."""
    from transformers.models.clip.modeling_clip import image_text_contrastive_loss

    digit = torch.arange(60) % 10
    pictures = torch.rand(60, 8, 8, generator=torch.Generator().manual_seed(1))
    words = "zero one two three four five six seven eight nine".split()
    given = {"digit": digit, "pictures": pictures, "train": np.arange(60), "words": words}
    given |= {"phrasings": ["{}"], "vocabulary": words, "torch": torch, "np": np}
    space = lesson("PictureTower", "TextTower", "false_negatives", "train_clip", **given)
    found = space["train_clip"](spare=spare, epochs=3, size=60, lr=3e-3)[2]

    torch.manual_seed(0)
    see, read = space["PictureTower"](), space["TextTower"]()
    scale = torch.nn.Parameter(torch.tensor(math.log(1 / 0.07)))
    adam = torch.optim.Adam([*see.parameters(), *read.parameters(), scale], lr=3e-3)
    wanted = []
    for _ in range(3):
        seen, said = normalize(see(pictures), dim=1), normalize(read([words[d] for d in digit]), dim=1)
        scores = scale.exp() * said @ seen.T
        if spare:
            same = digit[:, None] == digit[None, :]
            scores = scores.masked_fill(same & ~torch.eye(60, dtype=torch.bool), -1e4)
        loss = image_text_contrastive_loss(scores)
        adam.zero_grad()
        loss.backward()
        adam.step()
        wanted.append(loss.item())
    assert found == pytest.approx(wanted, rel=1e-4) and wanted[0] > wanted[2] + 0.1


def test_the_towers_end_in_one_space_and_refuse_unknown_words():
    words = ["a", "seven", "handwritten"]
    space = lesson("PictureTower", "TextTower", torch=torch, np=np, vocabulary=words)
    texts = ["a handwritten seven", "Seven", "a strange a"]
    tower = space["TextTower"]()
    assert space["PictureTower"]()(torch.rand(3, 8, 8)).shape == tower(texts).shape == (3, 32)
    by_hand = tower.project(tower.words.weight[[0, 2, 1]].mean(dim=0))
    assert torch.allclose(tower(texts)[0], by_hand, atol=1e-6)
    assert torch.allclose(tower(["A handwritten seven."])[0], by_hand, atol=1e-6)  # its full stop
    with pytest.raises(ValueError, match="no word of 'an elephant' was in the captions"):
        tower(["a seven", "an elephant"])


def test_one_byte_is_numpys_int8():
    vectors = table(5, 3, dim=64)
    wanted = np.rint(vectors.numpy() * 127).clip(-127, 127).astype("int8").astype("f") / 127
    assert np.allclose(lesson("one_byte")["one_byte"](vectors), wanted)


def test_the_dates_are_those_of_the_arxiv_numbers():
    space = {"pd": pd}
    exec(books.cell("14", "history").source, space)
    history = space["history"]
    assert list(history["first seen"]) == sorted(history["first seen"])
    for name, row in history.iterrows():
        if row["arXiv"] and name != "CLIP":  # sent in on 26 February, numbered in March
            assert row["first seen"][2:7].replace("-", "") == row["arXiv"][:4], name
    references = books.cell("14", "references").source
    assert all(number in references for number in history["arXiv"])


def test_the_exercises_are_judged(capsys):
    lesson14.maxsim_all(lambda q, ps: torch.stack([(q @ p.T).max(1).values.sum() for p in ps]))
    lesson14.last_pool(lambda v, m: v[torch.arange(len(m)), (torch.arange(m.shape[1]) * m).argmax(1)])
    lesson14.ensemble(lambda c: normalize(c.mean(1), dim=-1))
    assert capsys.readouterr().out.count("Right:") == 3

    def padded(q, ps):
        rows = torch.nn.utils.rnn.pad_sequence(ps, batch_first=True)
        return (q @ rows.transpose(1, 2)).max(dim=2).values.sum(dim=1)

    lesson14.maxsim_all(padded)  # a row of zeros wins where every cosine is negative
    lesson14.last_pool(lambda v, m: v[torch.arange(len(m)), m.sum(1) - 1])
    lesson14.ensemble(lambda c: c.mean(1))
    said = capsys.readouterr().out
    assert "three passages of different lengths" in said
    assert "padding before the text" in said and said.count("Not yet:") == 3

    for check in (lesson14.maxsim_all, lesson14.last_pool, lesson14.ensemble):
        check(lambda *_: None)
        check(lambda *_: 1 / 0)
        check(lambda *_: torch.zeros(2, 9, 9))
    said = capsys.readouterr().out
    assert said.count("Not yet written") == 3 and said.count("ZeroDivisionError") == 3
    assert said.count("its shape is (2, 9, 9)") == 3


# the beds ------------------------------------------------------------------------------------


def test_three_beds_are_ranked_among_what_each_of_them_searches():
    space = lesson("reciprocal_ranks", "three_beds")
    # two answers to search, the second right for both questions, and two echoes behind them
    space |= {"library": ["a", "b"], "own": [1, 1]}
    with_echoes = torch.tensor([[0.1, 0.8, 0.9, 0.0], [0.7, 0.5, 0.6, 0.9]])
    documents = torch.tensor([[0.9, 0.1], [0.6, 0.5]])
    found = space["three_beds"](lambda asked, told: told, [(None, with_echoes), (None, documents)])
    assert {bed: ranks.tolist() for bed, ranks in found.items()} == {
        "answers": pytest.approx([1, 1 / 2]),
        "echoes": pytest.approx([1 / 2, 1 / 4]),
        "documentation": pytest.approx([1, 1 / 2]),
    }


def test_the_fourth_bed_searches_every_useful_object_and_is_the_recipes():
    judged = data.docs_questions()
    bed = recipe.searched(judged)
    useful = set(judged["object"][judged["grade"] > 0])
    assert useful <= set(bed["object"]) and bed["object"].nunique() == len(useful) + recipe.OTHERS
    whole = documentation.passages()
    for name in ("numpy._core.fromnumeric.argpartition", bed["object"].iloc[-1]):
        assert sorted(bed["text"][bed["object"] == name]) == sorted(whole["text"][whole["object"] == name])
    shown = books.shown("14", "judged")
    assert f"{len(bed):,} passages, {len(bed):,} vectors kept; 126 questions" in shown
    assert f"{len(bed):,} passages of that documentation" in prose()


def test_the_recipes_table_has_every_model_on_every_question():
    table = pd.read_csv(TABLE, sep="\t")
    wide = table.pivot(index="question_id", columns="model", values="ndcg")
    assert len(table) == wide.size and table["ndcg"].between(0, 1).all()  # an empty score is not between
    assert set(wide.index) == set(data.docs_questions()["question_id"])
    assert set(wide) == {*recipe.NAMES, "ColBERT, no masks"}
    for name, row in recipe.MODELS.items():
        assert name == "raw BERT" or books.settings()[name] == row


def test_ndcg_counts_an_object_by_its_best_passage():
    passages = pd.DataFrame({"object": ["a", "b", "a", "c"]})
    judged = pd.DataFrame({"question_id": ["q"], "object": ["a"], "grade": [2]})
    for scores, wanted in (
        ([0.1, 0.5, 0.9, 0.3], 1),
        ([0.1, 0.9, 0.5, 0.3], 1 / math.log2(3)),
        ([0.0, 0.9, 0.1, 0.8], 1 / math.log2(4)),
    ):
        assert recipe.ndcg(np.array([scores]), passages, judged)["q"] == pytest.approx(wanted)


def test_a_row_of_the_recipe_is_made_again():
    """BM25's, which is quick: on every question what the table has."""
    judged = data.docs_questions()
    bed = recipe.searched(judged)
    questions = list(judged.drop_duplicates("question_id")["question"])
    scores = recipe.scored("BM25", questions, list(bed["text"]), TABLE.parent, 0)["BM25"]
    table = pd.read_csv(TABLE, sep="\t").pivot(index="question_id", columns="model", values="ndcg")["BM25"]
    again = recipe.ndcg(scores, bed, judged)
    assert np.abs(again - table[again.index]).max() < 1e-3


def test_the_sizes_of_the_originals_are_those_of_their_files():
    space = {}
    exec(books.cell("14", "published").source, space)
    published = space["published"]
    towers = {name: towers for name, (towers, *_) in books.settings().items()}
    towers["raw BERT"] = ["bert-base-uncased"]
    assert set(published) == set(towers) - {"CLIP"} | {"GloVe"}
    for name in set(published) - {"GloVe"}:
        size = sum(models.register()[tower]["bytes"] for tower in towers[name])
        number = size / (2 if name == "Sentence-T5" else 4) / 1e6  # T5's file has two bytes a number
        assert published[name][0] == pytest.approx(number, rel=0.03), name


def test_every_row_of_a_stand_in_is_marked():
    for tag in ("late", "quality", "costs", "pairs", "one_byte"):
        names = re.findall(r"(?:DPR|ColBERT|raw BERT)(?: \(stand-in\))?", books.shown("14", tag))
        assert names and [name for name in names if not name.endswith("(stand-in)")] == [], tag
    for tag in ("quality", "costs"):
        rows = [line.split("  ")[0] for line in books.shown("14", tag).splitlines()[1:]]
        kept = ["DPR (stand-in)", "ColBERT (stand-in)", "raw BERT (stand-in)"]
        assert sorted(rows) == sorted(["MiniLM", "BGE", "GloVe", "BM25", *kept])


def test_on_each_bed_some_models_differ():
    for line in re.findall(r"(?m)^(\w+): (\d+) of 21 pairs differ", books.shown("14", "pairs")):
        assert int(line[1]) >= 2, line
    assert len(re.findall("of 21 pairs differ", books.shown("14", "pairs"))) == 4


def prose():
    """All prose of the lesson, in one line."""
    return " ".join(" ".join(c.source.split()) for c in books.read(LESSON).cells if c.cell_type == "markdown")


def found(tag, pattern):
    """The numbers of the one place in what a cell shows that matches the pattern."""
    return re.search(pattern, books.shown("14", tag), re.S).groups()


def quality(name):
    """A model's four means as they are shown."""
    return found("quality", rf"{re.escape(name)} +(\S+) \[.*?\] +(\S+) \[.*?\] +(\S+) \[.*?\] +(\S+) \[")


def test_what_the_prose_says_of_the_picture_is_what_the_cell_shows():
    rows = {
        name: found("shares", rf"{re.escape(name)} +(\S+) +(\S+) +(\S+) +(\S+)")
        for name in ("words", "marks", "[MASK]s", "MaxSim")
    }
    masks, answers = rows["[MASK]s"], rows["MaxSim"][1]
    assert (
        f"of the {rows['MaxSim'][0]} vectors of the question {masks[0]} are masks, and they bring {masks[1]} "
        f"of the {answers}. The second passage is ahead by {rows['MaxSim'][3]}; of these the words bring "
        f"{rows['words'][3]}, the marks {rows['marks'][3]}, and the masks, which the picture leaves out, {masks[3]}."
    ) in prose()


def test_what_the_prose_says_of_the_beds_is_what_the_cells_show():
    text = prose()
    minilm, bge, bm25 = quality("MiniLM"), quality("BGE"), quality("BM25")
    dpr, colbert = quality("DPR (stand-in)"), quality("ColBERT (stand-in)")
    (masks,) = found("masks", r"masks, echoes +: with minus without \+(\S+)")
    (cost,) = found("masks", r"masks, documentation: with minus without -(\S+)")
    late = [
        float(found("masks", rf"words, {bed} *: late minus averaged (\S+)")[0])
        for bed in ("answers", "echoes", "documentation")
    ]
    long = found("masks", r"documentation: (\d+) of 300 .*judged: (\d+) of 126")
    behind = float(found("late", r"answers: .*?DPR \(stand-in\) +-(\S+)")[0])
    middle = sorted(float(row[2]) for row in (minilm, bge, dpr, colbert))
    whole = pd.read_csv(TABLE.with_name("docs_retrieval.tsv"), sep="\t")
    whole = whole["ndcg"][whole["stage"] == "vectors"].mean()
    for sentence in (
        f"On the first, MiniLM has an MRR of {minilm[0]}.",
        f"there MiniLM has {whole:.3f}",
        f"MiniLM falls to {minilm[1]}",
        f"and keep {dpr[1]} and {colbert[1]}",
        f"they take {float(masks):.2f} of MRR along",
        f"on the documentation they cost {cost}",
        f"is worth {min(late):.2f} to {max(late):.2f} on the three beds",
        f"{long[0]} of the 300 first sentences and {long[1]} of the 126 judged questions are longer",
        f"BGE is last with {bge[0]}",
        f"much better than MiniLM's {minilm[0]}",
        f"trained against echoes have {dpr[1]} and {colbert[1]}, all others less than 0.5",
        f"that is not enough: {bge[1]}.",
        f"cannot be told apart, with {middle[0]:.2f} to {middle[-1]:.2f}.",
        f"BM25 is only {float(minilm[2]) - float(bm25[2]):.2f} behind MiniLM",
        f"MiniLM and ColBERT's stand-in, {minilm[3]} and {colbert[3]}, are ahead of DPR's and BGE, {dpr[3]} and "
        f"{bge[3]}, and BM25 has {bm25[3]}",
        f"like MiniLM's {behind:.2f} over DPR's stand-in on the answers",
    ):
        assert sentence in text, sentence
    others = [quality(name)[1] for name in ("MiniLM", "BGE", "raw BERT (stand-in)", "GloVe", "BM25")]
    assert max(map(float, others)) < 0.5


def test_none_of_the_lessons_own_texts_is_a_training_row():
    rows = set(data.qa_pairs(part="train")["question"]) | set(data.qa_pairs(part="train")["answer"])
    held_out = data.qa_pairs(part="test")
    assert not rows & (set(held_out["question"]) | set(held_out["answer"]))


def test_each_cell_runs_again_after_all_the_others(tmp_path):
    """Last to first, as tests/test_lessons_backwards.py does it, on beds of 40 questions."""
    book = books.read(LESSON)
    smaller = {
        'held_out = data.qa_pairs(part="test")': 'held_out = data.qa_pairs(part="test").tail(40)',
        'library = list(data.qa_pairs()["answer"])': 'library = list(data.qa_pairs()["answer"].tail(100))',
        'documentation.pairs("test").sample(300,': 'documentation.pairs("test").sample(40,',
    }
    for long, short in smaller.items():
        cells = [cell for cell in books.code(book) if long in cell.source]
        assert len(cells) == 1, long
        cells[0].source = cells[0].source.replace(long, short)
    nbformat.write(book, tmp_path / LESSON.name)
    run_all(tmp_path / LESSON.name)
