"""Sizes, values and comparisons that the kernel tests share."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tessella.testing import tolerance

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

ROWS = (0, 1, 7, 31, 33, 127)
DIMS = (1, 2, 63, 64, 65, 100, 127, 192, 384, 1536)
PADDED = (64, 128, 192, 384, 1536)
VALUES = ("normal", "huge", "tiny", "zeros", "spiky")


def rows(rng: np.random.Generator, n: int, d: int, values: str = "normal") -> Floats:
    """Rows (n, d); "spiky" ones have one large coordinate, which codes made for Gaussians have to clamp."""
    x = rng.standard_normal((n, d)).astype(np.float32)
    if values == "zeros":
        x[::2] = 0
    if values == "spiky" and n:
        x[np.arange(n), rng.integers(d, size=n)] = 1000
    # huge: the squared norm still fits float32; tiny: some residuals are below what codes can hold
    scale = {"huge": 1e17, "tiny": 10.0 ** rng.integers(-44, -30)}.get(values, 1.0)
    return x * np.float32(scale)


def same_bits(a: Array, b: Array) -> bool:
    """Equal type, shape and bytes; only 0.0 and -0.0 are not told apart."""
    return a.dtype == b.dtype and a.shape == b.shape and bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))


def assert_close(got: Array, expected: Array, magnitude: Array | float) -> None:
    """Within the tolerance of float32 sums whose terms' magnitudes add up to `magnitude`."""
    allowed = tolerance("float32") * np.asarray(magnitude) + np.finfo(np.float32).smallest_subnormal
    off = np.abs(got.astype(np.float64) - expected)
    assert got.shape == expected.shape
    assert np.all(off <= allowed), f"off by up to {np.max(off / allowed):.2f} times what is allowed"
