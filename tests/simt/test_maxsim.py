"""The CUDA sources of the maxsim family, run by the emulator against the reference."""

from __future__ import annotations

import numpy as np
import pytest

from tessella.reference import maxsim as reference
from tests.device.maxsim_cases import Array, Case, Inputs, check, inputs, small_cases
from tests.simt.emulator import Emulator

ORDERS = {"forward": 0, "backward": 1, "shuffled": 7}
KINDS = ("f32", "f16", "bf16", "i8", "n4")


class Runner(Emulator):
    def score(self, given: Inputs) -> Array:
        nq = len(given.query_offsets) - 1
        scores = np.full((nq, given.count), np.nan, dtype=np.float32)
        self.call(
            "simt_maxsim_score",
            given.queries,
            given.query_scales,
            given.query_offsets,
            nq,
            given.tokens,
            KINDS.index(given.kind),
            given.scales,
            given.begins,
            given.ends,
            given.queries.shape[1],
            given.which,
            given.count,
            scores,
        )
        return scores


@pytest.fixture(scope="module")
def emulator() -> Runner:
    return Runner()


@pytest.mark.parametrize("case", list(small_cases()), ids=str)
def test_scores_equal_the_reference(emulator: Runner, case: Case) -> None:
    check(case, emulator.score, reference)


@pytest.mark.parametrize("order", ["backward", "shuffled"])
def test_the_order_of_threads_and_blocks_does_not_matter(emulator: Runner, order: str) -> None:
    emulator.order(ORDERS[order])
    try:
        check(Case((20, 3, 0, 45), 40, query_lengths=(35, 2)), emulator.score, reference)
    finally:
        emulator.order(ORDERS["forward"])


def test_more_than_fits_is_refused(emulator: Runner) -> None:
    with pytest.raises(RuntimeError, match="at most 65535 queries of at most 1024 dimensions; got 1 of 1025"):
        emulator.score(inputs(Case((2,), 1025)))
    assert emulator.score(inputs(Case((), 8))).shape == (1, 0)
