"""A visit: the edges of one vertex, 32 neighbours of it estimated from its own block; and the coding of an edge."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.kernels.rows import CACHE_BYTES, Row, per_row
from tessella import _core
from tessella.reference.rotate import padded_dim


def measured(d: int, memory_bytes: int) -> Iterator[Row]:
    """Visits in no order, as walks make them: from memory, each waits for a block that nobody has asked for."""
    padded = padded_dim(d)
    draw = np.random.default_rng(0)
    r = draw.standard_normal((130, padded), dtype=np.float32)
    yield per_row("graph_encode", d, "cache", lambda n: _core.graph_encode(r[-1], r[:n]), 129, 4 * padded)
    query, block_bytes = r[0], 4 * padded + 128
    for where, room in (("cache", CACHE_BYTES), ("memory", memory_bytes)):
        vertices = max(room // block_bytes, 2)
        blocks = np.full((vertices, 1, block_bytes), 0x35, dtype=np.uint8)  # factors are numbers too
        visits = draw.permutation(vertices).astype(np.uint32)
        adds = np.zeros(vertices, dtype=np.float32)

        def scan(n: int, blocks: np.ndarray = blocks, visits: np.ndarray = visits, adds: np.ndarray = adds) -> object:
            return _core.graph_scan(query, blocks, visits[:n], "l2", adds=adds[:n], threshold=np.inf)

        yield per_row("graph_scan, a visit", d, where, scan, vertices, block_bytes)
