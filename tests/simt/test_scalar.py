"""The CUDA sources of the scalar family, run by the emulator against the reference."""

from __future__ import annotations

import numpy as np
import pytest

from tessella.reference import scalar as reference
from tests.device.scalar_cases import Array, Case, check, inputs, small_cases
from tests.simt.emulator import Emulator

ORDERS = {"forward": 0, "backward": 1, "shuffled": 7}


class Runner(Emulator):
    def encode(self, residuals: Array, bits: int, grid: str) -> tuple[Array, Array, Array]:
        n, padded = residuals.shape
        codes = np.full((n, padded * bits // 8), 0xAA, np.uint8)
        scales, norms2 = np.full(n, np.nan, np.float32), np.full(n, np.nan, np.float32)
        self.call("simt_scalar_encode", residuals, n, padded, bits, grid == "lloyd", codes, scales, norms2)
        return codes, scales, norms2


@pytest.fixture(scope="module")
def emulator() -> Runner:
    return Runner()


@pytest.mark.parametrize("case", list(small_cases()), ids=str)
def test_codes_equal_the_reference(emulator: Runner, case: Case) -> None:
    check(case, emulator.encode, reference)


@pytest.mark.parametrize("order", ["backward", "shuffled"])
def test_the_order_of_threads_and_blocks_does_not_matter(emulator: Runner, order: str) -> None:
    emulator.order(ORDERS[order])
    try:
        check(Case(70, 192, 7), emulator.encode, reference)
    finally:
        emulator.order(ORDERS["forward"])


def test_norms_may_be_left_out(emulator: Runner) -> None:
    residuals = inputs(Case(9, 64, 8))
    codes, scales = np.zeros((9, 64), np.uint8), np.zeros(9, np.float32)
    emulator.call("simt_scalar_encode", residuals, 9, 64, 8, False, codes, scales, None)
    assert np.array_equal(codes, reference.scalar_encode(residuals, 8).codes)


def test_the_wrong_number_of_bits_is_a_sentence(emulator: Runner) -> None:
    with pytest.raises(RuntimeError, match="scalar_encode: expected 2 to 8 bits; got 1"):
        emulator.encode(np.ones((1, 64), dtype=np.float32), 1, "uniform")
