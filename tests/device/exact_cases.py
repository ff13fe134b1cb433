"""The exact scan's test body, for whatever runs it: the emulator in CI, a real device where there is one.

A runner is a function `search(queries, rows, k, metric, ids) -> (scores, ids)` over NumPy arrays: queries float32,
rows float32, float16, uint8, or uint16 that holds bfloat16 patterns. `check` compares it with tessella.reference.
Plain Python and NumPy: `make gpu` runs this file without pytest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Search = Callable[[Array, Array, int, str, "Array | None"], tuple[Array, Array]]
Reference = Callable[..., tuple[Array, Array]]

TYPES = ("f32", "f16", "bf16", "u8")
# Of a final score, in units of |q| |x| (or of the squared distance): f32 sums over the stored values.
TOLERANCE = 2e-6


@dataclass(frozen=True)
class Case:
    type: str
    n: int
    nq: int
    d: int
    k: int
    metric: str
    data: str = "normal"  # or "integers", "duplicates", "ascending": sums are exact, results must be equal
    own_ids: bool = False
    seed: int = 0

    def __str__(self) -> str:
        shape = f"{self.type}-n{self.n}-q{self.nq}-d{self.d}-k{self.k}-{self.metric}-{self.data}"
        return shape + ("-ids" if self.own_ids else "") + (f"-seed{self.seed}" if self.seed else "")


def bf16_bits(x: Array) -> Array:
    """float32 to the nearest bfloat16, as uint16 patterns."""
    bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def stored(values: Array, type_: str) -> Array:
    if type_ == "bf16":
        return bf16_bits(values)
    return values.astype({"f32": np.float32, "f16": np.float16, "u8": np.uint8}[type_])


def numbers(rows: Array) -> Array:
    """Stored rows as the numbers they stand for."""
    if rows.dtype == np.uint16:
        return (rows.astype(np.uint32) << 16).view(np.float32)
    return rows.astype(np.float32)


def inputs(case: Case) -> tuple[Array, Array, Array | None]:
    """Queries, stored rows and ids of a case."""
    rng = np.random.default_rng([case.seed, case.n, case.nq, case.d, case.k])
    low = 0 if case.type == "u8" else -4
    if case.data == "normal":
        queries = rng.standard_normal((case.nq, case.d))
        rows = rng.standard_normal((case.n, case.d))
        if case.type == "u8":
            rows = rng.integers(0, 256, (case.n, case.d)).astype(np.float64)
    else:
        queries = rng.integers(-4, 5, (case.nq, case.d)).astype(np.float64)
        rows = rng.integers(low, 5, (case.n, case.d)).astype(np.float64)
    if case.data == "duplicates":
        rows = rows[rng.integers(0, max(1, case.n // 40), case.n)]
    if case.data == "ascending":  # every row beats all before it, for every query
        queries = np.ones((case.nq, case.d))
        rows = np.zeros((case.n, case.d))
        rows[:, 0] = np.arange(case.n) // 8
        rows[:, 1:2] = np.arange(case.n)[:, None] % 8
        rows *= [1.0 if case.metric == "ip" else 0.125] * case.d
        if case.metric == "ip":
            queries[:, 0] = 8
        else:
            queries[:] = 0
            rows = rows[::-1]
    ids = rng.permutation(case.n * 3)[: case.n].astype(np.int64) if case.own_ids else None
    return queries.astype(np.float32), np.ascontiguousarray(stored(rows, case.type)), ids


def check(case: Case, search: Search, reference: Reference) -> None:
    """Runs one case; raises AssertionError with the case's name where the result is wrong."""
    queries, rows, ids = inputs(case)
    scores, found = search(queries, rows, case.k, case.metric, ids)
    values = numbers(rows)
    wanted, wanted_ids = reference(queries, values, case.k, case.metric, ids)
    sign = -1.0 if case.metric == "l2" else 1.0  # scores are distances under L2, similarities in the reference
    assert scores.shape == found.shape == (case.nq, case.k), f"{case}: shape {scores.shape}"
    full = min(case.k, case.n)
    assert (found[:, full:] == -1).all(), f"{case}: rows in slots that should be empty"
    assert (sign * scores[:, full:] == -np.inf).all(), f"{case}: scores in slots that should be empty"
    assert (found[:, :full] >= 0).all(), f"{case}: empty slots although there are rows"
    if case.data != "normal":
        assert np.array_equal(sign * scores, wanted), f"{case}: scores differ from the reference"
        assert np.array_equal(found, wanted_ids), f"{case}: ids differ from the reference"
        return
    _check_close(case, queries, values, ids, sign * scores[:, :full], found[:, :full], wanted[:, :full])


def _check_close(
    case: Case, queries: Array, values: Array, ids: Array | None, similarity: Array, found: Array, wanted: Array
) -> None:
    """Scores are those of the rows they stand beside, in order, and no better row was missed."""
    lengths = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(values, axis=1).max()
    allowed = TOLERANCE * np.maximum(lengths, np.abs(wanted))
    position = np.arange(case.n) if ids is None else np.argsort(ids)
    ids_sorted = np.arange(case.n) if ids is None else np.sort(ids)
    rows = values[position[np.searchsorted(ids_sorted, found)]].astype(np.float64)
    q = queries[:, None, :].astype(np.float64)
    true = -((rows - q) ** 2).sum(2) if case.metric == "l2" else (rows * q).sum(2)
    assert (np.abs(similarity - true) <= allowed).all(), f"{case}: a score is not that of its row"
    assert (np.diff(similarity, axis=1) <= 0).all(), f"{case}: scores are not in order"
    assert all(len(set(row)) == len(row) for row in found.tolist()), f"{case}: a row comes twice"
    assert (np.abs(true - wanted) <= allowed).all(), f"{case}: a better row was missed"


def small_cases() -> Iterator[Case]:
    """Odd sizes around warps and tiles, every type and route; seconds on the emulator."""
    for number, type_ in enumerate(TYPES):
        for step, n in enumerate((1, 7, 31, 33, 127)):
            for metric in ("ip", "l2"):
                d = (1, 17, 64, 96, 384)[(step + number) % 5]
                yield Case(type_, n, 1 + step, d, 10, metric)
                yield Case(type_, n, 33 + step, d, 5, metric, own_ids=step % 2 == 0)
        for metric in ("ip", "l2"):
            yield Case(type_, 300, 130, 48, 10, metric)  # two tiles of queries, three of rows
            yield Case(type_, 129, 40, 385 if type_ == "u8" else 384, 40, metric)
            yield Case(type_, 700, 3, 17, 10, metric, data="duplicates")
            yield Case(type_, 700, 40, 24, 10, metric, data="duplicates", own_ids=True)
            yield Case(type_, 40, 34, 8, 64, metric, data="integers")  # k > n
    yield Case("f32", 3000, 2, 8, 300, "ip", data="integers", own_ids=True)
    yield Case("f16", 3000, 36, 8, 300, "l2", data="integers")
    yield Case("f32", 5000, 1, 4, 2048, "l2", data="integers")
    yield Case("f32", 5000, 34, 4, 10, "ip", data="ascending")
    yield Case("f16", 1900, 34, 8, 10, "ip", data="ascending")
    yield Case("f32", 5000, 2, 4, 10, "l2", data="ascending")
    for type_ in ("f32", "bf16"):  # ties by the dozen at every gate, smaller ids before and after a cut
        yield Case(type_, 2600, 34, 8, 3, "ip", data="duplicates", own_ids=True)
        yield Case(type_, 2600, 3, 8, 3, "l2", data="duplicates", own_ids=True)


def large_cases() -> Iterator[Case]:
    """Sizes that fill a device."""
    for type_ in TYPES:
        for metric in ("ip", "l2"):
            yield Case(type_, 100_003, 1, 384, 10, metric)
            yield Case(type_, 30_021, 129, 96, 100, metric, own_ids=True)
            yield Case(type_, 30_001, 140, 64, 10, metric, data="duplicates", own_ids=True)
            yield Case(type_, 20_011, 40, 1536, 257, metric)
    yield Case("f16", 30_000, 130, 72, 2048, "ip", data="integers")
    yield Case("f32", 60_000, 5, 33, 2048, "l2", data="integers")
    yield Case("f32", 200_000, 40, 8, 10, "ip", data="ascending")
