"""The inverted file: what partial searches find and cost, training, specs; whole searches are in test_search."""

from __future__ import annotations

import numpy as np
import pytest

import tessella as ts
from tests.index.cases import METRICS, SPECS, SURE, assert_same_results, drawer, found_share, homes, made

# ---- what a search finds


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("spec", ["IVF32", "IVF32,B1+U8", "IVF32+SOAR,B1+U8"])
def test_recall_rises_with_nprobe_to_that_of_the_flat_index(rng: np.random.Generator, spec: str, metric: str) -> None:
    draw = drawer(rng, 32)
    x, q = draw(3000), draw(40)
    ix, flat = made(spec, x, metric), made(f"Flat,{spec.partition(',')[2] or 'F32'}", x, metric)
    truth = flat.search(q, 10, epsilon=SURE)
    recalls = [found_share(ix.search(q, 10, nprobe=nprobe, epsilon=SURE), truth.ids) for nprobe in (1, 2, 4, 8, 32)]
    assert recalls == sorted(recalls) and 0.3 < recalls[0] < recalls[2] and recalls[2] > 0.8
    whole = ix.search(q, 10, nprobe=32, epsilon=SURE)
    np.testing.assert_array_equal(whole.ids, truth.ids)
    np.testing.assert_allclose(whole.scores, truth.scores, rtol=1e-5, atol=1e-5)
    beyond = ix.search(q, 10, nprobe=10**12, epsilon=SURE)  # as many as there are
    np.testing.assert_array_equal(beyond.ids, whole.ids)


def test_a_second_home_finds_more_at_equal_work(rng: np.random.Generator) -> None:
    """SOAR's lists are twice as long: half as many of them are compared, in the region where recall is high."""
    draw = drawer(rng, 64, clusters=1000, spread=1.0)  # more neighbourhoods than lists: many are cut in two
    x, q = draw(16_000), draw(500)
    truth = made("Flat", x).search(q, 10).ids
    plain, soar = made("IVF256,B1+U8", x), made("IVF256+SOAR,B1+U8", x)
    recalls = []
    for nprobe in (8, 12, 16, 24):
        work = [ix.explain(q, 10, nprobe=p).scanned for ix, p in ((plain, 2 * nprobe), (soar, nprobe))]
        assert work[1] < 1.02 * work[0]
        pair = ((plain, 2 * nprobe), (soar, nprobe))
        recalls.append([found_share(ix.search(q, 10, nprobe=p, epsilon=4), truth) for ix, p in pair])
    assert np.mean(recalls, axis=0)[1] > np.mean(recalls, axis=0)[0] + 0.005


@pytest.mark.parametrize("nprobe", [1, 3, 16])
@pytest.mark.parametrize("spec", [spec for spec in SPECS if "SOAR" in spec])
def test_no_row_is_found_twice(rng: np.random.Generator, spec: str, nprobe: int) -> None:
    draw = drawer(rng, 24)
    ix, q = made(spec, draw(900)), draw(30)
    for k in (10, 900):
        for ids in ix.search(q, k, nprobe=nprobe).ids:
            here = ids[ids >= 0]
            assert len(here) == len(set(here.tolist()))
    for epsilon in (0.0, 1.9, SURE):
        hits = ix.range_search(q, 0.1, nprobe=nprobe, epsilon=epsilon)
        for i in range(len(q)):
            mine = hits.ids[hits.offsets[i] : hits.offsets[i + 1]]
            assert len(mine) == len(set(mine.tolist()))
    if nprobe == 16:
        assert (np.sort(ix.search(q, 900, nprobe=16).ids, axis=1) == np.arange(900)).all()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("spec", SPECS)
def test_partial_searches_do_not_depend_on_threads_or_company(rng: np.random.Generator, spec: str, metric: str) -> None:
    draw = drawer(rng, 40)
    ix, q = made(spec, draw(2500), metric), draw(37)
    for nprobe in (1, 5):
        whole = ix.search(q, 10, nprobe=nprobe, threads=1)
        for threads in (2, 3):
            again = ix.search(q, 10, nprobe=nprobe, threads=threads)
            np.testing.assert_array_equal(whole.ids, again.ids)
            np.testing.assert_array_equal(whole.scores, again.scores)
        for i in range(len(q)):
            one = ix.search(q[i], 10, nprobe=nprobe, threads=2)
            np.testing.assert_array_equal(one.ids[0], whole.ids[i])
            np.testing.assert_array_equal(one.scores[0], whole.scores[i])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("spec", ["IVF16", "IVF16,U8", "IVF16,B1+F16", "IVF16+SOAR,B1+U8"])
def test_range_search_returns_what_search_would(rng: np.random.Generator, spec: str, metric: str) -> None:
    draw = drawer(rng, 24)
    ix, q = made(spec, draw(1500), metric), draw(8)
    for nprobe in (2, 16):
        ids, scores = ix.search(q, 60, nprobe=nprobe, epsilon=SURE)
        threshold = float(np.median(scores[:, 30]))
        found = ix.range_search(q, threshold, nprobe=nprobe, epsilon=SURE)
        assert found.offsets[-1] == len(found.ids) == len(found.scores)
        for i in range(len(q)):
            within = scores[i] <= threshold if metric == "l2" else scores[i] >= threshold
            mine = found.ids[found.offsets[i] : found.offsets[i + 1]]
            if not within.all():
                np.testing.assert_array_equal(mine, ids[i][within])
            assert len(mine) >= within.sum()


# ---- what it costs


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("spec", SPECS)
def test_counts_of_work_are_exact(rng: np.random.Generator, spec: str, metric: str) -> None:
    draw = drawer(rng, 40)
    x, q = draw(2000), draw(25)
    ix = made(spec, x, metric)
    sizes = ix.list_sizes
    assert sizes.shape == (16,) and sizes.sum() == 2000 * homes(spec)
    for nprobe in (1, 3, 16, 99):
        cost = ix.explain(q, 10, nprobe=nprobe)
        assert (cost.spec, cost.queries, cost.rows) == (spec, 25, 2000)
        assert cost.probed == 25 * min(nprobe, 16) and cost == ix.explain(q, 10, nprobe=nprobe)
        assert cost.rescored == (25 * 40 if "F32" in spec else 0)
        assert (cost.refined == 0) == spec.endswith("B1") and cost.refined <= cost.scanned
    assert ix.explain(q, 10, nprobe=16).scanned == 25 * sizes.sum()
    # of the nearest lists, where it is clear which they are
    unit = [a / np.linalg.norm(a, axis=1, keepdims=True) if metric == "cosine" else a for a in (q, x)]
    centroids = ix._engine.centroids().astype(np.float64)
    similarity = unit[0] @ centroids.T - (np.square(centroids).sum(1) / 2 if metric == "l2" else 0)
    order = np.argsort(-similarity, axis=1)
    ranked = np.take_along_axis(similarity, order, axis=1)
    clear = ranked[:, 2] - ranked[:, 3] > 0.05 * np.abs(ranked[:, 0])
    assert clear.sum() >= 5
    for i in np.flatnonzero(clear):
        assert ix.explain(q[i], 10, nprobe=3, epsilon=SURE).scanned == sizes[order[i, :3]].sum()


# ---- training


def test_the_number_of_lists_follows_the_training_rows(rng: np.random.Generator) -> None:
    for n, lists in [(256, 32), (1000, 64), (3000, 256), (10_000, 1024)]:
        ix = ts.Index("IVF,F32", dim=2)
        assert len(ix.list_sizes) == 0 and not ix.is_trained
        ix.train(rng.standard_normal((n, 2)))
        assert ix.is_trained and len(ix.list_sizes) == lists and ix.spec == "IVF"
        ix.add(rng.standard_normal((3, 2)))
        assert len(ix.list_sizes) == lists and ix.list_sizes.sum() == 3


def test_too_few_rows_to_train_are_told_so(rng: np.random.Generator) -> None:
    x = rng.standard_normal((255, 4))
    with pytest.raises(ts.InvalidArgument, match=r"at least 256 rows to decide on a number of lists.*IVF16; got 255"):
        ts.Index("IVF", dim=4).add(x)
    ix = ts.Index("IVF16,B1+U8", dim=4)
    with pytest.raises(ts.InvalidArgument, match=r"at least as many rows as lists, 16, and better 39 times.*got 15"):
        ix.add(x[:15])
    with pytest.raises(ts.InvalidArgument, match="train: expected at least one row; got 0"):
        ix.train(x[:0])
    assert len(ix) == 0 and not ix.is_trained and (ix.search(x, 3).ids == -1).all()
    ix.add(x)
    with pytest.raises(ts.InvalidArgument, match=r"train: expected an empty index, since stored codes .*of 255 rows"):
        ix.train(x)


def test_many_lists_are_found_by_a_second_level(rng: np.random.Generator) -> None:
    """From 16,384 lists on: the same at any number of threads and by pieces, and hardly worse than by all of them."""
    x = drawer(rng, 16)(20_000)
    found = {}
    for name, lists, threads, pieces in [("one", 16_383, 2, 1), ("two", 16_384, 1, 1), ("other", 16_384, 2, 3)]:
        ix = ts.Index(f"IVF{lists},U8", dim=16, metric="l2")
        ix.train(x, threads=threads)
        for piece in np.array_split(x, pieces):
            ix.add(piece, threads=threads)
        found[name] = ix
    np.testing.assert_array_equal(found["two"].list_sizes, found["other"].list_sizes)
    assert_same_results(found["two"], found["other"], x[:50], nprobe=8)
    near = {name: (found[name].search(x, 1, nprobe=1).ids[:, 0] == np.arange(len(x))).mean() for name in ("one", "two")}
    assert near["two"] > near["one"] - 0.05 and near["two"] > 0.85
    two = found["two"]
    two.update([5], x[6:7] + 100)  # centroids are the same, and looked up again
    assert two.search(x[6] + 100, 1, nprobe=4).ids[0, 0] == 5
    two.compact()
    two.add(x[:1] - 100, ids=[99_999])
    assert two.search(x[0] - 100, 1, nprobe=4).ids[0, 0] == 99_999


def test_one_list_is_an_index_too(rng: np.random.Generator) -> None:
    x = rng.standard_normal((100, 8)).astype(np.float32)
    for spec in ("IVF1,F32", "IVF1+SOAR,F32", "IVF1+SOAR,B1+F32"):
        ix = made(spec, x)
        assert ix.list_sizes.tolist() == [100]
        assert_same_results(ix, made("Flat", x), x[:9])


# ---- specs


@pytest.mark.parametrize(
    ("text", "config"),
    [
        ("IVF", ts.IndexConfig("IVF")),
        (" IVF64 , B1 + U8 ", ts.IndexConfig("IVF", ("B1", "U8"), 64)),
        ("IVF+SOAR,B1+U8", ts.IndexConfig("IVF", ("B1", "U8"), 0, True)),
        ("IVF1024+SOAR,Flat", ts.IndexConfig("IVF", ("F32",), 1024, True)),
    ],
)
def test_specs_go_round(text: str, config: ts.IndexConfig) -> None:
    assert ts.IndexConfig.parse(text) == config == ts.IndexConfig.parse(config.spec)
    assert ts.Index(text, dim=4).config == config


@pytest.mark.parametrize(
    "text", ["IVF0", "ivf4", "IVF-4", "IVF4+", "IVF4+SOAR+SOAR", "Flat4", "Flat+SOAR", "IVF99999999"]
)
def test_wrong_specs_are_refused(text: str) -> None:
    with pytest.raises(ts.InvalidArgument, match="spec: expected"):
        ts.IndexConfig.parse(text)
