"""The CUDA sources of the pooling family, run by the emulator against the reference."""

from __future__ import annotations

import numpy as np
import pytest

from tests.device.pooling_cases import DTYPES, MODES, Array, Case, check, small_cases
from tests.simt.emulator import TYPES, Emulator

ORDERS = {"forward": 0, "backward": 1, "shuffled": 7}
RESULTS = {"float32": np.float32, "float16": np.float16, "int8": np.int8, "binary": np.uint8}


class Runner(Emulator):
    def pool(
        self, hidden: Array, mask: Array, segments: Array, modes: tuple[str, ...],
        dense: tuple[Array, Array] | None, dim: int, dtype: str,
    ) -> Array:  # fmt: skip
        width = dim if dense else len(modes) * dim
        out = np.full((len(segments), (width + 7) // 8 if dtype == "binary" else width), 77, RESULTS[dtype])
        weight, bias = dense or (None, None)
        self.call(
            "simt_pooling_forward", hidden, TYPES[hidden.dtype.name], hidden.shape[-1], mask, segments, len(segments),
            np.array([MODES.index(mode) for mode in modes], np.uint8), len(modes), weight, bias, dim, 1,
            DTYPES.index(dtype), np.full(width, 127, np.float32), out,
        )  # fmt: skip
        return out


@pytest.fixture(scope="module")
def emulator() -> Runner:
    return Runner()


@pytest.mark.parametrize("case", list(small_cases()), ids=str)
def test_pooling_equals_the_reference(emulator: Runner, case: Case) -> None:
    check(case, emulator.pool)


@pytest.mark.parametrize("order", ["backward", "shuffled"])
def test_the_order_of_threads_and_blocks_does_not_matter(emulator: Runner, order: str) -> None:
    emulator.order(ORDERS[order])
    try:
        check(Case(5, 12, 70, MODES, holes=True, dense=9), emulator.pool)
    finally:
        emulator.order(ORDERS["forward"])


def test_too_many_numbers_get_a_sentence(emulator: Runner) -> None:
    with pytest.raises(RuntimeError, match="pool: expected at most 32768 pooled and projected numbers"):
        check(Case(1, 1, 40_000), emulator.pool)
