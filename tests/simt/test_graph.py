"""The CUDA sources of the graph family, run by the emulator against the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tessella.reference import graph as reference
from tessella.reference import scalar
from tests.device.graph_cases import Array, Case, Edges, check, inputs, nearest, small_cases
from tests.simt.emulator import Emulator

ORDERS = {"forward": 0, "backward": 1, "shuffled": 7}


def edges_for(n: int, degree: int) -> Edges:
    return np.full((n, degree), 7, np.uint32), np.full((n, degree), np.nan, np.float32), np.full(n, 77, np.uint32)


class Runner(Emulator):
    def prune(self, values: Array, candidates: Array, distances: Array, degree: int) -> Edges:
        (n, padded), edges = values.shape, edges_for(len(values), degree)
        self.call("simt_graph_prune", values, n, padded, candidates, distances, candidates.shape[1], degree, *edges)
        return edges

    def link(self, values: Array, edges: Edges) -> Edges:
        (n, padded), degree = values.shape, edges[0].shape[1]
        linked = edges_for(n, degree)
        self.call("simt_graph_link", values, n, padded, degree, *edges, *linked)
        return linked

    def write(self, values: Array, neighbours: Array, centre: Array | None, coded: bool) -> Array:
        (n, padded), degree = values.shape, neighbours.shape[1]
        records = np.full((n, 4 * degree + (degree // 32 * (4 * padded + 128) if coded else 0)), 0xAA, np.uint8)
        self.call("simt_graph_write", values, n, padded, centre, neighbours, degree, coded, records)
        return records

    def search(
        self, queries: Array, adds: Array, records: Array, degree: int, rows: Any, *, entries: Array, ef: int, k: int,
        most: Array, slack: float, slots: int, allowed: Array | None,
    ) -> tuple[Array, Array, Array]:  # fmt: skip
        nq, padded = queries.shape
        scores, found = np.full((nq, k), np.nan, np.float32), np.full((nq, k), -77, np.int64)
        visits = np.full(nq, 77, np.uint32)
        self.call(
            "simt_graph_search", queries, nq, adds, most, padded, rows.metric == "l2", records, len(records), degree,
            records.shape[1] > 4 * degree, rows.values, rows.codes, rows.scales, rows.norms2, entries,
            entries.shape[1], allowed, ef, k, slack, slots, scores, found, visits,
        )  # fmt: skip
        return scores, found, visits


@pytest.fixture(scope="module")
def emulator() -> Runner:
    return Runner()


@pytest.mark.parametrize("case", list(small_cases()), ids=str)
def test_edges_records_and_walks_equal_the_reference(emulator: Runner, case: Case) -> None:
    check(case, emulator, reference, scalar)


@pytest.mark.parametrize("order", ["backward", "shuffled"])
@pytest.mark.parametrize(
    "case", [Case(90, 64, nq=5, share=0.5), Case(70, 64, 64, "ip", coded=False, codes=False, data="ties")], ids=str
)
def test_the_order_of_threads_and_blocks_does_not_matter(emulator: Runner, case: Case, order: str) -> None:
    emulator.order(ORDERS[order])
    try:
        check(case, emulator, reference, scalar)
    finally:
        emulator.order(ORDERS["forward"])


def test_a_row_that_everybody_wants_hears_of_the_nearest(emulator: Runner) -> None:
    """More links back than are considered."""
    values = inputs(Case(200, 64)).values
    values[0] = values.mean(axis=0)
    distances = np.square(values - values[0]).sum(axis=1, dtype=np.float32)[:, None]
    candidates = np.zeros((200, 1), np.uint32)
    edges = emulator.prune(values, candidates, distances, 32)
    assert edges[2].tolist() == [0] + [1] * 199
    linked = emulator.link(values, edges)
    wanted = reference.graph_link(values, reference.Neighbours(*edges))
    assert np.array_equal(linked[0], wanted.rows)
    assert set(linked[0][0]) <= set(np.argsort(distances[:, 0])[1 : 1 + reference.MOST_BACK])


def test_no_candidates_leave_no_neighbours(emulator: Runner) -> None:
    values, none = np.ones((3, 64), np.float32), np.full((3, 2), reference.NO_ROW, np.uint32)
    rows, distances, wanted = emulator.prune(values, none, np.zeros((3, 2), np.float32), 32)
    assert (rows == reference.NO_ROW).all()
    assert np.isposinf(distances).all()
    assert not wanted.any()


BAD_SEARCHES: dict[str, dict[str, Any]] = {
    "a degree of 32, 64, … 256; got 48": {"degree": 48},
    "ef and k above 0; got 0 and 3": {"ef": 0},
    "slots to be a power of two from 64 on; got 32": {"slots": 32},
    "slots to be a power of two from 64 on; got 100": {"slots": 100},
    "lists and a query that fit 163840 bytes; got": {"ef": 20_480},
}


@pytest.mark.parametrize("sentence", BAD_SEARCHES)
def test_wrong_sizes_are_sentences(emulator: Runner, sentence: str) -> None:
    case = Case(5, 64, coded=False, codes=False)
    given = inputs(case)
    rows, _, _ = emulator.prune(given.values, *nearest(case, given.values), 32)
    good: dict[str, Any] = {"degree": 32, "ef": 9, "k": 3, "slots": 64, "entries": np.zeros((3, 1), np.uint32)}
    records = emulator.write(given.values, rows, None, False)
    with pytest.raises(RuntimeError, match=f"graph_search: expected {sentence}"):
        emulator.search(
            given.queries, given.adds, records, rows=reference.Rows("l2", values=given.values), most=given.most,
            slack=float("inf"), allowed=None, **good | BAD_SEARCHES[sentence],
        )  # fmt: skip
