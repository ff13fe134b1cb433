"""The rotation in O(d log d) beside torch's product with a dense matrix."""

from __future__ import annotations

from functools import partial
from typing import Any

from bench.gpu.beside import Comparison, Comparisons


def comparisons(torch: Any, door: Any) -> Comparisons:
    for n, d in ((1_000_000, 384), (1_000_000, 768), (500_000, 1536)):
        yield f"n={n:,} d={d}", partial(_compare, torch, door, n, d)


def _compare(torch: Any, door: Any, n: int, d: int) -> Comparison:
    rows, dense = torch.randn(n, d, device="cuda"), torch.randn(d, d, device="cuda")
    signs = torch.randint(-(2**63), 2**63 - 1, (4, d // 64), device="cuda")
    h = 1 << (d.bit_length() - 1)
    operations = 4.0 * n * (h * (h.bit_length() - 1) + (d if h < d else 0))
    return Comparison(lambda: door.rotate_forward(rows, signs), lambda: rows @ dense, 8 * rows.numel(), operations, n)
