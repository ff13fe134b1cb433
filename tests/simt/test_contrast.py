"""The CUDA sources of the contrast family, run by the emulator against the reference."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

from tests.device.contrast_cases import Array, Case, check, inputs, small_cases
from tests.simt.emulator import Emulator

ORDERS = {"forward": 0, "backward": 1, "shuffled": 7}
ARRAYS = (
    "rows", "columns", "row_scale", "column_scale", "hardness", "row_bound", "row_ids", "column_ids", "row_groups",
    "column_groups", "guide_rows", "guide_columns", "guide_bound", "prefixes",
)  # fmt: skip
SIZES = ("n", "c", "d", "p", "k_ids", "guide_d", "softplus")


class Job:
    """The struct of contrast_library.cpp, eight bytes a member, over arrays that it keeps alive."""

    def __init__(self, given: dict[str, Array | None], rules: dict[str, Any]) -> None:
        rows, columns = given["rows"], given["columns"]
        assert rows is not None and columns is not None
        ids, groups, guide = rules.get("ids", []), rules.get("groups"), rules.get("guide")
        self.kept: dict[str, Array | None] = dict(given) | {
            "hardness": rules.get("hardness"),
            "row_bound": rules.get("row_bound"),
            "row_ids": np.stack([each[0] for each in ids]) if ids else None,
            "column_ids": np.stack([each[1] for each in ids]) if ids else None,
            "row_groups": groups[0] if groups else None,
            "column_groups": groups[1] if groups else None,
            "prefixes": np.array(rules["dims"], np.uint32),
        }
        for i, name in enumerate(("guide_rows", "guide_columns", "guide_bound")):
            self.kept[name] = guide[i] if guide else None
        self.sizes = {
            "n": len(rows),
            "c": len(columns),
            "d": rows.shape[1],
            "p": len(rules["dims"]),
            "k_ids": len(ids),
            "guide_d": guide[0].shape[1] if guide else 0,
            "softplus": int(rules.get("reduce") == "softplus"),
        }
        members = [0 if (x := self.kept[name]) is None else x.ctypes.data for name in ARRAYS]
        self.block = np.array(members + [self.sizes[name] for name in SIZES], np.uint64)


class Runner(Emulator):
    def forward(self, given: dict[str, Array | None], rules: dict[str, Any]) -> Array:
        job = Job(given, rules)
        out = np.full((job.sizes["p"], job.sizes["n"]), np.nan, np.float32)
        self.call("simt_contrast_forward", job.block, out)
        return out

    def backward(
        self, given: dict[str, Array | None], rules: dict[str, Any], out: Array, out_gradient: Array
    ) -> tuple[Array | None, ...]:
        job = Job(given, rules)
        found = [None if x is None else np.zeros_like(x) for x in given.values()]
        self.call("simt_contrast_backward", job.block, out, out_gradient, *found)
        return tuple(found)


@pytest.fixture(scope="module")
def emulator() -> Runner:
    return Runner()


def test_the_job_is_laid_out_as_c_does() -> None:
    assert ctypes.sizeof(ctypes.c_void_p) == ctypes.sizeof(ctypes.c_size_t) == 8


@pytest.mark.parametrize("case", list(small_cases()), ids=str)
def test_sums_and_gradients_equal_the_reference(emulator: Runner, case: Case) -> None:
    check(case, emulator)


@pytest.mark.parametrize("order", ["backward", "shuffled"])
def test_the_order_of_threads_and_blocks_does_not_matter(emulator: Runner, order: str) -> None:
    emulator.order(ORDERS[order])
    try:
        check(Case(129, 140, 20, "hbigu", dims=2), emulator)
    finally:
        emulator.order(ORDERS["forward"])


def test_a_row_without_pairs(emulator: Runner) -> None:
    given, rules, weights = inputs(Case(40, 150, 8))
    rules["ids"] = [(np.array([3] + [0] * 39, np.int32), np.full(150, 3, np.int32))]
    out = emulator.forward(given, rules)
    assert out[0, 0] == -np.inf and np.isfinite(out[0, 1:]).all()
    found = emulator.backward(given, rules, out, weights)
    assert found[0] is not None and not found[0][0].any()
    assert all(x is None or np.isfinite(x).all() for x in found)


def test_no_rows_and_no_columns_are_no_work(emulator: Runner) -> None:
    given, rules, _ = inputs(Case(4, 5, 3))
    none = {**given, "columns": given["columns"][:0], "column_scale": None}  # type: ignore[index]
    assert (emulator.forward(none, rules) == -np.inf).all()
    assert not emulator.forward(none, rules | {"reduce": "softplus"}).any()
    nobody = {**given, "rows": given["rows"][:0], "row_scale": np.zeros((1, 0), np.float32)}  # type: ignore[index]
    assert emulator.forward(nobody, rules).shape == (1, 0)
