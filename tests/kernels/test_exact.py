"""The exact scan on every level, through the raw index that it serves, against plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import tessella as ts
from tessella.reference.exact import exact_topk, similarities, unit_rows
from tests.kernels.cases import DIMS, Floats, rows

METRICS = ("ip", "l2", "cosine")
STORES = {"Flat": np.float32, "Flat,F16": np.float16, "Flat,UINT8": np.uint8}


def searched(spec: str, x: Floats, q: Floats, k: int, metric: str, ids: list[int] | None = None) -> ts.Hits:
    index = ts.Index(spec, dim=x.shape[1], metric=metric)
    if len(x):
        index.add(x, ids=ids)
    return index.search(q, k=k, threads=1)


def public(scores: Floats, metric: str) -> Floats:
    """Similarities as the index reports them: squared distances under l2."""
    return -scores if metric == "l2" else scores


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("d", DIMS)
def test_scores_are_those_of_the_definition(level: str, rng: np.random.Generator, d: int, metric: str) -> None:
    x, q = rows(rng, 127, d), rows(rng, 9, d)
    hits = searched("Flat", x, q, 7, metric)
    expected, _ = exact_topk(q, x, 7, metric)
    magnitude = np.abs(similarities(np.abs(q), -np.abs(x), metric)).max()
    assert np.abs(hits.scores - public(expected, metric)).max() <= 2e-6 * magnitude


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("spec", STORES)
@pytest.mark.parametrize("n", [1, 7, 31, 33, 127, 1000])
def test_whole_numbers_are_ranked_exactly(level: str, rng: np.random.Generator, n: int, spec: str, metric: str) -> None:
    """Sums of small integers have no rounding, so ids have one right answer; k beyond n is padded."""
    x = rng.integers(0, 4, size=(n, 65)).astype(np.float32)
    q = rng.integers(-3, 4, size=(11, 65)).astype(np.float32)
    ids = rng.permutation(10 * n)[:n].astype(np.int64)
    hits = searched(spec, x, q, 40, metric, ids)
    scores, expected = exact_topk(q, x, 40, metric, ids)
    assert np.array_equal(hits.ids, expected)
    assert np.array_equal(hits.scores, public(scores, metric))


@pytest.mark.parametrize("metric", METRICS)
def test_equal_rows_are_ordered_by_id(level: str, rng: np.random.Generator, metric: str) -> None:
    """Also where the sums round: a score depends on the query and the row alone."""
    x = np.repeat(rows(rng, 3, 100), 40, axis=0)
    q = rows(rng, 50, 100)
    for queries in (q, q[:1]):  # the product path and the direct one
        hits = searched("Flat", x, queries, 120, metric)
        for ids, scores in zip(hits.ids, hits.scores, strict=True):
            assert sorted(ids) == list(range(120))
            falls = np.diff(scores) != 0
            assert falls.sum() == 2
            assert np.all(np.diff(ids)[~falls] > 0)


@pytest.mark.parametrize("scale", [1e17, 1e-18])
@pytest.mark.parametrize("metric", METRICS)
def test_huge_and_tiny_values(level: str, rng: np.random.Generator, metric: str, scale: float) -> None:
    x, q = rows(rng, 33, 64) * np.float32(scale), rows(rng, 3, 64) * np.float32(scale)
    hits = searched("Flat", x, q, 5, metric)
    expected, ids = exact_topk(q, x, 5, metric)
    assert np.allclose(hits.scores, public(expected, metric), rtol=2e-5, atol=0)
    assert np.array_equal(hits.ids, ids)


def test_zero_rows_score_zero_under_cosine(level: str, rng: np.random.Generator) -> None:
    x = rows(rng, 10, 33)
    x[4] = 0
    hits = searched("Flat", x, np.concatenate([x[:2], np.zeros((1, 33), np.float32)]), 10, "cosine")
    assert hits.scores[0][hits.ids[0] == 4].tolist() == [0.0]
    assert hits.scores[2].tolist() == [0.0] * 10
    assert hits.ids[2].tolist() == list(range(10))


def test_reference_orders_pads_and_normalises() -> None:
    x = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 0.0]])
    scores, ids = exact_topk(np.array([[1.0, 0.0]]), x, 4, "ip", ids=np.array([9, 5, 3]))
    assert ids.tolist() == [[3, 9, 5, -1]]
    assert scores.tolist() == [[1.0, 1.0, 0.0, -np.inf]]
    assert exact_topk(x[:1], x, 3, "l2")[0].tolist() == [[0.0, 0.0, -5.0]]
    assert unit_rows(np.array([[3e-200, 4e-200], [0.0, 0.0]])).tolist() == [[0.6, 0.8], [0.0, 0.0]]
