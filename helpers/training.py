"""Train two encoders to find answers: what lesson 6 explains, for whoever needs it again.

    from helpers import data, training
    questions, answers = training.Encoder(), training.Encoder()
    losses = training.train(questions, answers, data.qa_pairs(part="train"), lr=1e-4, scale=20)
    ranks = training.ranks(training.embed(questions, ["..."]), training.embed(answers, ["..."]))
    training.save("my_pair", questions, answers)          # and, in another notebook:
    questions, answers = training.load("my_pair")

`Encoder`, `Pretrained`, `TopicAndForm`, `train`, `embed` and `ranks` are the lesson's own; a test proves them the
same. This module adds what a lesson need not show: several processes (scripts/train_retriever.py),
a stop from the keyboard at the end of a step, checkpoints.
"""

import ctypes
import errno
import functools
import gc
import hashlib
import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy, hardtanh, normalize

from helpers import cache, data, models

if TYPE_CHECKING:
    import pandas

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
        self.sizes = {
            "vocabulary": vocabulary,
            "width": width,
            "layers": layers,
            "heads": heads,
            "out": out,
            "dropout": dropout,
        }
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
    """Piece numbers of each text, [CLS] first, [SEP] last, cut off after `length`.

    Raises ValueError for a text that is empty, with its place.
    """
    texts = list(texts)
    for place, text in enumerate(texts, 1):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"text {place} of {len(texts)} is empty; an encoder needs words")
    return tokenizer()(texts, truncation=True, max_length=length)["input_ids"]


def pad(rows: Sequence[list[int]], device="cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """ids and mask, both (rows, longest row); piece 0 is [PAD]."""
    rows = [torch.tensor(row) for row in rows]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)
    return ids, ids > 0


def embed(encoder: torch.nn.Module, texts: Sequence[str], length: int = 64) -> torch.Tensor:
    """One vector a text, (texts, dim), in the order given. Raises ValueError for an empty text."""
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


def ranks(questions: torch.Tensor, passages: torch.Tensor) -> torch.Tensor:
    """The place of passage i in the list for question i, 1 for the best.

    questions: (n, dim); passages: (m, dim), m >= n, the answers first and in the questions' order.
    Of passages with the same score the answer counts as the last, so that an encoder that
    gives every text the same vector is not right by accident.
    """
    scores = questions @ passages.T
    own = scores.diagonal().unsqueeze(1)
    return (~(scores < own)).sum(dim=1)


def chance(n: int) -> dict[str, float]:
    """recall@1, recall@10 and MRR of a random order of n passages."""
    return {"recall@1": 1 / n, "recall@10": min(10, n) / n, "MRR": sum(1 / r for r in range(1, n + 1)) / n}


def measures(ranks: torch.Tensor) -> dict[str, float]:
    """recall@1, recall@10 and mean reciprocal rank of the ranks."""
    ranks = ranks.double()
    return {
        "recall@1": (ranks == 1).double().mean().item(),
        "recall@10": (ranks <= 10).double().mean().item(),
        "MRR": (1 / ranks).mean().item(),
    }


def held_out(question_encoder, answer_encoder, pairs: "pandas.DataFrame") -> dict[str, float]:
    """recall@1, recall@10, MRR over the pairs' answers, the same with every question's echo
    among the passages ("recall@1 with echoes", ...), and "echo first": how often the question's
    own echo scores above its answer. Vectors are compared by cosine."""
    questions = normalize(embed(question_encoder, pairs["question"]), dim=1)
    answers = normalize(embed(answer_encoder, pairs["answer"]), dim=1)
    echoes = normalize(embed(answer_encoder, pairs["question"]), dim=1)
    with_echoes = measures(ranks(questions, torch.cat([answers, echoes])))
    ahead = (questions * echoes).sum(1) > (questions * answers).sum(1)
    return (
        measures(ranks(questions, answers))
        | {f"{name} with echoes": value for name, value in with_echoes.items()}
        | {"echo first": ahead.double().mean().item()}
    )


def contrastive_loss(scores: torch.Tensor, first: int = 0) -> torch.Tensor:
    """Lesson 5's loss: cross-entropy, the right passage of row i in column first + i.

    scores: (questions, passages).
    """
    return cross_entropy(scores, torch.arange(len(scores), device=scores.device) + first)


def batch_loss(
    question_encoder, answer_encoder, questions, answers, scale=None, echo=False, half=False
) -> torch.Tensor:
    """The loss of one batch of tokenised questions and answers.

    scale: None for plain dot products, else vectors of length 1 and cosines times scale.
    echo: every question of the batch also stands among the passages.
    half: the encoders multiply in bfloat16; scores and loss stay in float32.
    Under torchrun the passages of all processes stand in each one's list, with gradients.
    """
    device = next(question_encoder.parameters()).device
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        q = question_encoder(*pad(questions, device))
        passages = [answer_encoder(*pad(answers, device))]
        if echo:
            passages.append(answer_encoder(*pad(questions, device)))
    q, p = q.float(), torch.cat([_everyones(part.float()) for part in passages])
    if scale:
        q, p = normalize(q, dim=1), normalize(p, dim=1) * scale
    return contrastive_loss(q @ p.T, first=_rank() * len(q))


def optimizers(*encoders: torch.nn.Module, lr: float) -> list[torch.optim.Optimizer]:
    """Adam for all that is trained; for a table with sparse gradients, Adam on the rows in use."""
    tables = [
        m.weight
        for e in encoders
        for m in e.modules()
        if isinstance(m, torch.nn.Embedding) and m.sparse and m.weight.requires_grad
    ]
    sparse = {id(t) for t in tables}
    rest = [p for e in encoders for p in e.parameters() if p.requires_grad and id(p) not in sparse]
    found = [torch.optim.Adam(rest, lr=lr, fused=True)]
    return found + ([torch.optim.SparseAdam(tables, lr=lr)] if tables else [])


def rate(step: int, steps: int, warmup: float) -> float:
    """Share of the learning rate at a step: all of it without warm-up; with it, a rise over the
    first `warmup` of the steps and a fall to nothing at the end."""
    if not warmup:
        return 1.0
    return min(1.0, (step + 1) / (warmup * steps), (steps - step) / (steps - warmup * steps))


def train(
    question_encoder: torch.nn.Module,
    answer_encoder: torch.nn.Module,
    pairs: "pandas.DataFrame | str | Path",
    epochs: int = 2,
    batch: int = 32,
    lr: float = 1e-5,
    warmup: float = 0.0,
    scale: float | None = None,
    echo: bool = False,
    length: int = 64,
    seed: int = 0,
    half: bool | None = None,
    progress: bool = True,
    each_epoch: Callable[[list[float]], None] | None = None,
) -> list[float]:
    """Train both encoders in place; return the loss of every step.

    pairs: a TSV with the columns `questions` and `answers`, or a DataFrame as `data.qa_pairs`
    gives. batch: of all processes together. warmup, scale, echo, half: see `rate`, `batch_loss`;
    half as None is `bfloat16_pays`.
    An epoch is len(pairs) // batch whole batches in random order; after each one `each_epoch` is
    called with the losses so far. The keyboard's interrupt stops
    after the step that is running; the encoders are then as that step left them.
    Runs on the device that the encoders are on. Raises ValueError in one sentence for pairs
    that cannot be read (see `data.read_tsv`) or that are fewer than a batch.
    """
    from tqdm.auto import tqdm

    pairs = as_pairs(pairs)
    if len(pairs) < batch:
        raise ValueError(
            f"{len(pairs)} pairs are fewer than one batch of {batch}; give more pairs or a smaller batch"
        )
    if batch % _world():
        raise ValueError(f"a batch of {batch} cannot be shared by {_world()} processes evenly")
    questions, answers = tokenise(pairs["question"], length), tokenise(pairs["answer"], length)
    half = bfloat16_pays(next(question_encoder.parameters()).device) if half is None else half
    torch.manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    found = optimizers(question_encoder, answer_encoder, lr=lr)
    steps, losses, mine = epochs * (len(pairs) // batch), [], batch // _world()
    question_encoder.train()
    answer_encoder.train()
    bar = tqdm(total=steps, desc="steps", disable=not progress or _rank() > 0)
    with bar, _stop_at_the_end_of_a_step() as stop:
        while len(losses) < steps and not stop.is_set():
            rows = torch.randperm(len(pairs), generator=order)
            for chosen in rows[: len(pairs) // batch * batch].split(batch):
                chosen = chosen[_rank() * mine : (_rank() + 1) * mine].tolist()
                for optimizer in found:
                    optimizer.zero_grad()
                    for group in optimizer.param_groups:
                        group["lr"] = lr * rate(len(losses), steps, warmup)
                loss = batch_loss(
                    question_encoder,
                    answer_encoder,
                    [questions[i] for i in chosen],
                    [answers[i] for i in chosen],
                    scale,
                    echo,
                    half,
                )
                (loss / _world()).backward()
                _add_up_gradients(found)
                for optimizer in found:
                    optimizer.step()
                losses.append(_mean(loss.detach()))
                bar.update()
                bar.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
                if stop.is_set():
                    break
            if each_epoch:
                each_epoch(losses)
    if len(losses) < steps:
        print(f"stopped after {len(losses)} of {steps} steps; the encoders are as they were then")
    question_encoder.eval()
    answer_encoder.eval()
    return losses


def as_pairs(pairs: "pandas.DataFrame | str | Path") -> "pandas.DataFrame":
    """Columns question and answer, from a TSV's path or a DataFrame (there `questions` and
    `answers` will do too). Raises ValueError as `data.read_tsv` does."""
    if isinstance(pairs, str | Path):
        return data.qa_pairs(pairs)
    pairs = pairs.rename(columns={"questions": "question", "answers": "answer"})
    for column in ("question", "answer"):
        if column not in pairs:
            raise ValueError(f"the pairs have no column {column!r}; they have {list(pairs)}")
        for place, text in enumerate(pairs[column]):
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"row {place}: column {column!r} is empty")
    return pairs[["question", "answer"]].reset_index(drop=True)


def device() -> str:
    """ "cuda" where there is a GPU, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def bfloat16_pays(device: "str | torch.device" = "cpu") -> bool:
    """Whether the device has instructions for bfloat16 (16 bits, 8 of them for the digits).

    True for a CUDA GPU and an x86 processor that have them (tests/benchmarks/test_training_speed.py
    measures what they bring); False for all others, where it would be imitated. Raises ValueError
    for a device that torch does not know.
    """
    try:
        kind = torch.device(device).type
    except RuntimeError as e:
        raise ValueError(f'torch knows no device {device!r}; say "cpu" or "cuda"') from e
    if kind != "cpu":
        return kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def free() -> None:
    """Give memory that was let go of back to the system; glibc keeps much of it otherwise."""
    gc.collect()
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)


# --- several processes (torchrun) ------------------------------------------------------------


def _world() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _rank() -> int:
    return dist.get_rank() if _world() > 1 else 0


class _Gather(torch.autograd.Function):
    """Everyone's rows, in the order of the processes; backward, everyone's gradients for mine."""

    @staticmethod
    def forward(ctx, rows):
        parts = [torch.empty_like(rows) for _ in range(_world())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient):
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(_world())[_rank()]


def _everyones(rows: torch.Tensor) -> torch.Tensor:
    return _Gather.apply(rows) if _world() > 1 else rows


def _add_up_gradients(found: list[torch.optim.Optimizer]) -> None:
    if _world() == 1:
        return
    for optimizer in found:
        for group in optimizer.param_groups:
            for weight in group["params"]:
                if weight.grad.is_sparse:
                    dense = weight.grad.to_dense()
                    dist.all_reduce(dense)
                    weight.grad = dense.to_sparse(1)
                else:
                    dist.all_reduce(weight.grad)


def _mean(loss: torch.Tensor) -> float:
    if _world() > 1:
        dist.all_reduce(loss)
    return loss.item() / _world()


@contextmanager
def _stop_at_the_end_of_a_step():
    """An event that the keyboard's interrupt sets, instead of breaking into a step."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals reach the main thread only
        return
    before = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


# --- checkpoints -----------------------------------------------------------------------------


def save(path: str | Path, question_encoder, answer_encoder, **about: object) -> Path:
    """Write both encoders to the folder `path`: pair-HASH.safetensors and config.json.

    about: anything JSON can hold, kept beside them (see `about`). The weights are written under
    a name of their own and config.json, which names them, is put in place last and in one step:
    a break at any moment leaves the checkpoint before or the new one, never half of each.
    Raises OSError with one sentence where the disk is full.
    """
    from safetensors.torch import save_file

    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    weights = {
        f"{side}.{name}": value.detach().cpu().contiguous()
        for side, encoder in (("question", question_encoder), ("answer", answer_encoder))
        for name, value in encoder.state_dict().items()
    }
    handle, part = tempfile.mkstemp(dir=path, suffix=".part")
    os.close(handle)
    try:
        save_file(weights, part)
        digest = _digest(Path(part))
        name = f"pair-{digest[:12]}.safetensors"
        os.chmod(part, 0o644)
        os.replace(part, path / name)
        config = {
            "format": 1,
            "weights": name,
            "sha256": digest,
            "about": about,
            "question": _recipe(question_encoder),
            "answer": _recipe(answer_encoder),
        }
        part = path / "config.json.part"
        part.write_text(json.dumps(config, indent=1), encoding="utf-8")
        os.replace(part, path / "config.json")
    except Exception as e:
        Path(part).unlink(missing_ok=True)
        if getattr(e, "errno", None) == errno.ENOSPC or "No space left" in str(e):
            raise OSError(
                errno.ENOSPC,
                f"no room on the disk to save the pair in {path.name}/; make room and save again",
            ) from e
        raise
    for old in path.glob("pair-*.safetensors"):
        if old.name != name:
            old.unlink(missing_ok=True)
    return path


def load(path: str | Path) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The question encoder and the answer encoder that `save` wrote, on the CPU, ready to embed.

    Raises FileNotFoundError where there is no checkpoint, ValueError where it is damaged; one
    sentence each.
    """
    from safetensors.torch import load_file

    path, config = Path(path), _config(path)
    try:
        weights = path / config["weights"]
        if not weights.is_file():
            raise ValueError(f"{weights.name} is missing")
        if _digest(weights) != config["sha256"]:
            raise ValueError(f"{weights.name} is not whole")
        values, pair = load_file(weights), []
        for side in ("question", "answer"):
            encoder = _built(config[side])
            start = f"{side}."
            encoder.load_state_dict(
                {k.removeprefix(start): v for k, v in values.items() if k.startswith(start)}
            )
            pair.append(encoder.eval())
    except Exception as e:
        why = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise ValueError(f"the checkpoint in {path.name}/ is damaged ({why}); save it again") from e
    return pair[0], pair[1]


def about(path: str | Path) -> dict:
    """What `save` was told to keep beside the encoders. Raises as `load` does."""
    return _config(Path(path)).get("about", {})


def _config(path: Path) -> dict:
    if not (path / "config.json").is_file():
        raise FileNotFoundError(f"there is no checkpoint in {path.name}/ (no config.json)")
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("no JSON object")
    except ValueError as e:
        raise ValueError(
            f"the checkpoint in {path.name}/ is damaged (config.json cannot be read); save it again"
        ) from e
    return config


def _recipe(encoder: torch.nn.Module) -> dict:
    if hasattr(encoder, "form"):
        return {"kind": "TopicAndForm", "layer": encoder.layer, "config": encoder.bert.config.to_diff_dict()}
    if hasattr(encoder, "bert"):
        return {
            "kind": "Pretrained",
            "frozen": getattr(encoder, "frozen", 0),
            "config": encoder.bert.config.to_diff_dict(),
        }
    table, layers = encoder.tokens.weight, encoder.transformer.layers
    sizes = {
        "vocabulary": table.shape[0],
        "width": table.shape[1],
        "layers": len(layers),
        "heads": layers[0].self_attn.num_heads,
        "out": encoder.project.out_features,
        "dropout": layers[0].dropout.p,
    }
    return {"kind": "Encoder", "sizes": sizes}


def _built(recipe: dict) -> torch.nn.Module:
    if recipe["kind"] == "TopicAndForm":
        return TopicAndForm(layer=recipe["layer"], config=recipe["config"])
    if recipe["kind"] == "Pretrained":
        return Pretrained(frozen=recipe["frozen"], config=recipe["config"])
    return Encoder(**recipe["sizes"])


def _digest(file: Path) -> str:
    with open(file, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


# --- the pair of lesson 6 --------------------------------------------------------------------

LESSON06 = {"epochs": 2, "batch": 32, "lr": 1e-2, "warmup": 0.1, "scale": 20, "echo": True}


def trained_pair() -> tuple[torch.nn.Module, torch.nn.Module]:
    """The question and the answer encoder that lesson 6 trained and saved in the course's cache.

    Where the lesson has not been run, or its checkpoint is damaged, they are trained now with
    its settings (a minute or so on two cores; one printed line says so) and saved.
    """
    place = cache() / "lesson06"
    try:
        return load(place)
    except FileNotFoundError:
        print("Lesson 6 has not saved its pair yet: training it now.")
    except ValueError as e:
        print(f"Training lesson 6's pair again: {e}.")
    torch.manual_seed(0)
    folder = models.path(MINILM, quiet=True)
    question_encoder, answer_encoder = TopicAndForm(folder, start=1.0), TopicAndForm(folder)
    train(question_encoder, answer_encoder, data.qa_pairs(part="train"), **LESSON06)
    save(place, question_encoder, answer_encoder, settings=LESSON06)
    return question_encoder, answer_encoder
