"""The graph's calibration, its mistakes and sentences, and its files: whole ones, and such as contradict themselves."""

from __future__ import annotations

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
from tessella.calibration import Calibration, Span, measure
from tests.index.damage import ROOT, USE, assert_refused, put, rewritten
from tests.index.test_graph import (
    METRICS,
    SPECS,
    Floats,
    assert_looks_at_all,
    assert_same_results,
    drawer,
    found_share,
    made,
)

NO_ROW = 2**32 - 1

# ---- recall, promised and kept


@pytest.fixture(scope="module")
def calibrated() -> tuple[ts.Index, Floats, npt.NDArray[np.int64]]:
    """A calibrated graph, queries that it has not seen, and their true neighbours among its codes."""
    draw = drawer(np.random.default_rng(4), 48, clusters=150, spread=1.2)
    x, asked, unseen = draw(4000), draw(500), draw(500)
    ix = made("Graph32,B1+U8", x)
    ix.calibrate(asked, 10)
    return ix, unseen, ix.search(unseen, 10, ef=4000).ids


@pytest.mark.parametrize("target", [0.6, 0.8, 0.9])
def test_calibrated_recall_holds_for_unseen_queries(
    calibrated: tuple[ts.Index, Floats, npt.NDArray[np.int64]], target: float
) -> None:
    ix, q, truth = calibrated
    curve = ix.calibration
    assert curve is not None and (curve.k, curve.queries) == (10, 500)
    assert curve.efforts[0] == 10 and curve.efforts[-1] <= 4000  # a walk keeps k candidates at least
    effort = curve.effort_for(target)
    recall = found_share(ix.search(q, 10, recall=target), truth)
    assert target - 0.03 < recall < target + 0.05 or effort == 10
    assert_same_results(ix, ix, q[:20], recall=target)
    assert ix.explain(q, 10, recall=target) == ix.explain(q, 10, ef=effort)


def test_more_recall_takes_more_effort(calibrated: tuple[ts.Index, Floats, npt.NDArray[np.int64]]) -> None:
    ix, q, _ = calibrated
    efforts = [ix.explain(q[:50], 10, recall=recall).probed for recall in (0.5, 0.7, 0.8, 0.9)]
    assert efforts == sorted(efforts) and efforts[0] < efforts[-1]
    threshold = float(np.median(ix.search(q[:50], 10).scores[:, -1]))
    few, many = (ix.range_search(q[:50], threshold, recall=recall) for recall in (0.5, 0.9))
    assert len(few.ids) <= len(many.ids)
    other = made("Graph32,B1+U8", q)
    assert ix.calibration is not None
    other.adopt(ix.calibration, 0.8)
    assert other.effort == other.ef == ix.calibration.effort_for(0.8) and other.nprobe == 0
    assert other.explain(q[:5], 10) == other.explain(q[:5], 10, ef=other.ef)


def test_a_recall_out_of_reach_warns_and_does_its_best(rng: np.random.Generator) -> None:
    draw = drawer(rng, 32)
    x, q = draw(1500), draw(100)
    ix, flat = made("Graph32,B1+N4", x), made("Flat", x)
    curve = ix.calibrate(q, 10, truth=flat.search(q, 10).ids)
    assert not curve.reaches(0.999)
    with pytest.warns(ts.RecallWarning, match=r"recall 0.999 was not reached when 'Graph32,B1\+N4' was calibrated"):
        best = ix.search(q, 10, recall=0.999)
    assert found_share(best, flat.search(q, 10).ids) == pytest.approx(max(curve.recalls))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ix.search(q, 10, recall=max(curve.recalls))


def test_efforts_that_do_the_same_are_not_told_apart() -> None:
    """Below k a walk keeps k candidates all the same: a standstill there must not end the measurement."""
    asked: list[int] = []

    def recall_at(effort: int) -> float:
        asked.append(effort)
        return max(effort, 50) / (max(effort, 50) + 4)

    curve = measure(recall_at, ts.Index("Graph32,B1+U8", dim=4)._structure.span(50), k=50, queries=10**30)
    assert asked == [1] == list(curve.efforts)  # of no rows
    ix = made("Graph32,B1+U8", np.random.default_rng(0).standard_normal((900, 4)).astype(np.float32))
    asked.clear()
    curve = measure(recall_at, ix._structure.span(50), k=50, queries=10**30)
    assert asked[:3] == [50, 60, 72] and 200 < asked[-2] < 256 * 1.4 and asked[-1] == 900
    assert curve.reaches(0.99) and curve.effort_for(0.95) in range(72, 91)


def test_nothing_is_sought_between_long_walks_and_all_rows() -> None:
    curve = Calibration(k=10, queries=10**30, efforts=(10, 20, 2000), recalls=(0.5, 0.8, 1.0))
    assert (curve.effort_for(0.65), curve.effort_for(0.81), curve.effort_for(0.9)) == (15, 2000, 2000)
    far = measure(lambda effort: 0.5, Span(10, 300, 10_000), k=1, queries=1).efforts
    assert far[0] == 10 and 200 < far[-2] < 300 and far[-1] == 10_000
    near = measure(lambda effort: effort / 20, Span(10, 300, 10_000), k=1, queries=1, enough=0.65)
    assert near.efforts == (10, 11, 12, 13)


# ---- misuse


MISUSE: list[tuple[Callable[[ts.Index, Floats], object], str]] = [
    (lambda ix, q: ix.search(q, 3, ef=0), "search: expected ef >= 1; got 0"),
    (lambda ix, q: ix.search(q, 3, ef=-5), "search: expected ef >= 1; got -5"),
    (lambda ix, q: ix.search(q, 3, ef=2.5), "search: expected ef as an int; got float"),
    (lambda ix, q: ix.search(q, 3, ef=20, recall=0.9), "search: expected ef or recall; got both"),
    (lambda ix, q: ix.search(q, 3, nprobe=2), "search: expected nprobe with IVF only; 'Graph32,B1+U8' has no lists"),
    (lambda ix, q: ix.search(q, 3, nprobe=2, ef=20), "search: expected nprobe with IVF only"),
    (lambda ix, q: ix.search(q, 3, recall=0.9), "search: expected a calibrated index for recall=0.9"),
    (lambda ix, q: ix.search(q, 0), "expected k"),
    (lambda ix, q: ix.search(q, 16_385), "expected k"),
    (lambda ix, q: ix.explain(q, 3, ef=0), "explain: expected ef >= 1; got 0"),
    (lambda ix, q: ix.explain(q, 3, recall=0.9), "explain: expected a calibrated index"),
    (lambda ix, q: ix.range_search(q, 0.3, ef=-1), "range_search: expected ef >= 1; got -1"),
    (lambda ix, q: ix.range_search(q, 0.3, nprobe=1), "range_search: expected nprobe with IVF only"),
    (lambda ix, q: ix.range_search(q, float("nan")), "range_search: expected a threshold; got NaN"),
    (lambda ix, q: setattr(ix, "ef", 0), "ef: expected ef >= 1; got 0"),
    (lambda ix, q: setattr(ix, "nprobe", 3), "nprobe: expected nprobe with IVF only; 'Graph32,B1+U8' has no lists"),
    (lambda ix, q: ix.calibrate(q[:0]), "calibrate: expected queries, and rows in the index; got 0 and 100"),
    (lambda ix, q: ix.add(q[:, :5]), "add: expected x of shape"),
    (lambda ix, q: ix.add(q * np.nan), "add: expected finite x; row 0 has a NaN or an infinity"),
    (lambda ix, q: ts.Index("Flat", dim=6).search(q, ef=2), "expected ef with Graph only; 'Flat' is not walked"),
    (lambda ix, q: ts.Index("IVF4", dim=6).search(q, ef=2), "expected ef with Graph only; 'IVF4' is not walked"),
    (lambda ix, q: setattr(ts.Index("Flat,U8", dim=6), "ef", 3), "ef: expected ef with Graph only"),
]


@pytest.mark.parametrize(("mistake", "message"), MISUSE)
def test_misuse_gets_a_sentence(
    rng: np.random.Generator, mistake: Callable[[ts.Index, Floats], object], message: str
) -> None:
    x = rng.standard_normal((100, 6)).astype(np.float32)
    ix, same = made("Graph32,B1+U8", x), made("Graph32,B1+U8", x)
    with pytest.raises(ts.TessellaError) as caught:
        mistake(ix, x[:5])
    assert message in str(caught.value)
    assert (ix.ef, len(ix), ix.calibration) == (64, 100, None)
    assert_same_results(ix, same, x[:5], ef=20)


@pytest.mark.parametrize(
    ("text", "config"),
    [
        ("Graph", ts.IndexConfig("Graph", degree=32)),
        ("Graph32,Flat", ts.IndexConfig("Graph", ("F32",), degree=32)),
        (" Graph64 , B1 + N4+F16 ", ts.IndexConfig("Graph", ("B1", "N4", "F16"), degree=64)),
        ("Graph256,U8", ts.IndexConfig("Graph", ("U8",), degree=256)),
    ],
)
def test_specs_go_round(text: str, config: ts.IndexConfig) -> None:
    assert ts.IndexConfig.parse(text) == config == ts.IndexConfig.parse(config.spec)
    ix = ts.Index(text, dim=4)
    ix.add(np.eye(4))
    assert ix.config == config and ix.knob == "ef" and (ix.search(np.eye(4), 1).ids[:, 0] == np.arange(4)).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *(
            (f"Graph{degree},B1+U8", "spec: expected a graph of degree 32, 64, ..., 256; got")
            for degree in (0, 33, 512)
        ),
        ("Graph32,B1", "expected a graph with codes of its vertices, such as B1+U8, U8 or F32"),
        ("Graph32,PQ4", "expected a graph with codes of its vertices"),
        ("Graph32,PQ48", "expected"),
        ("Graph32,OPQ4x4+U8", "expected a graph with codes of its vertices"),
        ("Graph32+SOAR,B1+U8", "expected lists and SOAR with IVF only; Graph has none"),
        ("Graph-32", "spec: expected a structure of"),
        ("graph32", "spec: expected a structure of"),
        ("Graph32,B1+B1", "expected"),
        ("Graph32,", "expected"),
    ],
)
def test_wrong_specs_are_refused(text: str, message: str) -> None:
    with pytest.raises(ts.InvalidArgument) as caught:
        ts.Index(text, dim=48)
    assert message in str(caught.value)


# ---- files


@pytest.mark.parametrize("way", ["load", "mmap", "pickle"])
@pytest.mark.parametrize(("spec", "metric"), [*zip(SPECS, [*METRICS, "ip"], strict=True)])
def test_copies_bring_everything_back(
    rng: np.random.Generator, spec: str, metric: str, way: str, tmp_path: Path
) -> None:
    draw = drawer(rng, 24)
    x, q = draw(700), draw(30)
    ix = made(spec, x, metric)
    ix.remove([3, 690])
    ix.ef = 50
    ix.calibrate(q, 10)
    path = tmp_path / "index"
    ix.save(path)
    saved = path.read_bytes()
    other = pickle.loads(pickle.dumps(ix)) if way == "pickle" else ts.Index.load(path, mmap=way == "mmap")
    assert (other.ef, other.calibration, other.spec, len(other)) == (50, ix.calibration, spec, 698)
    np.testing.assert_array_equal(other.ids, ix.ids)
    np.testing.assert_array_equal(other.reconstruct(other.ids), ix.reconstruct(ix.ids))
    assert_same_results(ix, other, q)
    assert_same_results(ix, other, q, ef=12)
    for each in (ix, other):
        each.remove(np.arange(100, 180))
        each.add(x[:50], ids=np.arange(50) + 5000)
        each.update(np.arange(400, 450), x[:50])
        each.compact()
        each.add(x[:2])
    assert_same_results(ix, other, q, ef=30)
    np.testing.assert_array_equal(other.ids, ix.ids)
    assert_looks_at_all(other, q)
    assert path.read_bytes() == saved


@pytest.mark.parametrize("spec", SPECS)
def test_an_index_without_rows_goes_round(rng: np.random.Generator, spec: str, tmp_path: Path) -> None:
    x = rng.standard_normal((40, 12))
    fresh, trained, emptied = (ts.Index(spec, dim=12) for _ in range(3))
    trained.train(x)
    emptied.add(x)
    emptied.remove(emptied.ids)
    for ix, first in ((fresh, 0), (trained, 0), (emptied, 40)):
        ix.save(tmp_path / "index")
        for mmap in (False, True):
            other = ts.Index.load(tmp_path / "index", mmap=mmap)
            assert (len(other), other.is_trained) == (0, ix is not fresh)
            other.add(x)
            np.testing.assert_array_equal(other.ids, np.arange(first, first + 40))
            assert (other.search(x[:5], 3, ef=9).ids >= first).all()


DAMAGE: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"column.links": lambda a: None}, {}, "column 'links' is missing"),
    ({"column.links": lambda a: a[:-1]}, {}, "column 'links' does not have the size its rows need"),
    ({"column.links": lambda a: a[:, :-1]}, {}, "column 'links' does not have the size its rows need"),
    ({"column.links": lambda a: np.concatenate([a, a])}, {}, "column 'links' does not have the size its rows need"),
    ({"column.codes": lambda a: None}, {}, "the file's columns are not those of its spec"),
    ({"column.codes": lambda a: a[:-1]}, {}, "does not have the size its rows need"),
    ({"centre": put(0, np.nan)}, {}, "is damaged"),
    ({}, {"rows": 2**31}, "more rows than a graph can hold"),
    ({}, {"rows": 2**40}, "more rows than a graph can hold"),
    ({}, {"rows": 300}, "does not have the size its rows need"),
    ({}, {"trained": False}, "there are rows, but no centre"),
    ({}, {"spec": "Graph64,B1+U8"}, "does not have the size its rows need"),
    ({}, {"spec": "Graph32,U8"}, "does not have the size its rows need"),
    ({}, {"spec": "Flat,U8"}, "is damaged"),
    ({}, {"spec": "Graph33,B1+U8"}, "its config does not describe an index"),
    ({}, {"ef": 0}, "its config does not describe an index"),
    ({}, {"ef": "many"}, "its config does not describe an index"),
    ({}, {"calibration": {"k": 1, "queries": 1, "efforts": [2, 1], "recalls": [0.1, 0.2]}}, "calibration is not one"),
]


@pytest.mark.parametrize(("tensors", "config", "message"), DAMAGE)
def test_files_that_contradict_themselves_are_refused(
    rng: np.random.Generator, tmp_path: Path, tensors: dict[str, Any], config: dict[str, Any], message: str
) -> None:
    path = tmp_path / "index"
    made("Graph32,B1+U8", rng.standard_normal((200, 24)).astype(np.float32)).save(path)
    assert_refused(path, tensors, config, message)


def lanes(change: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
    """The links (n, degree 32) changed: `change(links, own row numbers)`."""

    def changed(array: Any) -> Any:
        array = array.copy()
        records = array.reshape(len(array) * 32, -1)
        links = records[:, : 4 * 32].copy().view(np.uint32)
        links[:] = change(links, np.arange(len(links), dtype=np.uint32)[:, None])
        records[:, : 4 * 32] = links.view(np.uint8)
        return array

    return changed


WRONG_LINKS: dict[str, Callable[[Any, Any], Any]] = {
    "nowhere": lambda links, row: NO_ROW,
    "itself": lambda links, row: row,
    "just outside": lambda links, row: 200 + (links % 60),
    "far outside": lambda links, row: NO_ROW - 1 - links,
    "the same": lambda links, row: links % 2,
    "anywhere": lambda links, row: links * np.uint32(2_654_435_761),
}


@pytest.mark.parametrize("spec", ["Graph32,B1+U8", "Graph32,F32"])
@pytest.mark.parametrize("damage", [*WRONG_LINKS, "scales", "codes", "all but links"])
def test_damaged_graphs_do_no_harm(rng: np.random.Generator, tmp_path: Path, damage: str, spec: str) -> None:
    """Wrong links lead nowhere, odd numbers give odd results; in a process of its own, for a crash must not take the
    tests with it."""
    path = tmp_path / "index"
    x = rng.standard_normal((200, 24)).astype(np.float32)
    made(spec, x, "l2").save(path)

    def no_numbers(array: Any) -> Any:  # of every float type
        array = array.copy()
        array.view(np.uint8)[:] = 255
        return array

    tensors: dict[str, Any] = {"column.links": lanes(WRONG_LINKS[damage])} if damage in WRONG_LINKS else {}
    if damage == "codes":  # of the edges: all but the row numbers

        def of_edges(array: Any) -> Any:
            array = array.copy()
            array.reshape(len(array) * 32, -1)[:, 4 * 32 :] = 255
            return array

        tensors = {"column.links": of_edges}
    if damage == "scales":
        tensors = {"column.scales": no_numbers, "column.raw": no_numbers}
    if damage == "all but links":
        tensors = {"column.scales": no_numbers, "column.raw": no_numbers, "column.codes": no_numbers}
    rewritten(path, tensors)
    if damage in WRONG_LINKS:
        ix = ts.Index.load(path)
        assert (ix.search(x, 10, ef=20).ids >= 0).all() and (ix.search(x, 1, ef=200).ids[:, 0] == np.arange(200)).all()
    done = subprocess.run(
        [sys.executable, "-c", USE, str(path), spec], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.stdout in ("loaded\n", "refused\n"), done.stderr


def test_an_effort_leaves_room_for_the_error_of_its_measurement() -> None:
    efforts, recalls = tuple(range(1, 101)), tuple(effort / 100 for effort in range(1, 101))
    exact, rough, coarse = (Calibration(10, queries, efforts, recalls) for queries in (10**30, 1000, 30))
    assert [curve.effort_for(0.9) for curve in (exact, rough, coarse)] == [90, 91, 93]  # 0.5 and 3 points
    assert exact.effort_for(0.85) == 85 and rough.effort_for(1.0) == 100
    short = Calibration(10, 30, (1, 2), (0.5, 0.91))  # more than it reaches is not asked for
    assert short.reaches(0.9) and short.effort_for(0.9) == 2 and short.effort_for(0.95) == 2
