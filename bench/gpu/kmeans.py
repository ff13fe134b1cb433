"""The nearest centroids beside torch's product and argmax."""

from __future__ import annotations

from functools import partial
from typing import Any

from bench.gpu.beside import Comparison, Comparisons

SCORES = 1 << 28  # elements of a matrix that torch is given at once
SETTINGS = ((1_000_000, 768, 1024), (1_000_000, 128, 4096), (1000, 768, 65_536))  # n, d, k


def comparisons(torch: Any, door: Any) -> Comparisons:
    for n, d, k in SETTINGS:
        yield f"n={n:,} d={d} k={k}", partial(_compare, torch, door, n, d, k)


def _compare(torch: Any, door: Any, n: int, d: int, k: int) -> Comparison:
    rows, centroids = torch.randn(n, d, device="cuda"), torch.randn(k, d, device="cuda")
    offsets = 0.5 * centroids.square().sum(1)

    def torchs() -> None:
        for part in rows.split(max(1, SCORES // k)):
            torch.addmm(offsets, part, centroids.T, beta=-1).max(dim=1)

    return Comparison(
        lambda: door.kmeans_assign(rows, centroids, offsets), torchs, 4 * d * (n + k), float(n) * d * k, n
    )
