"""Train GloVe word vectors from plain text.

The method is that of Pennington, Socher and Manning, "GloVe: Global Vectors for Word
Representation" (EMNLP 2014): count how often two words stand near each other, then find
vectors whose dot products match the logarithms of those counts,

    J = sum over cells of  f(X_ij) * (w_i . v_j + b_i + c_j - log X_ij)^2,
    f(x) = min(1, (x / x_max) ^ 0.75),

by AdaGrad. The paper's vector of a word is w + v. Here w + v stands beside a part of w - v, and
PCA brings the two back to the wanted width, which keeps some of what the sum throws away; the
mean and the strongest component, which mostly say how common a word is, are left out (Mu, Bhat
and Viswanath, "All-but-the-Top", ICLR 2018).

Where the paper's own program takes one cell at a time, this one takes a random shard of
the cells at once: the predictions, the two gradients and the AdaGrad step are then four
calls on sparse and dense arrays, and the same lines run on a CPU or a GPU.

    python models/recipes/glove.py --text DIR --work DIR --out DIR

The text folder holds *.txt or *.txt.xz, one paragraph a line. Stop it with the keyboard and start
it again: it goes on after the last finished epoch.
"""

import argparse
import collections
import itertools
import json
import lzma
import pathlib
import re
import time

import numpy as np
import scipy.sparse
import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm

# A possessive, a run of letters with inner apostrophes, or a number with inner points and commas.
TOKEN = re.compile(r"'s\b|[^\W\d_]+(?:'[^\W\d_]+)*|\d+(?:[.,]\d+)*")


def tokenize(line):
    """Lower-case words and numbers of a line; a possessive 's is a token of its own.

    >>> tokenize("The King's well-known 1,200 soldiers don't rest.")
    ['the', 'king', "'s", 'well', 'known', '1,200', 'soldiers', "don't", 'rest']
    """
    return TOKEN.findall(line.lower().replace("\u2019", "'").replace("'s ", " 's "))


def sources(folder):
    """The *.txt and *.txt.xz files of a folder, in the order of their names."""
    files = sorted(folder.glob("*.txt")) + sorted(folder.glob("*.txt.xz"))
    if not files:
        raise FileNotFoundError(f"{folder} holds no *.txt or *.txt.xz file.")
    return files


def paragraphs(file):
    """The lines of one source, with progress shown."""
    opener = lzma.open if file.suffix == ".xz" else open
    with opener(file, "rt", encoding="utf-8") as lines:
        yield from tqdm(lines, desc=file.name, unit=" lines", leave=False)


def count(folder, vocab_size, window, min_sources):
    """Count the words, then the cells of the co-occurrence matrix.

    A word must occur in at least `min_sources` files, so that the names of one novel take no
    room, and numbers are left out (they still keep their place between their neighbours).
    A pair of words d apart in one paragraph (1 <= d <= window) adds 1/d to its cell, on
    both sides of the diagonal.
    Returns (words, counts, X): the `vocab_size` commonest words, commonest first, a Counter
    of all words, and a scipy CSR matrix (vocab_size, vocab_size) of float32.
    """
    counts, spread, lines = collections.Counter(), collections.Counter(), []
    for file in sources(folder):
        here = collections.Counter()
        for line in paragraphs(file):
            tokens = tokenize(line)
            here.update(tokens)
            lines.append(" ".join(tokens))
        counts += here
        spread.update(here.keys())
    words = [w for w, _ in counts.most_common() if spread[w] >= min_sources and not w[0].isdigit()]
    words = words[:vocab_size]
    vocab_size = len(words)
    rank = {w: i for i, w in enumerate(words)}
    total = scipy.sparse.csr_matrix((vocab_size, vocab_size), dtype=np.float32)
    chunk, size = [], 0
    for k, line in enumerate(tqdm(lines, desc="co-occurrence", unit=" lines")):
        ids = [rank.get(w, -1) for w in line.split()]
        chunk += ids + [-1] * window  # a gap as wide as the window parts the paragraphs
        size = len(chunk)
        if size > 4_000_000 or k == len(lines) - 1:
            total = total + count_chunk(np.array(chunk, dtype=np.int64), vocab_size, window)
            chunk = []
    return words, counts, (total + total.T).tocsr()


def count_chunk(ids, vocab_size, window):
    """The upper half of the co-occurrence matrix of one run of word ids (-1 is no word)."""
    part = scipy.sparse.csr_matrix((vocab_size, vocab_size), dtype=np.float32)
    for d in range(1, window + 1):
        left, right = ids[:-d], ids[d:]
        both = (left >= 0) & (right >= 0)
        cells = (np.minimum(left, right)[both], np.maximum(left, right)[both])
        ones = np.full(both.sum(), 1 / d, dtype=np.float32)
        part = part + scipy.sparse.csr_matrix((ones, cells), shape=part.shape)
    return part


def shards(X, n, seed):
    """Deal the cells of X into n random shards, each a CSR matrix of the same shape."""
    X = X.tocoo()
    hand = np.random.default_rng(seed).integers(0, n, X.nnz, dtype=np.int16)
    order = np.argsort(hand, kind="stable")
    edges = np.searchsorted(hand[order], np.arange(n + 1))
    row, col, value = X.row[order], X.col[order], X.data[order]
    del X, hand, order
    for a, b in itertools.pairwise(edges):
        yield row[a:b].astype(np.int32), col[a:b].astype(np.int32), value[a:b]


def step(shard, params, squares, lr, x_max, device):
    """One AdaGrad step on one shard; returns (weighted squared error, number of cells)."""
    row, col, x = (torch.as_tensor(a, device=device) for a in shard)
    W, V, b, c = params["W"], params["V"], params["b"], params["c"]
    weight = (x / x_max).clamp(max=1) ** 0.75
    guess = torch.empty_like(x)
    for k in range(0, len(x), 100_000):  # in slices: the gathered rows stay in the cache
        r, s = row[k : k + 100_000], col[k : k + 100_000]
        guess[k : k + 100_000] = (W[r] * V[s]).sum(1)
    error = guess + b[row] + c[col] - x.log()
    pull = weight * error
    G = torch.sparse_coo_tensor(torch.stack([row, col]).long(), pull, (len(W), len(V)))
    G = G.coalesce()
    grads = {
        "W": torch.sparse.mm(G, V),
        "V": torch.sparse.mm(G.t(), W),
        "b": torch.zeros_like(b).index_add_(0, row, pull),
        "c": torch.zeros_like(c).index_add_(0, col, pull),
    }
    for name, g in grads.items():
        squares[name].addcmul_(g, g)
        params[name].addcdiv_(g, squares[name].sqrt(), value=-lr)
    return float((pull * error).sum()), len(x)


def train(X, dim, epochs, lr, x_max, n_shards, seed, work, log):
    """Fit the vectors; a checkpoint after every epoch. Returns W and V, (words, dim)."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    g = torch.Generator().manual_seed(seed)
    n = X.shape[0]
    params = {k: (torch.rand(n, dim, generator=g) - 0.5) / dim for k in "WV"}
    params |= {k: torch.zeros(n) for k in "bc"}
    squares = {k: torch.ones_like(v) for k, v in params.items()}
    done, checkpoint = 0, work / "checkpoint.safetensors"
    if checkpoint.exists():
        saved = load_file(checkpoint)
        params = {k: saved[k] for k in params}
        squares = {k: saved["sq_" + k] for k in params}
        done = int(saved["epoch"])
        print(f"going on after epoch {done}")
    params = {k: v.to(device) for k, v in params.items()}
    squares = {k: v.to(device) for k, v in squares.items()}
    dealt = list(shards(X, n_shards, seed))
    for epoch in range(done + 1, epochs + 1):
        start, loss, cells = time.time(), 0.0, 0
        order = np.random.default_rng((seed, epoch)).permutation(n_shards)
        for k in tqdm(order, desc=f"epoch {epoch}/{epochs}", leave=False):
            part, size = step(dealt[k], params, squares, lr, x_max, device)
            loss, cells = loss + part, cells + size
        state = {k: v.cpu() for k, v in params.items()}
        state |= {"sq_" + k: v.cpu() for k, v in squares.items()}
        part_file = checkpoint.with_suffix(".part")
        save_file(state | {"epoch": torch.tensor(epoch)}, part_file)
        part_file.replace(checkpoint)
        with log.open("a") as out:
            out.write(f"{epoch}\t{loss / cells:.5f}\t{time.time() - start:.0f}\n")
        print(f"epoch {epoch}: loss {loss / cells:.5f}, {time.time() - start:.0f} s", flush=True)
    return params["W"].cpu().numpy(), params["V"].cpu().numpy()


def finish(W, V, difference, remove_top):
    """One vector per word from its two: PCA of (W + V, difference * (W - V)) side by side.

    W, V: (words, dim). Returns (words, dim): the components after the first `remove_top`.
    With difference 0 it is w + v, its mean and top components taken away.
    """
    both = np.concatenate([W + V, difference * (W - V)], axis=1)
    both = both - both.mean(0)
    _, _, axes = np.linalg.svd(both, full_matrices=False)
    return both @ axes[remove_top : remove_top + W.shape[1]].T


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True, help="counts and checkpoints")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--vocab", type=int, default=40_000)
    parser.add_argument("--min-sources", type=int, default=5, help="files a word must occur in")
    parser.add_argument("--window", type=int, default=10)
    parser.add_argument("--min-cell", type=float, default=0.3, help="drop cells below this")
    parser.add_argument("--x-max", type=float, default=50)
    parser.add_argument("--dim", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--lr", type=float, default=0.3)
    parser.add_argument("--shards", type=int, default=256)
    parser.add_argument("--difference", type=float, default=0.5, help="weight of w - v")
    parser.add_argument("--remove-top", type=int, default=1, help="components to leave out")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)

    cells = args.work / f"cells_{args.vocab}_{args.window}.npz"
    if not cells.exists():
        words, counts, X = count(args.text, args.vocab, args.window, args.min_sources)
        (args.work / "words.json").write_text(json.dumps([[w, counts[w]] for w in words]))
        scipy.sparse.save_npz(cells, X, compressed=False)
        del X
    X = scipy.sparse.load_npz(cells)
    words = [w for w, _ in json.loads((args.work / "words.json").read_text())]
    if args.min_cell:
        X.data[X.data < args.min_cell] = 0
        X.eliminate_zeros()
    print(f"{len(words):,} words, {X.nnz:,} cells", flush=True)
    W, V = train(
        X,
        args.dim,
        args.epochs,
        args.lr,
        args.x_max,
        args.shards,
        args.seed,
        args.work,
        args.work / "log.tsv",
    )
    vectors = finish(W, V, args.difference, args.remove_top)
    args.out.mkdir(parents=True, exist_ok=True)
    save_file({"vectors": torch.tensor(vectors, dtype=torch.float16)}, args.out / "vectors.safetensors")
    (args.out / "words.txt").write_text("\n".join(words) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
