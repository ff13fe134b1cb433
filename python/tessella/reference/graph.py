"""A vertex's neighbours, estimated from inside its own block: 1-bit codes of the edges to them.

Gou et al., "SymphonyQG: Towards Symphonious Integration of Quantization and Graph for Approximate Nearest Neighbor
Search", SIGMOD 2025 (arXiv 2411.12229). Of a vertex c and its neighbour o the rotated edge r = R(o - c) is coded as
in rabitq.py. A walk that stands at c knows similarity(q, c), and sees o at

    similarity(q, o) ~ similarity(q, c) + factor scale <s, q'> - weight term

    inner product:     factor = 1, q' = R(q),          a = R(c),          term = (scale <s, a> - <r, a>) / |a|^2
    squared distance:  factor = 2, q' = R(q - centre), a = R(c - centre), term = 2 scale <s, a> + |r|^2

Squared distance has the weight 1: only <q' - a, r> is estimated, which is short where the walk is near the query.
Inner product has the weight <q, c>: what is estimated is the part of q that does not lie along c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tessella.reference.rabitq import BLOCK_ROWS, rabitq_encode, rabitq_sums, rabitq_table
from tessella.reference.scalar import sum_products

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]

NO_TERM = 0x7F80  # bfloat16's infinity: the lane has no neighbour
LEAST_WEIGHT = 1e-30  # above 0, so that such a lane stays at -inf


@dataclass(frozen=True)
class GraphEdges:
    """bits (n, D/8): bit j of a row, little-endian, is r_j >= 0; scales and terms (n,)."""

    bits: Codes
    scales: Floats
    terms: Floats


def graph_encode(vertex: Floats, neighbours: Floats, centre: Floats | None = None) -> GraphEdges:
    """Edges from a vertex (D,) to neighbours (n, D), all rotated and less the centre, which inner products need."""
    edges = neighbours - vertex
    codes = rabitq_encode(edges)
    anchor = vertex.astype(np.float64) + (0 if centre is None else centre.astype(np.float64))
    anchors = np.broadcast_to(anchor, edges.shape)
    off = codes.scales.astype(np.float64) * sum_products(np.where(edges >= 0, 1.0, -1.0), anchors)
    if centre is None:
        terms = 2 * off + codes.norms2
    else:
        norms2 = sum_products(anchors, anchors)
        terms = np.where(norms2 > 0, off - sum_products(anchors, edges), 0) / np.where(norms2 > 0, norms2, 1)
    return GraphEdges(codes.bits, codes.scales, terms.astype(np.float32))


def to_bfloat16(x: Floats) -> npt.NDArray[np.uint16]:
    """The nearest bfloat16, ties to even, of numbers; as bits."""
    bits = x.astype("<f4").view("<u4").astype(np.uint64)
    return np.asarray((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def from_bfloat16(halves: npt.NDArray[np.uint16]) -> Floats:
    """The upper half of a float32 is all of it."""
    return (halves.astype(np.uint32) << 16).view(np.float32)


def pack_blocks(edges: GraphEdges, degree: int) -> Codes:
    """Blocks of 32 lanes, (degree/32, 4 D + 128); lanes beyond the edges are empty.

    Byte i of column p holds dims 8p..8p+7 of lane i; then 32 bfloat16 scales and 32 bfloat16 terms.
    """
    n, columns = edges.bits.shape
    count = degree // BLOCK_ROWS

    def lanes(values: npt.NDArray[Any], empty: int) -> npt.NDArray[Any]:
        full = np.full((degree, *values.shape[1:]), empty, dtype=values.dtype)
        full[:n] = values
        return full.reshape(count, BLOCK_ROWS, -1)

    bits = lanes(edges.bits, 0).swapaxes(1, 2).reshape(count, BLOCK_ROWS * columns)
    factors = [lanes(to_bfloat16(edges.scales), 0), lanes(to_bfloat16(edges.terms), NO_TERM)]
    halves = np.concatenate(factors, axis=1).reshape(count, -1).astype("<u2")
    return np.concatenate([bits, halves.view(np.uint8)], axis=1)


def unpack_blocks(blocks: Codes) -> GraphEdges:
    """Every lane of a vertex's blocks (degree/32, 4 D + 128), empty ones with an infinite term."""
    count, block_bytes = blocks.shape
    columns = block_bytes // BLOCK_ROWS - 4
    bits = blocks[:, : BLOCK_ROWS * columns].reshape(count, columns, BLOCK_ROWS).swapaxes(1, 2)
    halves = np.ascontiguousarray(blocks[:, BLOCK_ROWS * columns :]).view("<u2")
    scales, terms = (from_bfloat16(part).reshape(-1) for part in (halves[:, :BLOCK_ROWS], halves[:, BLOCK_ROWS:]))
    return GraphEdges(bits.reshape(-1, columns), scales, terms)


def graph_scan(query: Floats, blocks: Codes, add: float, metric: str) -> npt.NDArray[np.float64]:
    """What a rotated query (D,) sees from a vertex: (degree,) estimates, -inf in empty lanes. `add`: of the vertex."""
    edges, table = unpack_blocks(blocks), rabitq_table(query)
    products = float(table.step) * rabitq_sums(table, edges.bits) + float(table.base)
    factor = 2.0 if metric == "l2" else 1.0
    weight = 1.0 if metric == "l2" else max(float(add), LEAST_WEIGHT)
    return np.asarray(float(add) + factor * edges.scales.astype(np.float64) * products - weight * edges.terms)
