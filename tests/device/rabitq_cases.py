"""The rabitq family's test body, for whatever runs it: the emulator in CI, a real device where there is one.

A runner has the three kernels over NumPy arrays; results are equal to tessella.reference bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Hits = list[tuple[Array, Array, Array]]
HIT = np.dtype([("row", "<u4"), ("estimate", "<f4"), ("upper", "<f4")])
EPSILON = 1.9


class Runner(Protocol):
    def encode(self, residuals: Array) -> tuple[Array, Array]:
        """-> bits (n, D/8), factors (n, 3): scale, error, squared norm."""

    def planes(self, queries: Array, planes: int) -> tuple[Array, Array, Array]:
        """-> words (nq, D/32, planes), steps (nq), sums (nq)."""

    def scan(
        self, queries: Array, blocks: Array, n: int, *, terms: bool, planes: int, factor: float, adds: Array,
        epsilons: Array, thresholds: Array, capacity: int, allowed: Array | None,
    ) -> tuple[Array, Array]:  # fmt: skip
        """-> hits (nq, capacity) of HIT, counts (nq); allowed: bool (n,) or (nq, n)."""


@dataclass(frozen=True)
class Case:
    n: int
    padded: int
    nq: int
    planes: int = 8
    terms: bool = False
    keep: float = 0.5  # share of the rows that reach the threshold
    data: str = "normal"  # or "zeros": rows and queries of zeros among the others
    mask: str = ""  # rows that may be hits: "shared" by chance, "each" query its own run of rows, or all
    seed: int = 0

    def __str__(self) -> str:
        marks = [self.data, *["terms"] * self.terms, *[self.mask] * bool(self.mask)]
        return "-".join([f"n{self.n}-D{self.padded}-q{self.nq}-p{self.planes}", *marks])


def inputs(case: Case) -> tuple[Array, Array]:
    """Rotated residuals and queries of a case."""
    rng = np.random.default_rng([case.seed, case.n, case.padded, case.nq, case.planes])
    residuals = rng.standard_normal((case.n, case.padded)).astype(np.float32)
    queries = rng.standard_normal((case.nq, case.padded)).astype(np.float32)
    if case.data == "zeros":
        residuals[::3], queries[::2] = 0, 0
        residuals[1::3, ::2] = -0.0
    return residuals, queries


def allowed_rows(case: Case) -> Array | None:
    if not case.mask:
        return None
    rng = np.random.default_rng([case.seed, case.n])
    if case.mask == "shared":
        return rng.random(case.n) < 0.03
    begins = rng.integers(0, case.n, (case.nq, 1))
    return (np.arange(case.n) - begins) % case.n < max(1, case.n // 20)


def check(case: Case, runner: Runner, reference: Any) -> None:
    """Encodes, cuts and scans one case; raises AssertionError with the case's name where a result is wrong."""
    residuals, queries = inputs(case)
    codes = reference.rabitq_encode(residuals)
    bits, factors = runner.encode(residuals)
    assert np.array_equal(bits, codes.bits), f"{case}: bits differ from the reference"
    wanted_factors = np.stack([codes.scales, codes.errors, codes.norms2], axis=1)
    assert np.array_equal(factors, wanted_factors), f"{case}: factors differ from the reference"

    every = [reference.rabitq_planes(query, case.planes) for query in queries]
    words, steps, sums = runner.planes(queries, case.planes)
    for i, planes in enumerate(every):
        assert np.array_equal(words[i], reference.plane_words(planes, case.planes)), f"{case}: planes differ"
        assert steps[i] == planes.step, f"{case}: a step differs"
        assert sums[i] == planes.values.sum(), f"{case}: a sum differs"
    _check_scan(case, runner, reference, codes, queries, every)


def _check_scan(case: Case, runner: Runner, reference: Any, codes: Any, queries: Array, every: list[Any]) -> None:
    factor = 2.0 if case.terms else 1.0
    lengths = np.linalg.norm(queries, axis=1).astype(np.float32)
    adds, epsilons = -0.5 * lengths, np.float32(factor * EPSILON) * lengths
    terms = codes.norms2 if case.terms else None
    bounds = [
        reference.plane_bounds(planes, codes, factor, adds[i], epsilons[i], terms) for i, planes in enumerate(every)
    ]
    thresholds = np.array([np.quantile(upper, 1 - case.keep, method="higher") for _, upper in bounds])
    capacity, allowed = case.n, allowed_rows(case)
    hits, counts = runner.scan(
        queries, reference.pack_blocks(codes, "l2" if case.terms else "ip"), case.n, terms=case.terms,
        planes=case.planes, factor=factor, adds=adds, epsilons=epsilons,
        thresholds=thresholds.astype(np.float32), capacity=capacity, allowed=allowed,
    )  # fmt: skip
    for i, (estimates, uppers) in enumerate(bounds):
        mine = np.ones(case.n, bool) if allowed is None else np.broadcast_to(allowed, (case.nq, case.n))[i]
        rows = np.flatnonzero((uppers >= thresholds[i]) & mine)
        assert counts[i] == len(rows), f"{case}: query {i} has {counts[i]} hits, not {len(rows)}"
        found = np.sort(hits[i, : counts[i]], order="row")
        assert np.array_equal(found["row"], rows), f"{case}: rows differ from the reference"
        assert np.array_equal(found["estimate"], estimates[rows]), f"{case}: estimates differ from the reference"
        assert np.array_equal(found["upper"], uppers[rows]), f"{case}: bounds differ from the reference"


def small_cases() -> Iterator[Case]:
    """Odd sizes around warps and blocks; seconds on the emulator."""
    for step, n in enumerate((1, 7, 31, 33, 127)):
        for turn, planes in enumerate((8, 4)):
            padded = (64, 128, 192, 320, 768)[(step + turn) % 5]
            yield Case(n, padded, 1 + step, planes, terms=(step + turn) % 2 == 0)
            yield Case(n, padded, 1, planes, terms=(step + turn) % 2 == 1, keep=1.0)
    for planes in (8, 4):
        yield Case(3001, 64, 9, planes, terms=True, keep=0.05)  # blocks for several turns of a warp
        yield Case(129, 128, 5, planes, terms=True, keep=1.0, data="zeros")
        yield Case(33, 4096, 3, planes)
        for mask in ("shared", "each"):
            yield Case(1501, 128, 5, planes, keep=0.7, mask=mask)  # blocks without a row that counts
            yield Case(40, 64, 1, planes, terms=True, keep=1.0, mask=mask)


def large_cases() -> Iterator[Case]:
    """Sizes that fill a device."""
    for planes in (8, 4):
        yield Case(100_003, 384, 7, planes, keep=0.01)
        yield Case(50_001, 768, 1, planes, terms=True, keep=0.3)
        yield Case(3001, 8192, 4, planes)
        yield Case(501, 32768, 4, planes)
        yield Case(100_003, 384, 7, planes, keep=0.1, mask="shared")
        yield Case(100_003, 384, 7, planes, keep=0.1, mask="each")
