"""The test body of an exact scan under bitmaps; for what runs it see exact_cases.py.

Sums are exact, so a scan finds, bit for bit, what the reference finds among the rows that each query may find.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from tests.device import exact_cases
from tests.device.exact_cases import Array, Reference, inputs, numbers

# (queries, rows, k, metric, ids, allowed): bool, (n,) or (nq, n)
Search = Callable[[Array, Array, int, str, "Array | None", Array], tuple[Array, Array]]


@dataclass(frozen=True)
class Case:
    type: str
    n: int
    nq: int
    d: int
    k: int
    metric: str
    share: float  # of the rows
    each: bool  # every query has its own bitmap
    together: bool = False  # the rows are neighbours, so that whole tiles have none
    own_ids: bool = False
    seed: int = 0

    def __str__(self) -> str:
        shape = f"{self.type}-n{self.n}-q{self.nq}-d{self.d}-k{self.k}-{self.metric}-s{self.share}"
        return shape + "-each" * self.each + "-together" * self.together + "-ids" * self.own_ids


def masks(case: Case) -> Array:
    rng = np.random.default_rng([case.seed, case.n, case.nq])
    shape = (case.nq, case.n) if case.each else (case.n,)
    if not case.together:
        return rng.random(shape) < case.share
    begins = rng.integers(0, case.n, shape[:-1])[..., None]
    return (np.arange(case.n) - begins) % case.n < case.share * case.n


def check(case: Case, search: Search, reference: Reference) -> None:
    """Runs one case; raises AssertionError with the case's name where the result is wrong."""
    data = exact_cases.Case(case.type, case.n, case.nq, case.d, case.k, case.metric, "integers", case.own_ids)
    queries, rows, own = inputs(data)
    ids = np.arange(case.n) if own is None else own
    allowed = masks(case)
    scores, found = search(queries, rows, case.k, case.metric, own, allowed)
    sign = -1.0 if case.metric == "l2" else 1.0
    for q in range(case.nq):
        mask = allowed[q] if case.each else allowed
        full = min(case.k, int(mask.sum()))
        assert (found[q, full:] == -1).all(), f"{case}: query {q} has rows in slots that should be empty"
        assert (sign * scores[q, full:] == -np.inf).all(), f"{case}: query {q} has scores in slots that should be empty"
        if full == 0:
            continue
        wanted, best = reference(queries[q : q + 1], numbers(rows[mask]), full, case.metric, ids[mask])
        assert np.array_equal(sign * scores[q, :full], wanted[0]), f"{case}: scores of query {q} differ"
        assert np.array_equal(found[q, :full], best[0]), f"{case}: ids of query {q} differ"


def small_cases() -> Iterator[Case]:
    """Every type and route, odd sizes around words and tiles, empty bitmaps and full ones."""
    for step, type_ in enumerate(exact_cases.TYPES):
        for metric in ("ip", "l2"):
            for each in (False, True):
                yield Case(type_, (65, 127, 300, 64)[step], 3, 24, 10, metric, 0.3, each)
                yield Case(type_, 900, 40, 16, 10, metric, 0.1, each, together=True, own_ids=True)
    for type_ in ("f32", "bf16"):
        for each in (False, True):
            yield Case(type_, 2600, 3, 8, 5, "ip", 0.05, each, together=True)
            yield Case(type_, 1100, 140, 8, 5, "ip", 0.01, each)
            yield Case(type_, 200, 34, 8, 5, "l2", 0.0, each)
            yield Case(type_, 200, 34, 8, 5, "ip", 1.1, each)
    yield Case("f32", 300, 520, 8, 10, "ip", 0.2, True)  # more than one group of queries
    yield Case("bf16", 300, 520, 8, 10, "ip", 0.2, True)


def large_cases() -> Iterator[Case]:
    for type_ in exact_cases.TYPES:
        yield Case(type_, 100_003, 129, 96, 10, "ip", 0.01, True)
        yield Case(type_, 100_003, 5, 96, 100, "l2", 0.2, False, together=True)
