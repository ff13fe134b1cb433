"""The k-means family's test body, for whatever runs it: the emulator in CI, a real device where there is one.

A runner is a function `assign(rows, centroids, offsets) -> (nearest, similarity)` over NumPy arrays. Results are equal
to tessella.reference bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Assign = Callable[[Array, Array, "Array | None"], tuple[Array, Array]]


@dataclass(frozen=True)
class Case:
    n: int
    d: int
    k: int
    offsets: bool = True
    data: str = "normal"  # or "ties": few distinct centroids, whole numbers; "zeros": every row and centroid
    seed: int = 0

    def __str__(self) -> str:
        return f"n{self.n}-d{self.d}-k{self.k}-{self.data}" + ("" if self.offsets else "-ip")


def inputs(case: Case) -> tuple[Array, Array, Array | None]:
    """Rows, centroids and offsets of a case."""
    rng = np.random.default_rng([case.seed, case.n, case.d, case.k])
    rows: Array = rng.standard_normal((case.n, case.d))
    centroids: Array = rng.standard_normal((case.k, case.d))
    if case.data == "ties":
        rows = rng.integers(-4, 5, rows.shape).astype(np.float64)
        centroids = rng.integers(-4, 5, centroids.shape)[rng.integers(0, max(1, case.k // 8), case.k)] * 1.0
    if case.data == "zeros":
        rows, centroids = 0 * rows, 0 * centroids
    rows, centroids = rows.astype(np.float32), centroids.astype(np.float32)
    offsets = 0.5 * np.square(centroids).sum(axis=1, dtype=np.float32) if case.offsets else None
    return rows, centroids, offsets


def fused(a: Array, b: Array, c: Array) -> Array:
    """a * b + c of float32 with one rounding. The product is exact in float64; the sum is rounded to odd there, which
    a second rounding cannot mistake for a tie."""
    product, addend = a.astype(np.float64) * b, c.astype(np.float64)
    total = product + addend
    part = total - product
    lost = (product - (total - part)) + (addend - part)  # Knuth's exact error of the sum
    even = total.view(np.int64) & 1 == 0
    towards = np.where((lost > 0) == (total > 0), 1, -1)
    return (total.view(np.int64) + np.where(even & (lost != 0), towards, 0)).view(np.float64).astype(np.float32)


def kmeans_assign(rows: Array, centroids: Array, offsets: Array | None) -> tuple[Array, Array]:
    """A plain loop over the dimensions, then the first of the largest."""
    sums = np.zeros((len(rows), len(centroids)), dtype=np.float32)
    for j in range(rows.shape[1]):
        sums = fused(rows[:, j, None], centroids[None, :, j], sums)
    if offsets is not None:
        sums = sums - offsets
    nearest = sums.argmax(axis=1)
    return nearest, sums[np.arange(len(rows)), nearest]


def whole_assign(rows: Array, centroids: Array, offsets: Array | None) -> tuple[Array, Array]:
    """The same of whole numbers, which any order sums exactly."""
    sums = rows.astype(np.float64) @ centroids.T.astype(np.float64) - (0 if offsets is None else offsets)
    nearest = sums.argmax(axis=1)
    return nearest, sums[np.arange(len(rows)), nearest]


def check(case: Case, assign: Assign) -> None:
    """Runs one case; raises AssertionError with the case's name where the result is wrong."""
    rows, centroids, offsets = inputs(case)
    nearest, similarity = assign(rows, centroids, offsets)
    whole = case.data != "normal"
    wanted, wanted_similarity = (whole_assign if whole else kmeans_assign)(rows, centroids, offsets)
    assert np.array_equal(nearest, wanted), f"{case}: centroids differ from the reference"
    assert np.array_equal(similarity, wanted_similarity), f"{case}: similarities differ from the reference"


def small_cases() -> Iterator[Case]:
    """Odd sizes around warps and tiles; seconds on the emulator."""
    sizes = (1, 7, 31, 33, 127)
    for step, n in enumerate(sizes):
        for turn, k in enumerate(sizes):
            yield Case(n, (1, 16, 17, 33, 96)[(step + turn) % 5], k, offsets=(step + turn) % 3 != 0)
    yield Case(129, 20, 257)  # two tiles of rows, three of centroids in segments
    yield Case(700, 3, 130, offsets=False)  # rows enough for one segment
    yield Case(130, 8, 600, data="ties")
    yield Case(33, 5, 1000, data="ties", offsets=False)
    yield Case(31, 12, 300, data="zeros")
    yield Case(600, 4, 129, data="ties")


def large_cases() -> Iterator[Case]:
    """Sizes that fill a device; whole numbers, because the plain loop takes its time."""
    yield Case(2011, 64, 700)
    yield Case(40_000, 24, 257, data="ties")
    yield Case(1000, 17, 4096, data="ties", offsets=False)
    yield Case(20_011, 96, 1000, data="ties")
