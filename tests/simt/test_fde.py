"""The CUDA sources of the fde family, run by the emulator against the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tessella.reference import fde as reference
from tests.device.fde_cases import FILLS, Array, Case, check, small_cases
from tests.simt.emulator import TYPES, Emulator

ORDERS = {"forward": 0, "backward": 1, "shuffled": 7}


class Runner(Emulator):
    def encode(
        self, tokens: Array, offsets: Array, planes: Array, projection: Any, queries: bool, fill: str, halves: bool
    ) -> Array:
        (r, k_sim, d), n = planes.shape, len(offsets) - 1
        index, signs, p = projection if isinstance(projection, tuple) else (None, None, 0)
        matrix = None if isinstance(projection, tuple) else projection
        p = p or (d if matrix is None else matrix.shape[1])
        out = np.full((n, (r << k_sim) * p), np.nan, np.float16 if halves else np.float32)
        self.call(
            "simt_fde_encode", tokens, TYPES[tokens.dtype.name], len(tokens), offsets, n, d, r, k_sim, p, planes,
            matrix, index, signs, int(queries), FILLS.index(fill), TYPES[out.dtype.name], out,
        )  # fmt: skip
        return out


@pytest.fixture(scope="module")
def emulator() -> Runner:
    return Runner()


@pytest.mark.parametrize("case", list(small_cases()), ids=str)
def test_encodings_equal_the_reference(emulator: Runner, case: Case) -> None:
    check(case, emulator.encode, reference)


@pytest.mark.parametrize("order", ["backward", "shuffled"])
def test_the_order_of_threads_and_blocks_does_not_matter(emulator: Runner, order: str) -> None:
    emulator.order(ORDERS[order])
    try:
        check(Case((20, 0, 9), 16, 3, 8, repetitions=5, fill="nearest"), emulator.encode, reference)
    finally:
        emulator.order(ORDERS["forward"])


def test_cells_that_do_not_fit_are_a_sentence(emulator: Runner) -> None:
    tokens, planes = np.zeros((1, 4), np.float32), np.zeros((1, 12, 4), np.float32)
    projection = np.zeros((1, 16, 4), np.float32)
    with pytest.raises(RuntimeError, match=r"fde_encode: expected no final sketch, .*40960 numbers of shared memory"):
        emulator.encode(tokens, np.array([0, 1]), planes, projection, False, "none", False)
