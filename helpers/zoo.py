"""One loader for the models of lesson 14: a row of its table of settings, applied.

    from helpers import zoo
    model = zoo.load(["sentence-transformers/all-MiniLM-L6-v2"], ["", ""], "mean", "cosine")
    questions, passages = model.encode_queries(["..."]), model.encode_passages(["...", "..."])
    model.scores(questions, passages)                    # (1, 2)

The settings: which networks, what is written before a text, how token vectors become one, how two
vectors are compared. The folders come from `helpers.models.path`: an original on disk wins over a
stand-in, and nothing is downloaded.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import normalize

from helpers import models
from helpers.pooling import cls_pool, mean_pool
from helpers.texts import as_list

if TYPE_CHECKING:
    import bm25s
    from PIL.Image import Image
    from sentence_transformers import MultiVectorEncoder

LONGEST = 256  # tokens of a text; what lies behind them is not read


def load(
    towers: Sequence[str], before: Sequence[str], pooling: str, compare: str, quiet: bool = False
) -> "OneVector | Late | Clip":
    """A model ready to encode on the CPU in float32, from a row of lesson 14's table.

    towers: the public name of its network, or of the question's and the passage's. before: what is
    written before a question and before a passage. pooling: how token vectors become one, "mean",
    "mean, linear", "cls", "end" (CLIP) or "none". compare: "cosine", "dot" or "maxsim".
    Raises KeyError for a tower that is not in the register, FileNotFoundError (with the command that
    fetches it) where one is neither on disk nor replaced by a stand-in, ValueError for another pooling
    or comparison.
    """
    for what, given, known in (
        ("pooling", pooling, ("mean", "mean, linear", "cls", "end", "none")),
        ("compare", compare, ("cosine", "dot", "maxsim")),
    ):
        if given not in known:
            raise ValueError(f"there is no {what}={given!r}; name one of {', '.join(map(repr, known))}")
    if (pooling == "none") != (compare == "maxsim"):
        raise ValueError("pooling='none' and compare='maxsim' go together; give both or neither")
    folders = [models.path(tower, quiet) for tower in towers]
    if compare == "maxsim":
        return Late(folders[0])
    if pooling == "end":
        return Clip(folders[0])
    return OneVector(folders, before, pooling, compare)


def missing(towers: Sequence[str]) -> list[str]:
    """Those of the towers that are not on this disk, stand-ins counted as being here."""
    found = []
    for tower in towers:
        try:
            models.path(tower, quiet=True)
        except FileNotFoundError:
            found.append(tower)
    return found


class OneVector:
    """One vector a text, from one encoder or two.

    folders: one folder, or the question encoder's and the passage encoder's. Vectors that are
    compared by cosine have length 1, so that `scores` is a dot product for all.
    """

    def __init__(self, folders: Sequence[Path], prefixes: Sequence[str], pooling: str, compare: str):
        self.towers = [_tower(folder) for folder in folders]
        self.prefixes, self.pooling, self.compare = prefixes, pooling, compare
        self.dense = _dense(folders[0]) if pooling == "mean, linear" else None

    def encode_queries(self, texts: Sequence[str]) -> torch.Tensor:
        """(n, dim), in the order given. Raises ValueError for an empty text."""
        return self._encode(self.towers[0], self.prefixes[0], texts)

    def encode_passages(self, texts: Sequence[str]) -> torch.Tensor:
        """(n, dim), in the order given. Raises ValueError for an empty text."""
        return self._encode(self.towers[-1], self.prefixes[1], texts)

    def scores(self, queries: torch.Tensor, passages: torch.Tensor) -> torch.Tensor:
        """(queries, passages); larger is nearer."""
        return queries @ passages.T

    def parameters(self) -> int:
        """Numbers in all towers together."""
        return sum(p.numel() for _, model in self.towers for p in model.parameters())

    @torch.no_grad()
    def _encode(self, tower, prefix: str, texts: Sequence[str], size: int = 32) -> torch.Tensor:
        tokenizer, model = tower
        texts = [prefix + text for text in as_list(texts)]
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        found = []
        for at in _bar(range(0, len(texts), size)):
            batch = tokenizer(
                [texts[i] for i in order[at : at + size]],
                padding=True,
                truncation=True,
                max_length=LONGEST,
                return_tensors="pt",
            )
            states, mask = model(**batch).last_hidden_state, batch["attention_mask"]
            found.append(cls_pool(states, mask) if self.pooling == "cls" else mean_pool(states, mask))
        vectors = torch.cat(found)[torch.tensor(order).argsort()]
        if self.dense is not None:
            vectors = vectors @ self.dense.T
        return normalize(vectors, dim=1) if self.compare == "cosine" else vectors


class Late:
    """ColBERT: a vector for every token, compared by MaxSim, through sentence-transformers'
    `MultiVectorEncoder`, which reads a ColBERT checkpoint as its authors save it."""

    def __init__(self, model: "Path | MultiVectorEncoder"):
        from sentence_transformers import MultiVectorEncoder

        if isinstance(model, Path):
            model = MultiVectorEncoder(str(model), device="cpu", local_files_only=True)
        self.model = model

    def encode_queries(self, texts: Sequence[str]) -> list[torch.Tensor]:
        """A (32, dim) table for each question: its tokens, filled up with [MASK]."""
        return self._encode(self.model.encode_query, texts)

    def encode_passages(self, texts: Sequence[str]) -> list[torch.Tensor]:
        """A (tokens, dim) table for each passage, punctuation left out."""
        return self._encode(self.model.encode_document, texts)

    def _encode(self, encode, texts: Sequence[str], size: int = 32) -> list[torch.Tensor]:
        texts = as_list(texts)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        found = {}
        for at in _bar(range(0, len(texts), size)):
            part = order[at : at + size]
            found |= zip(part, encode([texts[i] for i in part], show_progress_bar=False), strict=True)
        return [found[i] for i in range(len(texts))]

    def scores(self, queries: list[torch.Tensor], passages: list[torch.Tensor]) -> torch.Tensor:
        """(queries, passages): over a question's tokens, the sum of the largest cosines."""
        from sentence_transformers.util import maxsim

        return maxsim(queries, passages, chunk_elements=2_000_000)  # 8 MB at a time

    def without_masks(self, queries: list[torch.Tensor], texts: Sequence[str]) -> list[torch.Tensor]:
        """The tables of encoded questions without the rows of their [MASK]s, which stand last."""
        read = self.model.tokenizer(as_list(texts))["input_ids"]
        # one more than the tokenizer gives, for the mark of a question
        return [table[: len(ids) + 1] for table, ids in zip(queries, read, strict=True)]

    def parameters(self) -> int:
        """Numbers in the encoder and the projection."""
        return sum(p.numel() for p in self.model.parameters())


class Clip:
    """CLIP: a text tower and an image tower that end in the same space."""

    def __init__(self, folder: Path):
        from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.pixels = CLIPImageProcessorPil.from_pretrained(folder)
        self.model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.no_grad()
    def encode_queries(self, texts: Sequence[str]) -> torch.Tensor:
        """(n, dim), length 1, of texts; at most 77 tokens of each are read."""
        longest = self.model.config.text_config.max_position_embeddings
        batch = self.tokenizer(
            as_list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt"
        )
        return normalize(self.model.get_text_features(**batch).pooler_output, dim=1)

    encode_passages = encode_queries  # for texts there is one tower

    @torch.no_grad()
    def encode_images(self, images: "Sequence[Image]") -> torch.Tensor:
        """(n, dim), length 1, of images in RGB."""
        batch = self.pixels(images=list(images), return_tensors="pt")
        return normalize(self.model.get_image_features(**batch).pooler_output, dim=1)

    def scores(self, queries: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """(queries, others): cosines."""
        return queries @ others.T

    def parameters(self) -> int:
        """Numbers in both towers."""
        return sum(p.numel() for p in self.model.parameters())


class GloVe:
    """Averaged word vectors (lesson 1): no network, and a word is the same wherever it stands."""

    def __init__(self):
        self.table = models.word_vectors("glove-wiki-gigaword-100", limit=40_000, quiet=True)

    def encode_passages(self, texts: Sequence[str]) -> torch.Tensor:
        """(n, 100), length 1; zeros for a text of which no word is known."""
        split = [re.findall(r"\w+", text.lower()) or [""] for text in as_list(texts)]  # "" is unknown
        return normalize(torch.from_numpy(np.array([self.table.get_mean_vector(w) for w in split])), dim=1)

    encode_queries = encode_passages

    def scores(self, queries: torch.Tensor, passages: torch.Tensor) -> torch.Tensor:
        """(queries, passages): cosines."""
        return queries @ passages.T

    def parameters(self) -> int:
        """Numbers in the table of words."""
        return self.table.vectors.size


class BM25:
    """Shared words, counted (lesson 7): no vectors. English stop words are left out."""

    def encode_queries(self, texts: Sequence[str]) -> list[list[str]]:
        """The words of each text that are looked for."""
        import bm25s

        return bm25s.tokenize(as_list(texts), stopwords="en", show_progress=False, return_ids=False)

    def encode_passages(self, texts: Sequence[str]) -> "bm25s.BM25":
        """The index over the texts. Raises ValueError where none of them has a word to be found by."""
        import bm25s

        words = self.encode_queries(texts)
        if not any(words):
            raise ValueError(
                "no text has a word that BM25 looks for; the commonest English ones are left out"
            )
        index = bm25s.BM25()
        index.index(words, show_progress=False)
        return index

    def scores(self, queries: list[list[str]], passages: "bm25s.BM25") -> torch.Tensor:
        """(queries, passages): BM25; zeros for a query of which no word is left."""
        nothing = np.zeros(passages.scores["num_docs"], dtype=np.float32)
        return torch.from_numpy(np.array([passages.get_scores(w) if w else nothing for w in queries]))

    def parameters(self) -> int:
        """Nothing is learnt."""
        return 0


def _tower(folder: Path):
    """The tokenizer and the network of a folder, by the architecture that its config names."""
    from transformers import (
        AutoTokenizer,
        BertModel,
        DPRContextEncoder,
        DPRQuestionEncoder,
        T5EncoderModel,
    )

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = config.get("model_type")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if kind == "t5":
        return tokenizer, T5EncoderModel.from_pretrained(folder, dtype=torch.float32).eval()
    if kind == "dpr":
        question = "DPRQuestionEncoder" in config["architectures"]
        whole = (DPRQuestionEncoder if question else DPRContextEncoder).from_pretrained(folder)
        return tokenizer, getattr(whole, whole.base_model_prefix).bert_model.float().eval()
    bert = BertModel.from_pretrained(folder, add_pooling_layer=False, dtype=torch.float32)
    return tokenizer, bert.eval()


def _dense(folder: Path) -> torch.Tensor:
    """The linear map behind the pooling, (out, in), from the folder's own 2_Dense."""
    from safetensors.torch import load_file

    return load_file(folder / "2_Dense" / "model.safetensors")["linear.weight"].float()


def _bar(steps: range):
    """The steps, with a progress bar where there are many."""
    from tqdm.auto import tqdm

    return tqdm(steps, desc="batches", disable=len(steps) <= 4)
