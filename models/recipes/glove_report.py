"""Measure word vectors, and train word2vec on the same text as a baseline.

    python models/recipes/glove_report.py FOLDER [--sts FILE] [--text DIR]

FOLDER holds vectors.safetensors and words.txt. Prints one line a figure:

- king - man + woman: the first word and its cosine
- WordSim-353 (Spearman, share of missing pairs) and the Google analogies (top-1 among the
  30,000 commonest words, share covered), both as gensim ships and scores them
- with --sts: Pearson on sentence pairs (CSV: sentence, sentence, score), a sentence being the
  mean of its words' vectors weighted by 0.001 / (0.001 + frequency rank share). This is the
  figure that choices were made on; the two test sets above were only reported.
- with --text: the same for gensim's word2vec (skip-gram, the same window and vocabulary)
"""

import argparse
import csv
import pathlib
import sys

import numpy as np
from gensim.models import KeyedVectors
from gensim.test.utils import datapath
from safetensors.numpy import load_file
from scipy.stats import pearsonr

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from glove import paragraphs, sources, tokenize


def load(folder):
    """The vectors of a folder as gensim KeyedVectors (float32)."""
    words = (folder / "words.txt").read_text(encoding="utf-8").split("\n")[:-1]
    matrix = load_file(folder / "vectors.safetensors")["vectors"].astype(np.float32)
    vectors = KeyedVectors(matrix.shape[1])
    vectors.add_vectors(words, matrix)
    return vectors


def sts_pearson(vectors, file):
    """Pearson correlation of cosine and human score; words are down-weighted by frequency."""

    def sentence(text):
        ids = [vectors.key_to_index[w] for w in tokenize(text) if w in vectors]
        share = 0.1 / (np.array(ids) + 2.7)  # Zipf: the r-th commonest word has about 0.1 / r
        v = vectors.vectors[ids] * (0.001 / (0.001 + share))[:, None]
        return v.sum(0) if len(ids) else np.ones(vectors.vector_size)

    cosines, scores = [], []
    for a, b, score in csv.reader(file.read_text(encoding="utf-8").splitlines()):
        u, v = sentence(a), sentence(b)
        cosines.append(u @ v / np.linalg.norm(u) / np.linalg.norm(v))
        scores.append(float(score))
    return pearsonr(cosines, scores).statistic


def report(name, vectors, sts=None):
    first = vectors.most_similar(positive=["king", "woman"], negative=["man"], topn=2)
    print(f"{name}: king - man + woman = {first[0][0]} {first[0][1]:.4f}, then {first[1][0]}")
    _, spearman, missing = vectors.evaluate_word_pairs(
        datapath("wordsim353.tsv"), restrict_vocab=len(vectors), case_insensitive=True
    )
    print(f"{name}: WordSim-353 Spearman {spearman.statistic:.4f}, {missing:.1f} % missing")
    questions = datapath("questions-words.txt")
    accuracy, sections = vectors.evaluate_word_analogies(questions, restrict_vocab=30_000)
    asked = sum(line[0] != ":" for line in pathlib.Path(questions).read_text().splitlines())
    answered = len(sections[-1]["correct"]) + len(sections[-1]["incorrect"])
    print(f"{name}: Google analogies {accuracy:.4f} of {answered:,} ({answered / asked:.1%} covered)")
    for s in sections[:-1]:
        n = len(s["correct"]) + len(s["incorrect"])
        print(f"    {s['section']}: {len(s['correct']) / max(n, 1):.3f} of {n}")
    if sts:
        print(f"{name}: STS pairs, Pearson {sts_pearson(vectors, sts):.4f}")


class Text:
    """The tokenised paragraphs, read again at each epoch, as gensim wants them."""

    def __init__(self, folder):
        self.folder = folder

    def __iter__(self):
        return (tokenize(line) for f in sources(self.folder) for line in paragraphs(f))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--sts", type=pathlib.Path)
    parser.add_argument("--text", type=pathlib.Path)
    parser.add_argument("--epochs", type=int, default=5)
    args = parser.parse_args()
    vectors = load(args.folder)
    report("GloVe", vectors, args.sts)
    if args.text:
        from gensim.models import Word2Vec

        model = Word2Vec(
            Text(args.text),
            vector_size=100,
            window=10,
            sg=1,
            negative=5,
            epochs=args.epochs,
            max_final_vocab=len(vectors),
            workers=2,
            seed=0,
        )
        report("word2vec", model.wv, args.sts)


if __name__ == "__main__":
    main()
