"""The pq family's test body, for whatever runs it: the emulator in CI, a real device where there is one.

A runner has the three kernels over NumPy arrays; results are equal to tessella.reference bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from tests.device.kmeans_cases import Array, fused
from tests.device.rabitq_cases import HIT

__all__ = ["HIT", "Array", "Case", "Runner", "check", "inputs", "large_cases", "small_cases"]


class Runner(Protocol):
    def encode(self, rows: Array, bits: int, codebooks: Array, biases: Array) -> Array:
        """-> codes (n, pq_code_bytes)."""

    def tables(self, queries: Array, bits: int, codebooks: Array, metric: str) -> Array:
        """-> (nq, m, 2^bits)."""

    def scan(
        self, blocks: Array, n: int, bits: int, *, terms: bool, tables: Array, thresholds: Array, capacity: int
    ) -> tuple[Array, Array]:
        """-> hits (nq, capacity) of HIT, counts (nq)."""


@dataclass(frozen=True)
class Case:
    n: int
    m: int
    dims: int  # of a piece
    bits: int
    nq: int
    metric: str = "ip"
    terms: bool = False
    keep: float = 0.5  # share of the rows that reach the threshold
    data: str = "normal"  # or "ties": whole numbers, codewords that come twice; "zeros"
    seed: int = 0

    def __str__(self) -> str:
        shape = f"n{self.n}-m{self.m}x{self.dims}-{self.bits}bits-q{self.nq}-{self.metric}-{self.data}"
        return shape + ("-terms" if self.terms else "")


def inputs(case: Case) -> tuple[Array, Array, Array]:
    """Rows, codebooks and queries of a case."""
    rng = np.random.default_rng([case.seed, case.n, case.m, case.dims, case.bits])
    d, k = case.m * case.dims, 1 << case.bits
    rows, queries = rng.standard_normal((case.n, d)), rng.standard_normal((case.nq, d))
    codebooks = rng.standard_normal((case.m, case.dims, k))
    if case.data == "ties":
        rows, queries, codebooks = (np.rint(2 * x) for x in (rows, queries, codebooks))
        codebooks = codebooks[:, :, np.arange(k) // 2]
    if case.data == "zeros":
        rows, codebooks = 0 * rows, 0 * codebooks
    return rows.astype(np.float32), np.ascontiguousarray(codebooks, dtype=np.float32), queries.astype(np.float32)


def check(case: Case, runner: Runner, reference: Any) -> None:
    """Encodes, makes tables and scans one case; raises AssertionError with the case's name where a result is wrong."""
    rows, codebooks, queries = inputs(case)
    biases = reference.code_biases(codebooks)
    numbers = _encoded(rows, codebooks, biases, whole=case.data == "ties")
    codes = reference.pack_codes(numbers, case.bits)
    made = runner.encode(rows, case.bits, codebooks, biases)
    assert np.array_equal(made, codes), f"{case}: codes differ from the reference"

    wanted = np.stack([_table(query, codebooks, case.metric) for query in queries])
    tables = runner.tables(queries, case.bits, codebooks, case.metric)
    assert np.array_equal(tables, wanted), f"{case}: tables differ from the reference"

    terms = np.square(rows).sum(axis=1) if case.terms else None
    similarities = np.stack([reference.pq_sum(table, numbers) for table in wanted])
    similarities = similarities if terms is None else similarities - terms
    thresholds = np.quantile(similarities, 1 - case.keep, axis=1, method="higher").astype(np.float32)
    hits, counts = runner.scan(
        reference.pack_blocks(codes, case.m, case.bits, terms), case.n, case.bits, terms=case.terms, tables=wanted,
        thresholds=thresholds, capacity=case.n,
    )  # fmt: skip
    for i, similarity in enumerate(similarities):
        reached = np.flatnonzero(similarity >= thresholds[i])
        assert counts[i] == len(reached), f"{case}: query {i} has {counts[i]} hits, not {len(reached)}"
        found = np.sort(hits[i, : counts[i]], order="row")
        assert np.array_equal(found["row"], reached), f"{case}: rows differ from the reference"
        assert np.array_equal(found["estimate"], similarity[reached]), f"{case}: similarities differ"
        assert np.array_equal(found["upper"], similarity[reached]), f"{case}: bounds differ"


def _encoded(rows: Array, codebooks: Array, biases: Array, whole: bool) -> Array:
    """reference.pq_encode piece by piece, with sums that are rounded once, never twice; sums of whole numbers are exact
    in any order."""
    m, dims, _ = codebooks.shape
    pieces = rows.reshape(len(rows), m, dims)
    numbers = np.zeros((len(rows), m), dtype=np.uint8)
    for s in range(m):
        if whole:
            sums = pieces[:, s] @ codebooks[s] + biases[s]
        else:
            sums = np.broadcast_to(biases[s], (len(rows), biases.shape[1]))
            for j in range(dims):
                sums = fused(pieces[:, s, j, None], codebooks[s, None, j], sums)
        numbers[:, s] = sums.argmax(axis=1)
    return numbers


def _table(query: Array, codebooks: Array, metric: str) -> Array:
    """reference.pq_table likewise."""
    pieces = query.reshape(codebooks.shape[:2])
    sums = np.zeros((codebooks.shape[0], codebooks.shape[2]), dtype=np.float32)
    for j in range(codebooks.shape[1]):
        q, c = pieces[:, j, None], codebooks[:, j]
        sums = fused(q, c, sums) if metric == "ip" else fused(q - c, q - c, sums)
    return sums if metric == "ip" else np.float32(0) - sums


def small_cases() -> Iterator[Case]:
    """Odd sizes around warps, words and tiles; seconds on the emulator."""
    for step, n in enumerate((1, 7, 31, 33, 127)):
        for turn, bits in enumerate((4, 8)):
            m, dims = ((1, 1), (3, 2), (8, 4), (13, 9), (16, 8))[(step + turn) % 5]
            metric = ("ip", "l2")[(step + turn) % 2]
            yield Case(n, m, dims, bits, 1 + step, metric, terms=step % 2 == 0)
            yield Case(n, m, dims, bits, 1, metric, terms=step % 2 == 1, keep=1.0)
    for bits in (4, 8):
        yield Case(1601, 5, 3, bits, 6, "l2", terms=True, keep=0.05)  # tiles of rows; several turns of a warp
        yield Case(130, 7, 17, bits, 2, data="ties", keep=0.9)
        yield Case(40, 4, 2, bits, 3, data="zeros")
    yield Case(70, 25, 1, 8, 2)  # tables for one query in a block
    yield Case(70, 400, 1, 4, 2)
    yield Case(70, 161, 1, 8, 2, terms=True)  # tables too large for shared memory
    yield Case(35, 2570, 1, 4, 1)


def large_cases() -> Iterator[Case]:
    """Sizes that fill a device; whole numbers, because the plain loop takes its time."""
    for bits in (4, 8):
        yield Case(20_001, 48, 8, bits, 5, keep=0.01, data="ties")
        yield Case(20_003, 96, 4, bits, 1, "l2", terms=True, keep=0.2, data="ties")
        yield Case(1001, 30, 12, bits, 3, keep=0.1)
    yield Case(5000, 200, 2, 8, 2, keep=0.1, data="ties")
