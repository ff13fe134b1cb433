"""Searching: exact results against plain NumPy, codes against recall floors, one tie rule, exact counts of work."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

import tessella as ts
from tessella.reference import exact as reference

SPECS = ["Flat", "Flat,F16", "Flat,BF16", "Flat,B1", "Flat,U8", "Flat,N4", "Flat,R3", "Flat,B1+U8", "Flat,B1+N4",
         "Flat,B1+F16", "Flat,U8+F32", "Flat,B1+U8+F32"]  # fmt: skip
# every list is looked into, so these find what flat ones find
SPECS += ["IVF4", "IVF4,U8", "IVF4,B1", "IVF4,B1+U8", "IVF4+SOAR,B1", "IVF4+SOAR,B1+U8", "IVF4+SOAR,B1+U8+F32"]


def flat(spec: str) -> str:
    """The spec without its lists."""
    return spec.replace("IVF4+SOAR", "Flat").replace("IVF4", "Flat")


METRICS = ["cosine", "ip", "l2"]


def clustered(rng: np.random.Generator, n: int, dim: int) -> npt.NDArray[np.float32]:
    """Rows about 40 centres: near neighbours are near, as in text embeddings."""
    centres = rng.standard_normal((40, dim))
    return (centres[rng.integers(40, size=n)] + 0.5 * rng.standard_normal((n, dim))).astype(np.float32)


def truth(q: npt.NDArray[np.float32], x: npt.NDArray[np.float32], k: int, metric: str) -> npt.NDArray[np.int64]:
    if metric == "cosine":
        q, x = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (q, x))
    _, ids = reference.exact_topk(q, x, k, "l2" if metric == "l2" else "ip")
    return np.asarray(ids)


def recall(found: npt.NDArray[np.int64], expected: npt.NDArray[np.int64]) -> float:
    pairs = zip(found, expected, strict=True)
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in pairs]))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("queries", [1, 3, 40])
def test_flat_is_exact(level: str, rng: np.random.Generator, metric: str, queries: int) -> None:
    x, q = clustered(rng, 700, 45), clustered(rng, queries, 45)
    ix = ts.Index("Flat", dim=45, metric=metric)
    ix.add(x)
    ids, scores = ix.search(q, 12)
    assert recall(ids, truth(q, x, 12, metric)) == 1.0
    unit = [a / np.linalg.norm(a, axis=1, keepdims=True) if metric == "cosine" else a for a in (q, x)]
    expected = np.einsum("qd,qkd->qk", unit[0], unit[1][ids])
    if metric == "l2":
        expected = np.square(q[:, None].astype(np.float64) - x[ids]).sum(-1)
    np.testing.assert_allclose(scores, expected, rtol=2e-5)


# The worst of twelve draws, less four points: 96 dimensions are few for 1-bit codes, and the clusters are tight.
FLOORS = {"Flat": 1.0, "Flat,F16": 0.98, "Flat,BF16": 0.95, "Flat,B1": 0.17, "Flat,U8": 0.93, "Flat,N4": 0.76,
          "Flat,R3": 0.63, "Flat,B1+U8": 0.90, "Flat,B1+N4": 0.75, "Flat,B1+F16": 0.92, "Flat,U8+F32": 0.99,
          "Flat,B1+U8+F32": 0.95}  # fmt: skip


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("spec", SPECS)
def test_recall_stays_above_its_floor(level: str, rng: np.random.Generator, spec: str, metric: str) -> None:
    if level == "scalar" and metric == "ip":
        metric = "cosine"  # the two share all kernels, and the scalar level is slow
    x, q = clustered(rng, 3000, 96), clustered(rng, 30, 96)
    ix = ts.Index(spec, dim=96, metric=metric)
    ix.add(x)
    assert recall(ix.search(q, 10).ids, truth(q, x, 10, metric)) >= FLOORS[flat(spec)]


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("metric", METRICS)
def test_results_do_not_depend_on_threads_or_batching(rng: np.random.Generator, spec: str, metric: str) -> None:
    x, q = clustered(rng, 2500, 40), clustered(rng, 21, 40)
    ix = ts.Index(spec, dim=40, metric=metric)
    ix.add(x)
    whole = ix.search(q, 10, threads=1)
    for threads in (2, 3):
        again = ix.search(q, 10, threads=threads)
        np.testing.assert_array_equal(whole.ids, again.ids)
        np.testing.assert_array_equal(whole.scores, again.scores)
    for i in range(len(q)):
        one = ix.search(q[i], 10, threads=2)
        np.testing.assert_array_equal(one.ids[0], whole.ids[i])
        np.testing.assert_array_equal(one.scores[0], whole.scores[i])


@pytest.mark.parametrize("spec", SPECS)
def test_ties_go_to_the_smaller_id(level: str, spec: str) -> None:
    ix = ts.Index(spec, dim=24)
    ix.add(np.ones((300, 24), np.float32), ids=np.arange(300)[::-1].copy())
    for queries in (1, 12):
        ids, scores = ix.search(np.ones((queries, 24), np.float32), 7)
        np.testing.assert_array_equal(ids, np.tile(np.arange(7), (queries, 1)))
        assert (scores == scores[0, 0]).all()


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("metric", METRICS)
def test_fewer_rows_than_k_are_padded(spec: str, metric: str, rng: np.random.Generator) -> None:
    ix = ts.Index(spec, dim=8, metric=metric)
    empty = ix.search(np.ones((2, 8), np.float32), 3)
    assert (empty.ids == -1).all() and empty.ids.shape == (2, 3)
    ix.add(rng.standard_normal((5, 8)))
    for queries in (1, 20):
        ids, scores = ix.search(rng.standard_normal((queries, 8)), 2048)
        assert (np.sort(ids[:, :5]) == np.arange(5)).all() and (ids[:, 5:] == -1).all()
        assert (scores[:, 5:] == (np.inf if metric == "l2" else -np.inf)).all()


def test_long_result_lists_are_exact(level: str, rng: np.random.Generator) -> None:
    x, q = clustered(rng, 17_000, 16), clustered(rng, 9, 16)
    ix = ts.Index("Flat", dim=16, metric="ip")
    ix.add(x)
    for k in (2048, 16_384):
        assert recall(ix.search(q, k).ids, truth(q, x, k, "ip")) == 1.0


@pytest.mark.parametrize("spec", ["Flat,B1+U8", "IVF16,B1+U8", "Graph32,B1+U8", "Flat,PQ8x4"])
def test_long_result_lists_of_codes_are_whole(spec: str, rng: np.random.Generator) -> None:
    x = clustered(rng, 9000, 16)
    ix = ts.Index(spec, dim=16, metric="ip")
    ix.add(x)
    ids, scores = ix.search(x[:3], 8000)
    assert (ids >= 0).all() and all(len(set(row)) == 8000 for row in ids.tolist())
    assert (np.diff(scores, axis=1) <= 0).all()


def test_zero_vectors_score_zero_under_cosine(level: str) -> None:
    x = np.array([[0, 0, 0], [1, 0, 0], [-1, 0, 0]], np.float32)
    for spec in ("Flat", "Flat,F16"):
        ix = ts.Index(spec, dim=3)
        ix.add(x)
        ids, scores = ix.search([[1.0, 0, 0], [0, 0, 0]], 3)
        assert ids.tolist() == [[1, 0, 2], [0, 1, 2]]
        assert scores.tolist() == [[1, 0, -1], [0, 0, 0]]
    for spec in ("Flat,B1+U8", "Flat,N4", "Flat,B1"):
        ix = ts.Index(spec, dim=3)
        ix.add(np.zeros((4, 3), np.float32))
        assert (ix.search(np.zeros((1, 3)), 2).scores == 0).all()


@pytest.mark.parametrize("scale", [1e-15, 1e15])
@pytest.mark.parametrize("spec", ["Flat", "Flat,B1+U8", "Flat,B1+N4", "Graph32"])
def test_huge_and_tiny_values_keep_their_order(level: str, rng: np.random.Generator, spec: str, scale: float) -> None:
    x, q = clustered(rng, 500, 64), clustered(rng, 10, 64)
    plain, scaled = (ts.Index(spec, dim=64, metric="l2") for _ in range(2))
    plain.add(x)
    scaled.add(x * np.float32(scale))
    found = scaled.search(q * np.float32(scale), 5)
    assert np.isfinite(found.scores).all()
    assert recall(found.ids, plain.search(q, 5).ids) >= 0.9


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("spec", ["Flat", "Flat,F16", "Flat,U8", "Flat,B1+F16"])
def test_range_search_returns_what_search_would(level: str, rng: np.random.Generator, spec: str, metric: str) -> None:
    x, q = clustered(rng, 900, 32), clustered(rng, 6, 32)
    ix = ts.Index(spec, dim=32, metric=metric)
    ix.add(x)
    ids, scores = ix.search(q, 30)
    threshold = float(np.median(scores[:, -1]))
    found = ix.range_search(q, threshold, epsilon=1e3)
    assert found.offsets[0] == 0 and found.offsets[-1] == len(found.ids) == len(found.scores)
    for i in range(len(q)):
        within = scores[i] <= threshold if metric == "l2" else scores[i] >= threshold
        mine = found.ids[found.offsets[i] : found.offsets[i + 1]]
        if not within.all():
            np.testing.assert_array_equal(mine, ids[i][within])
        assert len(mine) >= within.sum()


def test_uint8_rows_are_stored_as_they_are(level: str, rng: np.random.Generator) -> None:
    x = rng.integers(0, 256, (400, 33)).astype(np.uint8)
    ix = ts.Index("Flat,UINT8", dim=33, metric="l2")
    ix.add(x)
    np.testing.assert_array_equal(ix.reconstruct(np.arange(400)), x)
    assert recall(ix.search(x[:20], 5).ids, truth(x[:20].astype("f"), x.astype("f"), 5, "l2")) == 1.0
    assert ix.search(x[:1], 1).scores[0, 0] == 0


def test_counts_of_work_are_exact_and_repeatable(rng: np.random.Generator) -> None:
    x, q = clustered(rng, 4000, 64), clustered(rng, 8, 64)
    flat, codes = ts.Index("Flat", dim=64), ts.Index("Flat,B1+U8", dim=64)
    for ix in (flat, codes):
        ix.add(x)
    cost = flat.explain(q, 10)
    assert (cost.scanned, cost.refined, cost.rescored) == (8 * 4000, 0, 8 * 26)
    cost = codes.explain(q, 10)
    assert cost == codes.explain(q, 10)
    assert cost.scanned == 8 * 4000 and 8 * 256 <= cost.refined < 8 * 1500
    assert codes.explain(q, 10, epsilon=0.5).refined < cost.refined < codes.explain(q, 10, epsilon=4).refined
