"""Sparse anchors: documents encoded, of 80 tokens, and rows scored under a query of 32."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.kernels.rows import Row, per_row
from tessella import _core

TOKENS, QUERY_TOKENS, DOCUMENTS = 80, 32, 33
ROTATIONS, KEPT = 32, 32
BLOCK = 8192


def measured(d: int, memory_bytes: int) -> Iterator[Row]:
    """A row is a document. Those that are scored come in blocks, copies of one of 8,184."""
    draw = np.random.default_rng(0)
    padded = -(-d // 64) * 64
    signs = np.stack([_core.rotate_signs(padded, i * padded // 16) for i in range(ROTATIONS)])
    tokens = draw.standard_normal((DOCUMENTS * TOKENS, d), dtype=np.float32)
    offsets = TOKENS * np.arange(DOCUMENTS + 1, dtype=np.int64)

    def encode(count: int) -> object:
        some = np.ascontiguousarray(tokens[: count * TOKENS])
        return _core.smve_encode(some, offsets[: count + 1], signs, kept=KEPT, queries=False, threads=1)

    yield per_row(f"smve encode, {KEPT} of {2 * ROTATIONS * padded}", d, "cache", encode, DOCUMENTS, 4 * TOKENS * d)

    asked, one = tokens[:QUERY_TOKENS], np.array([0, QUERY_TOKENS])
    _, own, _ = _core.smve_encode(asked, one, signs, kept=KEPT, queries=True, threads=1)
    block = _block(_core.smve_encode(tokens, offsets, signs, kept=KEPT, queries=False, threads=1), 64 * padded)
    starts, rows, weights = block.starts, block.rows, block.weights
    copies = [
        _core.SmveBlock(starts, rows.copy(), weights.copy(), block.count)
        for _ in range(max(2, memory_bytes // (3 * len(rows))))
    ]
    postings = int(np.diff(starts)[own].sum()) / block.count  # of a row
    query, scales = np.full(len(own), 1000, np.uint32), np.ones(len(copies) * block.count, np.float32)

    def score(count: int) -> object:
        some = copies[: count // block.count]
        ends = np.array([0, len(own)])
        return _core.smve_score(some, scales[: len(some) * block.count], ends, own, query, threads=1)

    name = f"smve score, {postings:.0f} postings"
    yield per_row(name, d, "memory", score, len(scales), 3 * postings)


def _block(found: Any, anchors: int) -> Any:
    """The documents again and again, up to a block of them."""
    ends, numbers, _ = found
    times = BLOCK // DOCUMENTS
    offsets = np.concatenate([[0], np.cumsum(np.tile(np.diff(ends), times))]).astype(np.int64)
    empty = _core.SmveBlock(np.zeros(anchors + 1, np.int64), np.empty(0, np.uint16), np.empty(0, np.uint8), 0)
    return empty.extended(offsets, np.tile(numbers, times), np.full(times * len(numbers), 100, np.uint8))
