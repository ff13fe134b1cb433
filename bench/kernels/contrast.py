"""A contrastive loss of 2,048 columns and its gradient, in rows and operations a second; `bench.contrast` has torch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.kernels.rows import Row, per_row
from tessella import _core

COLUMNS = 2048
ROWS = 1025  # one task of rows and one more, so that packing the columns is counted


def measured(d: int, memory_bytes: int) -> Iterator[Row]:
    """Forward is worth 2 c d operations a row, backward 6 c d. There is no case from memory."""
    del memory_bytes
    draw = np.random.default_rng(0)
    x = draw.standard_normal((ROWS, d), dtype=np.float32) / np.float32(np.sqrt(d))
    y = draw.standard_normal((COLUMNS, d), dtype=np.float32) / np.float32(np.sqrt(d))
    scale, share, dims = np.full((1, ROWS), 20, np.float32), np.ones((1, ROWS), np.float32), np.array([d], np.uint32)
    out = _core.contrast_forward(x, y, scale, dims=dims, reduce="logsumexp", threads=1)
    cut = {n: (x[:n], y, scale[:, :n].copy()) for n in (1, ROWS)}
    ends = {n: {"out": out[:, :n].copy(), "out_gradient": share[:, :n].copy()} for n in (1, ROWS)}

    def forward(n: int) -> object:
        return _core.contrast_forward(*cut[n], dims=dims, reduce="logsumexp", threads=1)

    def backward(n: int) -> object:
        return _core.contrast_backward(*cut[n], dims=dims, reduce="logsumexp", threads=1, **ends[n])

    yield per_row("contrast_forward", d, "cache", forward, ROWS, 4 * d, flop_per_row=2.0 * COLUMNS * d)
    yield per_row("contrast_backward", d, "cache", backward, ROWS, 4 * d, flop_per_row=6.0 * COLUMNS * d)
