"""Lesson 1: its sentences against its outputs, its definitions against brute force, its checks."""

import re

import books
import numpy as np
import pytest
import torch

from helpers import models
from helpers.exercises import lesson01

LESSON = books.path("01")
PROSE = " ".join(
    " ".join(cell.source.split()) for cell in books.read(LESSON).cells if cell.cell_type == "markdown"
)


def numbers(tag: str) -> list[float]:
    return [float(x.replace(",", "")) for x in re.findall(r"[-+]?\d[\d,]*\.?\d*", books.shown("01", tag))]


@pytest.fixture(scope="module")
def vectors():
    return models.word_vectors("glove-wiki-gigaword-100", quiet=True)


# what the sentences say ---------------------------------------------------------------------


def test_the_published_figures_are_ours():
    assert "-0.32307 -0.87616 0.21977 0.25268 0.22976" in books.shown("01", "king")
    assert books.shown("01", "queen").split()[:4] == ["queen", "0.76985", "monarch", "0.68434"]
    assert "cosine of 0.76985" in PROSE and "second at 0.68434" in PROSE
    shown = books.shown("01", "published")
    assert shown.count("queen, 0.76985") == shown.count("0.21977 0.25268 0.22976") == 2


def test_the_sum_stays_with_king():
    shown = books.shown("01", "by-hand")
    assert shown.split()[:2] == ["king", "0.836"] and "(0.836)" in PROSE
    assert "man and woman: 0.832" in shown and "a cosine of 0.832 with each other" in PROSE


def test_the_map():
    assert numbers("kept") == [48] and "48 % of the variance" in PROSE
    assert "The first axis {'separates the court from'" in books.cell("01", "picture").source
    assert "tv is far below" in books.shown("01", "picture")


def test_the_steps(vectors):
    alike, wrong, *_ = numbers("partners")
    assert "husband → wife 0.26" in books.shown("01", "partners")
    assert "man → woman 0.50" in books.shown("01", "partners") and "*man → woman*, has 0.50" in PROSE
    assert (alike, wrong) == (0.55, 0.23) and "mean cosine of 0.55" in PROSE and "have 0.23" in PROSE
    pairs = [("man", "woman"), ("king", "queen"), ("prince", "princess"), ("father", "mother")]
    pairs += [("brother", "sister"), ("uncle", "aunt"), ("son", "daughter"), ("husband", "wife")]
    unit = {w: vectors.get_vector(w, norm=True) for pair in pairs for w in pair}
    steps = np.array([unit[b] - unit[a] for a, b in pairs])
    steps /= np.linalg.norm(steps, axis=1, keepdims=True)
    others = (steps @ steps.T).sum(axis=1) - 1
    first = lambda word: [w for w, _ in vectors.most_similar([word, "woman"], ["man"], topn=3)]
    assert first("husband")[0] == "wife" and "finds *wife*, although that step is unlike the others" in PROSE
    assert "sister" not in first("brother") and "not have *sister* among its first three" in PROSE
    assert others.argmin() == 7 and round(others[7] / 7, 2) == 0.26 and "0.26 with the other seven" in PROSE


def test_the_prejudice():
    assert re.findall(r"(\d) of 8", books.shown("01", "bias")) == ["7", "0"]
    assert books.shown("01", "bias-exact").startswith("1 of 12,870 ways: p = 0.00008")
    assert "Fifteen of the sixteen names" in PROSE
    assert books.shown("01", "bias-analogy").startswith("man : programmer = woman : educator")
    assert "these answer *educator*" in PROSE
    assert "1 of 12,870" in PROSE and "seven of the eight names of men" in books.shown("01", "bias-exact")


def test_how_good_the_table_is():
    assert (
        "right at the first attempt: 65.7%" in books.shown("01", "analogies")
        and "66 % of the covered questions" in PROSE
    )
    groups = books.shown("01", "groups")
    assert "nationality adjective (95%)" in groups and "currency (18%)" in groups
    assert "95 % for nationalities and 18 % for currencies" in PROSE
    assert "counted as wrong: 51.3%" in books.shown("01", "analogies")
    assert "counted as wrong it is 51 %" in PROSE
    assert "rho 0.56 (0.47 to 0.64), 348 of 353" in books.shown("01", "wordsim")
    assert "ρ = 0.56 (interval 0.47 to 0.64)" in PROSE


def test_rho_is_gensims(vectors):
    from gensim.test.utils import datapath

    _, rho, missing = vectors.evaluate_word_pairs(datapath("wordsim353.tsv"), restrict_vocab=40_000)
    assert numbers("wordsim")[1] == round(rho.statistic, 2)
    assert 353 - numbers("wordsim")[4] == round(353 * missing / 100)


def test_the_ratios():
    table = dict(re.findall(r"(\w+) .* (\S+)\n?", books.shown("01", "ratio").partition("ratio")[2]))
    table = {word: float(ratio) for word, ratio in table.items()}
    assert table["directed"] == pytest.approx(39, abs=0.5) and "*Directed* is 39 times" in PROSE
    assert round(1 / table["sparse"]) in (12, 13) and table["sparse"] == 0.08 and "twelve times" in PROSE
    assert table["given"] == 1.11 and "and has 1.11" in PROSE


def test_the_corpus_and_the_subject():
    assert "775,657 words" in books.shown("01", "corpus") and "after 775,657 words" in PROSE
    assert "3,000 words" in books.shown("01", "counts")
    assert "at place 1,060 of 2,435" in PROSE and (2_435 + 1) / 2 == 1_218 and "near 1,218" in PROSE
    rows = re.findall(r"(?m)(\w+ → \w+) .* (\d+)$", books.shown("01", "ranks"))
    assert sorted((int(place), pair) for pair, place in rows)[0] == (1, "norm → euclidean")
    assert sorted(int(place) for _, place in rows)[1] > 50 and "*norm → euclidean* (place 1)" in PROSE
    assert re.search(
        r"GloVe, published +partner at place 1060 \(median\) of 2,435", books.shown("01", "domain")
    )


def test_the_bat():
    shown = books.shown("01", "bat").splitlines()
    near = shown[1].removeprefix("neighbours of bat: ").split(", ")
    sport = {"balls", "pitch", "batting", "wicket", "ball", "toss", "innings", "pitches", "batsman"}
    assert near[0] == "bats" and set(near[1:]) == sport
    assert shown[2:] == ["bird: place 126 of 40,000", "animal: place 713 of 40,000"]
    assert "*Bird* is at place 126 of 40,000 and *animal* at place 713" in PROSE


@pytest.mark.parametrize("words", [("man", "", "woman"), (None, "king", "woman"), (123, "king", "woman")])
def test_an_analogy_of_what_is_no_word_gets_one_line(vectors, words):
    space = books.definitions(LESSON, "analogy")
    space["vectors"] = vectors
    wrong = next(repr(w) for w in words if w not in ("man", "king", "woman"))
    assert space["analogy"](*words) == f"not in the table: {wrong} (use lower-case single words)"


# the lesson's own definitions ---------------------------------------------------------------


def test_the_lesson_counts_neighbours():
    space = books.definitions(LESSON, "count_neighbours", given={"np": np})
    draw = np.random.default_rng(0)
    texts = [list(draw.choice("red green blue dog cat sun".split(), 9)) for _ in range(40)]
    number, table = space["count_neighbours"](texts, n_words=5, window=3)
    assert len(number) == 5
    by_hand = np.zeros((5, 5))
    for text in texts:
        for i, a in enumerate(text):
            for j, b in enumerate(text):
                if 0 < abs(i - j) <= 3 and a in number and b in number:
                    by_hand[number[a], number[b]] += 1 / abs(i - j)
    assert np.allclose(table.toarray(), by_hand)


def test_the_lessons_loss_is_the_papers():
    space = books.definitions(LESSON, "GloVe")
    torch.manual_seed(0)
    model = space["GloVe"](5, dim=3)
    i, j, x = torch.tensor([0, 1, 4]), torch.tensor([2, 2, 3]), torch.tensor([1.0, 30.0, 4.0])
    w, v, b, c = (t.weight.detach().numpy() for t in (model.w, model.v, model.b, model.c))
    by_hand = np.mean(
        [
            min(1, n / 10) ** 0.75 * (w[p] @ v[q] + b[p, 0] + c[q, 0] - np.log(n)) ** 2
            for p, q, n in zip(i.tolist(), j.tolist(), x.tolist(), strict=True)
        ]
    )
    assert abs(model.loss(i, j, x).item() - by_hand) < 1e-6


# the checks of the exercises ----------------------------------------------------------------


def said(capsys, check, answer, vectors) -> str:
    check(answer, vectors)
    return capsys.readouterr().out


def answers(vectors):
    """Exercise -> its right answer, and its usual wrong ones."""
    unit, row, names = vectors.get_normed_vectors(), vectors.key_to_index, vectors.index_to_key

    def multiplied(a, b, c, moved=True, excluded=True, divided=True):
        near = (lambda w: (1 + unit @ unit[row[w]]) / 2) if moved else (lambda w: unit @ unit[row[w]])
        score = near(b) * near(c) / ((near(a) + 0.001) if divided else 1)
        if excluded:
            score[[row[a], row[b], row[c]]] = -np.inf
        return names[int(score.argmax())]

    def odd(table):
        rows = lambda words: table[[row[w] for w in words]]
        return lambda words: words[int((rows(words) @ rows(words).mean(axis=0)).argmin())]

    def fewest_friends(words):
        """Whose nearest other word is farthest."""
        rows = unit[[row[w] for w in words]]
        cosines = rows @ rows.T
        np.fill_diagonal(cosines, -1)
        return words[int(cosines.max(axis=1).argmin())]

    def furthest(words):
        rows = vectors.vectors[[row[w] for w in words]]
        return words[int(np.linalg.norm(rows - rows.mean(axis=0), axis=1).argmax())]

    return {
        lesson01.nearest: (
            lambda v: names[int((unit @ v).argmax())],
            {
                "dot product": lambda v: names[int((vectors.vectors @ v).argmax())],
                "distance": lambda v: names[int(np.linalg.norm(vectors.vectors - v, axis=1).argmin())],
                "the second": lambda v: names[int((unit @ v).argsort()[-2])],
                "row number": lambda v: int((unit @ v).argmax()),
                "constant": lambda v: "ocean",
                "nan": lambda v: float("nan"),
                "none": lambda v: None,
            },
        ),
        lesson01.odd_one_out: (
            odd(unit),
            {
                "first": lambda words: words[0],
                "last": lambda words: words[-1],
                "dot product": odd(vectors.vectors),
                "distance without scaling": furthest,
                "the smallest best cosine": fewest_friends,
                "longest word": lambda words: max(words, key=len),
                "rarest": lambda words: max(words, key=row.get),
            },
        ),
        lesson01.multiply: (
            multiplied,
            {
                "added": lambda a, b, c: vectors.most_similar(positive=[b, c], negative=[a], topn=1)[0][0],
                "not moved to 0..1": lambda *q: multiplied(*q, moved=False),
                "the given words too": lambda *q: multiplied(*q, excluded=False),
                "not divided": lambda *q: multiplied(*q, divided=False),
                "a and b exchanged": lambda a, b, c: multiplied(b, a, c),
                "constant": lambda *q: "queen",
            },
        ),
    }


def test_checks_accept_the_right_answer_and_refuse_the_usual_wrong_ones(vectors, capsys):
    for check, (right, wrong) in answers(vectors).items():
        assert said(capsys, check, right, vectors).startswith("Right:"), check.__name__
        for name, answer in wrong.items():
            assert said(capsys, check, answer, vectors).startswith("Not yet"), f"{check.__name__}: {name}"


def test_checks_hint_where_a_mistake_is_likely(vectors, capsys):
    number = answers(vectors)[lesson01.nearest][1]["row number"]
    assert "(return the word, not its row); it should be 'ocean'" in said(
        capsys, lesson01.nearest, number, vectors
    )
    given = answers(vectors)[lesson01.multiply][1]["the given words too"]
    assert "(the given words must be excluded); it should be" in said(
        capsys, lesson01.multiply, given, vectors
    )
