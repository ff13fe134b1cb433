"""InfoNCE, forward and backward, beside torch's product and cross-entropy in float32."""

from __future__ import annotations

from functools import partial
from typing import Any

from bench.gpu.beside import Comparison, Comparisons

SETTINGS = ((8192, 768), (32_768, 768))  # n, d; beyond, torch's scores and their gradient fill the memory


def comparisons(torch: Any, door: Any) -> Comparisons:
    for n, d in SETTINGS:
        yield f"n={n:,} d={d}", partial(_compare, torch, door, n, d)


def _compare(torch: Any, door: Any, n: int, d: int) -> Comparison:
    x, y = (torch.nn.functional.normalize(torch.randn(n, d, device="cuda"), dim=1) for _ in range(2))
    scale, share = (torch.full((1, n), value, device="cuda") for value in (20.0, 1.0 / n))
    labels = torch.arange(n, device="cuda")

    def ours() -> None:
        out = door.contrast_forward(x, y, scale)
        door.contrast_backward(x, y, scale, out=out, out_gradient=share)

    def torchs() -> None:
        q, k = x.detach().requires_grad_(), y.detach().requires_grad_()
        torch.nn.functional.cross_entropy(20.0 * (q @ k.T), labels).backward()

    return Comparison(ours, torchs, 16.0 * n * d, 5.0 * n * n * d, n)
