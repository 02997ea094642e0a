"""docs/beyond_one_machine.md: its arithmetic, its code and its commands.

The commands that run on one machine are run in test_many_processes.py, test_cluster.py,
test_distributed.py and test_store_s3.py; here the options of all of them are held against the programs they name.
"""

import ast
import re
import shlex

import faiss
import numpy as np
import pandas as pd
import pytest
from books import NOTEBOOKS, ROOT, definitions

PAGE = (ROOT / "docs" / "beyond_one_machine.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.S)
CODE = [text for language, text in BLOCKS if language == "python"]
COMMANDS = [
    line for language, text in BLOCKS if not language for line in text.replace("\\\n", " ").splitlines()
]
TABLES = [
    [c.strip().replace(",", "").replace("*", "") for c in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if re.match(r"\| [\d,]+ \|", line)
]
TABLE, CLUSTER = TABLES[:3], TABLES[3:]  # the hours and the memory; the commits and the index
SCRIPTS = [p.name for p in (ROOT / "scripts").glob("*.py")]
SCRIPT = (ROOT / "scripts" / "ingest_with_ray.py").read_text(encoding="utf-8")
LESSON = NOTEBOOKS / "13_retrieve_and_rerank.ipynb"


def test_the_table_is_what_the_formulas_give():
    assert [int(row[0]) for row in TABLE] == [10**6, 10**8, 10**10]
    for row in TABLE:
        n = int(row[0])
        hours, workers = (float(cell.split(" / ")[0]) for cell in row[1:3])
        assert hours == pytest.approx(n / 3600, rel=2e-3) and workers == pytest.approx(n / 86400, rel=5e-3)
        assert [float(c) for c in row[3:]] == pytest.approx([n * b / 1e9 for b in (384 * 4, 384, 48)])


@pytest.mark.skipif(not LESSON.exists(), reason="lesson 13 is not there")
def test_the_lesson_computes_the_same_table():
    beyond = definitions(LESSON, "beyond")["beyond"]
    for rate in (13.0, 250.0):
        found = beyond(rate)
        for row, (_, mine) in zip(TABLE, found.iterrows(), strict=True):
            assert mine.iloc[0].replace(",", "") == row[0]
            assert float(mine.iloc[1]) == pytest.approx(int(row[0]) / rate / 3600, abs=0.06)
            assert mine.iloc[2] == np.ceil(int(row[0]) / rate / 86400)
            assert list(mine.iloc[3:]) == pytest.approx([float(c) for c in row[3:]])
    with pytest.raises(ValueError, match="must be above 0"):
        beyond(0)


def test_what_the_prose_says_of_memory():
    assert "256 bytes at M = 32, a sixth" in PAGE and 2 * 32 * 4 == 256 == 1536 / 6
    assert round(256 / 48) == 5
    assert (
        "560 GB, nine machines of 64 GB" in PAGE and 1e10 * (48 + 8) / 1e9 == 560 and np.ceil(560 / 64) == 9
    )
    assert "two hundred and forty" in PAGE and 15360 / 64 == 240


def test_the_table_of_the_cluster_is_what_the_script_and_the_formulas_give():
    import ingest_with_ray

    assert [int(row[0]) for row in CLUSTER] == [10**8, 10**9]
    million = 1_000_000  # the script's own number of rows a commit
    assert f'"--rows-a-commit", type=at_least(1), default={million:_}' in SCRIPT
    assert ingest_with_ray.ROWS_A_FILE == 262_144 and 'default=1024, help="passages' in SCRIPT
    for row in CLUSTER:
        n, commits, small, files, cells, centres, codes, read = map(float, row)
        assert commits == n / million and small == np.ceil(n / 1024)
        assert files == commits * np.ceil(million / ingest_with_ray.ROWS_A_FILE)
        assert cells == ingest_with_ray.cells(int(n))
        assert centres == pytest.approx(cells * 100 * 1536 / 1e9, abs=0.06) and codes == n * 48 / 1e9
        assert read == pytest.approx(32 * n / cells * 48 / 1e6, abs=0.06)
    assert "277,778 / *r* hours of one worker, so 11,574 / *r* workers for a day" in PAGE
    assert round(1e9 / 3600) == 277_778 and round(1e9 / 86400) == 11_574
    assert "48 GB and more than 500" in PAGE and 1e9 * (384 + 2 * 20 * 4) / 1e9 > 500
    assert "1,536 GB in all" in PAGE


def test_shards_lose_nothing():
    space = {}
    exec(next(c for c in CODE if "def search_shards" in c), space)
    rng = np.random.default_rng(0)
    vectors, queries = (rng.standard_normal((n, 32), dtype=np.float32) for n in (3000, 20))
    whole = faiss.IndexFlatIP(32)
    whole.add(vectors)
    shards = []
    for numbers in np.array_split(np.arange(3000), 3):
        shards.append(faiss.IndexIDMap(faiss.IndexFlatIP(32)))
        shards[-1].add_with_ids(vectors[numbers], numbers)
    scores, numbers = space["search_shards"](shards, queries, 10)
    true_scores, true_numbers = whole.search(queries, 10)
    assert (numbers == true_numbers).all() and np.allclose(scores, true_scores)
    together = faiss.IndexShards(32, True, False)
    for shard in shards:
        together.add_shard(shard)
    assert (together.search(queries, 10)[1] == true_numbers).all()


def test_the_code_of_the_page_parses():
    assert len(CODE) == 4
    for text in CODE:
        ast.parse(text)


def test_options_of_the_course_s_scripts():
    """Every option in a command is one of the script's own, and of torchrun's before it."""
    from torch.distributed.run import get_args_parser

    torchrun, seen = get_args_parser(), set()
    for command in COMMANDS:
        words = shlex.split(command, comments=True)
        place = next((i for i, w in enumerate(words) if w.split("/")[-1] in SCRIPTS), None)
        if place is None:
            continue
        name = words[place].split("/")[-1]
        seen.add(name)
        known = (ROOT / "scripts" / name).read_text(encoding="utf-8")
        for word in words[place:]:
            assert not word.startswith("--") or f'"{word}"' in known, command
        if words[0] == "torchrun":
            torchrun.parse_args(words[1 : place + 1])
    assert seen == {"ingest_with_ray.py", "train_retriever.py"}


def test_the_cluster_file_is_one_that_ray_accepts():
    util = pytest.importorskip("ray.autoscaler._private.util", reason="Ray is not installed")
    import yaml

    config = yaml.safe_load(next(text for language, text in BLOCKS if language == "yaml"))
    prepared = util.prepare_config(config)
    util.validate_config(prepared)
    assert prepared["max_workers"] == 2
    with pytest.raises(Exception, match="Additional properties"):
        util.validate_config(prepared | {"colour": "blue"})


def test_files_and_lessons_that_the_page_names():
    for name in re.findall(r"`((?:tests|scripts)/[\w/]+\.py)`", PAGE):
        assert (ROOT / name).exists(), name
    assert not pd.Series(re.findall(r"\]\(([^)#]+)\)", PAGE), dtype=str).str.startswith("/work").any()
