"""Runs the shared cases on a real CUDA device through tessella's Python doors."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

from tests.device.exact_cases import Array
from tests.device.graph_cases import Edges
from tests.device.maxsim_cases import Inputs
from tests.device.rabitq_cases import HIT

POISON_BYTES = 256 << 20


def device_is_there() -> bool:
    if importlib.util.find_spec("tessella._cuda") is None or importlib.util.find_spec("torch") is None:
        return False
    return bool(importlib.import_module("tessella._cuda").device_count())


def poison(torch: Any) -> None:
    """Leaves NaN bytes in the memory that torch hands out next, so that an unwritten output shows."""
    torch.full((POISON_BYTES,), 0xFF, dtype=torch.uint8, device="cuda")


def on_device(torch: Any, x: Array | None) -> Any:
    """uint16 rows are bfloat16 patterns."""
    if x is None:
        return None
    if x.dtype == "uint16":
        return torch.from_numpy(x.view("int16")).cuda().view(torch.bfloat16)
    return torch.from_numpy(x).cuda()


def search_with(torch: Any, exact_topk: Callable[..., Any]) -> Callable[..., tuple[Array, Array]]:
    """`exact_topk` over NumPy arrays."""

    def on_it(x: Array | None) -> Any:
        return on_device(torch, x)

    def search(
        queries: Array, rows: Array, k: int, metric: str, ids: Array | None, allowed: Array | None = None
    ) -> tuple[Array, Array]:
        arguments = on_device(torch, queries), on_device(torch, rows), k, metric, *map(on_it, (ids, allowed))
        poison(torch)
        scores, found = exact_topk(*arguments)
        return scores.cpu().numpy(), found.cpu().numpy()

    return search


class Runner:
    """The kernels of one door over NumPy arrays."""

    def __init__(self, torch: Any, door: Any) -> None:
        self.torch, self.door = torch, door

    def put(self, *arrays: Array | None) -> list[Any]:
        tensors = [on_device(self.torch, x) for x in arrays]
        poison(self.torch)
        return tensors

    @staticmethod
    def hits(found: tuple[Any, Any]) -> tuple[Array, Array]:
        hits, counts = (x.cpu().numpy() for x in found)
        return hits.view(HIT)[..., 0], counts


class ContrastRunner(Runner):
    def forward(self, given: dict[str, Array | None], rules: dict[str, Any]) -> Array:
        out: Array = self.door.contrast_forward(*self.put(*given.values()), **self.rules(rules)).cpu().numpy()
        return out

    def backward(
        self, given: dict[str, Array | None], rules: dict[str, Any], out: Array, out_gradient: Array
    ) -> tuple[Array | None, ...]:
        *arguments, ends, gradient = self.put(*given.values(), out, out_gradient)
        found = self.door.contrast_backward(*arguments, out=ends, out_gradient=gradient, **self.rules(rules))
        return tuple(None if x is None else x.cpu().numpy() for x in found)

    def rules(self, rules: dict[str, Any]) -> dict[str, Any]:
        """Arrays, and pairs and triples of them, as tensors."""
        moved: dict[str, Any] = {}
        for name, rule in rules.items():
            if name in ("dims", "reduce"):
                moved[name] = rule
            elif name == "ids":
                moved[name] = [tuple(self.put(*each)) for each in rule]
            else:
                moved[name] = tuple(self.put(*rule)) if isinstance(rule, tuple) else self.put(rule)[0]
        return moved


class KmeansRunner(Runner):
    def assign(self, rows: Array, centroids: Array, offsets: Array | None) -> tuple[Array, Array]:
        nearest, similarity = self.door.kmeans_assign(*self.put(rows, centroids, offsets))
        return nearest.cpu().numpy(), similarity.cpu().numpy()


class MaxsimRunner(Runner):
    def score(self, given: Inputs) -> Array:
        names = ("query_scales", "scales", "which")
        rows = (given.queries, given.query_offsets, given.tokens, given.begins, given.ends)
        tensors = self.put(*rows, *(getattr(given, name) for name in names))
        options = dict(zip(names, tensors[len(rows) :], strict=True))
        scores = self.door.maxsim_score(*tensors[: len(rows)], **options, coded=given.kind == "n4")
        result: Array = scores.cpu().numpy()
        return result


class PoolingRunner(Runner):
    def pool(
        self, hidden: Array, mask: Array, segments: Array, modes: tuple[str, ...],
        dense: tuple[Array, Array] | None, dim: int, dtype: str,
    ) -> Array:  # fmt: skip
        """Segments are the rows, without the tokens of an instruction."""
        skip = (segments[:, 1] - segments[:, 0]).astype("int64")
        states, counted, skipped = self.put(hidden, mask, skip)
        found = self.door.pool(
            states, counted, modes=modes, normalize=True, dim=dim, dtype=dtype, cu_seqlens=None, spans=None,
            instruction_lengths=skipped, dense=dense and tuple(self.put(*dense)), scale=127.0,
        )  # fmt: skip
        out: Array = found.cpu().numpy()
        return out

    def gradient(self, hidden: Array, mask: Array, segments: Array, modes: tuple[str, ...], pooled: Array) -> Array:
        """Segments are the rows, or as many of each row one after the other as there are spans."""
        ends, each = segments.astype("int64"), len(segments) // len(hidden)
        skip = ends[:, 1] - ends[:, 0] if each == 1 else None
        spans = None if each == 1 else ends.copy()
        if spans is not None:
            spans[:, 0] = range(len(spans))
            spans[:, 0] //= each
            spans[:, 1:] = ends[:, [0, 2]] - hidden.shape[1] * spans[:, :1]
        states, counted, skipped, cut, given = self.put(hidden, mask, skip, spans, pooled)
        found = self.door.backward(
            given, states, counted, modes=modes, cu_seqlens=None, spans=cut, instruction_lengths=skipped
        )
        gradient: Array = found.cpu().numpy()
        return gradient


class RabitqRunner(Runner):
    def encode(self, residuals: Array) -> tuple[Array, Array]:
        bits, factors = self.door.rabitq_encode(*self.put(residuals))
        return bits.cpu().numpy(), factors.cpu().numpy()

    def planes(self, queries: Array, planes: int) -> tuple[Array, Array, Array]:
        cut = self.door.rabitq_planes(*self.put(queries), planes)
        return cut.words.cpu().numpy().view("uint32"), cut.steps.cpu().numpy(), cut.sums.cpu().numpy()

    def scan(
        self, queries: Array, blocks: Array, n: int, *, terms: bool, planes: int, factor: float, adds: Array,
        epsilons: Array, thresholds: Array, capacity: int, allowed: Array | None,
    ) -> tuple[Array, Array]:  # fmt: skip
        cut = self.door.rabitq_planes(*self.put(queries), planes)
        stored, mask, *bounds = self.put(blocks, allowed, adds, epsilons, thresholds)
        numbers = dict(zip(("adds", "epsilons", "thresholds"), bounds, strict=True))
        found = self.door.rabitq_scan(
            stored, n, cut, terms=terms, factor=factor, capacity=capacity, allowed=mask, **numbers
        )
        return self.hits(found)


class RotateRunner(Runner):
    def rotate(self, rows: Array, signs: Array, centre: Array | None) -> Array:
        out: Array = self.door.rotate_forward(*self.put(rows, signs.view("int64"), centre)).cpu().numpy()
        return out


class ScalarRunner(Runner):
    def encode(self, residuals: Array, bits: int, grid: str) -> tuple[Array, Array, Array]:
        codes, scales, norms2 = self.door.scalar_encode(*self.put(residuals), bits, grid)
        return codes.cpu().numpy(), scales.cpu().numpy(), norms2.cpu().numpy()


class FdeRunner(Runner):
    def encode(
        self, tokens: Array, offsets: Array, planes: Array, projection: Any, queries: bool, fill: str, halves: bool
    ) -> Array:
        index, signs, p = projection if isinstance(projection, tuple) else (None, None, 0)
        dense = None if isinstance(projection, tuple) else projection
        where = None if index is None else index.view("int32")
        rows, starts, *matrices = self.put(tokens, offsets, planes, dense, where, signs)
        made = self.door.fde_encode(
            rows, starts, self.door.Matrices(*matrices, p), queries=queries, fill=fill,
            dtype="float16" if halves else "float32",
        )  # fmt: skip
        out: Array = made.cpu().numpy()
        return out


class PqRunner(Runner):
    def encode(self, rows: Array, bits: int, codebooks: Array, biases: Array) -> Array:
        assert codebooks.shape[2] == 1 << bits
        codes: Array = self.door.pq_encode(*self.put(rows, codebooks, biases)).cpu().numpy()
        return codes

    def tables(self, queries: Array, bits: int, codebooks: Array, metric: str) -> Array:
        assert codebooks.shape[2] == 1 << bits
        tables: Array = self.door.pq_table(*self.put(queries, codebooks), metric).cpu().numpy()
        return tables

    def scan(
        self, blocks: Array, n: int, bits: int, *, terms: bool, tables: Array, thresholds: Array, capacity: int
    ) -> tuple[Array, Array]:
        assert tables.shape[2] == 1 << bits
        stored, table, bounds = self.put(blocks, tables, thresholds)
        return self.hits(self.door.pq_scan(stored, n, table, terms=terms, thresholds=bounds, capacity=capacity))


class GraphRunner(Runner):
    def prune(self, values: Array, candidates: Array, distances: Array, degree: int) -> Edges:
        given = self.put(values, candidates.view("int32"), distances)
        return self.edges(self.door.graph_prune(*given, degree))

    def link(self, values: Array, edges: Edges) -> Edges:
        neighbours, distances, wanted = edges
        rows, *before = self.put(values, neighbours.view("int32"), distances, wanted.view("int32"))
        return self.edges(self.door.graph_link(rows, self.door.GraphEdges(*before)))

    def write(self, values: Array, neighbours: Array, centre: Array | None, coded: bool) -> Array:
        given = self.put(values, neighbours.view("int32"), centre)
        records: Array = self.door.graph_write(*given, coded=coded).cpu().numpy()
        return records

    def search(
        self, queries: Array, adds: Array, records: Array, degree: int, rows: Any, *, entries: Array, ef: int, k: int,
        most: Array, slack: float, slots: int, allowed: Array | None,
    ) -> tuple[Array, Array, Array]:  # fmt: skip
        scored = self.door.GraphRows(*self.put(rows.values, rows.codes, rows.scales, rows.norms2))
        bits = None if allowed is None else allowed.view("int32")
        asked, stored, starts, *numbers = self.put(queries, records, entries.view("int32"), adds, most, bits)
        found = self.door.graph_search(
            asked, stored, scored, starts, degree=degree, metric=rows.metric, ef=ef, k=k, slack=slack, slots=slots,
            **dict(zip(("adds", "most", "allowed"), numbers, strict=True)),
        )  # fmt: skip
        scores, best, visits = (x.cpu().numpy() for x in found)
        return scores, best, visits

    @staticmethod
    def edges(made: Any) -> Edges:
        neighbours, distances, wanted = (x.cpu().numpy() for x in (made.neighbours, made.distances, made.wanted))
        return neighbours.view("uint32"), distances, wanted.view("uint32")
