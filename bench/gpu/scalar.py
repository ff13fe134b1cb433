"""Scalar codes beside torch's rounding to the same grid, without the packing of fewer than 8 bits."""

from __future__ import annotations

from functools import partial
from typing import Any

from bench.gpu.beside import Comparison, Comparisons

STEPS = {8: 0.0308, 4: 0.3352}


def comparisons(torch: Any, door: Any) -> Comparisons:
    for bits, grid in ((8, "uniform"), (4, "lloyd"), (4, "uniform")):
        yield (
            f"encode n=1,000,000 D=768 bits={bits} {grid}",
            partial(_compare, torch, door, 1_000_000, 768, bits, grid),
        )


def _compare(torch: Any, door: Any, n: int, padded: int, bits: int, grid: str) -> Comparison:
    residuals = torch.randn(n, padded, device="cuda")
    top = (1 << bits) - 1

    def torchs() -> None:
        norms2 = residuals.square().sum(1)
        inverse = 1 / (STEPS[bits] * (norms2 / padded).sqrt())
        codes = (residuals * inverse[:, None] + top / 2).clamp_(0, top).round_()
        scales = norms2 / ((codes - top / 2) * residuals).sum(1)
        codes.to(torch.uint8)
        del scales

    moved = n * padded * (32 + bits) // 8
    return Comparison(lambda: door.scalar_encode(residuals, bits, grid), torchs, moved, float(n) * padded, n)
