"""Product quantization beside torch: gathers for the scan, batched products and argmax for the encoding."""

from __future__ import annotations

from functools import partial
from typing import Any

from bench.gpu.beside import Comparison, Comparisons

CAPACITY = 1 << 16
KEPT = 1e-3  # of the rows that reach the threshold
ENCODED = 1 << 14  # rows that torch encodes at once


def comparisons(torch: Any, door: Any) -> Comparisons:
    for nq in (1, 16):
        for m, bits in ((96, 8), (192, 4)):
            yield (
                f"scan n=2,000,000 m={m} bits={bits} nq={nq}",
                partial(_scan, torch, door, 2_000_000, m, bits, nq),
            )
    for m, bits in ((96, 8), (192, 4)):
        yield (
            f"encode n=250,000 d=768 m={m} bits={bits}",
            partial(_encode, torch, door, 250_000, 768, m, bits),
        )


def _scan(torch: Any, door: Any, n: int, m: int, bits: int, nq: int) -> Comparison:
    width = m if bits == 8 else -(-m // 8) * 4
    blocks = torch.randint(0, 256, (n // 32, 32 * width), dtype=torch.uint8, device="cuda")
    numbers = torch.randint(0, 1 << bits, (m, n), dtype=torch.int32, device="cuda")
    tables = torch.randn(nq, m, 1 << bits, device="cuda")
    share = torch.special.ndtri(torch.tensor(1 - KEPT, device="cuda"))
    thresholds = tables.mean(2).sum(1) + share * tables.var(2).sum(1).sqrt()  # sums of look-ups are normal

    def torchs() -> None:
        for table, bound in zip(tables, thresholds, strict=True):
            sums = torch.zeros(n, device="cuda")
            for piece, chosen in zip(table, numbers, strict=True):
                sums += piece[chosen]
            torch.nonzero(sums >= bound)

    return Comparison(
        lambda: door.pq_scan(blocks, n, tables, terms=False, thresholds=thresholds, capacity=CAPACITY),
        torchs, blocks.numel(), float(n) * m * nq, n * nq,
    )  # fmt: skip


def _encode(torch: Any, door: Any, n: int, d: int, m: int, bits: int) -> Comparison:
    rows = torch.randn(n, d, device="cuda")
    codebooks = torch.randn(m, d // m, 1 << bits, device="cuda")
    biases = -0.5 * codebooks.square().sum(1)

    def torchs() -> None:
        for part in rows.split(ENCODED):
            pieces = part.view(len(part), m, d // m).transpose(0, 1)
            torch.baddbmm(biases[:, None], pieces, codebooks).argmax(dim=2)

    moved = 4 * n * d + n * m * bits // 8
    return Comparison(lambda: door.pq_encode(rows, codebooks, biases), torchs, moved, float(n) * d * (1 << bits), n)
