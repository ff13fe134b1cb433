"""The CUDA sources of the pq family, run by the emulator against the reference."""

from __future__ import annotations

import numpy as np
import pytest

from tessella.reference import pq as reference
from tests.device.pq_cases import HIT, Array, Case, check, inputs, small_cases
from tests.simt.emulator import Emulator

ORDERS = {"forward": 0, "backward": 1, "shuffled": 7}


class Runner(Emulator):
    def encode(self, rows: Array, bits: int, codebooks: Array, biases: Array) -> Array:
        (n, d), m = rows.shape, len(codebooks)
        codes = np.full((n, -(-m * bits // 8)), 0xAA, np.uint8)
        self.call("simt_pq_encode", rows, n, d, m, bits, codebooks, biases, codes)
        return codes

    def tables(self, queries: Array, bits: int, codebooks: Array, metric: str) -> Array:
        (nq, d), m = queries.shape, len(codebooks)
        tables = np.full((nq, m, 1 << bits), np.nan, np.float32)
        self.call("simt_pq_table", queries, nq, d, m, bits, codebooks, metric == "l2", tables)
        return tables

    def scan(
        self, blocks: Array, n: int, bits: int, *, terms: bool, tables: Array, thresholds: Array, capacity: int
    ) -> tuple[Array, Array]:
        nq, m, _ = tables.shape
        hits, counts = np.full((nq, capacity), -1, np.int32).astype(HIT), np.full(nq, 77, np.uint32)
        self.call("simt_pq_scan", blocks, n, m, bits, terms, tables, nq, thresholds, hits, capacity, counts)
        return hits, counts


@pytest.fixture(scope="module")
def emulator() -> Runner:
    return Runner()


@pytest.mark.parametrize("case", list(small_cases()), ids=str)
def test_codes_tables_and_hits_equal_the_reference(emulator: Runner, case: Case) -> None:
    check(case, emulator, reference)


@pytest.mark.parametrize("order", ["backward", "shuffled"])
@pytest.mark.parametrize("case", [Case(1100, 6, 10, 4, 5), Case(300, 6, 10, 8, 3, terms=True)], ids=str)
def test_the_order_of_threads_and_blocks_does_not_matter(emulator: Runner, case: Case, order: str) -> None:
    emulator.order(ORDERS[order])
    try:
        check(case, emulator, reference)
    finally:
        emulator.order(ORDERS["forward"])


@pytest.mark.parametrize("bits", [4, 8])
def test_hits_without_room_are_counted_and_rows_behind_the_last_are_not(emulator: Runner, bits: int) -> None:
    rows, codebooks, queries = inputs(Case(100, 6, 2, bits, 2))
    codes = emulator.encode(rows, bits, codebooks, reference.code_biases(codebooks))
    tables = emulator.tables(queries, bits, codebooks, "ip")
    blocks = reference.pack_blocks(codes, 6, bits)
    every = np.full(2, -np.inf, np.float32)
    hits, counts = emulator.scan(blocks, 97, bits, terms=False, tables=tables, thresholds=every, capacity=40)
    assert counts.tolist() == [97, 97]
    assert all(len(set(row)) == 40 for row in hits["row"].tolist())
    hits, counts = emulator.scan(blocks, 97, bits, terms=False, tables=tables, thresholds=every, capacity=97)
    assert np.array_equal(np.sort(hits["row"]), np.tile(np.arange(97), (2, 1)))
    assert emulator.scan(blocks, 97, bits, terms=False, tables=tables, thresholds=-every, capacity=97)[1].max() == 0
    assert emulator.scan(blocks, 0, bits, terms=False, tables=tables, thresholds=every, capacity=97)[1].max() == 0


def test_the_wrong_number_of_bits_is_a_sentence(emulator: Runner) -> None:
    with pytest.raises(RuntimeError, match="pq_table: expected 4 or 8 bits; got 5"):
        emulator.tables(np.ones((1, 4), dtype=np.float32), 5, np.ones((2, 2, 32), dtype=np.float32), "ip")
