"""The CUDA sources of the k-means family, run by the emulator against the reference."""

from __future__ import annotations

import numpy as np
import pytest

from tests.device.kmeans_cases import Array, Case, check, fused, inputs, small_cases
from tests.simt.emulator import Emulator

ORDERS = {"forward": 0, "backward": 1, "shuffled": 7}


class Runner(Emulator):
    def assign(self, rows: Array, centroids: Array, offsets: Array | None) -> tuple[Array, Array]:
        nearest = np.full(len(rows), 0xFFFFFFFF, dtype=np.uint32)
        similarity = np.full(len(rows), np.nan, dtype=np.float32)
        self.call(
            "simt_kmeans_assign",
            rows,
            len(rows),
            rows.shape[1],
            centroids,
            offsets,
            len(centroids),
            nearest,
            similarity,
        )
        return nearest, similarity


@pytest.fixture(scope="module")
def emulator() -> Runner:
    return Runner()


@pytest.mark.parametrize("case", list(small_cases()), ids=str)
def test_assignment_equals_the_reference(emulator: Runner, case: Case) -> None:
    check(case, emulator.assign)


@pytest.mark.parametrize("order", ["backward", "shuffled"])
@pytest.mark.parametrize("case", [Case(130, 40, 300), Case(600, 8, 130, data="ties")], ids=str)
def test_the_order_of_threads_and_blocks_does_not_matter(emulator: Runner, case: Case, order: str) -> None:
    emulator.order(ORDERS[order])
    try:
        check(case, emulator.assign)
    finally:
        emulator.order(ORDERS["forward"])


def test_no_rows_are_no_work(emulator: Runner) -> None:
    rows, centroids, offsets = inputs(Case(3, 8, 5))
    nearest, similarity = emulator.assign(rows[:0], centroids, offsets)
    assert nearest.shape == similarity.shape == (0,)


def test_a_row_of_nan_is_given_the_first_centroid(emulator: Runner) -> None:
    rows, centroids, offsets = inputs(Case(40, 8, 300))
    rows[7, 3] = np.nan
    nearest, similarity = emulator.assign(rows, centroids, offsets)
    assert nearest[7] == 0
    assert similarity[7] == -np.inf
    assert np.isfinite(np.delete(similarity, 7)).all()


def test_the_reference_rounds_once() -> None:
    """1 + 2^-24 + 2^-60 lies above the middle of two floats; rounded twice it would fall on it."""
    one = np.float32(1)
    a, b = np.array([2.0**-12 * (1 + 2.0**-12)], dtype=np.float32), np.array([2.0**-12], dtype=np.float32)
    assert fused(a, b, np.array([one])) == np.float32(1 + 2.0**-23)
    tiny = np.array([2.0**-30], dtype=np.float32)
    assert fused(tiny, -tiny, np.array([1 + 2.0**-23], dtype=np.float32)) == np.float32(1 + 2.0**-23)
