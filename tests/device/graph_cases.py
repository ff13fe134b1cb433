"""The graph family's test body, for whatever runs it: the emulator in CI, a real device where there is one.

A runner has the four kernels over NumPy arrays; results are equal to tessella.reference bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from tests.device.kmeans_cases import Array

Edges = tuple[Array, Array, Array]  # neighbours (n, degree), distances (n, degree), wanted (n)


class Runner(Protocol):
    def prune(self, values: Array, candidates: Array, distances: Array, degree: int) -> Edges: ...

    def link(self, values: Array, edges: Edges) -> Edges: ...

    def write(self, values: Array, neighbours: Array, centre: Array | None, coded: bool) -> Array:
        """-> records (n, bytes)."""

    def search(
        self, queries: Array, adds: Array, records: Array, degree: int, rows: Any, *, entries: Array, ef: int, k: int,
        most: Array, slack: float, slots: int, allowed: Array | None,
    ) -> tuple[Array, Array, Array]:  # fmt: skip
        """rows: reference.Rows; allowed (ceil(n/32),) of words -> scores (nq, k), rows (nq, k), visits (nq)."""


@dataclass(frozen=True)
class Case:
    n: int
    padded: int
    degree: int = 32
    metric: str = "l2"
    coded: bool = True  # edges
    codes: bool = True  # rows: U8, or values
    nq: int = 3
    ef: int = 24
    k: int = 5
    slack: float = float("inf")
    slots: int = 1 << 14
    share: float = 1.0  # of the rows that may be returned
    candidates: int = 48
    data: str = "normal"  # or "ties": whole numbers, and copies of rows; "zeros"
    seed: int = 0

    def __str__(self) -> str:
        kinds = f"{'coded' if self.coded else 'plain'}-{'u8' if self.codes else 'f32'}-{self.data}"
        return f"n{self.n}-D{self.padded}-g{self.degree}-{self.metric}-{kinds}-ef{self.ef}-k{self.k}-m{self.candidates}"


@dataclass(frozen=True)
class Inputs:
    values: Array  # (n, D) residuals
    queries: Array  # (nq, D)
    centre: Array | None  # (D,) under inner product
    adds: Array  # (nq)
    most: Array  # (nq)


def inputs(case: Case) -> Inputs:
    rng = np.random.default_rng([case.seed, case.n, case.padded, case.degree, case.ef])
    topics = 2 * rng.standard_normal((8, case.padded))
    values, queries = (
        topics[rng.integers(8, size=m)] + rng.standard_normal((m, case.padded)) for m in (case.n, case.nq)
    )
    if case.data == "ties":
        values, queries = np.rint(values), np.rint(queries)
        values = values[np.arange(case.n) // 3]
    if case.data == "zeros":
        values, queries[::2] = 0 * values, 0
    values, queries = values.astype(np.float32), queries.astype(np.float32)
    if case.metric == "l2":
        return Inputs(values, queries, None, -np.square(queries).sum(axis=1), np.zeros(case.nq, np.float32))
    centre = rng.standard_normal(case.padded).astype(np.float32)
    longest = np.linalg.norm(values + centre, axis=1).max(initial=0)
    most = longest * np.linalg.norm(queries, axis=1)
    return Inputs(values, queries, centre, queries @ centre, most.astype(np.float32))


def nearest(case: Case, values: Array) -> tuple[Array, Array]:
    """Each row's candidates, itself among them, in no order and with some rubbish between."""
    rng = np.random.default_rng(case.n)
    wide = values.astype(np.float64)
    norms2 = np.square(wide).sum(axis=1)
    distances = np.maximum(norms2[:, None] + norms2 - 2 * wide @ wide.T, 0).astype(np.float32)
    rows = np.argsort(distances, axis=1, kind="stable")[:, : case.candidates]
    rows = np.pad(rows, ((0, 0), (0, case.candidates - rows.shape[1])))  # repeats of row 0 in a small graph
    rows = rng.permuted(rows, axis=1)
    kept = np.take_along_axis(distances, rows, axis=1)
    candidates = rows.astype(np.uint32)
    candidates[rng.random(rows.shape) < 0.05] = 0xFFFFFFFF
    return candidates, kept


def words_of(allowed: Array) -> Array:
    bits = np.zeros(-(-len(allowed) // 32) * 32, dtype=bool)
    bits[: len(allowed)] = allowed
    return np.packbits(bits, bitorder="little").view("<u4")


def check(case: Case, runner: Runner, reference: Any, scalar: Any) -> None:
    """Makes and searches one graph; raises AssertionError with the case's name where a result is wrong."""
    given = inputs(case)
    candidates, distances = nearest(case, given.values)
    each = zip(candidates, distances, strict=True)
    wanted = reference.stack(
        [reference.graph_prune(given.values, i, *near, case.degree) for i, near in enumerate(each)]
    )
    _compare(case, "prune", runner.prune(given.values, candidates, distances, case.degree), wanted)
    edges = wanted.rows, wanted.distances, wanted.wanted
    linked = reference.graph_link(given.values, wanted)
    _compare(case, "link", runner.link(given.values, edges), linked)

    records = reference.graph_write(given.values, linked.rows, given.centre, case.coded)
    written = runner.write(given.values, linked.rows, given.centre, case.coded)
    assert np.array_equal(written, records), f"{case}: records differ from the reference"
    _check_search(case, runner, reference, _rows(case, given, reference, scalar), given, records)


def _compare(case: Case, step: str, edges: Edges, wanted: Any) -> None:
    for name, got in zip(("rows", "distances", "wanted"), edges, strict=True):
        assert np.array_equal(got, getattr(wanted, name)), f"{case}: {name} of {step} differ from the reference"


def _rows(case: Case, given: Inputs, reference: Any, scalar: Any) -> Any:
    if not case.codes:
        return reference.Rows(case.metric, values=given.values)
    made = scalar.scalar_encode(given.values, 8)
    norms2 = made.norms2 if case.metric == "l2" else None
    return reference.Rows(case.metric, codes=made.codes, scales=made.scales, norms2=norms2)


def _check_search(case: Case, runner: Runner, reference: Any, rows: Any, given: Inputs, records: Array) -> None:
    rng = np.random.default_rng([case.n, case.nq])
    entries = rng.integers(case.n, size=(case.nq, 5)).astype(np.uint32)
    entries[:, 3] = entries[:, 1]  # twice
    entries[1:, 4] = 0xFFFFFFFF
    allowed = rng.random(case.n) < case.share
    scores, found, visits = runner.search(
        given.queries, given.adds, records, case.degree, rows, entries=entries, ef=case.ef, k=case.k,
        most=given.most, slack=case.slack, slots=case.slots, allowed=None if case.share == 1 else words_of(allowed),
    )  # fmt: skip
    graph = reference.unpack_records(records, case.degree, case.padded, rows)
    for i, query in enumerate(given.queries):
        asked = reference.Asked(query, given.adds[i], case.ef, case.k, given.most[i], case.slack, case.slots, allowed)
        walk = reference.graph_walk(graph, asked, entries[i])
        assert visits[i] == len(walk.visited), f"{case}: query {i} has {visits[i]} visits, not {len(walk.visited)}"
        count, sign = len(walk.best), np.float32(-1 if case.metric == "l2" else 1)
        assert found[i].tolist() == [row for _, row, _ in walk.best] + [-1] * (case.k - count), f"{case}: rows differ"
        best = np.array([score for _, _, score in walk.best] + [-np.inf] * (case.k - count), np.float32)
        assert np.array_equal(scores[i], sign * best), f"{case}: scores differ"


def small_cases() -> Iterator[Case]:
    """Odd sizes around warps, blocks and lists; a minute on the emulator."""
    for step, n in enumerate((1, 7, 31, 33, 127)):
        for turn, coded in enumerate((True, False)):
            padded = (64, 128, 192, 64, 320)[(step + turn) % 5]
            metric = ("ip", "l2")[(step + turn) % 2]
            yield Case(n, padded, metric=metric, coded=coded, codes=(step // 2 + turn) % 2 == 0, candidates=33)
    yield Case(150, 64, ef=40, k=40)
    yield Case(150, 64, metric="ip", codes=False, ef=70, k=3, slack=0.05)
    yield Case(150, 64, ef=33, k=4, slack=0.1)
    yield Case(150, 128, 64, ef=20, coded=False, share=0.3)
    yield Case(150, 64, 96, ef=1, k=1, candidates=100, share=0.5)
    yield Case(150, 64, ef=100, slots=256)  # no room for all rows that it meets
    yield Case(150, 64, ef=100, slots=256, coded=False, codes=False)
    yield Case(120, 64, data="ties")
    yield Case(120, 64, metric="ip", coded=False, codes=False, data="ties")
    yield Case(60, 64, data="zeros", candidates=70)


def large_cases() -> Iterator[Case]:
    """Sizes that fill a device as far as a plain loop can follow."""
    for coded in (True, False):
        yield Case(700, 384, coded=coded, nq=100, ef=100, k=10, slack=0.1, candidates=64)
    yield Case(300, 768, 64, "ip", nq=50, ef=200, k=100, share=0.5, candidates=100)
    yield Case(300, 128, 256, nq=50, ef=50, k=10, candidates=270, codes=False)
