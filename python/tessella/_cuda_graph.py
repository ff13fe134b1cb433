"""Graphs of torch tensors in CUDA memory: check, allocate, enqueue on torch's current stream.

    edges = graph_link(values, graph_prune(values, candidates, distances, 32))
    records = graph_write(values, edges.neighbours)
    scores, found, visits = graph_search(queries, records, GraphRows(values), entries, degree=32, ...)

Rows and queries are rotated, and rows are less the centre; under squared distance queries are so, too. Row numbers are
int32, -1 where there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tessella._cuda_tensors import Tensors, check, cuda_module

BLOCK_ROWS = 32
MORE_VISITS = 16  # than ef: a walk's first ones fall out of its list
INFINITY = float("inf")


@dataclass(frozen=True)
class GraphRows:
    """What scores rows: values (n, D) float32, or U8 codes (n, D) uint8 with scales (n) and, for "l2", norms2 (n)."""

    values: Any = None
    codes: Any = None
    scales: Any = None
    norms2: Any = None


@dataclass(frozen=True)
class GraphEdges:
    """neighbours (n, degree) int32 as they are wanted, then -1; squared distances (n, degree) float32; the first
    `wanted` (n) int32 of each row were chosen for their direction."""

    neighbours: Any
    distances: Any
    wanted: Any


def graph_search(
    queries: Any, records: Any, rows: GraphRows, entries: Any, *, degree: int, metric: str, adds: Any, ef: int, k: int,
    most: Any = None, slack: float = INFINITY, slots: int | None = None, allowed: Any = None,
) -> tuple[Any, Any, Any]:  # fmt: skip
    """Walks that keep the ef best rows met: (scores (nq, k) float32, rows (nq, k) int64, visits (nq) int32).

    Scores are inner products or squared distances, -inf or +inf and row -1 where a walk has scored fewer than k rows.
    records (n, bytes) uint8 are those of the CPU, entries (nq, e) int32 the rows to begin from. adds (nq): <q, centre>,
    or minus the query's squared length for "l2". allowed (ceil(n/32)) int32: bits of the rows that may be returned.

    A walk ends when it has visited all of the ef; sooner where the next falls below s - slack (most - s), s being the
    k-th best score and most (nq) the best there could be, 0 where it is not given; and where the rows it has met might
    fill more than half of its slots, a power of two that follows from ef where it is not given. Scratch: 4 bytes a slot
    of each walk under way.
    """
    tensors = Tensors("graph_search")
    queries = tensors.take("queries", queries, "float32", "nq", "D")
    nq, padded = _padded("graph_search", queries)
    records = tensors.take("records", records, "uint8", "n", "bytes")
    n, coded = len(records), _coded(records.shape[1], degree, padded)
    entries = tensors.take("entries", entries, "int32", nq, "e")
    slots = slots or _slots(n, ef, degree, entries.shape[1])
    adds = tensors.take("adds", adds, "float32", nq)
    most = adds.new_zeros(nq) if most is None else tensors.take("most", most, "float32", nq)
    allowed = None if allowed is None else tensors.take("allowed", allowed, "int32", -(-n // 32))
    scored = _rows(tensors, rows, n, padded, metric)
    check(k > 0, f"graph_search: expected k above 0; got {k}")
    scores, found = tensors.empty("float32", nq, k), tensors.empty("int64", nq, k)
    visits, cuda = tensors.empty("int32", nq), cuda_module("graph_search")
    where = tensors.where()
    scratch = tensors.empty("uint8", cuda.graph_search_scratch(nq, slots, device=where["device"]))
    cuda.graph_search(
        queries=queries.data_ptr(), nq=nq, adds=adds.data_ptr(), most=most.data_ptr(), padded=padded, metric=metric,
        records=records.data_ptr(), n=n, degree=degree, coded=coded,
        **{name: 0 if x is None else x.data_ptr() for name, x in scored.items()},
        entries=entries.data_ptr(), entry_count=entries.shape[1],
        allowed=0 if allowed is None else allowed.data_ptr(), ef=ef, k=k, slack=slack, slots=slots,
        scores=scores.data_ptr(), found=found.data_ptr(), visits=visits.data_ptr(), scratch=scratch.data_ptr(), **where,
    )  # fmt: skip
    return scores, found, visits


def graph_prune(values: Any, candidates: Any, distances: Any, degree: int) -> GraphEdges:
    """Up to `degree` neighbours that lie in different directions, of candidates (n, m) int32 for each row (n, D).

    distances (n, m) float32 are squared; candidates come in any order, and the row itself may be among them.
    Cost: at most degree * m squared distances a row.
    """
    tensors = Tensors("graph_prune")
    values, n, padded = _values(tensors, values)
    candidates = tensors.take("candidates", candidates, "int32", n, "m")
    distances = tensors.take("distances", distances, "float32", n, candidates.shape[1])
    edges = _edges(tensors, n, degree)
    cuda_module("graph_prune").graph_prune(
        values=values.data_ptr(), n=n, padded=padded, candidates=candidates.data_ptr(), lengths=distances.data_ptr(),
        count=candidates.shape[1], degree=degree, **_addresses(edges), **tensors.where(),
    )  # fmt: skip
    return edges


def graph_link(values: Any, edges: GraphEdges) -> GraphEdges:
    """Every row chooses once more, among its neighbours and the 128 nearest rows that want it."""
    tensors = Tensors("graph_link")
    values, n, padded = _values(tensors, values)
    neighbours = tensors.take("neighbours", edges.neighbours, "int32", n, "degree")
    degree = neighbours.shape[1]
    distances = tensors.take("distances", edges.distances, "float32", n, degree)
    before = GraphEdges(neighbours, distances, tensors.take("wanted", edges.wanted, "int32", n))
    linked, scratch = _edges(tensors, n, degree), tensors.empty("int32", n * (1 + degree))
    cuda_module("graph_link").graph_link(
        values=values.data_ptr(), n=n, padded=padded, degree=degree,
        **{f"from_{name}": address for name, address in _addresses(before).items()},
        **_addresses(linked), scratch=scratch.data_ptr(), **tensors.where(),
    )  # fmt: skip
    return linked


def graph_write(values: Any, neighbours: Any, centre: Any = None, *, coded: bool = True) -> Any:
    """Records (n, bytes) uint8 of rows (n, D) and their neighbours (n, degree) int32, with 1-bit codes of the edges.

    centre (D): rotated, under inner product; none under squared distance.
    """
    tensors = Tensors("graph_write")
    values, n, padded = _values(tensors, values)
    neighbours = tensors.take("neighbours", neighbours, "int32", n, "degree")
    degree = neighbours.shape[1]
    centre = None if centre is None else tensors.take("centre", centre, "float32", padded)
    records = tensors.empty("uint8", n, _record_bytes(degree, padded, coded))
    cuda_module("graph_write").graph_write(
        values=values.data_ptr(), n=n, padded=padded, centre=0 if centre is None else centre.data_ptr(),
        neighbours=neighbours.data_ptr(), degree=degree, coded=coded, records=records.data_ptr(), **tensors.where(),
    )  # fmt: skip
    return records


def _values(tensors: Tensors, values: Any) -> tuple[Any, int, int]:
    values = tensors.take("values", values, "float32", "n", "D")
    return values, *_padded(tensors.operation, values)


def _padded(operation: str, x: Any) -> tuple[int, int]:
    n, padded = x.shape
    check(padded > 0 and padded % 64 == 0, f"{operation}: expected D to be a multiple of 64; got {padded}")
    return n, padded


def _edges(tensors: Tensors, n: int, degree: int) -> GraphEdges:
    neighbours, distances = tensors.empty("int32", n, degree), tensors.empty("float32", n, degree)
    return GraphEdges(neighbours, distances, tensors.empty("int32", n))


def _addresses(edges: GraphEdges) -> dict[str, int]:
    return {name: getattr(edges, name).data_ptr() for name in ("neighbours", "distances", "wanted")}


def _record_bytes(degree: int, padded: int, coded: bool) -> int:
    return 4 * degree + (degree // BLOCK_ROWS * BLOCK_ROWS * (padded // 8 + 4) if coded else 0)


def _coded(width: int, degree: int, padded: int) -> bool:
    plain, coded = (_record_bytes(degree, padded, each) for each in (False, True))
    sentence = f"graph_search: expected records of {coded} bytes, or {plain} without codes; got {width}"
    check(width in (plain, coded), sentence)
    return width == coded


def _rows(tensors: Tensors, rows: GraphRows, n: int, padded: int, metric: str) -> dict[str, Any]:
    taken = dict.fromkeys(("values", "codes", "scales", "norms2"))
    if rows.codes is None:
        return taken | {"values": tensors.take("values", rows.values, "float32", n, padded)}
    taken["codes"] = tensors.take("codes", rows.codes, "uint8", n, padded)
    taken["scales"] = tensors.take("scales", rows.scales, "float32", n)
    if metric == "l2":
        taken["norms2"] = tensors.take("norms2", rows.norms2, "float32", n)
    return taken


def _slots(n: int, ef: int, degree: int, entries: int) -> int:
    """Twice what ef visits and a few more may meet, or twice what there is, as a power of two."""
    needed = 2 * max(min(entries + (ef + MORE_VISITS) * degree, n + degree), entries, degree)
    return 1 << (needed - 1).bit_length()
