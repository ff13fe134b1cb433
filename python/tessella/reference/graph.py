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

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tessella.reference.rabitq import (
    BLOCK_ROWS,
    plane_sums,
    rabitq_encode,
    rabitq_planes,
    rabitq_sums,
    rabitq_table,
)
from tessella.reference.scalar import scalar_dot, scalar_query, sum_products

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.uint32]

NO_ROW = 0xFFFFFFFF  # a lane of a record without a neighbour
LOWEST = np.finfo(np.float32).min
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


# ---- a walk, as devices take it that count bits (see rabitq.py): float32, a rounding an operation


def plane_estimates(query: Floats, blocks: Codes, add: np.float32, metric: str) -> Floats:
    """graph_scan with the query in 8 bit planes instead of a table."""
    edges, planes = unpack_blocks(blocks), rabitq_planes(query)
    step = np.float32(2.0 if metric == "l2" else 1.0) * planes.step
    weight = np.float32(1) if metric == "l2" else max(add, np.float32(LEAST_WEIGHT))
    products = plane_sums(planes, edges.bits).astype(np.float32) * step * edges.scales
    return np.asarray((products + add) - weight * edges.terms)


def sum_lanes(products: Floats) -> Floats:
    """(n, D) -> (n,): 32 lanes have 4 neighbouring columns of each 128, in order; then the lanes by halves."""
    n, padded = products.shape
    steps = -(-padded // 128)
    columns = np.zeros((n, 128 * steps), dtype=np.float32)
    columns[:, :padded] = products
    lanes = np.zeros((n, 32), dtype=np.float32)
    for column in columns.reshape(n, steps, 32, 4).transpose(1, 3, 0, 2).reshape(4 * steps, n, 32):
        lanes = lanes + column
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    return np.asarray(lanes[:, 0])


@dataclass(frozen=True)
class Rows:
    """What rows are scored by: values R(x - centre) (n, D), or U8 codes with their scales and, for "l2", norms2."""

    metric: str
    values: Floats | None = None
    codes: Codes | None = None
    scales: Floats | None = None
    norms2: Floats | None = None

    def scores(self, query: Floats, add: np.float32, rows: Numbers) -> Floats:
        """Of a query R(q), or for "l2" R(q - centre); add: <q, centre>, or minus the query's squared length."""
        if self.codes is None:
            assert self.values is not None
            if self.metric == "l2":
                return np.float32(0) - sum_lanes(np.square(query - self.values[rows]))
            return add + sum_lanes(query * self.values[rows])
        assert self.scales is not None
        products = scalar_dot(scalar_query(query), self.codes[rows], len(query), 8)
        scores = add + np.float32(2.0 if self.metric == "l2" else 1.0) * self.scales[rows] * products
        return scores if self.norms2 is None else scores - self.norms2[rows]


@dataclass(frozen=True)
class Graph:
    """neighbours (n, degree), NO_ROW in empty lanes; blocks (n, degree/32, 4 D + 128) where edges are coded."""

    neighbours: Numbers
    blocks: Codes | None
    rows: Rows


def unpack_records(records: Codes, degree: int, padded: int, rows: Rows) -> Graph:
    """Records (n, bytes): row numbers and, in coded ones, blocks."""
    neighbours = np.ascontiguousarray(records[:, : 4 * degree]).view("<u4")
    blocks = records[:, 4 * degree :].reshape(len(records), -1, 4 * padded + 128)
    return Graph(neighbours, blocks if blocks.size else None, rows)


def score_key(score: np.float32, low: int) -> int:
    """Keys are in the order of the scores themselves; equal scores in that of 32 bits more."""
    bits = int(np.float32(score).view(np.uint32))
    return (bits ^ (0xFFFFFFFF if bits >> 31 else 1 << 31)) << 32 | low


@dataclass(frozen=True)
class Asked:
    """A query R(q), or for "l2" R(q - centre), what scores add (see Rows), and how far its walk goes.

    The walk keeps ef candidates and k results. It ends where the best candidate left falls below s - slack (most - s),
    s being the k-th best score and `most` the best there could be, or where the rows met might fill more than half of
    the slots. allowed: rows that may be results.
    """

    query: Floats
    add: np.float32
    ef: int
    k: int
    most: float = 0.0
    slack: float = np.inf
    slots: int = 1 << 31
    allowed: npt.NDArray[np.bool_] | None = None


@dataclass
class Walk:
    """What a walk knows: candidates and results, each (key, row, score) best first; rows met; rows visited in order.

    Of equal candidates the larger number comes first, of equal results the smaller.
    """

    graph: Graph
    asked: Asked
    pool: list[tuple[int, int, np.float32]] = field(default_factory=list)
    best: list[tuple[int, int, np.float32]] = field(default_factory=list)
    met: set[int] = field(default_factory=set)
    visited: list[int] = field(default_factory=list)

    def worth(self) -> np.float32:
        """Below it a candidate is not worth a visit."""
        if len(self.best) < self.asked.k or self.asked.slack == np.inf:
            return LOWEST
        kth = self.best[-1][2]
        behind = max(np.float32(self.asked.most) - kth, np.float32(0))
        return max(LOWEST, kth - np.float32(self.asked.slack) * behind)

    def is_new(self, row: int) -> bool:
        fresh = row < len(self.graph.neighbours) and row not in self.met
        if fresh:
            self.met.add(row)
        return fresh

    def take_in(self, row: int, estimate: np.float32) -> None:
        self.pool = sorted([*self.pool, (score_key(estimate, row << 1), row, estimate)], reverse=True)[: self.asked.ef]

    def offer(self, row: int, score: np.float32) -> None:
        if self.asked.allowed is None or self.asked.allowed[row]:
            entry = score_key(score, row ^ 0xFFFFFFFF), row, score
            self.best = sorted([*self.best, entry], reverse=True)[: self.asked.k]

    def scores(self, rows: list[int]) -> Floats:
        return self.graph.rows.scores(self.asked.query, self.asked.add, np.array(rows, dtype=np.uint32))

    def meet(self, rows: Numbers, offers: bool) -> None:
        """Rows by their own scores."""
        fresh = [row for row in rows.tolist() if self.is_new(row)]
        for row, score in zip(fresh, self.scores(fresh), strict=True):
            self.take_in(row, score)
            if offers:
                self.offer(row, score)

    def visit(self, row: int) -> None:
        """The row by its own score and its neighbours by estimates; or the neighbours by their scores."""
        self.visited.append(row)
        if self.graph.blocks is None:
            return self.meet(self.graph.neighbours[row], True)
        (score,) = self.scores([row])
        self.offer(row, score)
        bound = max(self.pool[-1][2] if len(self.pool) == self.asked.ef else LOWEST, self.worth())
        estimates = plane_estimates(self.asked.query, self.graph.blocks[row], score, self.graph.rows.metric)
        for neighbour, estimate in zip(self.graph.neighbours[row].tolist(), estimates, strict=True):
            if estimate >= bound and self.is_new(neighbour):
                self.take_in(neighbour, estimate)
        return None


def graph_walk(graph: Graph, asked: Asked, entries: Numbers) -> Walk:
    """From the entries on, the best candidate that was not visited is visited, until all were."""
    walk, degree = Walk(graph, asked), graph.neighbours.shape[1]
    walk.meet(entries, graph.blocks is None)
    while 2 * (len(walk.met) + degree) <= asked.slots:
        left = [candidate for candidate in walk.pool if candidate[1] not in walk.visited]
        if not left or left[0][2] < walk.worth():
            break
        walk.visit(left[0][1])
    return walk


# ---- which neighbours a vertex keeps

WANTED_ROUNDS = 3
COVER_STEP = np.float32(1.1)  # from round to round
COPY_COVER = np.float32(1.2)  # of a vertex's copy by another
MOST_COVER = np.float32(4.0)  # beyond it, only nearness counts
MOST_BACK = 128  # links back that are considered


@dataclass(frozen=True)
class Neighbours:
    """rows (n, degree) as they are wanted, then NO_ROW; squared distances, infinite there; the first `wanted` (n,) of
    each row were chosen for their direction."""

    rows: Numbers
    distances: Floats
    wanted: Numbers


def graph_prune(values: Floats, vertex: int, candidates: Numbers, distances: Floats, degree: int) -> Neighbours:
    """Of candidates (m,) at squared distances (m,) up to `degree`, as one row of Neighbours.

    A candidate c is covered by a chosen s to the degree |v - c|^2 / |s - c|^2; rounds allow more and more of it, and
    each takes what it can, nearest first. Copies of a row prefer those with numbers next to their own.
    """
    nearest: dict[int, np.float32] = {}
    for row, distance in zip(candidates.tolist(), distances, strict=True):
        if row < len(values) and row != vertex and distance >= 0:
            nearest[row] = min(distance, nearest.get(row, distance))
    order = sorted(nearest, key=lambda row: (nearest[row], abs(row - vertex), row))
    rows = np.array(order, dtype=np.uint32)
    lengths = np.array([nearest[row] for row in order], dtype=np.float32)
    covers, taken = np.zeros(len(rows), dtype=np.float32), np.zeros(len(rows), dtype=bool)
    chosen: list[int] = []
    wanted, turn, allowed = 0, 0, np.float32(1)
    while len(chosen) < min(degree, len(rows)):
        for i in range(len(rows)):
            if len(chosen) == degree or taken[i] or covers[i] > allowed:
                continue
            chosen.append(i)
            taken[i] = True
            between = sum_lanes(np.square(values[rows[i]] - values[rows[i + 1 :]]))
            with np.errstate(divide="ignore", invalid="ignore"):
                copies = np.where(lengths[i + 1 :] > 0, np.float32(np.inf), COPY_COVER)
                by = np.where(between > 0, lengths[i + 1 :] / between, copies)
            covers[i + 1 :] = np.maximum(covers[i + 1 :], by)
        wanted = len(chosen) if turn < WANTED_ROUNDS else wanted
        turn, allowed = turn + 1, allowed * COVER_STEP
        allowed = allowed if allowed <= MOST_COVER else np.float32(np.inf)
    kept = np.full(degree, NO_ROW, dtype=np.uint32), np.full(degree, np.inf, dtype=np.float32)
    kept[0][: len(chosen)], kept[1][: len(chosen)] = rows[chosen], lengths[chosen]
    return Neighbours(*kept, np.array(wanted, dtype=np.uint32))


def stack(every: list[Neighbours]) -> Neighbours:
    """Rows of Neighbours as one."""
    return Neighbours(*(np.stack([getattr(one, name) for one in every]) for name in ("rows", "distances", "wanted")))


def graph_link(values: Floats, edges: Neighbours) -> Neighbours:
    """Every row chooses once more, among its neighbours and the MOST_BACK nearest rows that want it."""
    back: list[list[tuple[np.float32, int]]] = [[] for _ in edges.rows]
    for row, wanted in enumerate(edges.wanted.tolist()):
        for neighbour, distance in zip(edges.rows[row, :wanted].tolist(), edges.distances[row], strict=False):
            back[neighbour].append((distance, row))
    linked = []
    for row, links in enumerate(back):
        near = sorted(links)[:MOST_BACK]
        rows = np.array([*(other for _, other in near), *edges.rows[row]], dtype=np.uint32)
        distances = np.array([*(distance for distance, _ in near), *edges.distances[row]], dtype=np.float32)
        linked.append(graph_prune(values, row, rows, distances, edges.rows.shape[1]))
    return stack(linked)


def graph_write(values: Floats, neighbours: Numbers, centre: Floats | None, coded: bool) -> Codes:
    """Records (n, bytes) of rows R(x - centre) (n, D) and their neighbours (n, degree), which come before NO_ROW.

    centre: R(centre) under inner product, none under squared distance.
    """
    records = []
    for row, near in enumerate(neighbours):
        record = [near.astype("<u4").view(np.uint8)]
        if coded:
            edges = graph_encode(values[row], values[near[near < len(values)]], centre)
            record.append(pack_blocks(edges, len(near)).reshape(-1))
        records.append(np.concatenate(record))
    return np.stack(records)
