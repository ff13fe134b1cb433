"""k-means: assignment on every level, bit for bit as the reference has it; and training, through the public face."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tessella as ts
from tessella import _core
from tessella.reference import kmeans as reference
from tessella.testing import available_isas, pinned_isa
from tests.kernels.cases import ROWS, Array, Floats, rows, same_bits

SIZES = tuple(n for n in ROWS if n)
DIMS = (1, 3, 64, 100)


def assigned(x: Floats, centroids: Floats, spherical: bool = False, threads: int = 1) -> tuple[Array, Array]:
    found: tuple[Array, Array] = _core.kmeans_assign(x, centroids, spherical=spherical, threads=threads)
    return found


def expected(x: Floats, centroids: Floats, spherical: bool = False) -> tuple[Array, Array]:
    return reference.kmeans_assign(x, centroids, None if spherical else reference.distance_offsets(centroids))


def assert_same_as_reference(x: Floats, centroids: Floats, spherical: bool = False) -> None:
    for got, wanted in zip(assigned(x, centroids, spherical), expected(x, centroids, spherical), strict=True):
        assert same_bits(got, wanted)


def blobs(rng: np.random.Generator, n: int, count: int, dim: int, spread: float = 0.3) -> Floats:
    """Rows about so many centres."""
    centres = rng.standard_normal((count, dim))
    return (centres[rng.integers(count, size=n)] + spread * rng.standard_normal((n, dim))).astype(np.float32)


def cost_of(x: Floats, centroids: Floats) -> float:
    """The mean squared distance from the nearest centroid."""
    products = x.astype(np.float64) @ centroids.T.astype(np.float64)
    distances = np.square(centroids, dtype=np.float64).sum(1) - 2 * products
    return float((distances.min(1) + np.square(x, dtype=np.float64).sum(1)).mean())


# ---- the kernel


@pytest.mark.parametrize("spherical", [False, True])
@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("n", SIZES)
def test_assignment_is_the_reference_bit_for_bit(
    level: str, rng: np.random.Generator, n: int, d: int, spherical: bool
) -> None:
    x = rows(rng, n, d)
    for k in SIZES:
        assert_same_as_reference(x, rows(rng, k, d), spherical)


@pytest.mark.parametrize(("k", "d"), [(513, 3), (1030, 100), (700, 64)])
def test_more_centroids_than_a_block_holds(level: str, rng: np.random.Generator, k: int, d: int) -> None:
    assert_same_as_reference(rows(rng, 33, d), rows(rng, k, d))


@pytest.mark.parametrize("values", ["huge", "tiny", "zeros", "spiky"])
@pytest.mark.parametrize("spherical", [False, True])
def test_values(level: str, rng: np.random.Generator, values: str, spherical: bool) -> None:
    assert_same_as_reference(rows(rng, 31, 40, values), rows(rng, 33, 40, values), spherical)


def test_levels_are_equal_bit_for_bit_at_any_number_of_threads(rng: np.random.Generator) -> None:
    x, centroids = rows(rng, 5000, 48), rows(rng, 257, 48)  # three tasks of rows
    results = []
    for isa in available_isas():
        with pinned_isa(isa):
            results += [assigned(x, centroids, threads=threads) for threads in (1, 3)]
    for nearest, similarity in results[1:]:
        assert same_bits(nearest, results[0][0]) and same_bits(similarity, results[0][1])


@pytest.mark.parametrize("copies", [2, 40, 600])
def test_ties_go_to_the_smaller_number(level: str, rng: np.random.Generator, copies: int) -> None:
    distinct = rows(rng, 3, 20)
    nearest, _ = assigned(rows(rng, 127, 20), np.tile(distinct, (copies, 1)))
    assert nearest.max() < 3
    nearest, similarity = assigned(np.zeros((7, 20), np.float32), np.zeros((copies, 20), np.float32))
    assert not nearest.any() and not similarity.any()


def test_no_rows_are_no_work(level: str) -> None:
    nearest, similarity = assigned(np.empty((0, 5), np.float32), np.ones((3, 5), np.float32))
    assert nearest.shape == similarity.shape == (0,)
    assert (nearest.dtype, similarity.dtype) == (np.uint32, np.float32)


@pytest.mark.parametrize("spherical", [False, True])
def test_the_reference_finds_the_nearest(rng: np.random.Generator, spherical: bool) -> None:
    x, centroids = rows(rng, 200, 24), rows(rng, 50, 24)
    nearest, similarity = expected(x, centroids, spherical)
    exact = x.astype(np.float64) @ centroids.T.astype(np.float64)
    if not spherical:
        exact -= np.square(centroids, dtype=np.float64).sum(1) / 2
    assert (nearest == exact.argmax(1)).all()
    np.testing.assert_allclose(similarity, exact.max(1), rtol=1e-5, atol=1e-5)


def test_the_reference_rounds_once() -> None:
    """1 + 2^-24 + 2^-48 lies just above the middle of two floats; rounded twice, others like it would fall on it."""
    one, up = np.ones(1, np.float32), np.full(1, 1 + 2.0**-23, np.float32)
    a, b = np.array([2.0**-12 + 2.0**-24], np.float32), np.array([2.0**-12], np.float32)
    assert reference.fused(a, b, one) == up
    tiny = np.array([2.0**-30], np.float32)
    middle = np.array([2.0**-24], np.float32)
    assert reference.fused(middle, one, one) == one  # a tie goes to the even
    assert reference.fused(middle, one + np.float32(2.0**-23), one) == up
    assert reference.fused(tiny, -tiny, up) == up and reference.fused(tiny, tiny, -up) == -up
    above = (np.float64(1) + 2.0**-24, 2.0**-60)  # rounds to a tie in float64, then down to 1
    assert np.float32(above[0] + above[1]) == 1
    product = np.array([2.0**-24 * (1 + 2.0**-23)], np.float32), np.array([1 - 2.0**-23 + 2.0**-24], np.float32)
    exact = math.fsum([1.0, float(product[0][0]) * float(product[1][0])])
    assert reference.fused(*product, one) == (up if exact > 1 + 2.0**-24 else one)


@pytest.mark.parametrize("spherical", [False, True])
def test_an_iteration_is_a_step_of_the_reference(level: str, rng: np.random.Generator, spherical: bool) -> None:
    x = blobs(rng, 400, 9, 30)
    if spherical:
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    before, after = (ts.KMeans(9, iterations=i, spherical=spherical) for i in (1, 2))
    before.train(x)
    after.train(x)
    centroids, cost = reference.lloyd_step(x, before.centroids, spherical)
    filled = np.unique(expected(x, before.centroids, spherical)[0])  # centroids without rows are moved elsewhere
    np.testing.assert_allclose(after.centroids[filled], centroids[filled], rtol=0, atol=1e-6)
    assert len(filled) >= 8 and after.costs[1] == pytest.approx(cost, rel=1e-6)


# ---- training


@pytest.mark.parametrize("k", [3, 100, 520])  # from k-means++, from drawn rows, and from these by 1-bit codes
@pytest.mark.parametrize("spherical", [False, True])
@pytest.mark.parametrize("hierarchical", [False, True])
def test_training_depends_on_rows_and_seed_alone(
    rng: np.random.Generator, k: int, spherical: bool, hierarchical: bool
) -> None:
    x = blobs(rng, 6000, 40, 12)
    trained = []
    for threads, seed in [(1, 5), (2, 5), (3, 5), (2, 6)]:
        kmeans = ts.KMeans(k, spherical=spherical, hierarchical=hierarchical, iterations=3, seed=seed)
        kmeans.train(x, threads=threads)
        trained.append(kmeans)
    for other in trained[1:3]:
        assert same_bits(trained[0].centroids, other.centroids) and trained[0].costs == other.costs
    assert not same_bits(trained[0].centroids, trained[3].centroids)


@pytest.mark.parametrize("k", [1, 7, 100, 520])
@pytest.mark.parametrize("spherical", [False, True])
def test_the_cost_never_rises(rng: np.random.Generator, k: int, spherical: bool) -> None:
    x = rows(rng, 3000, 16)
    if spherical:
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    kmeans = ts.KMeans(k, spherical=spherical, iterations=12)
    kmeans.train(x)
    assert kmeans.centroids.shape == (k, 16) and len(kmeans.costs) == 12
    assert (np.diff(kmeans.costs) <= 1e-6 * kmeans.costs[0]).all()
    if k > 1:
        assert kmeans.costs[-1] < kmeans.costs[0]


def test_separate_clusters_are_found(rng: np.random.Generator) -> None:
    centres = 20 * np.eye(8, dtype=np.float32)
    x = np.repeat(centres, 60, axis=0) + rng.standard_normal((480, 8)).astype(np.float32)
    kmeans = ts.KMeans(8)
    kmeans.train(x)
    numbers, distances = kmeans.assign(x)
    assert [len(set(part)) for part in numbers.reshape(8, 60)] == [1] * 8 and len(set(numbers)) == 8
    np.testing.assert_allclose(distances, np.square(x - kmeans.centroids[numbers]).sum(1), rtol=1e-3, atol=1e-3)
    assert numbers.dtype == np.int64 and distances.dtype == np.float32


@pytest.mark.parametrize("spherical", [False, True])
def test_parts_get_centroids_in_proportion(rng: np.random.Generator, spherical: bool) -> None:
    x = blobs(rng, 12_000, 30, 16, spread=2.0)
    x[:3000] = 100 + rng.standard_normal((3000, 16))  # a fourth of the rows, far from the others
    if spherical:
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    whole, parts = (ts.KMeans(500, spherical=spherical, hierarchical=each, seed=3) for each in (False, True))
    for kmeans in (whole, parts):
        kmeans.train(x)
    assert parts.centroids.shape == (500, 16) and len(parts.costs) == 10
    if not spherical:  # else they share a part with others
        assert 120 <= len(np.unique(parts.assign(x[:3000])[0])) <= 130
    assert cost_of(x, parts.centroids) < 1.2 * cost_of(x, whole.centroids)
    assert repr(parts).startswith("KMeans(500") and "hierarchical" in repr(parts)


@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 2), (40, 40), (50, 3), (300, 299)])
def test_parts_of_few_rows(rng: np.random.Generator, n: int, k: int) -> None:
    x = np.repeat(rows(rng, (n + 1) // 2, 5), 2, axis=0)[:n]
    kmeans = ts.KMeans(k, hierarchical=True, iterations=2)
    kmeans.train(x)
    assert kmeans.centroids.shape == (k, 5) and np.isfinite(kmeans.centroids).all()
    told: list[float] = []
    kmeans.train(x, progress=told.append)
    assert told == sorted(told) and told[-1] == pytest.approx(1.0)


def test_training_by_1_bit_codes_costs_no_more_than_by_whole_products(rng: np.random.Generator) -> None:
    """Lloyd's iterations from drawn rows, by the reference's formulas, reach no better place."""
    x = blobs(rng, 12_000, 300, 16, spread=0.5)
    kmeans = ts.KMeans(600, iterations=5)
    kmeans.train(x)
    flat = x[rng.choice(len(x), 600, replace=False)]
    for _ in range(11):  # more than twice as many
        nearest, _ = assigned(x, flat)
        sums = np.zeros(flat.shape)
        np.add.at(sums, nearest, x)
        counts = np.bincount(nearest, minlength=600)[:, None]
        flat = np.where(counts > 0, sums / np.maximum(counts, 1), flat).astype(np.float32)
    assert cost_of(x, kmeans.centroids) <= 1.02 * cost_of(x, flat)


def test_large_training_sets_are_sampled(rng: np.random.Generator) -> None:
    x = rows(rng, 20_000, 4)
    part, whole = ts.KMeans(50, sample=40), ts.KMeans(50, sample=400)
    part.train(x)
    whole.train(x)
    assert not same_bits(part.centroids, whole.centroids)
    assert cost_of(x, part.centroids) < 1.1 * cost_of(x, whole.centroids)


@pytest.mark.parametrize("spherical", [False, True])
@pytest.mark.parametrize("k", [80, 512])
def test_empty_clusters_are_filled_where_rows_differ(rng: np.random.Generator, k: int, spherical: bool) -> None:
    """Nearly all rows are one; the others each get a centroid of their own in the end."""
    x = np.tile(rows(rng, 1, 8), (2000, 1))
    x[:6] += 3 * rows(rng, 6, 8)
    if spherical:
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    kmeans = ts.KMeans(k, iterations=10, spherical=spherical)
    kmeans.train(x)
    assert np.isfinite(kmeans.centroids).all()
    assert kmeans.costs[-1] < 1e-5 * max(1.0, kmeans.costs[0])
    assert len(set(kmeans.assign(x[:7])[0])) == 7


@pytest.mark.parametrize("outlier", [-5.0, 5.0])
def test_an_empty_cluster_takes_the_row_that_lies_farthest(outlier: float) -> None:
    """Also one that lies beyond its centroid, where the inner product is large."""
    x = np.ones((5000, 1), np.float32)
    x[4321] = outlier  # among so many that the start does not see it
    kmeans = ts.KMeans(3, iterations=1, sample=5000)
    kmeans.train(x)
    assert outlier in kmeans.centroids


def test_fewer_distinct_rows_than_centroids() -> None:
    x = np.repeat(np.eye(4, dtype=np.float32), 5, axis=0)
    kmeans = ts.KMeans(20)
    kmeans.train(x)
    assert kmeans.costs[-1] == 0 and (kmeans.assign(x)[1] == 0).all()
    assert len(np.unique(kmeans.centroids, axis=0)) == 4
    zeros = ts.KMeans(3, spherical=True)
    zeros.train(np.zeros((9, 5), np.float32))
    assert not zeros.centroids.any()


def test_spherical_centroids_have_unit_length(rng: np.random.Generator) -> None:
    x = blobs(rng, 900, 7, 24)
    for k in (7, 520):
        kmeans = ts.KMeans(k, spherical=True)
        kmeans.train(x)
        np.testing.assert_allclose(np.linalg.norm(kmeans.centroids, axis=1), 1, rtol=1e-6)
        numbers, products = kmeans.assign(x[:50])
        np.testing.assert_allclose(products, (x[:50] @ kmeans.centroids.T).max(1), rtol=1e-5)
        assert (numbers == (x[:50] @ kmeans.centroids.T).argmax(1)).all()


@pytest.mark.parametrize("cast", ["float16", "float64", "uint8", "strided", "torch", "bfloat16"])
def test_rows_come_in_any_kind(rng: np.random.Generator, cast: str) -> None:
    x = rng.integers(0, 50, (300, 10)).astype(np.float32)
    kinds: dict[str, Callable[[], Any]] = {"strided": lambda: np.repeat(x, 2, axis=0)[::2]}
    if cast in ("torch", "bfloat16"):
        torch = pytest.importorskip("torch", reason="torch is an extra")
        kinds = {"torch": lambda: torch.from_numpy(x), "bfloat16": lambda: torch.from_numpy(x).to(torch.bfloat16)}
    given = kinds[cast]() if cast in kinds else x.astype(cast)
    plain, other = ts.KMeans(6), ts.KMeans(6)
    plain.train(x)
    other.train(given)
    assert same_bits(plain.centroids, other.centroids)
    numbers, distances = other.assign(given)
    assert type(numbers) is type(distances) is (type(given))
    assert np.array_equal(np.asarray(numbers), plain.assign(x)[0])


def test_mistakes_get_a_sentence(rng: np.random.Generator) -> None:
    x = rows(rng, 20, 6)
    kmeans = ts.KMeans(4)
    nan = x.copy()
    nan[3, 2] = np.nan
    mistakes: list[tuple[Callable[[], object], str]] = [
        (lambda: ts.KMeans(0), "kmeans: expected k >= 1; got 0"),
        (lambda: ts.KMeans(2, iterations=0), "kmeans: expected iterations >= 1; got 0"),
        (lambda: ts.KMeans(2, sample=0), "kmeans: expected sample >= 1; got 0"),
        (lambda: ts.KMeans(2, seed=-1), "kmeans: expected seed >= 0; got -1"),
        (lambda: kmeans.centroids, "kmeans: expected a trained KMeans"),
        (lambda: kmeans.assign(x), "kmeans: expected a trained KMeans"),
        (lambda: kmeans.train(x[:3]), "train: expected at least as many rows as centroids, 4; got 3"),
        (lambda: kmeans.train(nan), "train: expected finite x; row 3 has a NaN or an infinity"),
        (lambda: kmeans.train(x, threads=0), "train: expected threads >= 1; got 0"),
        (lambda: kmeans.train(x[None]), "train: expected x of shape (n, d)"),
    ]
    for mistake, message in mistakes:
        with pytest.raises(ts.TessellaError) as caught:
            mistake()
        assert message in str(caught.value)
    kmeans.train(x)
    with pytest.raises(ts.InvalidArgument, match=r"assign: expected x of shape \(n, 6\); got \(20, 5\)"):
        kmeans.assign(x[:, :5])
    with pytest.raises(ts.InvalidArgument, match="expected centroids of shape"):
        _core.kmeans_assign(x, x[:0], spherical=False, threads=1)


def test_progress_is_told_and_may_stop_the_work(rng: np.random.Generator) -> None:
    x = rows(rng, 300, 5)
    kmeans, shares = ts.KMeans(4, iterations=8), list[float]()
    kmeans.train(x, progress=shares.append)
    assert shares == [(i + 1) / 8 for i in range(8)]

    def stop(share: float) -> None:
        raise LookupError(f"enough at {share}")

    before = kmeans.centroids
    with pytest.raises(LookupError, match=r"enough at 0\.125"):
        kmeans.train(x + 1, progress=stop)
    assert kmeans.centroids is before
    kmeans.train(x)  # and it can go on


def test_it_describes_itself(rng: np.random.Generator) -> None:
    kmeans = ts.KMeans(4, spherical=True)
    assert repr(kmeans) == "KMeans(4, spherical: not trained)"
    kmeans.train(rows(rng, 40, 9))
    assert repr(kmeans) == "KMeans(4, spherical: dim=9)"
