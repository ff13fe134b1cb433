"""The CUDA sources of the exact scan, run by the emulator against the reference."""

from __future__ import annotations

import numpy as np
import pytest

from tessella.reference import exact as reference
from tests.device import mask_cases
from tests.device.exact_cases import TOLERANCE, Array, Case, bf16_bits, check, inputs, numbers, small_cases
from tests.simt.emulator import CANDIDATE, Emulator

ORDERS = {"forward": 0, "backward": 1, "shuffled": 7}


@pytest.fixture(scope="module")
def emulator() -> Emulator:
    return Emulator()


@pytest.mark.parametrize("case", list(small_cases()), ids=str)
def test_search_equals_the_reference(emulator: Emulator, case: Case) -> None:
    check(case, emulator.search, reference.exact_topk)


@pytest.mark.parametrize("case", list(mask_cases.small_cases()), ids=str)
def test_only_allowed_rows_are_found(emulator: Emulator, case: mask_cases.Case) -> None:
    mask_cases.check(case, emulator.search, reference.exact_topk)


@pytest.mark.parametrize("order", ["backward", "shuffled"])
@pytest.mark.parametrize(
    "case",
    [
        Case("f32", 300, 130, 17, 10, "l2", data="duplicates"),
        Case("bf16", 2500, 130, 40, 10, "ip", data="duplicates", own_ids=True),
        Case("f16", 2500, 3, 40, 33, "l2", data="duplicates"),
        Case("f32", 4000, 33, 4, 5, "ip", data="ascending"),
    ],
    ids=str,
)
def test_the_order_of_threads_and_blocks_does_not_matter(emulator: Emulator, case: Case, order: str) -> None:
    """A missing barrier shows as a result that depends on who runs first."""
    emulator.order(ORDERS[order])
    try:
        check(case, emulator.search, reference.exact_topk)
    finally:
        emulator.order(ORDERS["forward"])


@pytest.mark.parametrize("type_", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("nq", [2, 40])
@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_running_lists_go_on_where_they_stopped(emulator: Emulator, type_: str, nq: int, metric: str) -> None:
    case = Case(type_, 500, nq, 16, 12, metric, data="duplicates", own_ids=True)
    queries, rows, ids = inputs(case)
    lists = emulator.empty_lists(nq, case.k)
    for first, last in ((0, 5), (5, 263), (263, 500)):  # fewer than k at first, then an odd boundary
        emulator.topk(queries, rows[first:last], case.k, metric, ids, lists, first)
    scores, wanted = reference.exact_topk(queries, numbers(rows), case.k, metric, ids)
    assert ids is not None
    assert np.array_equal(lists["similarity"], scores)
    assert np.array_equal(ids[lists["row"]], wanted)


@pytest.mark.parametrize("nq", [3, 40])
def test_no_rows_leave_the_lists_as_they_are(emulator: Emulator, nq: int) -> None:
    queries, rows, _ = inputs(Case("f32", 20, nq, 5, 4, "ip"))
    lists = emulator.empty_lists(nq, 4)
    emulator.topk(queries, rows[:0], 4, "ip", None, lists, 0)
    assert (lists["row"] == -1).all()
    emulator.topk(queries, rows, 4, "ip", None, lists, 0)
    before = lists.copy()
    emulator.topk(queries, rows[:0], 4, "ip", None, lists, 20)
    assert np.array_equal(lists, before)
    assert lists.dtype == CANDIDATE


@pytest.mark.parametrize("type_", ["f32", "bf16"])
@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_many_queries_go_in_groups(emulator: Emulator, type_: str, metric: str) -> None:
    """The emulator's build limits the lists of survivors to 1 MB. Only the last group needs the low halves."""
    case = Case(type_, 300, 520, 8, 10, metric, data="integers")
    queries, rows, _ = inputs(case)
    queries[-1] += 2.0**-10
    wanted, _ = reference.exact_topk(queries, numbers(rows), case.k, case.metric)
    lists = emulator.empty_lists(case.nq, case.k)
    emulator.topk(queries, rows, case.k, case.metric, None, lists, 0)
    assert np.array_equal(lists["similarity"], wanted)


def test_zeros_of_both_signs_tie(emulator: Emulator) -> None:
    """The direct scan finds distance -0, the product +0: equal, so the smaller id is first."""
    rows = np.ones((2, 4), dtype=np.float32)
    queries = np.ones((40, 4), dtype=np.float32)
    for ids in (np.array([5, 3]), np.array([3, 5])):
        lists = emulator.empty_lists(40, 1)
        emulator.topk(queries, rows[:1], 1, "l2", ids, lists, 0)
        emulator.topk(queries[:2], rows[1:], 1, "l2", ids, lists[:2], 1)
        assert (ids[lists["row"][:2]] == 3).all()


@pytest.mark.parametrize("nq", [3, 40])
def test_a_sum_that_overflows_is_never_nan(emulator: Emulator, nq: int) -> None:
    """Summed in one order the row is +inf, in the other inf - inf."""
    rows = np.ones((30, 8), dtype=np.float32)
    rows[4] = [3e38, 3e38, 0, 0, -3e38, -3e38, 0, 0]
    queries = np.ones((nq, 8), dtype=np.float32)
    scores, found = emulator.search(queries, rows, 30, "ip", None)
    assert not np.isnan(scores).any()
    assert (found[:, :28] >= 0).all()


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_a_search_in_no_rows_finds_nothing(emulator: Emulator, metric: str) -> None:
    queries, rows, _ = inputs(Case("f32", 2, 5, 3, 4, metric))
    scores, found = emulator.search(queries, rows[:0], 4, metric, None)
    assert (found == -1).all()
    assert (scores == (np.inf if metric == "l2" else -np.inf)).all()
    scores, found = emulator.search(queries[:0], rows, 4, metric, None)
    assert scores.shape == found.shape == (0, 4)


@pytest.mark.parametrize("nq", [3, 40])
@pytest.mark.parametrize("type_", ["f32", "f16"])
def test_rows_with_nan_never_enter(emulator: Emulator, type_: str, nq: int) -> None:
    queries, rows, _ = inputs(Case(type_, 200, nq, 16, 10, "ip"))
    rows[::3, 5] = np.nan
    for metric in ("ip", "l2"):
        _, found = emulator.search(queries, rows, 150, metric, None)
        assert (found[:, :133] >= 0).all()
        assert (found[:, 133:] == -1).all()
        assert (found[:, :133] % 3 != 0).all()


@pytest.mark.parametrize("type_", ["f16", "bf16"])
@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e4, 1e20])
def test_tensor_cores_keep_float32_queries(emulator: Emulator, type_: str, metric: str, scale: float) -> None:
    """The split into two halves leaves the best row of close ones the best, at any size of the query."""
    rng = np.random.default_rng(3)
    base = rng.standard_normal(64)
    values = base + 3e-3 * rng.standard_normal((200, 64))
    rows = values.astype(np.float16) if type_ == "f16" else bf16_bits(values.astype(np.float32))
    queries = np.repeat(base[None] * (scale if metric == "ip" else 1.0), 40, axis=0).astype(np.float32)
    lists = emulator.empty_lists(40, 10)
    emulator.topk(queries, rows, 10, metric, None, lists, 0)
    similarity = reference.similarities(queries[:1], numbers(rows), metric)[0]
    norms = np.square(values).sum(1).max() if metric == "l2" else 0.0
    allowed = 40 * TOLERANCE * float(np.abs(similarity).max() + norms)
    error = np.abs(lists["similarity"] - similarity[lists["row"]])
    assert error.max() <= allowed
    assert similarity[lists["row"][0, -1]] >= np.sort(similarity)[-10] - allowed


def test_queries_near_zero_among_long_rows(emulator: Emulator) -> None:
    """The power of two that lifts a small float16 query must not lift the norms beyond float32."""
    rows = (1000.0 + np.arange(20.0)[:, None] * np.ones(64)).astype(np.float16)
    lists = emulator.empty_lists(40, 3)
    emulator.topk(np.full((40, 64), 1e-30, dtype=np.float32), rows, 3, "l2", None, lists, 0)
    assert np.array_equal(lists["row"], np.tile([0, 1, 2], (40, 1)))
    assert np.isfinite(lists["similarity"]).all()


@pytest.mark.parametrize("type_", ["f32", "f16", "bf16", "u8"])
@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("d", [1, 31, 96, 385])
def test_single_scores(emulator: Emulator, type_: str, metric: str, d: int) -> None:
    queries, rows, _ = inputs(Case(type_, 33, 1, d, 1, metric))
    which = np.array([32, 0, 7, 7], dtype=np.uint32)
    every = emulator.score(queries[0], rows, metric, None)
    wanted = reference.similarities(queries, numbers(rows), metric)[0]
    scale = np.linalg.norm(queries) * np.linalg.norm(numbers(rows), axis=1).max()
    assert np.abs(every - wanted).max() <= TOLERANCE * max(scale, np.abs(wanted).max())
    assert np.array_equal(emulator.score(queries[0], rows, metric, which), every[which])
    addresses = np.uint64(rows.ctypes.data) + which.astype(np.uint64) * np.uint64(rows.strides[0])
    assert np.array_equal(emulator.score(queries[0], rows[:0], metric, None, addresses), every[which])


def test_bf16_patterns_round_to_nearest() -> None:
    values: Array = np.array([1.0, -2.5, 3.0 + 2**-8, 1 + 2**-7 + 2**-8], dtype=np.float32)
    assert numbers(bf16_bits(values)).tolist() == [1.0, -2.5, 3.0, 1 + 2**-6]
