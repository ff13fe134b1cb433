"""Product quantization: encoding, and scans of 4-bit and 8-bit codes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from bench.kernels.rows import CACHE_BYTES, Row, per_row
from tessella import _core
from tessella.reference import pq as reference

Array = npt.NDArray[np.generic]


def measured(d: int, memory_bytes: int) -> Iterator[Row]:
    """Codes of d/8 bytes: d/8 pieces of 8 bits, d/4 of 4. A threshold that no row reaches: the cost of looking."""
    draw = np.random.default_rng(0)
    x = draw.standard_normal((257, d), dtype=np.float32)
    for bits, m in ((4, d // 4), (8, d // 8)):
        k = 1 << bits
        books = draw.standard_normal((m, d // m, k), dtype=np.float32)
        biases = reference.code_biases(books)

        def encode(n: int, books: Array = books, biases: Array = biases) -> object:
            return _core.pq_encode(x[:n], books, biases)

        yield per_row(f"pq_encode, {bits} bits", d, "cache", encode, 257, 4 * d)
        row_bytes = d // 8
        for where, room in (("cache", CACHE_BYTES), ("memory", memory_bytes)):
            count = max(1, room // (32 * row_bytes))
            blocks = np.full((count, 32 * row_bytes), 0x35, dtype=np.uint8)
            for nq in (1, 4):
                tables = draw.standard_normal((nq, m, k), dtype=np.float32)
                never = np.full(nq, np.inf, dtype=np.float32)

                def scan(n: int, tables: Array = tables, blocks: Array = blocks, never: Array = never) -> object:
                    return _core.pq_scan(tables, blocks, n, terms=False, thresholds=never)

                name = f"pq_scan, {bits} bits, {nq} q"
                yield per_row(name, d, where, scan, 32 * count, row_bytes / nq, work=nq)
