"""Mean pooling to half the dimensions, unit length, and its gradient, beside what torch's operations make of it."""

from __future__ import annotations

from functools import partial
from typing import Any

from bench.gpu.beside import Comparison, Comparisons

SETTINGS = ((128, 512, 1024), (32, 32, 1024), (512, 128, 384))  # sequences, tokens, dimensions; bfloat16


def comparisons(torch: Any, door: Any) -> Comparisons:
    for n, t, d in SETTINGS:
        yield f"n={n} t={t} d={d}", partial(_compare, torch, door, n, t, d)
        yield f"gradient, n={n} t={t} d={d}", partial(_gradient, torch, door, n, t, d)


def _compare(torch: Any, door: Any, n: int, t: int, d: int) -> Comparison:
    hidden = torch.randn(n, t, d, device="cuda", dtype=torch.bfloat16)
    starts = torch.arange(n + 1, device="cuda") * t
    flat, ones = hidden.reshape(-1, d), torch.ones(n, t, 1, device="cuda", dtype=torch.bfloat16)

    def ours() -> None:
        door.pool(
            flat, None, modes=["mean"], normalize=True, dim=d // 2, dtype="float32", cu_seqlens=starts, spans=None,
            instruction_lengths=None, dense=None, scale=127.0,
        )  # fmt: skip

    def torchs() -> None:
        y = (hidden * ones).sum(1) / ones.sum(1)
        torch.nn.functional.normalize(y[:, : d // 2].float(), dim=1)

    return Comparison(ours, torchs, n * t * d, float(n) * t * d / 2, n)


def _gradient(torch: Any, door: Any, n: int, t: int, d: int) -> Comparison:
    """Of the states, given that of the means."""
    hidden = torch.randn(n, t, d, device="cuda", dtype=torch.bfloat16)
    starts, pooled = torch.arange(n + 1, device="cuda") * t, torch.randn(n, d, device="cuda")
    flat, ones = hidden.reshape(-1, d), torch.ones(n, t, 1, device="cuda", dtype=torch.bfloat16)
    leaf = hidden.clone().requires_grad_()
    means = (leaf * ones).sum(1) / ones.sum(1)
    given = pooled.bfloat16()

    def ours() -> None:
        door.backward(
            pooled, flat, None, modes=["mean"], cu_seqlens=starts, spans=None, instruction_lengths=None
        ).bfloat16()

    def torchs() -> None:
        torch.autograd.grad(means, leaf, given, retain_graph=True)

    return Comparison(ours, torchs, n * t * d * 4, float(n) * t * d, n)
