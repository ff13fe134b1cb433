"""The comparison harness: recall with ties, speed at a floor, made data, entries, and the processes."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from bench import datasets
from bench.compare import entries, history, report, rounds
from bench.compare.peers.adapter import rescored
from bench.compare.recall import Point, frontier, qps_at, recall, true_floors
from bench.datasets import Dataset
from bench.machine import ROOT
from bench.timing import measure

# Rows 1, 2 and 3 are one vector: any two of them, with row 0, are a right top 3 of the query.
ROWS = np.array([[1, 0], [0.6, 0.8], [0.6, 0.8], [0.6, 0.8], [0, 1], [-1, 0]], dtype=np.float32)
QUERY = np.array([[1, 0]], dtype=np.float32)


@pytest.fixture(params=["cosine", "ip", "l2"])
def tied(request: pytest.FixtureRequest) -> Dataset:
    return Dataset("tied", request.param, ROWS, QUERY)


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([0, 1, 2], 1.0),
        ([0, 3, 1], 1.0),  # another of the tied rows
        ([0, 1, 4], 2 / 3),
        ([0, 1, 1], 2 / 3),  # a row returned twice counts once
        ([0, 0, 0], 1 / 3),
        ([0, 1, -1], 2 / 3),  # nothing found
        ([0, 1, 6], 2 / 3),  # no such row
        ([5, 4, -1], 0.0),
    ],
)
def test_recall_knows_ties(tied: Dataset, ids: list[int], expected: float) -> None:
    assert recall(tied, np.array([ids]), true_floors(tied, 3)) == pytest.approx(expected)


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_floors_are_the_exact_kth_scores(metric: str) -> None:
    made = dataclasses.replace(datasets.synthetic(n=700, d=24, nq=300), metric=metric)
    base, queries = made.base.astype(np.float64), made.queries.astype(np.float64)
    gaps = np.square(queries[:, None] - base).sum(axis=2)
    scores = queries @ base.T if metric == "ip" else -gaps
    np.testing.assert_allclose(true_floors(made, 10), np.sort(scores, axis=1)[:, -10], rtol=1e-12)


def test_stored_truth_of_the_sample_has_full_recall() -> None:
    sample = ROOT / "examples" / "data"
    made = datasets.load(str(sample / "embeddings.npy"), queries=str(sample / "query_embeddings.npy"), count=200)
    stored = np.load(sample / "gt10_ids.npy")[:200]
    floors = true_floors(made, 10)
    assert recall(made, stored, floors) > 0.999  # the sample's float16 rows are not quite of unit length
    assert recall(made, stored + 1, floors) < 0.5


def test_floors_need_k_rows(tied: Dataset) -> None:
    with pytest.raises(ValueError, match="expected 1 <= k <= 6, the rows there are; got 7"):
        true_floors(tied, 7)


def test_frontier_drops_beaten_points() -> None:
    points = [Point(0.9, 100), Point(0.95, 120), Point(0.99, 50), Point(0.97, 50), Point(0.99, 40)]
    assert frontier(points) == [Point(0.95, 120), Point(0.99, 50)]


def test_speed_at_a_floor_is_log_linear_between_neighbours() -> None:
    found = qps_at([Point(0.99, 100), Point(0.94, 400), Point(0.96, 100.0 * math.sqrt(2))], 0.95)
    assert found is not None
    assert found.qps == pytest.approx(math.sqrt(400 * 100 * math.sqrt(2)))
    assert not found.bound


def test_speed_at_a_floor_is_never_extrapolated() -> None:
    points = [Point(0.96, 300), Point(0.98, 200)]
    assert qps_at(points, 0.95) == (300, True)
    assert qps_at(points, 0.96) == (300, False)
    assert qps_at(points, 0.99) is None


def test_made_data_follow_their_seed() -> None:
    one, same, other = (datasets.synthetic(n=2000, d=32, nq=50, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.base, same.base)
    np.testing.assert_array_equal(one.queries, same.queries)
    assert not np.array_equal(one.base, other.base)
    assert one.base.shape == (2000, 32)
    assert one.queries.shape == (50, 32)
    np.testing.assert_allclose(np.linalg.norm(one.base, axis=1), 1, rtol=1e-6)


def test_made_data_have_the_stated_spectrum() -> None:
    x = datasets.synthetic(n=8000, d=384, nq=10).base
    values = np.linalg.eigvalsh(np.cov(x.T))[::-1]
    assert 75 < values.sum() ** 2 / np.square(values).sum() < 130
    assert 0.35 < np.linalg.norm(x.mean(axis=0)) < 0.45


def test_held_out_rows_leave_the_base(tmp_path: Path) -> None:
    x = np.arange(400, dtype=np.float32).reshape(200, 2)
    np.save(tmp_path / "own.npy", x)
    made = datasets.load(str(tmp_path / "own.npy"), metric="l2", count=30)
    assert made.name == "own"
    assert made.base.shape == (170, 2)
    np.testing.assert_array_equal(np.sort(np.concatenate([made.base, made.queries]), axis=0), x)


def test_data_sets_that_are_not_there_say_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected debian, .* got 'nosuch'"):
        datasets.load("nosuch")
    with pytest.raises(FileNotFoundError, match="expected a data folder at"):
        datasets.load("debian", data=tmp_path / "none")


def test_entries_are_read() -> None:
    entry = entries.parse("faiss:RR{d},IVF{nl},RaBitQfs,RFlat@nprobe=8,16;k_factor_rf=4", n=61_436, d=384)
    assert entry.spec == "RR384,IVF1024,RaBitQfs,RFlat"
    assert entry.knobs == [{"nprobe": 8, "k_factor_rf": 4}, {"nprobe": 16, "k_factor_rf": 4}]
    with pytest.raises(ValueError, match="expected an entry peer:spec"):
        entries.parse("annoy:10", n=10, d=2)
    for preset in entries.PRESETS.values():
        assert all("{" not in entries.parse(text, n=1000, d=64).spec for text in preset)


def test_rescoring_keeps_the_best_candidates() -> None:
    candidates = np.array([[5, 4, 1, 0]])
    for metric in ("ip", "l2"):
        assert set(rescored(ROWS, QUERY, candidates, 2, metric)[0]) == {0, 1}


def test_a_timing_counts_its_bytes() -> None:
    calls = []
    timing = measure(lambda: calls.append(1), repeats=3, warmup=2, min_seconds=0, bytes_moved=1e9)
    assert len(timing.seconds) == 3
    assert len(calls) == 6  # to warm up, to learn the length, to measure
    assert timing.gb_per_s == pytest.approx(1 / timing.median)


def test_a_run_measures_and_names_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a library that is not there, whether or not it is: the shadow stands before it on the path
    (tmp_path / "hnswlib.py").write_text("raise ModuleNotFoundError('gone', name='hnswlib')\n")
    (tmp_path / "pyvsag.py").write_text("import os\nos.write(1, b'wrong CPU')\nos._exit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    made = datasets.synthetic(n=500, d=16, nq=20)
    texts = ["numpy:exact", "hnswlib:M=16", "pyvsag:fp32", "numpy:exact@nprobe=3"]
    plan = rounds.Plan(threads=1, modes=("batch", "single"), rounds=2, batch=20, single=5)
    results = rounds.run(made, [entries.parse(text, n=500, d=16) for text in texts], plan, true_floors(made, plan.k))
    exact, missing, dead, wrong = results
    assert [m.recall for m in exact.measured] == [1.0, 1.0]
    assert all(len(m.rounds) == 2 and m.qps > 0 for m in exact.measured)
    assert missing.failure == "not installed (pip install hnswlib)"
    assert dead.failure == "its process ended with code 3: wrong CPU"
    assert wrong.failure is not None
    assert "expected no knobs" in wrong.failure
    summary = report.summary_table(made, results)
    assert "not installed (pip install hnswlib)" in summary
    assert len(history.write(tmp_path, "test", made, results, plan, {}).read_text().splitlines()) == 5
