"""MaxSim of one query of 32 tokens: microseconds and operations for a document of 80."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from bench.kernels.rows import CACHE_BYTES, Row, per_row
from tessella import _core

QUERY_TOKENS, TOKENS = 32, 80
LEAST_DOCUMENTS = 33


def measured(d: int, memory_bytes: int) -> Iterator[Row]:
    """A row is a document. What is left of the cache's room by one document is taken for few."""
    draw = np.random.default_rng(0)
    for kind, token_bytes in (("f32", 4 * d), ("f16", 2 * d), ("i8", d), ("n4", d // 2)):
        if kind == "n4" and d % 64:
            continue
        for where, size in (("cache", CACHE_BYTES), ("memory", memory_bytes)):
            n = max(LEAST_DOCUMENTS, size // (TOKENS * token_bytes))
            yield _row(draw, kind, d, where, n, TOKENS * token_bytes)


def _row(draw: np.random.Generator, kind: str, d: int, where: str, n: int, bytes_per_row: int) -> Row:
    whole = kind in ("i8", "n4")
    query: npt.NDArray[np.generic] = draw.standard_normal((QUERY_TOKENS, d), dtype=np.float32)
    if whole:
        query = draw.integers(-127, 128, (QUERY_TOKENS, d)).astype(np.int8)
    stored = _tokens(draw, kind, n * TOKENS, d)
    scales = np.ones(len(stored), np.float32) if whole else None
    begins = TOKENS * np.arange(n, dtype=np.int64)
    ends, offsets = begins + TOKENS, np.array([0, QUERY_TOKENS], np.int64)

    def score(count: int) -> object:
        return _core.maxsim_score(
            query, None, offsets, stored, kind, scales, begins[:count], ends[:count], None, threads=1
        )

    flop = 2.0 * QUERY_TOKENS * TOKENS * d
    return per_row(f"maxsim {kind}, 32 x 80", d, where, score, n, bytes_per_row, flop_per_row=flop)


def _tokens(draw: np.random.Generator, kind: str, count: int, d: int) -> npt.NDArray[np.generic]:
    if kind == "n4":
        return draw.integers(0, 256, (count, d // 2), dtype=np.uint8)
    if kind == "i8":
        return draw.integers(-127, 128, (count, d), dtype=np.int8)
    floats = draw.standard_normal((count, d), dtype=np.float32)
    return floats if kind == "f32" else floats.astype(np.float16)
