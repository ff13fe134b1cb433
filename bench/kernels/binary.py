"""Sign bits: encoding, Hamming distance, and float queries against codes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.kernels.rows import CACHE_BYTES, Row, per_row, pieces
from tessella import _core

# ns a row in cache and from memory, shared notes on an AMD Zen 3 with AVX2
PRIOR = {128: (1.8, 1.8), 384: (3.4, 3.6), 768: (6.3, 7.1), 1536: (10.3, 12.7)}


def measured(d: int, memory_bytes: int) -> Iterator[Row]:
    """Hamming also from memory, where the float product would be no different."""
    draw = np.random.default_rng(0)
    x = draw.standard_normal((129, d), dtype=np.float32)
    row_bytes = (d + 7) // 8
    yield per_row("binary_encode", d, "cache", lambda n: _core.binary_encode(x[:n]), 129, 4 * d)
    for where, room in (("cache", CACHE_BYTES // 2), ("memory", memory_bytes)):
        codes = np.full((room // row_bytes, row_bytes), 0x35, dtype=np.uint8)
        prior = PRIOR[d][where == "memory"] if d in PRIOR else None

        def hamming(n: int, codes: np.ndarray = codes) -> None:
            for piece in pieces(n):
                _core.binary_hamming(codes[:1], codes[piece])

        yield per_row("binary_hamming", d, where, hamming, len(codes), row_bytes, prior)
        if where == "cache":

            def dot(n: int, codes: np.ndarray = codes) -> object:
                return _core.binary_dot(x[:1], codes[:n])

            yield per_row("binary_dot", d, where, dot, len(codes), row_bytes)
