"""Sparse anchors (SMVE) beside FDEs of as many bytes: what docs/decisions/0015 rests on.

Each token keeps the random anchors it is nearest to, with its inner products; at each anchor a query has the sum, a
document the mean of what its tokens left there. A number that is not zero takes three bytes, an anchor's number and one
byte of value. FDEs are given the same bytes as 1-bit and 4-bit codes of more or fewer numbers.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.multivector.quality import line as quality_line
from bench.multivector.quality import quality_row
from bench.multivector.sets import Floats, Ids, TokenSet, lotte500, scifact

ANCHORS = ((4096, 16), (8192, 32))  # anchors, kept for each token
FDES = (((20, 5, 16), 1), ((20, 5, 16), 4), ((20, 5, 64), 1), ((40, 5, 16), 1), ((40, 5, 16), 4))
NONZERO_BYTES = 3
SLICE = 2048


def rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each set, encoder and size."""
    sets = [lotte500(options.data)] + ([scifact(options.data, options.tokens)] if options.tokens else [])
    for data in sets:
        for count, kept in ANCHORS:
            anchors = np.random.default_rng(0).standard_normal((count, 128), dtype=np.float32)
            anchors /= np.linalg.norm(anchors, axis=1, keepdims=True)
            queries = anchored(*data.queries, anchors, kept, mean=False)
            documents = anchored(*data.documents, anchors, kept, mean=True)
            size = NONZERO_BYTES * int(np.count_nonzero(documents) / data.n)
            row = quality_row(data, f"SMVE, {kept} a token", count, "sparse", [queries @ documents.T], data.truth)
            yield row | {"document_bytes": size}
        for setting, bits in FDES:
            yield coded(data, setting, bits)


def coded(data: TokenSet, setting: tuple[int, int, int], bits: int) -> dict[str, Any]:
    import tessella as ts

    r, k_sim, p = setting
    fde = ts.FDE(128, k_sim, r, projection_dim=p, seed=1)
    quantizer = ts.RaBitQuantizer(fde.output_dim, bits)
    documents = fde.encode_documents(data.documents)
    quantizer.train(documents)
    scores = np.asarray(quantizer.inner_product(fde.encode_queries(data.queries), quantizer.encode(documents)))
    name = f"FDE({r},{k_sim},{p}) none"
    row = quality_row(data, name, fde.output_dim, f"{bits} bit{'s' * (bits > 1)}", [scores], data.truth)
    return row | {"document_bytes": quantizer.code_bytes}


def anchored(tokens: npt.NDArray[np.float16], offsets: Ids, anchors: Floats, kept: int, *, mean: bool) -> Floats:
    """(n, anchors), mostly zeros."""
    out = np.zeros((len(offsets) - 1, len(anchors)), np.float32)
    counts = np.zeros(out.shape, np.uint16)
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    for first in range(0, len(tokens), SLICE):
        products = tokens[first : first + SLICE].astype(np.float32) @ anchors.T
        best = np.argpartition(-products, kept, axis=1)[:, :kept]
        values = np.take_along_axis(products, best, axis=1)
        places = owner[first : first + SLICE, None], best
        np.add.at(out, places, np.maximum(values, 0))
        np.add.at(counts, places, 1)
    if mean:
        out /= np.maximum(counts, 1)
    return out


def line(row: dict[str, Any]) -> str:
    return quality_line(row)
