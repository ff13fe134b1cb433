"""KMeans: centroids of many rows, the same from the same seed at any number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tessella import _core
from tessella._arrays import as_rows, like_input
from tessella._backend import resolve_threads, whole_number
from tessella._progress import Progress, shown
from tessella._quantizer import DEFAULT_SEED, float_rows
from tessella.errors import InvalidArgument

__all__ = ["KMeans"]


class KMeans:
    """k centroids of rows, by Lloyd's algorithm with a fused product and argmin.

    It starts from k-means++ (Arthur & Vassilvitskii, 2007) or, beyond 64 centroids, from drawn rows. From 512 centroids
    on, training finds a row's nearest by a scan of the centroids' 1-bit codes and a few of their 8-bit ones; `assign`
    compares with every centroid at any number. A centroid that loses all its rows takes one from the largest cluster.

    Args:
        k: number of centroids.
        iterations: of Lloyd's algorithm.
        spherical: nearest by inner product, and centroids of unit length; for rows of unit length.
        hierarchical: part the rows into about sqrt(k) first, and give each part centroids of its own in proportion to
            its rows: 5 to 15 times faster for thousands of centroids, for 7 to 20 % more cost. The parts follow one
            another in `centroids`.
        sample: rows drawn for each centroid; a larger training set is not looked at whole.
        seed: of all that is drawn.

    Rows are float32, float16, bfloat16 or uint8, as NumPy arrays, CPU torch tensors or anything with `__dlpack__`.
    Cost of an iteration: min(n, sample * k) * k * dim multiply-adds, from 512 centroids on several times less.

    >>> import numpy as np, tessella as ts
    >>> x = np.repeat(np.eye(3, dtype=np.float32), 50, axis=0)
    >>> kmeans = ts.KMeans(3)
    >>> kmeans.train(x)
    >>> nearest, distances = kmeans.assign(np.eye(3))
    >>> len(set(nearest.tolist())), distances.tolist()
    (3, [0.0, 0.0, 0.0])

    See also: docs/concepts/kmeans.md.
    """

    def __init__(
        self,
        k: int,
        *,
        iterations: int = 10,
        spherical: bool = False,
        hierarchical: bool = False,
        sample: int = 256,
        seed: int = DEFAULT_SEED,
    ) -> None:
        self._k = whole_number(k, 1, "k", "kmeans")
        self._iterations = whole_number(iterations, 1, "iterations", "kmeans")
        self._sample = whole_number(sample, 1, "sample", "kmeans")
        self._seed = whole_number(seed, 0, "seed", "kmeans")
        self._spherical = bool(spherical)
        self._hierarchical = bool(hierarchical)
        self._centroids: npt.NDArray[np.float32] | None = None
        self._costs: list[float] = []

    @property
    def centroids(self) -> npt.NDArray[np.float32]:
        """(k, dim) float32; an InvalidArgument before training."""
        if self._centroids is None:
            raise InvalidArgument("kmeans: expected a trained KMeans; train(x) comes first")
        return self._centroids

    @property
    def costs(self) -> list[float]:
        """Before each iteration: the mean squared distance of the rows looked at from their nearest centroid, or
        (spherical) one less the mean inner product. Hierarchical: of the second step, within the parts."""
        return list(self._costs)

    def __repr__(self) -> str:
        trained = f"dim={self._centroids.shape[1]}" if self._centroids is not None else "not trained"
        how = ", spherical" * self._spherical + ", hierarchical" * self._hierarchical
        return f"KMeans({self._k}{how}: {trained})"

    def train(self, x: object, *, progress: Progress = False, threads: int | None = None) -> None:
        """Finds the centroids of `x` (n, dim), n >= k."""
        rows = float_rows(as_rows(x, "x", "train"), "x", "train")
        count = resolve_threads(threads, "train")
        if len(rows) < self._k:
            raise InvalidArgument(f"train: expected at least as many rows as centroids, {self._k}; got {len(rows)}")
        with shown(progress, "k-means") as report:
            self._centroids, self._costs = _core.kmeans_train(
                rows,
                k=self._k,
                iterations=self._iterations,
                spherical=self._spherical,
                seed=self._seed,
                sample=self._sample,
                in_parts=self._hierarchical,
                threads=count,
                progress=report,
            )

    def assign(self, x: object, *, threads: int | None = None) -> tuple[Any, Any]:
        """Nearest centroid of each row of `x` (n, dim): numbers (n,) int64, and squared distances (n,) float32.

        Spherical: inner products instead of distances. Of equally near centroids, the one with the smaller number.
        """
        centroids = self.centroids
        rows = as_rows(x, "x", "assign", centroids.shape[1])
        values = float_rows(rows, "x", "assign")
        count = resolve_threads(threads, "assign")
        nearest, similarity = _core.kmeans_assign(values, centroids, spherical=self._spherical, threads=count)
        if not self._spherical:
            norms2 = np.einsum("ij,ij->i", values, values, dtype=np.float64)
            similarity = np.maximum(norms2 - 2 * similarity.astype(np.float64), 0).astype(np.float32)
        return like_input(nearest.astype(np.int64), rows), like_input(similarity, rows)
