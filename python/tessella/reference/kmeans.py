"""k-means: the nearest centroid of each row, and one step of Lloyd's algorithm.

    nearest(x) = argmax over c of <x, c> - offset(c)

With offset |c|^2 / 2 that is the smallest squared distance, without offsets the largest inner product (spherical
k-means). Products are summed dimension after dimension, each by one fused multiply-add, so that every level and
device has the same bits; `fused` rounds as the instruction does, hence tests ask for equality.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


def fused(a: Floats, b: Floats, c: Floats) -> Floats:
    """a * b + c, rounded once.

    In float64 the product is exact and the sum is not. A sum that lost something is made odd, by a step towards what
    it lost where it is even: an odd float64 lies on no boundary of float32, so the second rounding sees the right side.
    """
    product, addend = a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64)
    total = product + addend
    part = total - product
    lost = (product - (total - part)) + (addend - part)  # Knuth's exact error of a sum
    even = total.view(np.int64) % 2 == 0
    odd = np.nextafter(total, np.copysign(np.inf, lost))
    return np.where(even & (lost != 0), odd, total).astype(np.float32)


def products(rows: Floats, centroids: Floats) -> Floats:
    """Inner products (n, k) of rows (n, d) and centroids (k, d)."""
    sums = np.zeros((len(rows), len(centroids)), np.float32)
    for j in range(rows.shape[1]):
        sums = fused(rows[:, j, None], centroids[None, :, j], sums)
    return sums


def distance_offsets(centroids: Floats) -> Floats:
    """|c|^2 / 2 (k,), with which the nearest centroid is the one at the smallest distance."""
    return (_norms2(centroids) / 2).astype(np.float32)


def kmeans_assign(
    rows: Floats, centroids: Floats, offsets: Floats | None = None
) -> tuple[npt.NDArray[np.uint32], Floats]:
    """Of rows (n, d), the nearest of the centroids (k, d) and its similarity; the smaller number of equally near."""
    similarity = products(rows, centroids)
    if offsets is not None:
        similarity = similarity - offsets
    nearest = similarity.argmax(axis=1)
    return nearest.astype(np.uint32), similarity[np.arange(len(rows)), nearest]


def lloyd_step(rows: Floats, centroids: Floats, spherical: bool = False) -> tuple[Floats, float]:
    """Centroids as the means of the rows nearest to them, and the mean cost that the rows had before.

    The cost is a squared distance or, spherical, one less the inner product. A centroid without rows stays.
    """
    offsets = None if spherical else distance_offsets(centroids)
    nearest, similarity = kmeans_assign(rows, centroids, offsets)
    sums = np.zeros(centroids.shape)
    np.add.at(sums, nearest, rows)  # in row order, in float64
    counts = np.bincount(nearest, minlength=len(centroids))[:, None]
    means = np.where(counts > 0, sums / np.maximum(counts, 1), centroids).astype(np.float32)
    if spherical:
        length = np.sqrt(_norms2(means))[:, None]
        means = np.where(length > 0, means / np.where(length > 0, length, 1.0), means).astype(np.float32)
    gained = similarity.astype(np.float64)
    costs = 1.0 - gained if spherical else _norms2(rows) - 2.0 * gained
    return means, float(costs.mean())


def _norms2(x: Floats) -> Doubles:
    """|x|^2 (n,) in float64, dimension after dimension."""
    return np.cumsum(np.square(x, dtype=np.float64), axis=1)[:, -1]
