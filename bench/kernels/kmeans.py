"""The nearest of k centroids, in rows and operations a second: a product and its argmax, or by 1-bit and 8-bit codes.

The codes are what training searches from 512 centroids on; making them of the centroids is left out, as packing is.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from bench.kernels.rows import Row, per_row
from tessella import _core

CENTROIDS = (64, 1024, 8192)
ASSISTED = (512, 4096, 16_384)  # centroids found by their codes, beside the whole product
EPSILON = 1.9  # error bounds kept, as in training
ROWS = 2049  # one task of rows and one more, so that packing the centroids is counted


def measured(d: int, memory_bytes: int) -> Iterator[Row]:
    """One call, offsets included; a row is worth 2 k d operations. There is no case from memory."""
    del memory_bytes
    draw = np.random.default_rng(0)
    x = draw.standard_normal((ROWS, d), dtype=np.float32)
    for k in sorted({*CENTROIDS, *ASSISTED}):
        centroids = draw.standard_normal((k, d), dtype=np.float32)

        def assign(n: int, centroids: npt.NDArray[np.float32] = centroids) -> object:
            return _core.kmeans_assign(x[:n], centroids, spherical=True, threads=1)

        yield per_row(f"kmeans_assign, {k:,} c", d, "cache", assign, ROWS, 4 * d, flop_per_row=2.0 * k * d)
        if k not in ASSISTED:
            continue
        codes = _core.FlatIndex(dim=d, metric="ip", codecs=["B1", "U8"], seed=0)
        codes.add(centroids, None, 1)

        def assisted(n: int, codes: _core.FlatIndex = codes) -> object:
            return codes.search(x[:n], 1, EPSILON, 0, 1)

        yield per_row(f"kmeans by codes, {k:,} c", d, "cache", assisted, ROWS, 4 * d, flop_per_row=2.0 * k * d)
