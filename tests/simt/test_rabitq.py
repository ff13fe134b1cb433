"""The CUDA sources of the rabitq family, run by the emulator against the reference."""

from __future__ import annotations

import numpy as np
import pytest

from tessella.reference import rabitq as reference
from tests.device.rabitq_cases import HIT, Array, Case, check, inputs, small_cases
from tests.simt.emulator import Emulator

ORDERS = {"forward": 0, "backward": 1, "shuffled": 7}


class Runner(Emulator):
    def encode(self, residuals: Array) -> tuple[Array, Array]:
        n, padded = residuals.shape
        bits, factors = np.full((n, padded // 8), 0xAA, np.uint8), np.full((n, 3), np.nan, np.float32)
        self.call("simt_rabitq_encode", residuals, n, padded, bits, factors)
        return bits, factors

    def planes(self, queries: Array, planes: int) -> tuple[Array, Array, Array]:
        nq, padded = queries.shape
        words = np.full((nq, padded // 32, planes), 0xAAAAAAAA, np.uint32)
        steps, sums = np.full(nq, np.nan, np.float32), np.full(nq, -77, np.int32)
        self.call("simt_rabitq_planes", queries, nq, padded, words, steps, sums, planes)
        return words, steps, sums

    def scan(
        self, queries: Array, blocks: Array, n: int, *, terms: bool, planes: int, factor: float, adds: Array,
        epsilons: Array, thresholds: Array, capacity: int, allowed: Array | None = None,
    ) -> tuple[Array, Array]:  # fmt: skip
        nq, padded = queries.shape
        hits, counts = np.full((nq, capacity), -1, np.int32).astype(HIT), np.full(nq, 77, np.uint32)
        self.call(
            "simt_rabitq_scan", blocks, n, padded, terms, *self.planes(queries, planes), planes, nq, factor, adds,
            epsilons, thresholds, hits, capacity, counts, *_words(allowed),
        )  # fmt: skip
        return hits, counts


def _words(allowed: Array | None) -> tuple[Array | None, int]:
    """A word for each block of rows, and how many words each query has of its own."""
    if allowed is None:
        return None, 0
    bits = np.pad(allowed, [(0, 0)] * (allowed.ndim - 1) + [(0, -allowed.shape[-1] % 32)])
    words = np.packbits(bits, axis=-1, bitorder="little").view(np.uint32)
    return np.ascontiguousarray(words), words.shape[-1] if allowed.ndim == 2 else 0


@pytest.fixture(scope="module")
def emulator() -> Runner:
    return Runner()


@pytest.mark.parametrize("case", list(small_cases()), ids=str)
def test_codes_planes_and_hits_equal_the_reference(emulator: Runner, case: Case) -> None:
    check(case, emulator, reference)


@pytest.mark.parametrize("order", ["backward", "shuffled"])
@pytest.mark.parametrize("case", [Case(1100, 192, 5, terms=True), Case(300, 64, 3, planes=4)], ids=str)
def test_the_order_of_threads_and_blocks_does_not_matter(emulator: Runner, case: Case, order: str) -> None:
    emulator.order(ORDERS[order])
    try:
        check(case, emulator, reference)
    finally:
        emulator.order(ORDERS["forward"])


def scan_all(emulator: Runner, n: int, capacity: int, nq: int = 2, threshold: float = -np.inf) -> tuple[Array, Array]:
    residuals, queries = inputs(Case(100, 64, nq))
    ones = np.ones(nq, dtype=np.float32)
    blocks = reference.pack_blocks(reference.rabitq_encode(residuals), "ip")
    return emulator.scan(
        queries, blocks, n, terms=False, planes=8, factor=1.0, adds=ones, epsilons=ones,
        thresholds=np.full(nq, threshold, dtype=np.float32), capacity=capacity,
    )  # fmt: skip


def test_hits_without_room_are_counted(emulator: Runner) -> None:
    hits, counts = scan_all(emulator, 100, 40)
    assert counts.tolist() == [100, 100]
    assert all(len(set(row)) == 40 for row in hits["row"].tolist())


def test_rows_behind_the_last_are_not_found(emulator: Runner) -> None:
    hits, counts = scan_all(emulator, 33, 100)
    assert counts.tolist() == [33, 33]
    assert np.array_equal(np.sort(hits["row"][:, :33]), np.tile(np.arange(33), (2, 1)))


def test_one_row_that_may_be_found_is_found_by_every_query(emulator: Runner) -> None:
    residuals, queries = inputs(Case(96, 64, 2))
    blocks = reference.pack_blocks(reference.rabitq_encode(residuals), "ip")
    allowed = np.zeros(96, bool)
    allowed[70] = True
    ones = np.ones(2, np.float32)
    hits, counts = emulator.scan(
        queries, blocks, 96, terms=False, planes=8, factor=1.0, adds=ones, epsilons=ones,
        thresholds=np.full(2, -np.inf, np.float32), capacity=4, allowed=allowed,
    )  # fmt: skip
    assert counts.tolist() == [1, 1] and hits["row"][:, 0].tolist() == [70, 70]


def test_nothing_reaches_an_infinite_threshold(emulator: Runner) -> None:
    assert scan_all(emulator, 100, 100, nq=3, threshold=np.inf)[1].tolist() == [0, 0, 0]
    assert scan_all(emulator, 0, 100)[1].tolist() == [0, 0]


def test_the_wrong_number_of_planes_is_a_sentence(emulator: Runner) -> None:
    with pytest.raises(RuntimeError, match="rabitq_planes: expected 4 or 8 planes; got 5"):
        emulator.planes(np.ones((1, 64), dtype=np.float32), 5)


def test_eight_planes_lose_next_to_nothing() -> None:
    """Of an estimate's variance, 4 planes cost about 2 percent and 8 planes about 0.01."""
    rng = np.random.default_rng(5)
    signs = np.sign(rng.standard_normal((2000, 256)))
    bits = np.packbits(signs > 0, axis=1, bitorder="little")
    query = rng.standard_normal(256).astype(np.float32)
    exact = signs @ query.astype(np.float64)
    for count, limit in ((8, 2e-4), (4, 6e-2)):
        planes = reference.rabitq_planes(query, count)
        error = planes.step * reference.plane_sums(planes, bits) - exact
        assert np.mean(error**2) < limit * np.mean(exact**2)
