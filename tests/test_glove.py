"""The GloVe recipe against brute force, autograd and torch's own AdaGrad."""

import random
import subprocess
import sys

import books
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

RECIPES = books.ROOT / "models" / "recipes"
sys.path.insert(0, str(RECIPES))
import glove  # noqa: E402

LESSON = books.NOTEBOOKS / "01_glove_algebra_and_pca.ipynb"


@pytest.fixture
def text(tmp_path):
    draw = random.Random(0)
    for file in "ab":
        lines = [" ".join(draw.choices("red green blue dog cat sun 7".split(), k=9)) for _ in range(40)]
        (tmp_path / f"{file}.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def brute_force(folder, words, window):
    X = np.zeros((len(words), len(words)))
    for file in sorted(folder.glob("*.txt")):
        for line in file.read_text().splitlines():
            tokens = glove.tokenize(line)
            for i, a in enumerate(tokens):
                for j, b in enumerate(tokens):
                    if 0 < abs(i - j) <= window and a in words and b in words:
                        X[words.index(a), words.index(b)] += 1 / abs(i - j)
    return X


def test_counts(text):
    words, counts, X = glove.count(text, 10, 3, 2)
    assert sorted(words) == ["blue", "cat", "dog", "green", "red", "sun"] and counts["red"] > 0
    assert [counts[w] for w in words] == sorted((counts[w] for w in words), reverse=True)
    assert np.allclose(X.toarray(), brute_force(text, words, 3), atol=1e-4)


def test_a_word_of_one_source_is_left_out(text):
    (text / "c.txt").write_text("zebra " * 500)
    assert "zebra" not in glove.count(text, 10, 3, 2)[0]
    assert "zebra" in glove.count(text, 10, 3, 1)[0]


def test_step_is_torch_adagrad_on_the_papers_loss():
    g = torch.Generator().manual_seed(0)
    n, dim, x_max, lr = 7, 4, 10.0, 0.05
    row, col = (np.array(k, dtype=np.int32) for k in ([0, 1, 2, 2, 6], [1, 0, 3, 5, 6]))
    x = np.array([1.0, 20.0, 3.5, 0.5, 9.0], dtype=np.float32)
    start = {k: torch.rand(n, dim, generator=g) - 0.5 for k in "WV"}
    start |= {k: torch.rand(n, generator=g) for k in "bc"}

    mine = {k: v.clone() for k, v in start.items()}
    squares = {k: torch.ones_like(v) for k, v in start.items()}
    theirs = {k: v.clone().requires_grad_() for k, v in start.items()}
    optimizer = torch.optim.Adagrad(theirs.values(), lr=lr, initial_accumulator_value=1, eps=0)
    for _ in range(3):
        glove.step((row, col, x), mine, squares, lr, x_max, "cpu")
        r, c, t = torch.tensor(row), torch.tensor(col), torch.tensor(x)
        guess = (theirs["W"][r] * theirs["V"][c]).sum(1) + theirs["b"][r] + theirs["c"][c]
        weight = (t / x_max).clamp(max=1) ** 0.75
        loss = 0.5 * (weight * (guess - t.log()) ** 2).sum()  # the recipe leaves out the factor 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for k in start:
        assert torch.allclose(mine[k], theirs[k], rtol=1e-5, atol=1e-6), k


def test_shards_hold_every_cell_once():
    import scipy.sparse

    X = scipy.sparse.random(50, 50, 0.2, format="csr", random_state=0)
    back = np.zeros((50, 50))
    for row, col, value in glove.shards(X, 7, seed=3):
        back[row, col] += value
    assert np.allclose(back, X.toarray())


@pytest.mark.parametrize("difference", [0.0, 0.5])
def test_finish_is_scikit_learns_pca_without_the_top_component(difference):
    from sklearn.decomposition import PCA

    draw = np.random.default_rng(0)
    W, V = draw.normal(size=(300, 5)) * np.r_[9, np.ones(4)] + 5, draw.normal(size=(300, 5))
    both = np.hstack([W + V, difference * (W - V)])
    theirs = PCA(5 + bool(difference), svd_solver="full").fit_transform(both)[:, 1:]
    ours = glove.finish(W, V, difference, 1)[:, : theirs.shape[1]]
    assert np.allclose(np.abs(ours), np.abs(theirs), atol=1e-6)  # an axis has no sign


def run(text, work, *extra):
    command = [
        sys.executable,
        str(RECIPES / "glove.py"),
        "--text",
        str(text),
        "--work",
        str(work),
        "--out",
        str(work / "out"),
        "--vocab",
        "6",
        "--min-sources",
        "2",
        "--dim",
        "4",
        "--shards",
        "3",
        "--min-cell",
        "0",
        *extra,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return load_file(work / "out" / "vectors.safetensors")["vectors"]


def test_stopped_and_started_again_gives_the_same_vectors(text, tmp_path):
    whole = run(text, tmp_path / "one", "--epochs", "4")
    run(text, tmp_path / "two", "--epochs", "2")
    assert np.array_equal(run(text, tmp_path / "two", "--epochs", "4"), whole)
    log = (tmp_path / "two" / "log.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in log] == ["1", "2", "3", "4"]


def test_a_folder_without_text_is_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no \*.txt or \*.txt.xz file"):
        glove.sources(tmp_path)


# the lesson's own definitions -----------------------------------------------------------


def test_the_lesson_counts_as_the_recipe_does(text):
    space = books.definitions(LESSON, "count_neighbours", "tokens")
    texts = [space["tokens"](x) for f in sorted(text.glob("*.txt")) for x in f.read_text().splitlines()]
    words, cells = space["count_neighbours"](texts, window=3, least=1)
    # the lesson's tokens leave the number out altogether; so does this text for the recipe
    for f in text.glob("*.txt"):
        f.write_text(f.read_text().replace("7 ", "").replace(" 7", ""))
    recipe_words, _, X = glove.count(text, 10, 3, 1)
    X = X.toarray()
    for (i, j), value in cells.items():
        a, b = recipe_words.index(words[i]), recipe_words.index(words[j])
        assert abs(X[a, b] - value) < 1e-3
    assert len(cells) == (X > 0).sum()


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
