"""The encoders of lesson 6, and a text's way through them: pieces, padding, vectors.

    from helpers import encoders
    encoder = encoders.Encoder()                  # or Pretrained(folder), TopicAndForm(folder)
    vectors = encoders.embed(encoder, ["..."])    # (texts, dim)

`Encoder`, `Pretrained`, `TopicAndForm` and `embed` are the lesson's own; a test proves them the same.
"""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import hardtanh, normalize

from helpers import models
from helpers.texts import as_list

if TYPE_CHECKING:
    import pandas

LONGEST = 512  # pieces
VOCABULARY = 30522  # bert-base-uncased's word pieces
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


class Encoder(torch.nn.Module):
    """The published encoder: token table, three transformer layers, [CLS], a linear map.

    forward(ids, mask) takes (batch, tokens) of piece numbers and a mask, True for a token and
    False for padding, and gives (batch, out). Nothing tells it where in the text a piece stands:
    the published one has no position embedding either. Dropout is torch's default, 0.1.
    """

    def __init__(self, vocabulary=VOCABULARY, width=512, layers=3, heads=8, out=128, dropout=0.1):
        super().__init__()
        self.tokens = torch.nn.Embedding(vocabulary, width, sparse=True)
        layer = torch.nn.TransformerEncoderLayer(width, heads, dropout=dropout, batch_first=True)
        self.transformer = torch.nn.TransformerEncoder(
            layer, layers, norm=torch.nn.LayerNorm(width), enable_nested_tensor=False
        )
        self.project = torch.nn.Linear(width, out)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        states = self.transformer(self.tokens(ids), src_key_padding_mask=~mask)
        return self.project(states[:, 0])


class Pretrained(torch.nn.Module):
    """A BERT that has learnt from text already, its token vectors averaged over real tokens.

    folder: what `models.path` gives. frozen: so many lower layers, and the token table, stay as
    they are. forward(ids, mask) as in `Encoder`; the vector has the model's own width.
    """

    def __init__(self, folder=None, frozen=4, config=None):
        super().__init__()
        from transformers import BertConfig, BertModel

        if folder is not None:
            self.bert = BertModel.from_pretrained(
                folder,
                add_pooling_layer=False,
                dtype=torch.float32,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            )
        else:
            self.bert = BertModel(BertConfig(**config), add_pooling_layer=False)
        self.frozen = frozen
        for part in [self.bert.embeddings, *self.bert.encoder.layer[:frozen]]:
            part.requires_grad_(False)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        states = self.bert(ids, attention_mask=mask).last_hidden_state
        mask = mask.unsqueeze(-1)
        return (states * mask).sum(1) / mask.sum(1)


class TopicAndForm(torch.nn.Module):
    """A BERT left as it is, and beside its vector one trained number: does the text ask or tell?

    The first `width` numbers are the last layer's token vectors, averaged, of length 1: what the
    text is about. The one after them is a linear map of layer `layer`'s average, cut off at -1
    and +1; it begins as `start` for every text. Two such vectors have the dot product
    cosine + form * form. Questions start at 1 ("I look for what tells"; at the edge there is no
    gradient, so it stays), passages at 0.
    forward(ids, mask) as in `Encoder`; gives (batch, width + 1). Only `form` is trained.
    """

    def __init__(self, folder=None, start=0.0, layer=4, config=None):
        super().__init__()
        self.bert = Pretrained(folder, frozen=0, config=config).bert.requires_grad_(False)
        self.layer = layer
        width = self.bert.config.hidden_size
        self.norm = torch.nn.LayerNorm(width, elementwise_affine=False)
        self.form = torch.nn.Linear(width, 1)
        torch.nn.init.zeros_(self.form.weight)
        torch.nn.init.constant_(self.form.bias, start)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        layers = self.bert(ids, attention_mask=mask, output_hidden_states=True).hidden_states
        mask = mask.unsqueeze(-1)
        low, last = [(layers[i] * mask).sum(1) / mask.sum(1) for i in (self.layer, -1)]
        return torch.cat([normalize(last, dim=1), hardtanh(self.form(self.norm(low)))], dim=1)


@functools.cache
def tokenizer():
    """bert-base-uncased's tokenizer (all-MiniLM-L6-v2 has the same, and is on every disk)."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(models.path(MINILM, quiet=True))


def tokenise(texts: Sequence[str], length: int = 64) -> list[list[int]]:
    """Piece numbers of each text, [CLS] first, [SEP] last, cut off after `length` (see `said_of_cut`).

    Raises TypeError and ValueError as `texts.as_list` does; ValueError for a length outside 3 to 512.
    """
    if not 3 <= length <= LONGEST:
        raise ValueError(f"length={length} is outside 3 to {LONGEST}, what BERT reads")
    return tokenizer()(as_list(texts), truncation=True, max_length=length)["input_ids"]


def said_of_cut(pairs: "pandas.DataFrame", length: int = 64) -> str:
    """One sentence on how many questions and answers `tokenise` cuts off after `length` pieces; "" for none."""
    found, longest = [], 0
    for column in ("question", "answer"):
        lengths = [len(row) for row in tokenizer()(as_list(pairs[column]), verbose=False)["input_ids"]]
        longest = max(longest, *lengths)
        if cut := sum(n > length for n in lengths):
            found.append(f"{cut} of {len(lengths)} {column}s")
    if not found:
        return ""
    return f"cut off after {length} pieces: {' and '.join(found)}; length={min(longest, LONGEST)} reads more"


def pad(rows: Sequence[list[int]], device="cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """ids and mask, both (rows, longest row); piece 0 is [PAD]."""
    rows = [torch.tensor(row) for row in rows]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)
    return ids, ids > 0


def embed(encoder: torch.nn.Module, texts: Sequence[str], length: int = 64) -> torch.Tensor:
    """One vector a text, (texts, dim), in the order given. Raises as `tokenise`."""
    rows = tokenise(texts, length)
    device = next(encoder.parameters()).device
    shortest_first = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    was_training = encoder.training
    encoder.eval()
    with torch.no_grad():
        parts = [
            encoder(*pad([rows[i] for i in shortest_first[at : at + 64]], device)).cpu()
            for at in range(0, len(rows), 64)
        ]
    encoder.train(was_training)
    vectors = torch.cat(parts)
    return vectors[torch.tensor(shortest_first).argsort()]
