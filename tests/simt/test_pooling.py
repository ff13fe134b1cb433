"""The CUDA sources of the pooling family, run by the emulator against the reference."""

from __future__ import annotations

import numpy as np
import pytest

from tests.device.pooling_cases import DTYPES, MODES, Array, Case, GradientCase, check, check_gradient, small_cases
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

    def gradient(self, hidden: Array, mask: Array, segments: Array, modes: tuple[str, ...], pooled: Array) -> Array:
        return self.columns_of_gradient(hidden, mask, segments, modes, pooled, 0, hidden.shape[-1])

    def columns_of_gradient(
        self, hidden: Array, mask: Array, segments: Array, modes: tuple[str, ...], pooled: Array, first: int, count: int
    ) -> Array:
        gradient = np.zeros(hidden.shape, np.float32)
        order = np.sort(segments[:, [0, 2]].astype(np.int64), axis=0)
        self.call(
            "simt_pooling_backward", hidden, TYPES[hidden.dtype.name], hidden.shape[-1], mask, segments, len(segments),
            np.array([MODES.index(mode) for mode in modes], np.uint8), len(modes), pooled, first, count,
            int((order[1:, 0] >= order[:-1, 1]).all()), gradient,
        )  # fmt: skip
        return gradient


@pytest.fixture(scope="module")
def emulator() -> Runner:
    return Runner()


@pytest.mark.parametrize("case", list(small_cases()), ids=str)
def test_pooling_equals_the_reference(emulator: Runner, case: Case | GradientCase) -> None:
    check(case, emulator)


@pytest.mark.parametrize("order", ["backward", "shuffled"])
def test_the_order_of_threads_and_blocks_does_not_matter(emulator: Runner, order: str) -> None:
    emulator.order(ORDERS[order])
    try:
        check(Case(5, 12, 70, MODES, holes=True, dense=9), emulator)
    finally:
        emulator.order(ORDERS["forward"])


def test_too_many_numbers_get_a_sentence(emulator: Runner) -> None:
    with pytest.raises(RuntimeError, match="pool: expected at most 32768 pooled and projected numbers"):
        check(Case(1, 1, 40_000), emulator)


@pytest.mark.parametrize("order", ["backward", "shuffled"])
@pytest.mark.parametrize("spans", [False, True])
def test_the_order_of_threads_and_blocks_does_not_matter_to_gradients(
    emulator: Runner, order: str, spans: bool
) -> None:
    found: list[Array] = []

    def kept(*given: Array) -> Array:
        found.append(emulator.gradient(*given))
        return found[-1]

    case = GradientCase(6, 40, 37, MODES, skip=2, spans=spans)
    check_gradient(case, kept)
    emulator.order(ORDERS[order])
    try:
        check_gradient(case, kept)
    finally:
        emulator.order(ORDERS["forward"])
    assert np.array_equal(found[0].view(np.uint32), found[1].view(np.uint32))


def test_columns_of_a_gradient(emulator: Runner) -> None:
    """Callers may share the columns, wherever they cut them."""

    def joined(*given: Array) -> Array:
        parts = [emulator.columns_of_gradient(*given, first, count) for first, count in ((0, 8), (8, 33), (41, 9))]
        assert not (parts[1] != 0)[..., :8].any() and not (parts[1] != 0)[..., 41:].any()
        return parts[0] + parts[1] + parts[2]

    check_gradient(GradientCase(4, 9, 50, MODES), joined)
