"""Scalar codes: encoding, preparing a query, and integer products at every number of bits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.kernels.rows import CACHE_BYTES, Row, per_row, pieces
from tessella import _core
from tessella.reference.rotate import padded_dim

# ns a row in cache and from memory, shared notes on an AMD Zen 3 with AVX2 (8-bit queries there)
PRIOR = {
    "U8": {128: (3.2, 6.3), 384: (6.3, 18.5), 768: (11.2, 36.0), 1536: (21.0, 73.0)},
    "N4": {128: (4.4, 4.8), 384: (8.7, 11.9), 768: (15.7, 22.0), 1536: (28.0, 44.0)},
    "R4": {128: (4.6, 4.9), 384: (9.2, 12.6), 768: (15.4, 23.0), 1536: (28.0, 44.0)},
}
CODES = [("U8", 8, "uniform"), ("N4", 4, _core.N4_GRID), ("R4", 4, "uniform"), ("R2", 2, "uniform")]
CODES += [(f"R{bits}", bits, "uniform") for bits in (3, 5, 6, 7)]


def measured(d: int, memory_bytes: int) -> Iterator[Row]:
    """U8 and N4 also from memory; the others are cut from the same planes."""
    padded = padded_dim(d)
    draw = np.random.default_rng(0)
    r = draw.standard_normal((129, padded), dtype=np.float32)
    query = draw.standard_normal((1, padded), dtype=np.float32)
    for name, bits, grid in CODES:
        row_bytes = padded * bits // 8
        if name in ("U8", "N4"):

            def encode(n: int, bits: int = bits, grid: str = grid) -> object:
                return _core.scalar_encode(r[:n], bits, grid)

            yield per_row(f"scalar_encode {name}", d, "cache", encode, 129, 4 * padded + row_bytes)
        for where, room in (("cache", CACHE_BYTES), ("memory", memory_bytes)):
            if where == "memory" and name not in ("U8", "N4"):
                continue
            codes = np.full((room // row_bytes, row_bytes), 0x35, dtype=np.uint8)
            prior = PRIOR[name][d][where == "memory"] if name in PRIOR and d in PRIOR[name] else None

            def dot(n: int, codes: np.ndarray = codes, bits: int = bits, grid: str = grid) -> None:
                for piece in pieces(n):
                    _core.scalar_dot(query, codes[piece], bits, grid)

            yield per_row(f"scalar_dot {name}", d, where, dot, len(codes), row_bytes, prior)
