"""The maxsim family's test body, for whatever runs it: the emulator in CI, a real device where there is one.

A runner is a function `score(inputs) -> scores` over NumPy arrays. Results are equal to tessella.reference bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Inputs(NamedTuple):
    """What a case is scored from; `kind` is f32, f16, bf16, i8 or n4."""

    queries: Array
    query_scales: Array | None
    query_offsets: Array
    tokens: Array
    kind: str
    scales: Array | None
    begins: Array
    ends: Array
    which: Array | None

    @property
    def count(self) -> int:
        return int(self.which.shape[1] if self.which is not None else len(self.begins))


Score = Callable[[Inputs], Array]


@dataclass(frozen=True)
class Case:
    lengths: tuple[int, ...]  # of documents
    d: int
    kind: str = "f32"
    query_lengths: tuple[int, ...] = (5,)
    scaled: bool = True  # whole kinds
    candidates: int = 0  # of each query; 0: all documents
    data: str = "normal"  # or "whole": numbers that any order sums exactly; "nan": a token here and there
    seed: int = 0

    def __str__(self) -> str:
        documents = f"{len(self.lengths)}x{max(self.lengths, default=0)}"
        return f"{self.kind}-{documents}-d{self.d}-q{max(self.query_lengths)}-{self.data}" + (
            f"-c{self.candidates}" if self.candidates else ""
        )


def starts(lengths: tuple[int, ...]) -> Array:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def inputs(case: Case) -> Inputs:
    """Documents lie in another order than their numbers say, with a gap between them."""
    rng = np.random.default_rng([case.seed, case.d, len(case.lengths), len(case.query_lengths)])
    total, asked = sum(case.lengths) + 1, sum(case.query_lengths)
    whole = case.kind in ("i8", "n4")
    order = rng.permutation(len(case.lengths))
    at = np.concatenate([[0], np.cumsum(np.array(case.lengths, np.int64)[order])]) + 1  # token 0 is nobody's
    begins = np.empty(len(case.lengths), np.int64)
    begins[order] = at[:-1]
    ends = begins + np.array(case.lengths, np.int64)
    tokens, queries = _values(rng, case, (total, case.d)), _values(rng, case, (asked, case.d))
    stored: Array = tokens.astype(np.float32)
    if case.data == "nan":
        stored[::3] = np.nan
    if case.kind == "f16":
        stored = stored.astype(np.float16)
    if case.kind == "bf16":
        stored = (stored.view(np.uint32) >> 16).astype(np.uint16)
    if case.kind == "i8":
        stored = rng.integers(-128, 128, (total, case.d)).astype(np.int8)
    if case.kind == "n4":
        stored = rng.integers(0, 256, (total, case.d // 2)).astype(np.uint8)
    asked_for = rng.integers(-128, 128, (asked, case.d)).astype(np.int8) if whole else queries.astype(np.float32)
    scaled = whole and case.scaled
    shape = (len(case.query_lengths), case.candidates)
    return Inputs(
        asked_for,
        rng.random(asked, dtype=np.float32) if scaled else None,
        starts(case.query_lengths),
        stored,
        case.kind,
        rng.random(total, dtype=np.float32) if scaled else None,
        begins,
        ends,
        rng.integers(-1, len(case.lengths), shape).astype(np.int64) if case.candidates else None,
    )


def _values(rng: np.random.Generator, case: Case, shape: tuple[int, int]) -> Array:
    return rng.integers(-4, 5, shape).astype(float) if case.data == "whole" else rng.standard_normal(shape)


def expected(case: Case, given: Inputs, reference: Any) -> Array:
    """Scores by the reference; of whole data by a plain product, which is as exact and much faster."""
    tokens = given.tokens
    if given.kind == "bf16":
        tokens = (tokens.astype(np.uint32) << 16).view(np.float32)
    if given.kind == "n4":
        tokens = reference.n4_values(tokens)
    rows = []
    for q, (a, b) in enumerate(pairwise(given.query_offsets)):
        scales = None if given.query_scales is None else given.query_scales[a:b]
        if given.kind in ("i8", "n4"):
            similarity = reference.whole_products(given.queries[a:b], tokens, given.scales)
        elif case.data == "whole":
            similarity = (given.queries[a:b].astype(np.float64) @ tokens.T.astype(np.float64)).astype(np.float32)
        else:
            similarity = reference.products(given.queries[a:b], tokens.astype(np.float32))
        numbers = range(len(given.begins)) if given.which is None else given.which[q]
        rows.append([
            -np.inf if i < 0 else reference.score(similarity[:, given.begins[i] : given.ends[i]], scales)
            for i in numbers
        ])  # fmt: skip
    return np.array(rows, dtype=np.float32).reshape(len(rows), given.count)


def check(case: Case, score: Score, reference: Any) -> None:
    """Runs one case; raises AssertionError with the case's name where the result is wrong."""
    given = inputs(case)
    with np.errstate(invalid="ignore"):
        wanted = expected(case, given, reference)
    got = score(given)
    assert got.shape == wanted.shape, f"{case}: {got.shape}"
    assert np.array_equal(got, wanted), f"{case}: scores differ from the reference"


def small_cases() -> Iterator[Case]:
    """Odd sizes around lanes, tiles and depths; seconds on the emulator."""
    lengths = (1, 7, 0, 31, 33, 8)
    for kind, d in [("f32", 3), ("f32", 65), ("f16", 64), ("bf16", 20), ("i8", 5), ("i8", 64), ("n4", 64), ("n4", 192)]:
        yield Case(lengths, d, kind)
        yield Case(lengths, d, kind, query_lengths=(33, 0, 1), candidates=7, scaled=False)
    yield Case((0, 0), 8)
    yield Case((40,) * 3, 16, query_lengths=(70,), data="whole")  # three times 32 query tokens
    yield Case((9, 1, 3), 16, data="nan")
    yield Case((3,), 1024, "f16", query_lengths=(2,))


def large_cases() -> Iterator[Case]:
    """Sizes that fill a device; whole numbers, because the plain loop takes its time."""
    rng = np.random.default_rng(0)
    ragged = tuple(int(t) for t in rng.integers(0, 300, 2000))
    for kind in ("f32", "f16", "bf16", "i8", "n4"):
        yield Case(ragged, 128, kind, query_lengths=(32, 17), data="whole")
    yield Case(ragged, 128, "f16", query_lengths=(32,) * 40, candidates=100, data="whole")
