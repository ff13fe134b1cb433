"""Ragged MaxSim beside torch's product over padded documents."""

from __future__ import annotations

from functools import partial
from typing import Any

from bench.gpu.beside import Comparison, Comparisons

D, TOKENS, QUERY_TOKENS = 128, 80, 32
SETTINGS = (("f16", 1, 100_000, 0), ("f32", 1, 100_000, 0), ("f16", 32, 20_000, 0), ("f16", 1, 20_000, 100))
PIECE = 2000  # documents that torch multiplies at once


def comparisons(torch: Any, door: Any) -> Comparisons:
    for kind, nq, n, candidates in SETTINGS:
        what = f"{candidates} of {n:,}" if candidates else f"{n:,}"
        yield f"{kind} queries={nq} documents={what}", partial(_compare, torch, door, kind, nq, n, candidates)


def _compare(torch: Any, door: Any, kind: str, nq: int, n: int, candidates: int) -> Comparison:
    """Lengths are 80 tokens in the mean, up to 160; torch gets them padded to the longest."""
    dtype = {"f16": torch.float16, "f32": torch.float32}[kind]
    lengths = torch.randint(1, 2 * TOKENS, (n,), device="cuda")
    offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    tokens = torch.randn(int(offsets[-1]), D, device="cuda", dtype=dtype)
    queries = torch.randn(nq, QUERY_TOKENS, D, device="cuda")
    starts = torch.arange(nq + 1, device="cuda") * QUERY_TOKENS
    which = torch.randint(0, n, (nq, candidates), device="cuda") if candidates else None
    places = torch.arange(2 * TOKENS, device="cuda")
    padded = torch.zeros(n, 2 * TOKENS, D, device="cuda", dtype=dtype)
    padded[places < lengths[:, None]] = tokens
    masked = places >= lengths[:, None]

    def torchs() -> None:
        for first in range(0, n if which is None else candidates, PIECE):
            rows = slice(first, first + PIECE) if which is None else which[0]
            products = torch.einsum("qid,ntd->qnit", queries.to(dtype), padded[rows])
            products.masked_fill(masked[rows][None, :, None], -torch.inf).amax(3).sum(2)

    def ours() -> object:
        return door.maxsim_score(queries.view(-1, D), starts, tokens, offsets[:-1], offsets[1:], which=which)

    scored = int(lengths.sum()) if which is None else int(lengths[which[0]].sum())
    count = n if which is None else candidates
    moved = scored * D * tokens.element_size() + 4 * nq * count
    return Comparison(ours, torchs, moved, float(nq) * QUERY_TOKENS * scored * D, nq * count)
