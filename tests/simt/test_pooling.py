"""The CUDA sources of the pooling family, run by the emulator against the reference."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

import tessella as ts
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


LENGTHS = [7, 1, 5, 4, 0, 6]
LONGEST = max(LENGTHS)


def masked(*, flat: bool, rng: np.random.Generator) -> tuple[Array, Array, Array | None]:
    """States, a mask whose rows begin and end with tokens that do not count, and where flat rows lie."""
    rows = [rng.random(length) < 0.6 for length in (LENGTHS if flat else [LONGEST] * len(LENGTHS))]
    rows[0][:3] = False, False, True
    rows[2][:] = False
    rows[3][[0, -1]] = False
    mask = np.concatenate(rows) if flat else np.stack(rows)
    hidden = rng.standard_normal((*mask.shape, 20)).astype(np.float32)
    return hidden, mask, np.cumsum([0, *LENGTHS]) if flat else None


@pytest.mark.parametrize("spans", [None, [[0, 1, 6], [5, 0, 3], [2, 1, 4]]], ids=["rows", "spans"])
@pytest.mark.parametrize("skip", [None, 1])
@pytest.mark.parametrize("flat", [True, False], ids=["flat", "padded"])
def test_rows_begin_where_a_token_counts_as_on_the_cpu(
    emulator: Runner, flat: bool, skip: int | None, spans: Any, rng: np.random.Generator
) -> None:
    """The segments that the door of the CUDA column makes, in the kernels, are what `ts.pool` takes on the CPU."""
    torch = pytest.importorskip("torch", reason="the CUDA door takes torch tensors")
    door = importlib.import_module("tessella._cuda_pooling")
    hidden, mask, starts = masked(flat=flat, rng=rng)
    states = torch.from_numpy(hidden)
    segments = door._segments(torch, states, torch.from_numpy(mask), starts, spans, skip).numpy().astype(np.uint64)
    given = {"mode": MODES, "cu_seqlens": starts, "spans": None if spans is None else np.array(spans)}
    given |= {"instruction_lengths": skip}
    counted = mask.astype(np.uint8)
    found = emulator.pool(hidden, counted, segments, MODES, None, hidden.shape[-1], "float32")
    assert np.abs(found - ts.pool(hidden, mask, **given)).max() <= 2e-6
    pooled = rng.standard_normal(found.shape).astype(np.float32)
    (torch.from_numpy(pooled) * ts.pool(states.requires_grad_(), mask, normalize=False, **given)).sum().backward()
    gradient = emulator.gradient(hidden, counted, segments, MODES, pooled)
    assert np.abs(gradient - states.grad.numpy()).max() <= 4e-6 * max(1.0, np.abs(gradient).max())
