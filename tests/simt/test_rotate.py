"""The CUDA sources of the rotate family, run by the emulator against the reference."""

from __future__ import annotations

import numpy as np
import pytest

from tessella.reference import rotate as reference
from tests.device.rotate_cases import Array, Case, check, small_cases
from tests.simt.emulator import Emulator

ORDERS = {"forward": 0, "backward": 1, "shuffled": 7}


class Runner(Emulator):
    def rotate(self, rows: Array, signs: Array, centre: Array | None) -> Array:
        (n, d), padded = rows.shape, 64 * signs.shape[1]
        out = np.full((n, padded), np.nan, np.float32)
        self.call("simt_rotate_forward", signs, rows, n, d, centre, out)
        return out


@pytest.fixture(scope="module")
def emulator() -> Runner:
    return Runner()


@pytest.mark.parametrize("case", list(small_cases()), ids=str)
def test_rotation_equals_the_reference(emulator: Runner, case: Case) -> None:
    check(case, emulator.rotate, reference)


@pytest.mark.parametrize("order", ["backward", "shuffled"])
def test_the_order_of_threads_and_blocks_does_not_matter(emulator: Runner, order: str) -> None:
    emulator.order(ORDERS[order])
    try:
        check(Case(3, 700, centred=True), emulator.rotate, reference)
    finally:
        emulator.order(ORDERS["forward"])


def test_too_many_dimensions_are_a_sentence(emulator: Runner) -> None:
    rows, signs = np.zeros((1, 41000), np.float32), reference.rotate_signs(reference.padded_dim(41000))
    with pytest.raises(RuntimeError, match="rotate_forward: expected at most 40960 dimensions; got 41000"):
        emulator.rotate(rows, signs, None)
