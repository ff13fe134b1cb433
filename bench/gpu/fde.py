"""Encodings of token sets beside torch: a product, a dense projection and `index_add_`, without fill."""

from __future__ import annotations

from functools import partial
from typing import Any

from bench.gpu.beside import Comparison, Comparisons

REPETITIONS, DIM = 20, 128
SETTINGS = (
    (100_000, 80, 4, 8, False),
    (50_000, 80, 5, 16, False),
    (50_000, 32, 5, 16, True),
)  # n, t, k_sim, p, queries


def comparisons(torch: Any, door: Any) -> Comparisons:
    for n, t, k_sim, p, queries in SETTINGS:
        name = f"{'queries' if queries else 'documents'} n={n:,} t={t} k={k_sim} p={p}"
        yield name, partial(_compare, torch, door, n, t, k_sim, p, queries)


def _compare(torch: Any, door: Any, n: int, t: int, k_sim: int, p: int, queries: bool) -> Comparison:
    tokens = torch.randn(n * t, DIM, device="cuda", dtype=torch.float16)
    offsets = t * torch.arange(n + 1, device="cuda")
    planes = torch.randn(REPETITIONS, k_sim, DIM, device="cuda")
    index = torch.randint(p, (REPETITIONS, DIM), device="cuda", dtype=torch.int32)
    signs = torch.randint(2, (REPETITIONS, DIM), device="cuda").float() * 2 - 1
    dense = torch.zeros(REPETITIONS, DIM, p, device="cuda").scatter_(2, index.long()[..., None], signs[..., None])
    matrices = door.Matrices(planes, index=index, signs=signs, p=p)
    weights = 2 ** torch.arange(k_sim - 1, -1, -1, device="cuda")
    cells = 1 << k_sim

    def torchs() -> None:
        floats = tokens.float()
        documents = torch.arange(n * t, device="cuda") // t
        for r in range(REPETITIONS):
            cell = documents * cells + ((floats @ planes[r].T > 0) * weights).sum(1)
            sums = torch.zeros(n * cells, p, device="cuda").index_add_(0, cell, floats @ dense[r])
            if not queries:
                sums /= torch.bincount(cell, minlength=n * cells).clamp_(1)[:, None]
            sums.half()

    def ours() -> object:
        return door.fde_encode(tokens, offsets, matrices, queries=queries, dtype="float16")

    moved = 2 * (tokens.numel() + n * (REPETITIONS * cells) * p)
    return Comparison(ours, torchs, moved, float(n) * t * DIM * REPETITIONS * (k_sim + 1), n)
