"""The rotation of rows into code space and back."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.kernels.rows import Row, per_row
from tessella import _core
from tessella.reference.rotate import padded_dim, rotate_signs


def measured(d: int, memory_bytes: int) -> Iterator[Row]:
    """64 rows at a time, as an index encodes them; there is no case from memory."""
    del memory_bytes
    padded = padded_dim(d)
    x = np.random.default_rng(0).standard_normal((65, d), dtype=np.float32)
    signs, centre = rotate_signs(padded), x[0].copy()
    y = _core.rotate_forward(x, signs)
    moved = 4 * (d + padded)
    yield per_row("rotate_forward", d, "cache", lambda n: _core.rotate_forward(x[:n], signs, centre), 65, moved)
    yield per_row("rotate_inverse", d, "cache", lambda n: _core.rotate_inverse(y[:n], signs, d, centre), 65, moved)
