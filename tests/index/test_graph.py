"""The graph: what walks find and cost, the same at any number of threads; upkeep, and many hands at once."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import tessella as ts
from tests.index.cases import METRICS, SURE, drawer

Floats = npt.NDArray[np.float32]
SPECS = ["Graph32,B1+U8", "Graph64,B1+N4+F16", "Graph32,U8", "Graph32"]


def made(spec: str, x: Floats, metric: str = "cosine", ids: Any = None, threads: int = 1) -> ts.Index:
    ix = ts.Index(spec, dim=x.shape[1], metric=metric)
    ix.add(x, ids=ids, threads=threads)
    return ix


def vertices(spec: str) -> str:
    """The flat spec that stores what the vertices of a graph do; 1-bit codes are of its edges."""
    return "Flat," + (spec.partition(",")[2].removeprefix("B1+") or "F32")


def found_share(hits: ts.Hits, truth: npt.NDArray[np.int64]) -> float:
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(truth, hits.ids, strict=True)]))


def assert_same_results(a: ts.Index, b: ts.Index, q: Floats, k: int = 10, **effort: Any) -> None:
    one, other = (ix.search(q, k, **effort) for ix in (a, b))
    np.testing.assert_array_equal(one.ids, other.ids)
    np.testing.assert_array_equal(one.scores, other.scores)


def assert_looks_at_all(ix: ts.Index, q: Floats, k: int = 10) -> None:
    """At ef = n it finds what a flat index over the same rows finds."""
    flat = ts.Index(vertices(ix.spec), dim=ix.dim, metric=ix.metric)
    if ix.is_trained and len(ix):
        flat.train(np.zeros((1, ix.dim), np.float32))
        flat.add(ix.reconstruct(ix.ids), ids=ix.ids)
    hits, all_hits = ix.search(q, k, ef=max(1, len(ix))), flat.search(q, k, epsilon=SURE)
    np.testing.assert_array_equal(hits.ids >= 0, all_hits.ids >= 0)
    if vertices(ix.spec) == "Flat,F32":
        np.testing.assert_array_equal(hits.ids, all_hits.ids)
    here = hits.ids >= 0
    np.testing.assert_allclose(hits.scores[here], all_hits.scores[here], rtol=0.02, atol=0.05)


# ---- what a search finds

# Recall at ef 10, 128 and 256, of 4,000 rows about 60 centres; the worst of three metrics, less two or three points.
FLOORS = {
    "Graph32,B1+U8": (0.58, 0.95, 0.97),
    "Graph64,B1+N4+F16": (0.87, 0.93, 0.96),
    "Graph32,U8": (0.95, 0.97, 0.97),
    "Graph32": (0.95, 0.98, 0.99),
}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("spec", SPECS)
def test_recall_rises_with_ef_to_that_of_the_codes(rng: np.random.Generator, spec: str, metric: str) -> None:
    draw = drawer(rng, 32)
    x, q = draw(3000), draw(100)
    ix, flat = made(spec, x, metric), made("Flat", x, metric)
    truth = flat.search(q, 10).ids
    recalls = [found_share(ix.search(q, 10, ef=ef), truth) for ef in (10, 128, 256)]
    assert all(recall >= floor for recall, floor in zip(recalls, FLOORS[spec], strict=True)), recalls
    assert recalls[0] - 0.002 <= recalls[1] <= recalls[2] + 0.002
    coded = made(vertices(spec), x, metric).search(q, 10)
    for ef in (3000, 10**12):  # as many as there are
        whole = ix.search(q, 10, ef=ef)
        np.testing.assert_array_equal(whole.ids, coded.ids)
        np.testing.assert_allclose(whole.scores, coded.scores, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("spec", SPECS)
def test_rows_that_came_later_are_found_as_well(rng: np.random.Generator, spec: str) -> None:
    draw = drawer(rng, 32)
    x, q = draw(3000), draw(100)
    truth, ix = made("Flat", x).search(q, 10).ids, ts.Index(spec, dim=32)
    for first, last in itertools.pairwise([0, 1, 2, 40, 500, 2000, 3000]):
        ix.add(x[first:last])
    assert found_share(ix.search(q, 10, ef=128), truth) > FLOORS[spec][1] - 0.02
    assert found_share(ix.search(q, 10, ef=256), truth) > FLOORS[spec][2] - 0.02


def test_first_rows_are_linked_all_at_once_whatever_their_type(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = drawer(rng, 16)
    x = draw(3000).astype(np.float16)
    monkeypatch.setattr("tessella.index._SLICE_ROWS", 1000)  # at which other indexes convert them
    one, other = made("Graph32,B1+U8", x), made("Graph32,B1+U8", x.astype(np.float32))
    assert_same_results(one, other, draw(50), ef=32)


@pytest.mark.parametrize(("spec", "metric"), [*zip(SPECS, ["cosine", "l2", "l2", "ip"], strict=True)])
def test_nothing_depends_on_threads_or_company(rng: np.random.Generator, spec: str, metric: str) -> None:
    """Neither the graph, built at once or grown, nor a search of it."""
    draw = drawer(rng, 24)
    x, q = draw(2600), draw(37)  # more than fit one leaf: rows also walk
    graphs = []
    for threads in (1, 2):
        ix = made(spec, x[:2200], metric, threads=threads)
        for first, last in ((2200, 2203), (2203, 2600)):
            ix.add(x[first:last], threads=threads)
        ix.update(np.arange(30), x[-30:], threads=threads)
        graphs.append(ix)
    one, two = (ix._engine.snapshot() for ix in graphs)
    for name in one["columns"]:
        for a, b in zip(one["columns"][name], two["columns"][name], strict=True):
            np.testing.assert_array_equal(a, b)
    ix = graphs[0]
    for ef in (10, 50, 5000):
        whole = ix.search(q, 10, ef=ef, threads=1)
        for threads in (2, 3):
            again = ix.search(q, 10, ef=ef, threads=threads)
            np.testing.assert_array_equal(whole.ids, again.ids)
            np.testing.assert_array_equal(whole.scores, again.scores)
        for i in range(0, len(q), 5):
            single = ix.search(q[i], 10, ef=ef, threads=2)
            np.testing.assert_array_equal(single.ids[0], whole.ids[i])
            np.testing.assert_array_equal(single.scores[0], whole.scores[i])


@pytest.mark.parametrize("n", [1, 2, 31, 33, 300])
@pytest.mark.parametrize("spec", SPECS)
def test_there_are_as_many_results_as_rows(rng: np.random.Generator, spec: str, n: int) -> None:
    draw = drawer(rng, 17)
    ix, q = made(spec, draw(n)), draw(5)
    for k, ef in ((1, 1), (10, 1), (40, 3), (40, 40), (500, 7), (2048, 1)):
        for ids, scores in zip(*ix.search(q, k, ef=ef), strict=True):
            here = ids[ids >= 0]
            assert len(here) == min(k, n) == len(set(here.tolist())) == np.isfinite(scores).sum()
            assert (np.diff(scores[: len(here)]) <= 0).all() and (ids[len(here) :] == -1).all()


@pytest.mark.parametrize("spec", SPECS)
def test_rows_without_a_graph_around_them(rng: np.random.Generator, spec: str) -> None:
    """No rows, rows all alike, rows all zero."""
    q = rng.standard_normal((4, 12)).astype(np.float32)
    empty = ts.Index(spec, dim=12, metric="l2")
    assert (empty.search(q, 3).ids == -1).all() and len(empty.range_search(q, 9.0).ids) == 0
    empty.train(q)
    assert (empty.search(q, 3, ef=5).ids == -1).all()
    empty.compact()
    for rows in (np.ones((700, 12), np.float32), np.zeros((700, 12), np.float32)):
        for pieces in ([700], [1, 32, 300, 367]):
            ix = ts.Index(spec, dim=12, metric="l2")
            for piece in np.split(rows, np.cumsum(pieces)[:-1]):
                ix.add(piece)
            for k in (10, 699, 700, 800):
                hits = ix.search(q, k, ef=16)
                assert [len(set(ids[ids >= 0])) for ids in hits.ids] == [min(k, 700)] * 4
                np.testing.assert_allclose(hits.scores[:, :10], np.square(q - rows[:1]).sum(1)[:, None].repeat(10, 1),
                                           rtol=0.02, atol=0.02)  # fmt: skip


def test_few_copies_of_a_row_are_all_found(rng: np.random.Generator) -> None:
    x = np.repeat(drawer(rng, 24)(300), 8, axis=0)
    for spec in SPECS:
        ix = made(spec, rng.permutation(x), "l2")
        hits = ix.search(x[::80], 8, ef=64)
        assert (np.abs(hits.scores) < 0.5).mean() > 0.97, spec


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("spec", SPECS)
def test_range_search_returns_what_search_would(rng: np.random.Generator, spec: str, metric: str) -> None:
    draw = drawer(rng, 24)
    ix, q = made(spec, draw(1500), metric), draw(8)
    ids, scores = ix.search(q, 60, ef=1500)
    threshold = float(np.median(scores[:, 30]))
    found = ix.range_search(q, threshold, ef=1500)
    assert found.offsets[-1] == len(found.ids) == len(found.scores)
    for i in range(len(q)):
        within = scores[i] <= threshold if metric == "l2" else scores[i] >= threshold
        mine = found.ids[found.offsets[i] : found.offsets[i + 1]]
        if not within.all():
            np.testing.assert_array_equal(mine, ids[i][within])
        assert len(mine) >= within.sum() and len(mine) == len(set(mine.tolist()))
    for ef, floor in ((64, 0.7), (256, 0.92)):  # walks on while all of what it meets counts
        few = ix.range_search(q, threshold, ef=ef)
        assert np.isin(few.ids, found.ids).all() and len(few.ids) > floor * len(found.ids)
    everything = ix.range_search(q, 1e6 if metric == "l2" else -1e6, ef=2)
    assert np.diff(everything.offsets).tolist() == [1500] * len(q)


# ---- what it costs


@pytest.mark.parametrize("spec", SPECS)
def test_counts_of_work_are_exact(rng: np.random.Generator, spec: str) -> None:
    draw = drawer(rng, 40)
    ix, q = made(spec, draw(2000)), draw(25)
    efforts = (10, 20, 40, 160)
    costs = [ix.explain(q, 10, ef=ef) for ef in efforts]
    for cost, ef in zip(costs, efforts, strict=True):
        assert (cost.spec, cost.queries, cost.rows) == (spec, 25, 2000) and cost == ix.explain(q, 10, ef=ef)
        least = max(ef, 40 if "F16" in spec else 10)  # what a raw codec scores again has to be kept
        assert 25 * 10 <= cost.probed < 25 * (least + 20)  # a walk ends early where nothing is to be expected
        assert cost.rescored == (25 * 40 if "F16" in spec else 0)
        if "B1" in spec:  # a visit looks at all codes of a record
            assert (cost.scanned, cost.refined) == (cost.probed * ix.config.degree, cost.probed)
        else:
            assert cost.probed <= cost.scanned == cost.refined <= cost.probed * ix.config.degree
    assert costs[0].probed <= costs[1].probed <= costs[2].probed < costs[3].probed
    assert ix.explain(q, 10, ef=2000).refined == 25 * 2000 and ix.explain(q, 10, ef=2000).probed == 0
    assert ix.explain(q, 10).probed == ix.explain(q, 10, ef=64).probed


@pytest.mark.parametrize("dim", [8, 64, 300])
def test_rows_met_by_many_edges_leave_room_for_others(rng: np.random.Generator, dim: int) -> None:
    """A row is a candidate by each estimate of it; around it lie few others."""
    centres = rng.standard_normal((30, dim))
    x = (centres[np.arange(3000) % 30] + 1e-3 * rng.standard_normal((3000, dim))).astype(np.float32)
    ix, q = made("Graph32,B1+U8", x, "l2"), (centres + 1e-3 * rng.standard_normal((30, dim))).astype(np.float32)
    for k, ef in ((1, 2), (10, 20), (20, 40), (50, 100)):
        cost, ids = ix.explain(q, k, ef=ef), ix.search(q, k, ef=ef).ids
        assert cost.refined == cost.probed <= 2 * 30 * (ef + 20)  # no query has looked at every row
        assert all(len(set(each[each >= 0].tolist())) == k for each in ids)


# ---- upkeep


@pytest.mark.parametrize("spec", SPECS)
def test_an_emptied_index_starts_anew(rng: np.random.Generator, spec: str) -> None:
    draw = drawer(rng, 24)
    x, q = draw(700), draw(15)
    ix, fresh = made(spec, x), made(spec, x)
    for _ in range(2):
        ix.remove(rng.permutation(ix.ids))
        assert len(ix) == 0 and ix.is_trained
        assert (ix.search(q, 3).ids == -1).all() and ix.explain(q, 3).scanned == 0
        ix.add(x, ids=np.arange(700))
        assert_same_results(ix, fresh, q, ef=20)
    ix.remove(ix.ids)
    ix.train(2 * x)  # only while empty, and now it is
    ix.add(x[:40])
    np.testing.assert_array_equal(ix.ids, np.arange(700, 740))  # ids do not come back by themselves
    assert_looks_at_all(ix, q)


def test_ids_are_the_callers(rng: np.random.Generator) -> None:
    x = drawer(rng, 16)(400)
    ids = rng.permutation(10_000)[:400]
    ix = made("Graph32,B1+F32", x, "l2", ids=ids)
    hits = ix.search(x, 1, ef=400)
    np.testing.assert_array_equal(hits.ids[:, 0], ids)
    np.testing.assert_array_equal(ix.reconstruct(ids), x)
    ix.remove(ids[:50])
    assert len(ix) == 350 and int(ids[0]) not in ix and not np.isin(ix.search(x, 40, ef=64).ids, ids[:50]).any()
    ix.add(x[:50], ids=ids[:50][::-1])  # again, to other rows
    np.testing.assert_array_equal(ix.search(x[:50], 1, ef=400).ids[:, 0], ids[:50][::-1])
    before = ix.search(x, 5, ef=30)
    for operation, wrong, message in (
        (lambda: ix.add(x[:2], ids=[20_000, ids[7]]), ids[7], "is already in the index"),
        (lambda: ix.add(x[:2], ids=[20_000, 20_000]), 20_000, "occurs twice"),
        (lambda: ix.remove([ids[3], 30_000]), 30_000, "is not in the index"),
        (lambda: ix.update([ids[3], ids[3]], x[:2]), ids[3], "occurs"),
        (lambda: ix.update([ids[3], 30_000], x[:2]), 30_000, "is not in the index"),
        (lambda: ix.reconstruct([30_000]), 30_000, "is not in the index"),
        (lambda: ix.train(x), 400, "expected an empty index"),  # those that were removed do not count
    ):
        with pytest.raises(ts.InvalidArgument, match=rf"{wrong}.*{message}|{message}.*{wrong}"):
            operation()
    after = ix.search(x, 5, ef=30)
    np.testing.assert_array_equal(before.ids, after.ids)
    np.testing.assert_array_equal(before.scores, after.scores)


@pytest.mark.parametrize("spec", ["Graph32,B1+U8", "Graph32,U8", "Graph32"])
def test_recall_outlives_many_changes(rng: np.random.Generator, spec: str) -> None:
    """Half of the rows go and as many come, again and again; what was removed is never found."""
    draw = drawer(rng, 32)
    x, q = draw(2000), draw(150)
    ix, ids = made(spec, x), np.arange(2000)
    for round_ in range(4):
        gone = rng.permutation(2000)[:1000]
        for some in np.array_split(gone, [1, 1, 4, 20][round_]):  # at once: a new graph; little by little: a mended one
            ix.remove(ids[some])
            if round_ % 2 == 0:
                assert not np.isin(ix.search(q[:20], 10, ef=40).ids, ids[some]).any()
        x[gone], ids[gone] = draw(1000), 2000 + 1000 * round_ + np.arange(1000)
        for some in np.array_split(gone, [1, 3, 2, 10][round_]):
            ix.add(x[some], ids=ids[some])
        assert len(ix) == 2000 and sorted(ix.ids) == sorted(ids)
        flat, fresh = made("Flat", x, ids=ids), made(spec, x, ids=ids)
        truth = flat.search(q, 10).ids
        for ef in (32, 64):
            kept, new = (found_share(each.search(q, 10, ef=ef), truth) for each in (ix, fresh))
            assert kept > new - 0.02, (round_, ef)


@pytest.mark.parametrize("spec", SPECS)
def test_updates_keep_the_id_and_find_the_new_value(rng: np.random.Generator, spec: str) -> None:
    draw = drawer(rng, 24)
    x, q = draw(900), draw(20)
    ix = made(spec, x, "l2")
    away = x[:400] + 40.0  # far from all there was
    for some in np.array_split(np.arange(400), [3, 150, 200]):
        ix.update(some, away[some])
    assert len(ix) == 900 and sorted(ix.ids) == list(range(900))
    assert np.abs(ix.reconstruct(np.arange(400)) - away).max() < 1.0
    assert np.isin(ix.search(away[::20], 5, ef=64).ids, np.arange(400)).all()
    assert not np.isin(ix.search(x[::9], 5, ef=64).ids, np.arange(400)).any()
    assert (ix.search(away[:50], 50, ef=900).ids == np.arange(50)[:, None]).any(axis=1).all()  # N4 is coarse out there
    ix.update(np.arange(900), x)  # every row, more than are linked together
    assert_looks_at_all(ix, q)
    ix.update([], x[:0])
    ix.remove([])


@pytest.mark.parametrize("spec", SPECS)
def test_compacting_gives_memory_back_and_finds_the_same(rng: np.random.Generator, spec: str) -> None:
    draw = drawer(rng, 32)
    x, q = draw(2000), draw(60)
    ix = made(spec, x)
    ix.remove(np.arange(100))  # few enough to be left as stepping stones
    truth = made("Flat", x[100:], ids=np.arange(100, 2000)).search(q, 10).ids
    before, whole = ix.nbytes, ix.search(q, 10, ef=2000)
    recall = found_share(ix.search(q, 10, ef=128), truth)
    ix.compact()
    assert ix.nbytes <= before and sorted(ix.ids) == list(range(100, 2000))
    again = ix.search(q, 10, ef=2000)
    np.testing.assert_array_equal(again.ids, whole.ids)
    np.testing.assert_array_equal(again.scores, whole.scores)
    assert found_share(ix.search(q, 10, ef=128), truth) > recall - 0.02
    kept = ix.search(q, 10, ef=30)
    ix.compact()  # nothing to do
    np.testing.assert_array_equal(ix.search(q, 10, ef=30).ids, kept.ids)
    ts.Index(spec, dim=4).compact()


@pytest.mark.parametrize("spec", ["Graph32,B1+F32", "Graph32"])
def test_merging_moves_every_row_with_its_id(rng: np.random.Generator, spec: str) -> None:
    draw = drawer(rng, 20)
    x, y, q = draw(500), draw(300), draw(12)
    ix, other, all_at_once = (made(spec, each, "l2") for each in (x, y, x))
    with pytest.raises(ts.InvalidArgument, match="0 is already in the index"):
        ix.merge_from(other)
    assert (len(ix), len(other)) == (500, 300)
    other = made("IVF8,B1+F32", y, "l2", ids=np.arange(300) + 9000)
    ix.merge_from(other)
    all_at_once.add(y, ids=np.arange(300) + 9000)
    assert len(ix) == 800 and len(other) == 0
    np.testing.assert_array_equal(ix.reconstruct(np.arange(300) + 9000), y)
    assert_same_results(ix, all_at_once, q, ef=30)
    back = ts.Index("IVF8,F32", dim=20, metric="l2")
    back.train(x)
    back.merge_from(ix)
    assert (len(back), len(ix)) == (800, 0) and (ix.search(q).ids == -1).all()


# ---- many hands at once


def test_searches_beside_writers_lose_no_row(rng: np.random.Generator) -> None:
    """Four search, two add, one of them removes too: a row that stays is found all along, each score is its row's."""
    draw = drawer(rng, 16)
    x = draw(1400)
    ix = made("Graph32,B1+F32", x[:400], "l2")
    wrong: list[str] = []
    done = threading.Event()

    def look(seed: int) -> None:
        picks = np.random.default_rng(seed)
        while not done.is_set():
            rows = picks.integers(400, size=8)
            ef = int(picks.choice([64, 5000]))
            hits = ix.search(x[rows], 5, ef=ef, threads=1)
            if ef == 5000 and not (hits.ids[:, 0] == rows).all():
                wrong.append(f"{rows} became {hits.ids[:, 0]}")
            if (hits.ids < 0).any():
                wrong.append("too few")
            expected = np.square(x[rows][:, None] - x[hits.ids % 10_000]).sum(-1)
            if np.abs(hits.scores - expected).max() > 1e-2:
                wrong.append("torn")

    def put(first: int) -> None:
        for start in range(first, first + 500, 25):
            ix.add(x[start : start + 25], ids=np.arange(start, start + 25), threads=1)
            if first == 400 and start > 500:
                ix.remove(np.arange(start - 100, start - 80))
                ix.add(x[start - 100 : start - 80], ids=10_000 + np.arange(start - 100, start - 80), threads=1)

    lookers = [threading.Thread(target=look, args=(seed,)) for seed in range(4)]
    writers = [threading.Thread(target=put, args=(first,)) for first in (400, 900)]
    for thread in lookers + writers:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in lookers:
        thread.join()
    assert wrong == [] and len(ix) == 1400 and len(set((ix.ids % 10_000).tolist())) == 1400
    np.testing.assert_array_equal(ix.reconstruct(ix.ids), x[ix.ids % 10_000])
    assert_looks_at_all(ix, x[::100])
