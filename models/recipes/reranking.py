"""What reranking is worth over five first stages: the table of lesson 3.

    python models/recipes/reranking.py --out models/recipes/reranking.tsv --scores SCORES.npz

The first QUESTIONS of the course's held-out questions are asked over its 1,000 answers. Five first stages
give ten passages each, and the cross-encoder sorts the ten again. A row of the table is one question of one
first stage: the reciprocal rank of its own answer before and after (0: not among the ten). Scores are kept
in SCORES.npz, so that a run that was broken off goes on. About 3,000 pairs of a question and a passage: two
minutes on two quiet cores.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import data, files, models

CROSS_ENCODER = "cross-encoder/ms-marco-MiniLM-L-12-v2"
K = 10


def first(scores: np.ndarray, k: int = K) -> np.ndarray:
    """The numbers of the k best columns of each row, best first."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def first_stages(
    asked: Sequence[str], answers: Sequence[str], echoes: Sequence[str]
) -> dict[str, np.ndarray]:
    """Name -> (questions, 10) numbers of passages; from len(answers) on they are echoes."""
    import bm25s
    from sentence_transformers import SentenceTransformer
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = [bm25s.tokenize(list(texts), stopwords="en", show_progress=False) for texts in (answers, asked)]
    bm25 = bm25s.BM25()
    bm25.index(words[0], show_progress=False)
    tfidf = TfidfVectorizer(sublinear_tf=True).fit(answers)
    glove = models.word_vectors("glove-wiki-gigaword-100", quiet=True)
    minilm = models.path("sentence-transformers/all-MiniLM-L6-v2", quiet=True)
    minilm = SentenceTransformer(str(minilm), device="cpu")

    def mean_glove(texts):
        rows = [[w for w in re.findall("[a-z0-9]+", text.lower()) if w in glove] for text in texts]
        return np.array([glove.get_mean_vector(row or ["the"], post_normalize=True) for row in rows])

    def embedded(texts):
        return minilm.encode(list(texts), normalize_embeddings=True)

    near_answers, near_echoes = (embedded(asked) @ embedded(texts).T for texts in (answers, echoes))
    return {
        "BM25": bm25.retrieve(words[1], k=K, show_progress=False)[0].astype(int),
        "TF-IDF": first((tfidf.transform(asked) @ tfidf.transform(answers).T).toarray()),
        "mean GloVe": first(mean_glove(asked) @ mean_glove(answers).T),
        "MiniLM": first(near_answers),
        "MiniLM, echoes among the passages": first(np.hstack([near_answers, near_echoes])),
    }


def reciprocal_ranks(lists: np.ndarray, right: np.ndarray) -> np.ndarray:
    """1 / place of the right passage in each list, 0 where it is not in it."""
    hit = lists == right[:, None]
    return np.where(hit.any(axis=1), 1 / (1 + hit.argmax(axis=1)), 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--scores", type=Path, required=True, help="where scores are kept while it runs")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    import torch
    from sentence_transformers import CrossEncoder
    from tqdm.auto import tqdm

    answers, held_out = data.qa_pairs()["answer"].tolist(), data.qa_pairs(part="test")
    asked, echoes = held_out["question"].tolist()[: options.questions], held_out["question"].tolist()
    right = np.array([answers.index(answer) for answer in held_out["answer"][: options.questions]])
    lists = first_stages(asked, answers, echoes)
    passages = answers + echoes

    scores = {}
    if options.scores.exists():
        with np.load(options.scores) as kept:
            scores = {
                tuple(pair): float(s) for pair, s in zip(kept["pairs"].tolist(), kept["scores"], strict=True)
            }
    wanted = sorted({(i, int(j)) for rows in lists.values() for i, row in enumerate(rows) for j in row})
    missing = [pair for pair in wanted if pair not in scores]
    cross = CrossEncoder(str(models.path(CROSS_ENCODER)), activation_fn=torch.nn.Identity(), device="cpu")
    for at in tqdm(range(0, len(missing), 256), desc="256 pairs"):
        part = missing[at : at + 256]
        found = cross.predict([(asked[i], passages[j]) for i, j in part])
        scores |= zip(part, map(float, found), strict=True)
        with files.put_whole(options.scores) as file:
            np.savez(file, pairs=list(scores), scores=list(scores.values()))

    rows = []
    for name, found in lists.items():
        again = np.array([sorted(row, key=lambda j: -scores[i, int(j)]) for i, row in enumerate(found)])
        before, after = reciprocal_ranks(found, right), reciprocal_ranks(again, right)
        rows += [(name, i, b, a) for i, (b, a) in enumerate(zip(before, after, strict=True))]
    table = pd.DataFrame(rows, columns=["first stage", "question", "before", "after"]).round(6)
    with files.put_whole(options.out) as file:
        table.to_csv(file, sep="\t", index=False)


if __name__ == "__main__":
    main()
