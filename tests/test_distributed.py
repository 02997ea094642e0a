"""Training on two processes: the same losses and the same encoders as one process has."""

import os
import re
import socket
import subprocess
import sys

import pytest
import torch

from helpers import ROOT, checkpoints, data, encoders, models, processes, ranking, training
from helpers.intervals import interval

WORKER = """
import sys
import torch, torch.distributed as dist
from helpers import checkpoints, data, encoders, training

several = sys.argv[2] == "2"
if several:
    dist.init_process_group("gloo")
torch.set_num_threads(1)
torch.manual_seed(0)
sizes = {"width": 16, "layers": 1, "heads": 2, "out": 8, "dropout": 0.0}
pair = [encoders.Encoder(**sizes) for _ in range(2)]
pairs = data.qa_pairs(part="train")[:48]
pairs.loc[::5, "answer"] = pairs["answer"][0]  # an answer to ten questions, in both processes' halves
negatives = [[(row + 7) % 48] for row in range(48)]
losses = training.train(*pair, pairs, epochs=2, batch=16, lr=1e-3, warmup=0.1, scale=20, echo=True, bfloat16=False, progress=False, negatives=negatives)
if not several or dist.get_rank() == 0:
    checkpoints.save(sys.argv[1], *pair, losses=losses)
if several:
    dist.barrier()
    dist.destroy_process_group()
"""


def torchrun(processes, *command):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    started = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        str(processes),
        "--master-addr",
        "127.0.0.1",
        "--master-port",
        str(port),
        *command,
    ]
    if processes == 1:
        started = [sys.executable, *command]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    if loopback := {"linux": "lo", "darwin": "lo0"}.get(sys.platform):
        environment["GLOO_SOCKET_IFNAME"] = loopback
    done = subprocess.run(
        started, capture_output=True, encoding="utf-8", cwd=ROOT, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    file = tmp_path_factory.mktemp("worker") / "worker.py"
    file.write_text(WORKER, encoding="utf-8")
    return file


def test_two_processes_train_as_one(worker, tmp_path):
    """The same global batches: losses equal to 1e-4, vectors after six steps to 1e-3."""
    for number in (1, 2):
        torchrun(number, str(worker), str(tmp_path / str(number)), str(number))
    one, two = (checkpoints.about(tmp_path / n)["losses"] for n in "12")
    assert len(one) == len(two) == 6
    assert two == pytest.approx(one, rel=1e-4)
    texts = data.qa_pairs(part="test")["question"][:50]
    for a, b in zip(checkpoints.load(tmp_path / "1"), checkpoints.load(tmp_path / "2"), strict=True):
        assert torch.allclose(encoders.embed(a, texts), encoders.embed(b, texts), atol=1e-3)


def test_a_batch_that_cannot_be_shared_evenly_is_refused(monkeypatch):
    monkeypatch.setattr(processes, "world", lambda: 3)
    with pytest.raises(ValueError, match="a batch of 32 cannot be shared by 3 processes evenly"):
        training.train(None, None, data.qa_pairs())


def test_the_script_trains_on_its_first_rows_and_judges_on_the_rest(tmp_path):
    """On two processes, with the settings of its help: the losses are those of `training.train` on
    70 % of the table, and what it prints and saves is measured on the other 30 %."""
    rows = data.qa_pairs()[:60]
    table = tmp_path / "mine.tsv"
    rows.rename(columns={"question": "questions", "answer": "answers"}).to_csv(table, sep="\t", index=False)
    printed = torchrun(
        2,
        "scripts/train_retriever.py",
        "--pairs",
        str(table),
        "--batch",
        "16",
        "--epochs",
        "2",
        "--out",
        str(tmp_path / "pair"),
    )
    about, (trained, same) = checkpoints.about(tmp_path / "pair"), checkpoints.load(tmp_path / "pair")
    assert about["start"] == "minilm" and printed.count("saved in") == 1
    assert type(trained).__name__ == "Pretrained" and trained is same

    torch.manual_seed(0)
    fresh = encoders.Pretrained(models.path(encoders.MINILM, quiet=True), frozen=2)
    before = ranking.reciprocal_ranks(fresh, fresh, rows[42:])
    settings = {"lr": 1e-4, "warmup": 0.1, "scale": 20, "batch": 16, "epochs": 2, "progress": False}
    losses = training.train(fresh, fresh, rows[:42], **settings)
    # two halves of a batch are not rounded as the whole is, least of all in bfloat16; a process that saw
    # its own half alone would have half as many wrong answers, and a far smaller loss
    assert about["losses"] == pytest.approx(losses, rel=0.05) and len(losses) == 4

    after = ranking.reciprocal_ranks(trained, trained, rows[42:])
    assert about["held_out"]["MRR"] == pytest.approx(after.mean())
    shown = re.search(r"^MRR before ([\d.]+), after ([\d.]+): (.+)$", printed, re.M)
    assert [float(x) for x in shown.groups()[:2]] == pytest.approx([before.mean(), after.mean()], abs=6e-4)
    low, high = interval(after - before)
    assert f"[{low:+.3f}, {high:+.3f}]" in shown[3] and ("a gain" in shown[3]) == (low > 0)
    assert "42 pairs trained on, 4 steps; 18 pairs judge" in printed


@pytest.mark.parametrize("start", ["two", "number", "raw", "scratch"])
def test_every_start_of_the_script_builds_two_encoders_that_embed(start):
    import train_retriever

    question, answer = train_retriever.build(start)
    assert question is not answer
    vectors = [encoders.embed(encoder.eval(), ["a word"]) for encoder in (question, answer)]
    assert vectors[0].shape == vectors[1].shape
    assert start in train_retriever.SETTINGS


TWENTY = "questions\tanswers\n" + "".join(f"what is {i}\tit is {i}\n" for i in range(20))


@pytest.mark.parametrize(
    ("table", "options", "says"),
    [
        ("question\tanswer\na\tb\n", [], "mine.tsv, line 1: no column 'questions'"),
        ("questions\tanswers\na\tb\nc\td\ne\tf\n", ["--batch", "2"], "1 of the table's rows would judge"),
        (TWENTY, ["--batch", "4", "--steps", "0"], "steps=0 trains nothing"),
        (
            TWENTY,
            ["--batch", "4", "--epochs", "0"],
            "epochs=0 trains nothing",
        ),
        (TWENTY, [], "14 pairs are fewer than one batch of 32"),
        (
            "questions\tanswers\n" + "a\tb\n" * 20,
            [],
            "0 of the table's rows would judge (different questions: 1)",
        ),
    ],
)
def test_the_script_says_what_is_wrong_and_saves_nothing(tmp_path, table, options, says):
    file = tmp_path / "mine.tsv"
    file.write_text(table, encoding="utf-8")
    options = ["--pairs", file, "--out", tmp_path / "pair", "--start", "scratch", *options]
    done = subprocess.run(
        [sys.executable, "scripts/train_retriever.py", *options],
        capture_output=True,
        encoding="utf-8",
        cwd=ROOT,
    )
    assert done.returncode == 1 and says in done.stderr, done.stderr[-500:]
    assert not (tmp_path / "pair").exists()
