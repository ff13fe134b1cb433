"""Specs, rows and comparisons that the tests of inverted files and graphs share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

import tessella as ts

Floats = npt.NDArray[np.float32]
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
