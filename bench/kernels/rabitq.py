"""B1: encoding, and the scan of 32 rows at a time by one query and by four that share a pass."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.kernels.rows import CACHE_BYTES, Row, per_row
from tessella import _core
from tessella.reference.rotate import padded_dim

# ns a row in cache and from memory, shared notes on an AMD Zen 3 with AVX2
PRIOR = {128: (0.60, 0.94), 384: (1.6, 2.8), 768: (3.1, 5.4), 1536: (6.1, 10.6)}


def measured(d: int, memory_bytes: int) -> Iterator[Row]:
    """A threshold that no row reaches: the cost of looking, not of keeping."""
    padded = padded_dim(d)
    draw = np.random.default_rng(0)
    r = draw.standard_normal((129, padded), dtype=np.float32)
    yield per_row("rabitq_encode", d, "cache", lambda n: _core.rabitq_encode(r[:n]), 129, 4 * padded)
    block_bytes = 4 * padded + 128
    for where, room in (("cache", CACHE_BYTES), ("memory", memory_bytes)):
        blocks = np.full((room // block_bytes, block_bytes), 0x35, dtype=np.uint8)  # factors are numbers too
        prior = PRIOR[d][where == "memory"] if d in PRIOR else None
        for nq in (1, 4):
            queries = draw.standard_normal((nq, padded), dtype=np.float32)
            numbers = {"adds": np.zeros(nq, np.float32), "epsilons": np.ones(nq, np.float32)}
            never = np.full(nq, np.inf, dtype=np.float32)

            def scan(
                n: int,
                blocks: np.ndarray = blocks,
                queries: np.ndarray = queries,
                numbers: dict[str, np.ndarray] = numbers,
                never: np.ndarray = never,
            ) -> object:
                return _core.rabitq_scan(queries, blocks, n, "ip", thresholds=never, **numbers)

            name = f"rabitq_scan, {nq} quer{'y' if nq == 1 else 'ies'}"
            n = 32 * len(blocks)
            yield per_row(name, d, where, scan, n, block_bytes / 32 / nq, prior if nq == 1 else None, work=nq)
