"""Fixed-dimensional encodings of documents of 80 tokens: the paper's small and large settings, and queries of 32."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import tessella as ts
from bench.kernels.rows import Row, per_row

SETTINGS = ((4, 8), (5, 16))  # k_sim, projection_dim; 20 repetitions
DOCUMENTS, TOKENS, QUERY_TOKENS = 129, 80, 32


def measured(d: int, memory_bytes: int) -> Iterator[Row]:
    """A row is a document or a query; operations are those of the hyperplanes and the sketch, two a multiply-add."""
    del memory_bytes
    draw = np.random.default_rng(0)
    for k_sim, p in SETTINGS:
        for fill in ("none", "nearest"):
            fde = ts.FDE(d, k_sim, 20, projection_dim=p, fill=fill)
            yield _row(f"fde_encode {k_sim},{p} {fill}", fde, draw, TOKENS, False)
        yield _row(f"fde_encode {k_sim},{p} query", fde, draw, QUERY_TOKENS, True)


def _row(name: str, fde: ts.FDE, draw: np.random.Generator, tokens: int, query: bool) -> Row:
    x = draw.standard_normal((DOCUMENTS * tokens, fde.dim), dtype=np.float32)
    offsets = tokens * np.arange(DOCUMENTS + 1)
    out = np.empty((DOCUMENTS, fde.output_dim), np.float32)
    encode = fde.encode_queries if query else fde.encode_documents

    def call(n: int) -> object:
        return encode((x[: n * tokens], offsets[: n + 1]), out=out[:n], threads=1)

    flop = tokens * fde.dim * fde.repetitions * (2.0 * fde.k_sim + 1)
    moved = 4.0 * (tokens * fde.dim + fde.output_dim)
    return per_row(name, fde.dim, "cache", call, DOCUMENTS, moved, flop_per_row=flop)
