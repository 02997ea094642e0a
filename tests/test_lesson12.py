"""Lesson 12: its walk finds what exact search finds, its formulas weigh what faiss writes, its made
vectors are like the real ones, and the recipe's table says what the lesson says."""

import contextlib
import io
import re
import runpy
import subprocess
import sys
from importlib.metadata import version

import books
import faiss
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.neighbors import NearestNeighbors

from helpers import models
from helpers.exercises import lesson12

LESSON, SOLUTION = books.path("12"), books.path("12", solutions=True)
RECIPE = books.ROOT / "models" / "recipes" / "vector_search.py"
TABLE = pd.read_csv(RECIPE.with_suffix(".tsv"), sep="\t")


def said(check, *answers):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        check(*answers)
    return out.getvalue()


def clusters(n, dimensions=16, seed=0):
    draw = np.random.default_rng(seed)
    x = (
        draw.standard_normal((40, dimensions))[draw.integers(40, size=n)]
        + draw.standard_normal((n, dimensions)) / 3
    )
    x = x.astype("float32")
    return x / np.linalg.norm(x, axis=1, keepdims=True)


# recall, and the toy graph ----------------------------------------------------------------


def test_recall_is_the_share_of_the_true_ones():
    recall = books.definitions(LESSON, "recall")["recall"]
    truth = np.arange(40).reshape(4, 10)
    assert recall(truth[:, ::-1], truth) == 1
    assert recall(truth + 5, truth) == pytest.approx(0.5)
    assert recall(np.full((4, 10), -1), truth) == 0


@pytest.fixture(scope="module")
def toy():
    """The lesson's sixty points with their layers, and its two ways to walk on them."""
    space = {"np": np}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(books.cell("12", "graph").source, space)
    return books.definitions(LESSON, "walk", "search", given=space)


def test_the_layers_are_nested_and_their_links_go_both_ways(toy):
    layers = toy["layers"]
    sizes = [len(graph) for graph in layers]
    assert sizes[0] == 60 and sizes == sorted(sizes, reverse=True)
    for graph, below in zip(layers[1:], layers, strict=False):
        assert set(graph) <= set(below)
    for graph in layers:
        assert all(i in graph[j] and i != j for i in graph for j in graph[i])
        assert all(graph.values())


def test_a_walk_only_comes_nearer_and_ends_where_no_neighbour_is(toy):
    for place in np.random.default_rng(0).random((50, 2)):
        path = toy["walk"](place, toy["layers"][0], 0)
        far = [toy["distance"](i, place) for i in path]
        assert far == sorted(far, reverse=True) and len(set(path)) == len(path)
        assert all(toy["distance"](j, place) >= far[-1] for j in toy["layers"][0][path[-1]])


def test_a_search_with_a_long_list_is_exact_and_one_of_length_one_is_the_walk(toy):
    places = np.random.default_rng(0).random((50, 2))
    truth = NearestNeighbors(n_neighbors=60).fit(toy["points"]).kneighbors(places)[1]
    for place, wanted in zip(places, truth, strict=True):
        found, compared = toy["search"](place, toy["layers"][0], 0, 60)
        assert found == list(wanted) and compared == 60
        assert toy["search"](place, toy["layers"][0], 0, 1)[0] == [
            toy["walk"](place, toy["layers"][0], 0)[-1]
        ]


def test_a_larger_ef_finds_more_and_compares_more():
    lines = re.findall(r"ef \d: nearest found for (\d+)%, (\d+) points", books.shown("12", "ef"))
    shares, compared = ([int(x) for x in column] for column in zip(*lines, strict=True))
    assert len(shares) == 4 and shares == sorted(shares) and shares[0] < 60 < 95 < shares[2]
    assert compared == sorted(compared)


# what the prose says of the printed figures ------------------------------------------------


def test_more_cells_do_not_bring_back_what_codes_left_out():
    lines = {
        n: [float(x) for x in re.findall(r": (\d\.\d+)", rest)]
        for n, rest in re.findall(r"(IVF(?:-PQ)?) +(nprobe.*)", books.shown("12", "ivf"))
    }
    assert lines["IVF"][-1] > 0.95 and lines["IVF-PQ"][-1] < 0.8
    assert lines["IVF-PQ"][-1] - lines["IVF-PQ"][-2] < 0.03


def test_made_vectors_are_like_real_ones_and_random_ones_are_not():
    found = {
        k: (float(r), int(m))
        for k, r, m in re.findall(
            r"(real words|made from them|random numbers) +nearest neighbour at (\S+), intrinsic dimension (\d+)",
            books.shown("12", "shapes"),
        )
    }
    real, made, random = (found[k] for k in ("real words", "made from them", "random numbers"))
    assert abs(real[0] - made[0]) < 0.1 and abs(real[1] - made[1]) <= 3
    assert random[0] > real[0] + 0.1 and random[1] > 1.8 * real[1]
    recalls = [float(x) for x in re.findall(r"recall@10 (\S+)", books.shown("12", "kinds"))]
    assert recalls[2] < min(recalls[:2]) - 0.2 and abs(recalls[0] - recalls[1]) < 0.06


def test_exact_search_grows_fastest_and_a_fixed_setting_slowest():
    line = r"time grows as n\^(\S+), vectors compared as n\^(\S+);"
    lines = re.findall(line, books.shown("12", "growth"))
    for exact, equal, fixed in ([float(a) for a in column] for column in zip(*lines, strict=True)):
        assert exact > equal + 0.2 and equal > fixed + 0.1
    shares = [float(x) for x in re.findall(r"efSearch 40 has recall (\S+)", books.shown("12", "growth"))]
    assert shares == sorted(shares, reverse=True) and shares[0] - shares[-1] > 0.03
    efs = [int(x) for x in re.findall(r"\(efSearch +(\d+)\)", books.shown("12", "growth"))]
    assert efs == sorted(efs) and efs[-1] > 2 * efs[0]


def test_a_filter_inside_the_walk_fails_later_than_one_after_it():
    rows = {
        name: [float(x) for x in values.split()]
        for name, values in re.findall(r"^(\S.*?)  +((?:[\d.]+ *){4})$", books.shown("12", "filter"), re.M)
    }
    assert len(rows) == 6
    for fetched in (100, 1000):
        after, inside = rows[f"after it, {fetched} fetched"], rows[f"inside, efSearch {fetched}"]
        assert all(i > a + 0.05 for a, i in zip(after[2:], inside[2:], strict=True))
    assert rows["inside, efSearch 100"][-1] < 0.5 and rows["only rows that pass"] == [1] * 4


def test_formulas_weigh_what_faiss_writes():
    rows = re.findall(r"(\S+) +(\d+) +(\d+)\n?", books.shown("12", "weights"))
    assert [name for name, *_ in rows] == ["flat", "HNSW", "IVF", "IVF-PQ"]
    assert all(abs(int(computed) / int(measured) - 1) < 0.02 for _, computed, measured in rows)


def test_a_filter_by_numpy_is_the_selector_of_faiss():
    space = books.definitions(LESSON, "after", "inside", "only")
    x, q = clusters(2_000), clusters(20, seed=1)
    space["exact"] = faiss.IndexFlatIP(16)
    space["hnsw"] = faiss.IndexHNSWFlat(16, 16, faiss.METRIC_INNER_PRODUCT)
    for index in (space["exact"], space["hnsw"]):
        index.add(x)
    allowed = np.arange(0, 2_000, 5)
    truth = allowed[faiss.knn(q, x[allowed], 10, metric=faiss.METRIC_INNER_PRODUCT)[1]]
    assert (space["only"](q, allowed) == truth).all()
    share = lambda found: np.mean([len(set(f) & set(t)) / 10 for f, t in zip(found, truth, strict=True)])
    assert share(space["after"](q, allowed, 2_000)) > 0.97
    assert share(space["after"](q, allowed, 10)) < 0.5
    assert share(space["inside"](q, allowed, 1_000)) > 0.97
    assert set(space["inside"](q, allowed, 100).ravel()) - {-1} <= set(allowed)


# made vectors and the recipe ---------------------------------------------------------------


def test_the_lesson_and_the_recipe_make_the_same_vectors():
    lesson = books.definitions(LESSON, "more_like")["more_like"]
    recipe = runpy.run_path(str(RECIPE))["more_like"]
    real = clusters(300)
    made = lesson(real, 5_000, seed=3)
    assert made.shape == (5_000, 16) and made.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(made, recipe(real, 5_000, seed=3), rtol=1e-5, atol=1e-6)
    assert not np.allclose(made, lesson(real, 5_000, seed=4))


def test_intrinsic_dimension_is_that_of_a_known_set():
    neighbourhood = books.definitions(LESSON, "neighbourhood")["neighbourhood"]
    draw = np.random.default_rng(0)
    for dimensions in (3, 8):  # a sphere of so many dimensions, turned into 50
        x = (
            draw.standard_normal((8_000, dimensions + 1))
            @ np.linalg.qr(draw.standard_normal((50, dimensions + 1)))[0].T
        )
        x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype("float32")
        r, m = neighbourhood(x)
        assert np.median(m) == pytest.approx(dimensions, rel=0.15)
        truth = NearestNeighbors(n_neighbors=2).fit(x).kneighbors(x[:1_000])[0][:, 1]
        np.testing.assert_allclose(r, truth, atol=2e-3)


def rows_of(number):
    return TABLE[(TABLE["number"] == number) & (TABLE["dimensions"] == 384) & (TABLE["index"] != "Flat")]


def test_the_speed_of_the_title_is_where_the_drawn_curve_crosses_the_line():
    """Half-way in the logarithms, as the picture draws it: a point just left of the line counts as well."""
    speed_at = books.definitions(LESSON, "speed_at")["speed_at"]
    curves = {
        "falls": [(0.9, 1_000, 0), (0.99, 10, 0), (1.0, 1, 0)],
        "stops": [(0.5, 9_000, 0), (0.94, 800, 0)],
        "exact": [(1.0, 50, 0)],
    }
    speed_at.__globals__["curves"] = curves
    assert speed_at("falls") == pytest.approx(1_000 * 10 ** (-2 * np.log10(2)))
    assert speed_at("stops") == 0 and speed_at("exact") == pytest.approx(50)


def test_the_table_holds_a_million_within_the_limits():
    million = rows_of(1_000_000)
    good = million[(million["recall@10"] >= 0.98) & (million["median ms"] < 1)]
    assert good["index"].str.contains("RFlat").any() and (good["build seconds"] > 0).all()
    assert {"HNSW32", "LSH,RFlat", "usearch i8, M 32"} <= set(million["index"])
    exact = TABLE[(TABLE["number"] == 1_000_000) & (TABLE["index"] == "Flat")]
    assert exact["recall@10"].item() == 1 and exact["median ms"].item() > 10 * good["median ms"].min()


PLAIN, TURNED, HALF = (
    f"{start}IVF8192_HNSW32,PQ96x4fs,Refine(PCA336,SQ8)" for start in ("", "PCAR384,", "PCAR192,")
)


def test_the_table_holds_ten_million_within_the_limits():
    ten = rows_of(10_000_000)
    assert (ten["bytes a vector"] * 10_000_000 <= 4e9).all() and (ten["build seconds"] <= 15 * 60).all()
    kept = ten[(ten["recall@10"] >= 0.95) & (ten["median ms"] < 2)]
    assert set(kept["index"]) == {HALF} and list(ten["index"].unique()) == [PLAIN, TURNED, HALF]
    assert ten.groupby("index")["setting"].agg(list).map(tuple).nunique() == 1  # all are asked alike


def least(number, index, share=0.95):
    """The least milliseconds at which an index of the table has such a recall; infinite where it never has."""
    lines = rows_of(number)
    return lines[(lines["index"] == index) & (lines["recall@10"] >= share)]["median ms"].min()


def between(number, index, share=0.95):
    """The milliseconds at which an index crosses a recall, read between two settings as `speed_at` reads."""
    lines = rows_of(number)
    lines = lines[lines["index"] == index].sort_values("recall@10", ascending=False)
    missed = np.log(np.maximum(1 - lines["recall@10"], 0.001))
    return np.exp(np.interp(np.log(1 - share), missed, np.log(lines["median ms"])))


def prose(name):
    """The source of the lesson's cell of that name."""
    return next(c.source for c in books.read(LESSON).cells if c.id == name)


def test_what_the_lesson_says_of_a_million():
    million = rows_of(1_000_000).groupby("index")
    codes, graph, signs = "IVF2048,PQ96x4fs,RFlat", "HNSW32", "LSH,RFlat"
    exact = TABLE[(TABLE["number"] == 1_000_000) & (TABLE["index"] == "Flat")]["median ms"].item()
    assert 2 < least(10**6, graph) / least(10**6, codes) < 3.8 and least(10**6, graph) < exact / 10
    assert million["bytes a vector"].max()[graph] > million["bytes a vector"].max()[codes]
    times = rows_of(1_000_000).set_index("index")["median ms"].loc[signs]
    assert times.max() < 1.5 * times.min() and 5 * times.max() < exact
    assert f"{times.min():.0f} to {times.max():.0f} ms whatever is asked" in prose("million-read")
    assert million["build seconds"].max()[signs] < 10
    best = million["recall@10"].max().round(2)
    assert best["IVF2048,PQ96x4fs,Refine(SQ6)"] == 0.94 and best["usearch i8, M 32"] == 0.87


@pytest.fixture(scope="module")
def words():
    """The lesson's word vectors: 500 queries, 20,000 rows."""
    unit = models.word_vectors("glove-wiki-gigaword-100", limit=20_500, quiet=True).get_normed_vectors()
    rows = np.random.default_rng(0).permutation(len(unit))
    return unit[rows[:500]], unit[rows[500:]]


def test_a_byte_of_usearch_keeps_less_than_a_byte_of_faiss(words):
    queries, vectors = words[0][:200], words[1]
    truth = faiss.knn(queries, vectors, 10, metric=faiss.METRIC_INNER_PRODUCT)[1]
    share = lambda found: np.mean([len(set(f) & set(t)) / 10 for f, t in zip(found, truth, strict=True)])
    fitted = faiss.index_factory(100, "SQ8", faiss.METRIC_INNER_PRODUCT)
    fitted.train(vectors)
    fitted.add(vectors)
    cut = faiss.knn(np.trunc(127 * queries), np.trunc(127 * vectors), 10, metric=faiss.METRIC_INNER_PRODUCT)
    of_faiss, of_usearch = share(fitted.search(queries, 10)[1]), share(cut[1])
    said_so = f"a byte of faiss finds {of_faiss:.2f} of the ten, a byte as usearch cuts it {of_usearch:.2f}"
    assert said_so in prose("million-read")


def test_usearch_cuts_every_number_to_a_whole_one_of_127_and_uses_few_of_them():
    usearch = pytest.importorskip("usearch.index", reason="usearch is not installed")
    vectors = np.random.default_rng(0).standard_normal((200, 384), dtype="float32")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = usearch.Index(ndim=384, metric="ip", dtype="i8")
    index.add(np.arange(200), vectors, threads=1)
    kept = np.stack([index.get(i, dtype="i8") for i in range(200)])
    assert (kept == np.trunc(127 * vectors)).all()
    assert 24 < np.mean([len(np.unique(row)) for row in kept]) < 60
    assert np.sqrt(np.mean(vectors**2)) == pytest.approx(0.05, abs=0.002)


def test_an_empty_newest_manifest_shuts_the_table_and_putting_it_aside_opens_it(tmp_path):
    """What the lesson says of a power cut; a version is 2**64 - 1 less the number of its manifest."""
    lancedb = pytest.importorskip("lancedb")

    def batch(number):
        cells = pa.array(np.full(50 * 8, number, "float32"))
        return pa.table({"batch": [number] * 50, "vector": pa.FixedSizeListArray.from_arrays(cells, 8)})

    table = lancedb.connect(tmp_path).create_table("log", batch(0))
    for number in (1, 2, 3):
        table.add(batch(number))
    manifests = sorted((tmp_path / "log.lance" / "_versions").glob("*.manifest"), key=lambda m: int(m.stem))
    assert [2**64 - 1 - int(m.stem) for m in manifests] == [4, 3, 2, 1]
    manifests[0].write_bytes(b"")
    message = "Invalid range 0..0 for object of size 0 bytes"
    with pytest.raises(RuntimeError, match=re.escape(message)):
        lancedb.connect(tmp_path).open_table("log")
    assert message in prose("cell-84") and f"version {version('lancedb')[:4]} called no" in prose("cell-84")
    manifests[0].rename(tmp_path / "aside")
    again = lancedb.connect(tmp_path).open_table("log")
    assert again.version == 3 and sorted(set(again.to_pandas()["batch"])) == [0, 1, 2]
    again.add(batch(4))  # and it can be written to
    assert lancedb.connect(tmp_path).open_table("log").count_rows() == 200


def test_a_walk_among_random_numbers_meets_a_third_of_them_for_a_good_recall():
    x = np.random.default_rng(0).standard_normal((20_000, 100), dtype="float32")
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    x, queries = x[:19_800], x[19_800:]
    index = faiss.IndexHNSWFlat(100, 16, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = 60, 320
    index.add(x)
    faiss.cvar.hnsw_stats.reset()
    found = index.search(queries, 10)[1]
    met = faiss.cvar.hnsw_stats.ndis / len(queries) / len(x)
    truth = faiss.knn(queries, x, 10, metric=faiss.METRIC_INNER_PRODUCT)[1]
    share = np.mean([len(set(f) & set(t)) / 10 for f, t in zip(found, truth, strict=True)])
    assert 0.3 < met < 0.36 and 0.93 < share < 0.96
    assert "a third of all vectors to come near 0.95 (`efSearch` 320)" in prose("cell-53")


def test_what_the_lesson_says_of_ten_million():
    ten = rows_of(10_000_000)
    share, ms = {}, {}
    for row in ten.to_dict("records"):
        asked = (row["index"], *map(int, re.findall(r"\d+", row["setting"])[:2]))
        share[asked], ms[asked] = row["recall@10"], row["median ms"]
    text = prose("ten-read")
    enough = {
        name: min((ms[k], k) for k in ms if k[0] == name and share[k] >= 0.95)[1] for name in (PLAIN, HALF)
    }
    for sentence in (
        f"half finds {share[HALF, 64, 20]:.3f}, the two others {share[PLAIN, 64, 20]:.3f} each",
        f"half reaches {share[enough[HALF]]:.3f} in {ms[enough[HALF]]:.1f} milliseconds, the first "
        f"{share[enough[PLAIN]]:.3f} in {ms[enough[PLAIN]]:.1f}",
        ", ".join(f"{share[PLAIN, 64, k]:.3f}" for k in (20, 40)) + f" and {share[PLAIN, 64, 80]:.3f}",
        f"held {ten['most GB'].max():.1f} GB at most",
    ):
        assert sentence in text, sentence
    assert abs(share[TURNED, 64, 20] - share[PLAIN, 64, 20]) < 0.002
    assert all(round(share[name, 512, 200], 2) == 0.97 for name in (PLAIN, TURNED, HALF))


def test_the_rules_of_thumb_are_what_the_table_says():
    n = 100_000
    few, rule, many = (between(n, f"IVF{cells},Flat") for cells in (128, 512, 2048))
    assert 0.37 < rule / few < 0.43 and 0.47 < many / rule < 0.57
    fastest = [
        rows_of(n)[(rows_of(n)["index"] == f"IVF{c},Flat") & (rows_of(n)["recall@10"] >= 0.95)].nsmallest(
            1, "median ms"
        )["recall@10"]
        for c in (128, 512, 2048)
    ]
    text = " ".join(prose("rules-read").split())
    assert "with recalls of {:.3f}, {:.3f} and {:.3f}".format(*(r.item() for r in fastest)) in text
    assert f"128 cells take {few:.2f} ms, 512 take {rule:.2f} (the rule says {2 * n**0.5:.0f};" in text
    assert f"and 2,048 take {many:.2f}." in text
    seconds = rows_of(n).groupby("index")["build seconds"].max()
    assert seconds["IVF2048,Flat"] > 4 * seconds["IVF512,Flat"]
    links = [least(n, f"HNSW{m}") for m in (8, 16, 32, 64)]
    assert min(links) == links[1]
    looks = rows_of(n)[rows_of(n)["index"] == "IVF512,PQ96x4fs,RFlat"].set_index("setting")["recall@10"]
    looks.index = looks.index.str.extract(r"k_factor_rf=(\d+)")[0].astype(int)
    assert round(looks[1], 2) == 0.62 and looks[2] < 0.95 < looks[5] and looks[80] - looks[20] < 0.003


def test_made_vectors_of_the_table_are_as_alike_as_the_lesson_says():
    lines = dict(re.findall(r"([\d,]+) (?:real|made) .*dimension (\d+)", books.shown("12", "alike")))
    dimensions = {int(number.replace(",", "")): int(m) for number, m in lines.items()}
    assert dimensions[5_000] > dimensions[17_000] > 0  # they fall as there are more
    assert abs(dimensions[1_000_000] - dimensions[17_000]) <= 3


def test_one_row_of_the_table_recomputed():
    """What the lesson's saved output recomputed agrees with the committed table."""
    rows = re.findall(
        r"setting (nprobe=\d+ k_factor_rf=\d+) .*?recall@10 (\S+)", books.shown("12", "recomputed")
    )
    small = rows_of(20_000).set_index("setting")["recall@10"]
    assert len(rows) == len(small) == 4
    for setting, share in rows:
        assert float(share) == pytest.approx(small[setting], abs=0.01)


def test_blocks_are_of_one_seed_and_what_is_nearest_in_them_is_nearest_of_all(monkeypatch):
    recipe = runpy.run_path(str(RECIPE))
    blocks, exactly = recipe["blocks"], recipe["exactly"]
    monkeypatch.setitem(blocks.__globals__, "BLOCK", 700)
    real, queries = clusters(300), clusters(20, seed=5)
    made = list(blocks(real, 2_000, 3))
    assert [len(block) for block in made] == [700, 700, 600]
    assert all((a == b).all() for a, b in zip(made, blocks(real, 2_000, 3), strict=True))
    assert not np.allclose(made[0][:600], made[2])
    cosines, numbers = exactly(iter(made), queries)
    truth = NearestNeighbors(n_neighbors=10).fit(np.vstack(made)).kneighbors(queries)[1]
    assert (numbers == truth).mean() > 0.99  # two may be equally far, to the last bit
    np.testing.assert_allclose(cosines, np.sort(queries @ np.vstack(made).T, axis=1)[:, :-11:-1], atol=1e-5)


def test_intrinsic_dimension_of_the_recipe_is_that_of_the_lesson():
    estimate = runpy.run_path(str(RECIPE))["intrinsic_dimension"]
    x = clusters(3_000)
    lesson = books.definitions(LESSON, "neighbourhood")["neighbourhood"](x, sample=200)[1]
    assert estimate(x[:200], np.array_split(x, 3)) == pytest.approx(np.median(lesson), rel=1e-3)


@pytest.mark.parametrize("which, number", [("indexes", 4_000), ("indexes", 100_000), ("rules", 4_000)])
def test_the_recipe_measures_what_is_there(which, number):
    """On vectors of ours: exact is exact, a longer look finds more, and the bytes are those of faiss."""
    recipe = runpy.run_path(str(RECIPE))
    real, queries = clusters(500), clusters(100, seed=5)
    chosen = {k: v for k, v in recipe[which](number, 16).items() if "usearch" not in k}
    lines = pd.DataFrame(recipe["measure"](real, 4_000, queries, 0, chosen))
    assert list(lines["index"].unique()) == list(chosen) and lines["recall@10"][0] == "1.0000"
    for name, shares in lines["recall@10"].astype(float).groupby(lines["index"]):
        assert shares.iloc[0] <= shares.iloc[-1] + 0.01, name
        if "SQ6" not in name:
            assert shares.iloc[-1] > 0.9, name
    assert lines["bytes a vector"][0] == "64"
    made = np.vstack(list(recipe["blocks"](real, 4_000, 0)))
    for name in set(chosen) & {"IVF128,PQ4x4fs,RFlat", "HNSW32"}:
        index = faiss.index_factory(16, name, faiss.METRIC_INNER_PRODUCT)
        index.train(made)
        index.add(made)
        weight = len(faiss.serialize_index(index))
        assert recipe["size"](index) == weight
        assert (lines["bytes a vector"][lines["index"] == name] == f"{weight / 4_000:.0f}").all()


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_index_of_ten_million_is_built_from_blocks_that_are_let_go(monkeypatch, place):
    """Small, and in several blocks: it answers nearly as well as exact search, from codes alone."""
    recipe = runpy.run_path(str(RECIPE))
    measure = recipe["measure"]
    monkeypatch.setitem(measure.__globals__, "BLOCK", 1_500)
    name = list(recipe["indexes"](10_000_000, 384))[place]
    assert name == (PLAIN, TURNED, HALF)[place]
    for large, small in (
        ("8192", "64"),
        ("PQ96", "PQ8"),
        ("PCA336", "PCA32"),
        ("PCAR384", "PCAR32"),
        ("PCAR192", "PCAR16"),
    ):
        name = name.replace(large, small)
    asked = {"nprobe": 64, "k_factor_rf": 30, "quantizer_efSearch": 128}
    (line,) = measure(clusters(500, 32), 4_000, clusters(100, 32, seed=5), 0, {name: [asked]})
    assert float(line["recall@10"]) > 0.8
    assert line["setting"] == "nprobe=64 k_factor_rf=30 quantizer_efSearch=128"
    assert int(line["bytes a vector"]) < 32 * 4  # less than the vectors themselves


def test_codes_of_the_second_look_are_not_moved_while_they_grow():
    """Else the array is copied as it grows, and held twice: 1.5 GB more at ten million."""
    recipe = runpy.run_path(str(RECIPE))
    vectors = clusters(4_000, 32).astype("float32")
    index = recipe["built"]("PCAR16,IVF16,PQ8x4fs,Refine(PCA24,SQ8)", 32)
    index.train(vectors)
    recipe["make_room"](index, len(vectors))
    codes = faiss.downcast_index(faiss.downcast_index(index.refine_index).index).codes
    places = set()
    for start in range(0, len(vectors), 500):
        index.add(vectors[start : start + 500])
        places.add(int(codes.data()))
    assert len(places) == 1 and codes.size() == 4_000 * 24


def test_usearch_answers_as_the_others_do():
    pytest.importorskip("usearch", reason="usearch is not installed")
    recipe = runpy.run_path(str(RECIPE))
    chosen = {"usearch i8, M 32": recipe["settings"](expansion_search=[256])}
    (line,) = recipe["measure"](clusters(500), 4_000, clusters(100, seed=5), 0, chosen)
    assert float(line["recall@10"]) > 0.7 and float(line["bytes a vector"]) > 16


@pytest.mark.parametrize("wrong", [["--number", "10"], ["--dimensions", "385"], ["--dimensions", "6"]])
def test_the_recipe_refuses_what_it_cannot_make(wrong):
    run = subprocess.run([sys.executable, RECIPE, *wrong], capture_output=True, encoding="utf-8")
    assert run.returncode == 2 and "at least 1,000 vectors, of 4 to 384 dimensions" in run.stderr


def test_an_index_that_the_recipe_does_not_know_is_refused():
    run = subprocess.run(
        [sys.executable, RECIPE, "--number", "20000", "--index", "HNSW7"],
        capture_output=True,
        encoding="utf-8",
    )
    assert run.returncode == 2 and "--index HNSW7: here there are Flat; IVF256,PQ96x4fs,RFlat" in run.stderr


def test_more_real_sentences_than_there_are_are_refused(monkeypatch):
    recipe = runpy.run_path(str(RECIPE))
    monkeypatch.setitem(recipe["real"].__globals__, "sentences", lambda: ["one short sentence"] * 3)
    with pytest.raises(ValueError, match="the documentation has 3 such sentences; ask for no more"):
        recipe["real"](4)


def test_too_few_real_vectors_are_refused():
    with pytest.raises(ValueError, match="20 real vectors are too few: more than 20 are needed"):
        runpy.run_path(str(RECIPE))["more_like"](clusters(20), 100)


# the exercises ----------------------------------------------------------------------------


def test_solutions_are_right():
    space = books.definitions(SOLUTION, "hnsw_bytes", "ivf_search", "filtered")
    for name in ("hnsw_bytes", "ivf_search", "filtered"):
        assert said(getattr(lesson12, name), space[name]).startswith(f"Right: {name}"), name


@pytest.mark.parametrize("name", ["hnsw_bytes", "ivf_search", "filtered"])
def test_an_empty_exercise_is_told_what_it_should_give(name):
    assert said(getattr(lesson12, name), lambda *_: ...).startswith("Not yet written")


@pytest.mark.parametrize(
    "extra",
    {
        "nothing but the vector": lambda M: 0,
        "layer 0 alone": lambda M: 8 * M + 12,
        "the paper's upper layers": lambda M: 4 * (2 * M + M / np.log(M)) + 12,
        "one link above": lambda M: 4 * (2 * M + 1) + 12,
        "M links above": lambda M: 4 * 3 * M + 12,
        "no level and place": lambda M: 4 * (2 * M + M / (M - 1)),
        "eight bytes of them": lambda M: 4 * (2 * M + M / (M - 1)) + 8,
    }.items(),
    ids=lambda pair: pair[0],
)
def test_other_formulas_than_that_of_the_graph_are_refused(extra):
    assert "Not yet: hnsw_bytes for" in said(lesson12.hnsw_bytes, lambda d, M: 4 * d + extra[1](M))


def by_hand(query, vectors, centres, cells, nprobe, near=None, best=None):
    """IVF with other ways to rank the centres and the rows than by their dot products."""
    nearness = near or (lambda q, x: x @ q)
    rows = np.concatenate([cells[i] for i in np.argsort(-nearness(query, centres))[:nprobe]])
    return rows[np.argsort(-(best or (lambda q, x: x @ q))(query, vectors[rows]))][:10]


distance = lambda q, x: -((x - q) ** 2).sum(axis=1)
cosine = lambda q, x: x @ q / np.linalg.norm(x, axis=1)


@pytest.mark.parametrize(
    "wrong",
    {
        "centres by distance": lambda *given: by_hand(*given, near=distance),
        "centres by cosine": lambda *given: by_hand(*given, near=cosine),
        "rows by distance": lambda *given: by_hand(*given, best=distance),
        "rows by cosine": lambda *given: by_hand(*given, best=cosine),
        "one cell more": lambda *given: by_hand(*given[:-1], given[-1] + 1),
        "every cell": lambda *given: by_hand(*given[:-1], 16),
        "by number": lambda *given: np.sort(by_hand(*given)),
        "eleven": lambda *given: np.append(by_hand(*given), 0),
        "not whole numbers": lambda *given: by_hand(*given).astype(float),
    }.items(),
    ids=lambda pair: pair[0],
)
def test_another_search_than_that_of_the_cells_is_refused(wrong):
    assert said(lesson12.ivf_search, by_hand).startswith("Right: ivf_search")
    assert "Not yet: ivf_search for query" in said(lesson12.ivf_search, wrong[1])


def test_wrong_answers_are_explained():
    assert "should be 54" in said(lesson12.hnsw_bytes, lambda d, M: 4 * d)
    places = lambda q, v, c, cells, n: np.arange(10)
    assert "query 0, nprobe 1 gives [" in said(lesson12.ivf_search, places)
    floats = lambda *given: by_hand(*given).astype(float)
    assert "(row numbers are whole numbers, integers); it should be [" in said(lesson12.ivf_search, floats)

    def whole(search, query, allowed, k, number):
        return [i for i in search(query, number) if i in allowed][:k]

    assert "begin with few" in said(lesson12.filtered, whole)

    def once(search, query, allowed, k, number):
        return [i for i in search(query, 10 * k) if i in allowed][:k]

    assert "one row in a hundred gives" in said(lesson12.filtered, once)

    def forever(search, query, allowed, k, number):
        while len(found := [i for i in search(query, min(number, 40)) if i in allowed]) < k:
            pass
        return found[:k]

    assert "asks again and again" in said(lesson12.filtered, forever)

    def short_of_the_table(search, query, allowed, k, number):
        fetch, found = 2 * k, []
        while fetch <= number and len(found) < k:
            found = [i for i in search(query, fetch) if i in allowed]
            fetch *= 2
        return found[:k]

    assert "the farthest of all gives [" in said(lesson12.filtered, short_of_the_table)

    def beyond_the_table(search, query, allowed, k, number):
        fetch = 2 * k
        while len(found := [i for i in search(query, fetch) if i in allowed]) < min(k, len(allowed)):
            fetch *= 2
        return found[:k]

    assert "asked for 2,560 rows of a table of 2,000" in said(lesson12.filtered, beyond_the_table)

    def one_more(search, query, allowed, k, number):
        for fetch in range(k, number + 1):
            found = [i for i in search(query, fetch) if i in allowed]
            if len(found) >= min(k, len(allowed)):
                break
        return found[:k]

    assert "ask for twice as many each time" in said(lesson12.filtered, one_more)
