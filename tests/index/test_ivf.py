"""The inverted file: what partial searches find and cost, calibration, upkeep, files; whole ones are in test_search."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import tessella as ts
from tests.fuzz.mutations import join, repaired, split

Floats = npt.NDArray[np.float32]
ROOT = Path(__file__).resolve().parents[2]
DTYPES = {"F32": np.float32, "U32": np.uint32, "U8": np.uint8, "I64": np.int64}
SPECS = ["IVF16", "IVF16,U8", "IVF16,B1", "IVF16,B1+U8", "IVF16+SOAR,B1", "IVF16+SOAR,B1+U8", "IVF16+SOAR,B1+N4+F32"]
METRICS = ["cosine", "ip", "l2"]
SURE = 10.0  # error bounds that no code of these tests exceeds


def drawer(rng: np.random.Generator, dim: int, clusters: int = 60, spread: float = 0.9) -> Callable[[int], Floats]:
    """Draws rows about fixed centres: queries and rows of one kind."""
    centres = rng.standard_normal((clusters, dim))

    def draw(n: int) -> Floats:
        noise = spread * rng.standard_normal((n, dim))
        return (centres[rng.integers(clusters, size=n)] + noise).astype(np.float32)

    return draw


def made(spec: str, x: Floats, metric: str = "cosine") -> ts.Index:
    ix = ts.Index(spec, dim=x.shape[1], metric=metric)
    ix.add(x)
    return ix


def found_share(hits: ts.Hits, truth: npt.NDArray[np.int64]) -> float:
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(truth, hits.ids, strict=True)]))


def assert_same_results(a: ts.Index, b: ts.Index, q: Floats, epsilon: float = SURE, **effort: Any) -> None:
    one, other = (ix.search(q, 10, epsilon=epsilon, **effort) for ix in (a, b))
    np.testing.assert_array_equal(one.ids, other.ids)
    np.testing.assert_array_equal(one.scores, other.scores)


def homes(spec: str) -> int:
    return 2 if "SOAR" in spec else 1


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


def test_training_tells_its_progress_and_may_be_stopped(rng: np.random.Generator) -> None:
    x = rng.standard_normal((600, 8)).astype(np.float32)
    ix, shares = ts.Index("IVF16,B1+U8", dim=8), list[float]()
    ix.train(x, progress=shares.append)
    assert shares == sorted(shares) and shares[-1] == 1.0

    def stop(share: float) -> None:
        raise LookupError("enough")

    other = ts.Index("IVF16,B1+U8", dim=8)
    with pytest.raises(LookupError, match="enough"):
        other.train(x, progress=stop)
    assert not other.is_trained and len(other.list_sizes) == 0
    other.train(x)
    for each in (ix, other):
        each.add(x)
    assert_same_results(ix, other, x[:20])


def test_one_list_is_an_index_too(rng: np.random.Generator) -> None:
    x = rng.standard_normal((100, 8)).astype(np.float32)
    for spec in ("IVF1,F32", "IVF1+SOAR,F32", "IVF1+SOAR,B1+F32"):
        ix = made(spec, x)
        assert ix.list_sizes.tolist() == [100]
        assert_same_results(ix, made("Flat", x), x[:9])


# ---- upkeep


@pytest.mark.parametrize("spec", SPECS)
def test_many_small_adds_are_one_large_one(rng: np.random.Generator, spec: str) -> None:
    draw = drawer(rng, 24)
    x, q = draw(1500), draw(20)
    whole, pieces = ts.Index(spec, dim=24), ts.Index(spec, dim=24)
    for ix in (whole, pieces):
        ix.train(x)
    whole.add(x)
    cuts = [0, 1, 2, 5, 37, 38, 100, 101, 500, *range(510, 1000, 7), 1500]
    for first, last in itertools.pairwise(cuts):
        pieces.add(x[first:last], threads=2)
    np.testing.assert_array_equal(whole.list_sizes, pieces.list_sizes)
    for nprobe in (1, 4, 16):
        assert_same_results(whole, pieces, q, nprobe=nprobe)


@pytest.mark.parametrize("spec", SPECS)
def test_an_emptied_index_is_as_good_as_new(rng: np.random.Generator, spec: str) -> None:
    draw = drawer(rng, 24)
    x, q = draw(700), draw(15)
    ix, fresh = made(spec, x), made(spec, x)
    ix.remove(rng.permutation(ix.ids))
    assert len(ix) == 0 and not ix.list_sizes.any() and ix.is_trained
    assert (ix.search(q, 3).ids == -1).all() and ix.explain(q, 3).scanned == 0
    ix.add(x, ids=np.arange(700))
    assert_same_results(ix, fresh, q, nprobe=5)


@pytest.mark.parametrize("spec", SPECS)
def test_updates_move_rows_between_lists(rng: np.random.Generator, spec: str) -> None:
    centres = 10 * np.eye(16, dtype=np.float32)
    where = np.repeat(np.arange(16), 40)
    x = centres[where] + 0.1 * rng.standard_normal((640, 16)).astype(np.float32)
    ix = made(spec, x)
    assert (ix.list_sizes >= 40).all() and ix.list_sizes.sum() == 640 * homes(spec)
    there = np.flatnonzero(where == 3)
    moved = centres[np.full(40, 7)] + 0.1 * rng.standard_normal((40, 16)).astype(np.float32)
    before = ix.list_sizes
    ix.update(there, moved)
    change = ix.list_sizes - before
    assert ix.list_sizes.sum() == 640 * homes(spec) and change.sum() == 0
    assert change.max() >= 30 and change.min() <= -30  # where rows spill, a few of the 40 were there already
    assert set(ix.search(centres[7], 80, nprobe=2).ids[0]) == set(there) | set(np.flatnonzero(where == 7))
    if homes(spec) == 1:
        assert not np.isin(ix.search(centres[3], 20, nprobe=1).ids, there).any()


@pytest.mark.parametrize("spec", SPECS)
def test_compacting_keeps_results_and_gives_memory_back(rng: np.random.Generator, spec: str) -> None:
    draw = drawer(rng, 32)
    x, q = draw(4000), draw(15)
    ix = made(spec, x)
    ix.remove(np.arange(4000)[np.arange(4000) % 5 > 0])
    before, kept = ix.nbytes, copy.deepcopy(ix)
    ix.compact()
    assert ix.nbytes < before or ix._engine.list_block_bytes() == 0
    assert ix.list_sizes.sum() == 800 * homes(spec)
    for nprobe in (1, 16):
        assert_same_results(ix, kept, q, nprobe=nprobe)
    ix.add(x[:50])
    kept.add(x[:50])
    assert_same_results(ix, kept, q, nprobe=16)
    ts.Index("IVF16", dim=4).compact()  # nothing to do
    made("Flat,B1+U8", x).compact()


def test_copies_in_between_leave_no_memory_behind(rng: np.random.Generator) -> None:
    """Lists that a copy has seen move when they are next written; they must not each take an arena along."""
    x = drawer(rng, 32)(4000)
    ix = made("IVF64+SOAR,B1+U8", x)
    ix.compact()
    before = ix.nbytes
    for row in range(60):
        ix.update([row], x[row : row + 1])
        pickle.dumps(ix)
    assert ix.nbytes < before + (16 << 20)


# ---- merging


@pytest.mark.parametrize("spec", ["IVF16,F32", "IVF16+SOAR,B1+F32", "Flat"])
def test_merging_moves_every_row_with_its_id(rng: np.random.Generator, spec: str) -> None:
    draw = drawer(rng, 20)
    x, y, q = draw(500), draw(300), draw(12)
    ix, other, all_at_once = made(spec, x, "l2"), ts.Index("IVF8+SOAR,B1+F32", dim=20, metric="l2"), made(spec, x, "l2")
    other.add(y, ids=np.arange(300) + 9000)
    ix.merge_from(other)
    all_at_once.add(y, ids=np.arange(300) + 9000)
    assert len(ix) == 800 and len(other) == 0 and other.is_trained
    np.testing.assert_array_equal(ix.reconstruct(np.arange(300) + 9000), y)
    assert_same_results(ix, all_at_once, q)
    ix.merge_from(other)  # nothing
    assert len(ix) == 800


def test_merging_is_refused_whole(rng: np.random.Generator) -> None:
    draw = drawer(rng, 20)
    x, q = draw(300), draw(9)
    ix, other = made("IVF8,B1+F32", x), ts.Index("IVF8,B1+F32", dim=20)
    other.add(x, ids=np.arange(299, 599))  # the first one is there
    before = copy.deepcopy(ix), copy.deepcopy(other)
    with pytest.raises(ts.InvalidArgument, match="299 is already in the index"):
        ix.merge_from(other)
    assert (len(ix), len(other)) == (300, 300)
    assert_same_results(ix, before[0], q)
    assert_same_results(other, before[1], q)
    for wrong in (ix, ts.Index("IVF8", dim=21), ts.Index("IVF8", dim=20, metric="l2"), x):
        with pytest.raises(ts.InvalidArgument, match="merge_from: expected a"):
            ix.merge_from(wrong)


# ---- recall, promised and kept


@pytest.fixture(scope="module")
def calibrated() -> tuple[ts.Index, Floats, npt.NDArray[np.int64]]:
    """A calibrated index, queries that it has not seen, and their true neighbours among its codes."""
    draw = drawer(np.random.default_rng(4), 48, clusters=150, spread=2.0)
    x, asked, unseen = draw(10_000), draw(1000), draw(1000)
    ix = made("IVF256+SOAR,B1+U8", x)
    ix.calibrate(asked, 10)
    return ix, unseen, ix.search(unseen, 10, nprobe=256, epsilon=4).ids


@pytest.mark.parametrize("target", [0.8, 0.9, 0.95])
def test_calibrated_recall_holds_for_unseen_queries(
    calibrated: tuple[ts.Index, Floats, npt.NDArray[np.int64]], target: float
) -> None:
    ix, q, truth = calibrated
    assert abs(found_share(ix.search(q, 10, recall=target), truth) - target) < 0.02
    curve = ix.calibration
    assert curve is not None and (curve.k, curve.queries) == (10, 1000)
    effort = curve.effort_for(target)
    assert effort == 1 or curve.recall_at(effort - 1) < target <= curve.recall_at(effort) + 1e-9
    assert ix.explain(q, 10, recall=target).probed == effort * len(q)


def test_more_recall_takes_more_effort(calibrated: tuple[ts.Index, Floats, npt.NDArray[np.int64]]) -> None:
    ix, q, _ = calibrated
    efforts = [ix.explain(q[:50], 10, recall=recall).probed for recall in (0.5, 0.8, 0.9, 0.95, 0.97)]
    assert efforts == sorted(efforts) and efforts[0] < efforts[-1]
    threshold = float(np.median(ix.search(q[:50], 10).scores[:, -1]))
    few, many = (ix.range_search(q[:50], threshold, recall=recall) for recall in (0.5, 0.97))
    assert len(few.ids) < len(many.ids)


def test_a_recall_out_of_reach_warns_and_does_its_best(rng: np.random.Generator) -> None:
    draw = drawer(rng, 32)
    x, q = draw(2000), draw(100)
    ix = made("IVF16,B1", x)
    truth = made("Flat", x).search(q, 10).ids
    curve = ix.calibrate(q, 10, truth=truth)
    assert not curve.reaches(0.99)
    with pytest.warns(ts.RecallWarning, match=r"recall 0.99 was not reached when 'IVF16,B1' was calibrated; its best"):
        best = ix.search(q, 10, recall=0.99)
    assert found_share(best, truth) == pytest.approx(max(curve.recalls))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ix.search(q, 10, recall=max(curve.recalls))


def test_truth_may_be_given(rng: np.random.Generator) -> None:
    draw = drawer(rng, 32)
    x, q = draw(2000), draw(80)
    ix = made("IVF16,B1+F32", x)
    truth = made("Flat", x).search(q, 7).ids
    curve = ix.calibrate(q, 7, truth=truth)
    assert curve.efforts[0] == 1 and curve.recalls[0] < 1 and curve.k == 7
    for effort, recall in list(zip(curve.efforts, curve.recalls, strict=True))[:3]:
        assert found_share(ix.search(q, 7, nprobe=effort), truth) == pytest.approx(recall)
    few = truth.copy()
    few[:, 3:] = -1  # where there are fewer
    assert ix.calibrate(q, 7, truth=few).recalls[-1] > 0.99
    with pytest.raises(ts.InvalidArgument, match=r"calibrate: expected truth of shape \(80, 7\); got \(80, 6\)"):
        ix.calibrate(q, 7, truth=truth[:, :6])


MISUSE: list[tuple[Callable[[ts.Index, Floats], object], str]] = [
    (lambda ix, q: ix.search(q, 3, nprobe=0), "search: expected nprobe >= 1; got 0"),
    (lambda ix, q: ix.search(q, 3, nprobe=2.5), "search: expected nprobe as an int; got float"),
    (lambda ix, q: ix.search(q, 3, nprobe=2, recall=0.9), "search: expected nprobe or recall; got both"),
    (lambda ix, q: ix.search(q, 3, recall=0.9), "search: expected a calibrated index for recall=0.9"),
    (lambda ix, q: ix.search(q, 3, recall=0.0), "search: expected a recall above 0 and up to 1; got 0.0"),
    (lambda ix, q: ix.search(q, 3, recall=1.1), "search: expected a recall above 0 and up to 1; got 1.1"),
    (lambda ix, q: ix.search(q, 3, recall=float("nan")), "search: expected a recall above 0 and up to 1; got nan"),
    (lambda ix, q: ix.explain(q, 3, recall=0.9), "explain: expected a calibrated index"),
    (lambda ix, q: ix.range_search(q, 0.3, recall=0.9), "range_search: expected a calibrated index"),
    (lambda ix, q: ix.range_search(q, 0.3, nprobe=-1), "range_search: expected nprobe >= 1; got -1"),
    (lambda ix, q: setattr(ix, "nprobe", 0), "nprobe: expected nprobe >= 1; got 0"),
    (lambda ix, q: ix.calibrate(q[:0]), "calibrate: expected queries, and rows in the index; got 0 and 100"),
    (lambda ix, q: ix.calibrate(q, 0), "calibrate: expected k >= 1; got 0"),
    (lambda ix, q: ts.Index("IVF4", dim=6).calibrate(q), "expected queries, and rows in the index; got 5 and 0"),
    (lambda ix, q: ts.Index("Flat", dim=6).search(q, nprobe=2), "expected nprobe with IVF only; 'Flat' has no lists"),
    (lambda ix, q: setattr(ts.Index("Flat,U8", dim=6), "nprobe", 3), "nprobe: expected nprobe with IVF only"),
]


@pytest.mark.parametrize(("mistake", "message"), MISUSE)
def test_misuse_gets_a_sentence(
    rng: np.random.Generator, mistake: Callable[[ts.Index, Floats], object], message: str
) -> None:
    x = rng.standard_normal((100, 6)).astype(np.float32)
    ix = made("IVF4,B1+U8", x)
    with pytest.raises(ts.TessellaError) as caught:
        mistake(ix, x[:5])
    assert message in str(caught.value)


def test_an_exact_index_needs_no_calibration(rng: np.random.Generator) -> None:
    x = rng.standard_normal((50, 6)).astype(np.float32)
    ix = made("Flat", x)
    assert ix.nprobe == 0 and len(ix.list_sizes) == 0
    assert ix.search(x[:2], 3, recall=1.0).ids[:, 0].tolist() == [0, 1]
    assert ix.calibrate(x, 3).recalls == (1.0,)


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


# ---- files


@pytest.mark.parametrize("way", ["load", "mmap", "pickle"])
@pytest.mark.parametrize("spec", SPECS)
def test_copies_bring_everything_back(rng: np.random.Generator, spec: str, way: str, tmp_path: Path) -> None:
    draw = drawer(rng, 24)
    x, q = draw(800), draw(50)
    ix = made(spec, x, "ip")
    ix.remove([3, 790])
    ix.nprobe = 5
    ix.calibrate(q, 10)
    ix.save(tmp_path / "index")
    other = pickle.loads(pickle.dumps(ix)) if way == "pickle" else ts.Index.load(tmp_path / "index", mmap=way == "mmap")
    assert (other.nprobe, other.calibration, other.spec, len(other)) == (5, ix.calibration, spec, 798)
    np.testing.assert_array_equal(other.list_sizes, ix.list_sizes)
    np.testing.assert_array_equal(other.reconstruct(other.ids), ix.reconstruct(ix.ids))
    assert_same_results(ix, other, q, epsilon=1.9)
    assert_same_results(ix, other, q, nprobe=2)
    for each in (ix, other):
        each.remove(np.arange(100, 300))
        each.add(x[:50], ids=np.arange(50) + 5000)
        each.update(np.arange(400, 450), x[:50])
        each.compact()
    np.testing.assert_array_equal(other.list_sizes, ix.list_sizes)
    assert_same_results(ix, other, q, nprobe=3)


@pytest.mark.parametrize("spec", ["IVF", "IVF4,B1", "IVF4+SOAR,B1+U8"])
def test_an_index_without_rows_goes_round(rng: np.random.Generator, spec: str, tmp_path: Path) -> None:
    ix, x = ts.Index(spec, dim=12), rng.standard_normal((400, 12))
    for trained in (False, True):
        if trained:
            ix.train(x)
        ix.save(tmp_path / "index")
        for mmap in (False, True):
            other = ts.Index.load(tmp_path / "index", mmap=mmap)
            assert (len(other), other.is_trained) == (0, trained) and len(other.list_sizes) == len(ix.list_sizes)
            other.add(x)
            assert other.search(x[:5], 1, nprobe=99).ids.shape == (5, 1) and len(other) == 400


def rewritten(
    path: Path, tensors: dict[str, Callable[[Any], Any]] | None = None, config: dict[str, Any] | None = None
) -> None:
    """The file with changed tensors (None: left out) or config, under checksums that are right."""
    header, data = split(path.read_bytes())
    metadata = header["__metadata__"]
    entries: dict[str, Any] = {
        "__metadata__": metadata | {"config": json.dumps(json.loads(metadata["config"]) | (config or {}))}
    }
    out = b""
    for name, entry in header.items():
        if name.startswith("__"):
            continue
        start, end = entry["data_offsets"]
        array = np.frombuffer(data[start:end], DTYPES[entry["dtype"]]).reshape(entry["shape"])
        changed = (tensors or {}).get(name, lambda a: a)(array)
        if changed is None:
            continue
        if pad := -len(out) % 64:
            entries[f"__pad__{len(entries)}"] = described("U8", (pad,), len(out), pad)
            out += bytes(pad)
        dtype = next(key for key, kind in DTYPES.items() if kind == changed.dtype)
        entries[name] = described(dtype, changed.shape, len(out), changed.nbytes)
        out += changed.tobytes()
    path.write_bytes(repaired(join(entries, out)))


def described(dtype: str, shape: tuple[int, ...], start: int, nbytes: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, start + nbytes]}


def put(at: int, value: float) -> Callable[[Any], Any]:
    """The tensor with one entry changed."""

    def change(array: Any) -> Any:
        array = array.copy()
        array.reshape(-1)[at] = value
        return array

    return change


def first_twice(rows: Any) -> Any:
    rows = rows.copy()
    rows[1] = rows[0]
    return rows


DAMAGE: list[tuple[dict[str, Callable[[Any], Any]], dict[str, Any], str]] = [
    ({"list.sizes": put(0, 2**32 - 1)}, {}, "the lists' rows are not as many as their sizes say"),
    ({"list.sizes": put(0, 0)}, {}, "the lists' rows are not as many as their sizes say"),
    ({"list.sizes": lambda a: a[:-1]}, {}, "the lists' rows are not as many as their sizes say"),
    ({"list.sizes": lambda a: np.append(a, np.uint32(0))}, {}, "there are not as many shrinks as lists"),
    ({"list.sizes": lambda a: a[:0], "list.rows": lambda a: a[:0], "list.blocks": lambda a: a[:0]}, {}, "shrinks"),
    ({"list.rows": lambda a: a[:-1]}, {}, "the lists' rows are not as many as their sizes say"),
    ({"list.rows": put(5, 200)}, {}, "a list names a row that is not there"),
    ({"list.rows": put(5, 2**32 - 1)}, {}, "a list names a row that is not there"),
    ({"list.rows": first_twice}, {}, "a list names a row twice"),
    ({"list.blocks": lambda a: a[:-1]}, {}, "the lists' blocks do not fit their sizes"),
    ({"list.blocks": lambda a: a[:, :-1]}, {}, "the lists' blocks do not fit their sizes"),
    ({"list.shrinks": put(2, np.nan)}, {}, "the shrinks has a NaN or an infinity"),
    ({"list.shrinks": put(2, np.inf)}, {}, "the shrinks has a NaN or an infinity"),
    ({"list.shrinks": lambda a: a[:-1]}, {}, "there are not as many shrinks as lists"),
    ({"list.shrinks": lambda a: a[None]}, {}, "expected tensor 'list.shrinks' to be F32"),
    ({"list.shrinks": lambda a: a.view(np.uint32)}, {}, "expected tensor 'list.shrinks' to be F32"),
    ({"list.sizes": lambda a: a[:, None]}, {}, "expected tensor 'list.sizes' to be U32"),
    ({"list.rows": lambda a: None}, {}, "it lacks the tensor 'list.rows'"),
    ({"centroid.codes": lambda a: None}, {}, "columns are not those of its spec"),
    ({"centroid.codes": lambda a: np.concatenate([a, a])}, {}, "does not have the size its rows need"),
    ({"column.codes": lambda a: a[:, :-1]}, {}, "does not have the size its rows need"),
    ({}, {"rows": 201}, "a row is in no list"),
    ({}, {"rows": 199}, "a list names a row that is not there"),
    ({}, {"rows": 2**31}, "does not have the size its rows need"),
    ({}, {"spec": "IVF4,B1+U8"}, "a row is in more lists than its spec allows"),
    ({}, {"spec": "IVF4,U8"}, "is damaged"),
    ({}, {"spec": "Flat,B1+U8"}, "is damaged"),
    ({}, {"nprobe": 0}, "its config does not describe an index"),
    ({}, {"nprobe": "many"}, "its config does not describe an index"),
    ({}, {"calibration": {"k": 10}}, "its config does not describe an index"),
    ({}, {"calibration": {"k": 1, "queries": 1, "efforts": [2, 1], "recalls": [0.1, 0.2]}}, "calibration is not one"),
    ({}, {"calibration": {"k": 1, "queries": 1, "efforts": [1], "recalls": [1.5]}}, "calibration is not one"),
    ({}, {"calibration": {"k": 1, "queries": 1, "efforts": [], "recalls": []}}, "calibration is not one"),
    ({}, {"calibration": 7}, "its config does not describe an index"),
]


@pytest.mark.parametrize(("tensors", "config", "message"), DAMAGE)
def test_files_that_contradict_themselves_are_refused(
    rng: np.random.Generator,
    tmp_path: Path,
    tensors: dict[str, Callable[[Any], Any]],
    config: dict[str, Any],
    message: str,
) -> None:
    path = tmp_path / "index"
    made("IVF4+SOAR,B1+U8", rng.standard_normal((200, 24)).astype(np.float32)).save(path)
    rewritten(path)
    assert len(ts.Index.load(path)) == 200
    rewritten(path, tensors, config)
    for mmap in (False, True):
        with pytest.raises(ts.FormatError) as caught:
            ts.Index.load(path, mmap=mmap)
        assert message in str(caught.value) and str(path) in str(caught.value)


LIMITED = """
import resource, sys, tessella
room = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + (1 << 30)
resource.setrlimit(resource.RLIMIT_AS, (room, room))
try:
    tessella.Index.load(sys.argv[1])
except tessella.FormatError:
    print("refused")
"""


@pytest.mark.parametrize("rows", [201, 2**31, 2**32 - 2, 2**40])
def test_rows_that_no_tensor_backs_take_no_memory(rng: np.random.Generator, tmp_path: Path, rows: int) -> None:
    """IVF,B1 has no column, so the lists alone tell how many rows there are; a gigabyte must do to see it."""
    path = tmp_path / "index"
    made("IVF4,B1", rng.standard_normal((200, 24)).astype(np.float32)).save(path)
    rewritten(path, config={"rows": rows})
    done = subprocess.run([sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, check=False)
    assert done.stdout == "refused\n", done.stderr


USE = """
import sys
from pathlib import Path
import numpy as np
from tests.fuzz.fuzz_files import load_and_use
print(load_and_use(sys.argv[2], Path(sys.argv[1]), np.random.default_rng(0)))
"""


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("spec", ["IVF4,B1", "IVF4+SOAR,B1+U8"])
@pytest.mark.parametrize("damage", ["scales", "large scales", "factors", "blocks"])
def test_centroids_and_codes_that_are_no_numbers_do_no_harm(
    rng: np.random.Generator, tmp_path: Path, damage: str, spec: str, metric: str
) -> None:
    """They are refused, or give odd results; in a process of its own, for a crash must not take the tests with it."""
    path = tmp_path / "index"
    made(spec, rng.standard_normal((200, 24)).astype(np.float32), metric).save(path)
    name = {"factors": "centroid.b1", "blocks": "list.blocks"}.get(damage, "centroid.scales")

    def change(array: Any) -> Any:
        array = array.copy()
        if damage == "large scales":
            array.view(np.float32)[:] = 3e38
        else:  # a NaN in float16 and in float32; of blocks, only the factors
            array[:, 0 if damage == "scales" else 64 // 8 * 32 :] = 255
        return array

    rewritten(path, {name: change})
    done = subprocess.run(
        [sys.executable, "-c", USE, str(path), spec], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.stdout in ("loaded\n", "refused\n"), done.stderr


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("spec", ["IVF16,B1+U8", "IVF16+SOAR,B1+F32", "IVF16,F32", "IVF16,B1", "IVF16+SOAR,PQ6x4+U8"])
def test_compacting_evens_out_lists(rng: np.random.Generator, spec: str, metric: str) -> None:
    """Rows of one kind make a list grow, removing another kind empties some; both are put right, no row is lost."""
    x, odd = drawer(rng, 24)(2000), 0.05 * rng.standard_normal((3000, 24)) + np.ones(24)
    ix = ts.Index(spec, dim=24, metric=metric)
    ix.add(x)
    ix.add(odd)
    before = ix.list_sizes
    assert before.max() > 4 * before.mean()
    ix.compact()
    assert ix.list_sizes.max() <= 4 * before.mean() + 64 < before.max()
    assert ix.list_sizes.sum() == before.sum() and sorted(ix.ids) == list(range(5000))
    found = ix.search(x[:50], 1, nprobe=999, epsilon=SURE).ids[:, 0]
    assert (found == np.arange(50)).mean() > (0.4 if spec.endswith("B1") else 0.95)
    ix.remove(np.arange(1990))
    ix.compact()
    assert ix.list_sizes.min() * 16 >= ix.list_sizes.mean() - 16 or len(ix.list_sizes) <= 3
    assert (ix.list_sizes.sum(), len(ix)) == (3010 * homes(spec), 3010) or ix.config.soar
    ix.update([4000], x[:1])
    assert ix.search(x[:1], 1, nprobe=999, epsilon=SURE).ids[0, 0] in (4000, *range(1990, 2000))
    ix.remove(ix.ids)
    assert len(ix) == 0 and ix.list_sizes.sum() == 0
