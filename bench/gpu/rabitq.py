"""RaBitQ's scan beside torch over the same signs in bfloat16, which torch can multiply; its encoding beside torch's."""

from __future__ import annotations

from functools import partial
from typing import Any

from bench.gpu.beside import Comparison, Comparisons

CAPACITY = 1 << 16
KEPT = 1e-3  # of the rows that reach the threshold


def comparisons(torch: Any, door: Any) -> Comparisons:
    for nq in (1, 4, 64):
        for planes in (8, 4):
            yield (
                f"scan n=4,000,000 D=768 nq={nq} planes={planes}",
                partial(_scan, torch, door, 4_000_000, 768, nq, planes),
            )
    for each in (False, True):
        yield (
            f"scan n=4,000,000 D=768 nq=64 planes=8, runs of 1 % allowed, {'each its own' if each else 'shared'}",
            partial(_scan, torch, door, 4_000_000, 768, 64, 8, each),
        )
    yield "encode n=1,000,000 D=768", partial(_encode, torch, door, 1_000_000, 768)


def _scan(
    torch: Any, door: Any, n: int, padded: int, nq: int, planes: int, each: bool | None = None
) -> Comparison:  # each: queries have bitmaps of their own, or share one
    blocks = torch.randint(0, 256, (n // 32, 4 * padded + 128), dtype=torch.uint8, device="cuda")
    blocks[:, 4 * padded :] = torch.ones(64, dtype=torch.float16, device="cuda").view(torch.uint8)
    queries = torch.randn(nq, padded, device="cuda")
    lengths = torch.linalg.vector_norm(queries, dim=1)
    zeros = torch.zeros(nq, device="cuda")
    thresholds = lengths * torch.special.ndtri(torch.tensor(1 - KEPT, device="cuda"))  # sums of signs are normal
    signs = torch.randint(0, 2, (n, padded), dtype=torch.bool, device="cuda").to(torch.bfloat16).mul_(2).sub_(1)
    halves = queries.to(torch.bfloat16)
    allowed = None
    if each is not None:
        begins = torch.randint(0, n, (nq if each else 1, 1), device="cuda")
        allowed = (torch.arange(n, device="cuda") - begins) % n < n // 100
        allowed = allowed if each else allowed[0]

    def ours() -> None:
        cut = door.rabitq_planes(queries, planes)
        door.rabitq_scan(
            blocks, n, cut, terms=False, factor=1.0, adds=zeros, epsilons=zeros, thresholds=thresholds,
            capacity=CAPACITY, allowed=allowed,
        )  # fmt: skip

    def torchs() -> None:
        for some, bound, i in zip(halves.split(16), thresholds.split(16), range(0, nq, 16), strict=True):
            reached = some @ signs.T >= bound[:, None]
            if allowed is not None:
                reached &= allowed[i : i + 16] if each else allowed
            torch.nonzero(reached)

    return Comparison(ours, torchs, blocks.numel(), float(n) * padded / 32 * planes * nq, n * nq)


def _encode(torch: Any, door: Any, n: int, padded: int) -> Comparison:
    residuals = torch.randn(n, padded, device="cuda")
    weights = 2 ** torch.arange(8, dtype=torch.uint8, device="cuda")

    def torchs() -> None:
        (residuals >= 0).view(n, -1, 8).mul(weights).sum(dim=2, dtype=torch.uint8)
        residuals.square().sum(1)
        residuals.abs().sum(1)

    return Comparison(lambda: door.rabitq_encode(residuals), torchs, residuals.numel() * 33 // 8, 2.0 * n * padded, n)
