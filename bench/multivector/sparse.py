"""Sparse anchors (SMVE) beside FDEs of as many bytes: what docs/decisions/0015 rests on.

`ts.SMVE`, whose anchors are the axes of random rotations, and the same over anchors that are drawn one by one. A number
that is not zero takes three bytes, a row's number and one byte of weight. FDEs are given the same bytes as 1-bit and
4-bit codes of more or fewer numbers.
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

SMVES = ((16, 16), (32, 32), (64, 32))  # rotations, kept for each token
ANCHORS = ((8192, 32),)  # drawn, kept for each token
FDES = (((20, 5, 16), 1), ((20, 5, 16), 4), ((20, 5, 64), 1), ((40, 5, 16), 1), ((40, 5, 16), 4))
NONZERO_BYTES = 3
SLICE = 2048


def rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each set, encoder and size."""
    sets = [lotte500(options.data)] + ([scifact(options.data, options.tokens)] if options.tokens else [])
    for data in sets:
        for rotations, kept in SMVES:
            yield rotated(data, rotations, kept)
        for count, kept in ANCHORS:
            anchors = np.random.default_rng(0).standard_normal((count, 128), dtype=np.float32)
            anchors /= np.linalg.norm(anchors, axis=1, keepdims=True)
            queries = anchored(*data.queries, anchors, kept, mean=False)
            documents = anchored(*data.documents, anchors, kept, mean=True)
            size = NONZERO_BYTES * int(np.count_nonzero(documents) / data.n)
            row = quality_row(data, f"drawn, {kept} a token", count, "sparse", [queries @ documents.T], data.truth)
            yield row | {"document_bytes": size}
        for setting, bits in FDES:
            yield coded(data, setting, bits)


def rotated(data: TokenSet, rotations: int, kept: int) -> dict[str, Any]:
    import tessella as ts

    smve = ts.SMVE(128, rotations=rotations, kept=kept)
    queries, documents = smve.encode_queries(data.queries), smve.encode_documents(data.documents)
    scores = np.concatenate([scattered(queries, smve.anchors) @ part.T for part in _slices(documents, smve.anchors)], 1)
    row = quality_row(data, f"SMVE, {kept} a token", smve.anchors, "sparse", [scores], data.truth)
    return row | {"document_bytes": NONZERO_BYTES * len(documents.weights) // data.n}


def scattered(rows: Any, anchors: int) -> Floats:
    """(n, anchors), mostly zeros."""
    out = np.zeros((rows.n, anchors), np.float32)
    out[np.repeat(np.arange(rows.n), np.diff(rows.offsets)), rows.anchors] = rows.weights
    return out


def _slices(rows: Any, anchors: int) -> Iterator[Floats]:
    for first in range(0, rows.n, SLICE):
        begins = rows.offsets[first : first + SLICE + 1]
        own = slice(begins[0], begins[-1])
        yield scattered(type(rows)(begins - begins[0], rows.anchors[own], rows.weights[own]), anchors)


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
