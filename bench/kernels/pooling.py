"""Pooling of sequences of 128 tokens, normalised: nanoseconds a token, from cache and from memory."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from bench.kernels.rows import CACHE_BYTES, Row, per_row
from tessella import _core

SEQUENCE = 128  # tokens of a segment


def measured(d: int, memory_bytes: int) -> Iterator[Row]:
    """A row is a token; all d numbers of it are kept, so that all of it is read."""
    draw = np.random.default_rng(0)
    for where, room in (("cache", CACHE_BYTES), ("memory", memory_bytes)):
        n = max(2, room // (4 * d) // SEQUENCE) * SEQUENCE + 1
        hidden = np.tile(draw.standard_normal((SEQUENCE, d), dtype=np.float32), (n // SEQUENCE + 1, 1))[:n]
        cut = {count: segments(count) for count in (1, n)}
        for mode, dtype in (("mean", "float32"), ("mean", "binary"), ("max", "float32")):
            pool = partial(_pool, hidden, cut, mode, dtype)
            yield per_row(f"pool_{mode}, {dtype}", d, where, pool, n, 4 * d)


def _pool(hidden: Any, cut: dict[int, Any], mode: str, dtype: str, count: int) -> object:
    return _core.pooling_forward(
        hidden[:count], kind="f32", segments=cut[count], modes=[mode], dim=hidden.shape[1], normalize=True,
        dtype=dtype, scale=np.ones(0, np.float32), threads=1,
    )  # fmt: skip


def segments(tokens: int) -> Any:
    starts = np.arange(0, tokens, SEQUENCE)
    return np.stack([starts, starts, np.minimum(starts + SEQUENCE, tokens)], axis=1).astype(np.uint64)
