"""The fde family's test body, for whatever runs it: the emulator in CI, a real device where there is one.

A runner is a function `encode(tokens, offsets, planes, projection, queries, fill, halves) -> (n, dim)` over NumPy
arrays; projection is None, a dense (r, p, d), or (index, signs, p). Results are equal to tessella.reference bit for
bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Encode = Callable[[Array, Array, Array, Any, bool, str, bool], Array]
FILLS = ("none", "nearest", "decay")


@dataclass(frozen=True)
class Case:
    lengths: tuple[int, ...]
    d: int
    k_sim: int
    p: int
    repetitions: int = 3
    projection: str = "countsketch"  # or "dense", "none"
    queries: bool = False
    fill: str = "none"
    tokens: str = "float32"  # or "float16", "bfloat16"
    halves: bool = False  # float16 results
    seed: int = 0

    def __str__(self) -> str:
        kind = "queries" if self.queries else self.fill
        sizes = f"n{len(self.lengths)}-t{sum(self.lengths)}-d{self.d}-k{self.k_sim}-p{self.p}-r{self.repetitions}"
        return f"{sizes}-{self.projection}-{kind}-{self.tokens}" + ("-halves" if self.halves else "")


def drawn_tokens(case: Case, rng: np.random.Generator) -> tuple[Array, Array]:
    """Tokens as they go in, bfloat16 as uint16, and as the floats that they stand for."""
    x = rng.standard_normal((sum(case.lengths), case.d)).astype(np.float32)
    if case.tokens == "float16":
        return x.astype(np.float16), x.astype(np.float16).astype(np.float32)
    if case.tokens == "bfloat16":
        bits = (x.view(np.uint32) >> 16).astype(np.uint16)
        return bits, (bits.astype(np.uint32) << 16).view(np.float32)
    return x, x


def drawn_projection(case: Case, rng: np.random.Generator) -> Any:
    shape = (case.repetitions, case.d)
    if case.projection == "none":
        return None
    if case.projection == "dense":
        return rng.choice([-1, 1], (case.repetitions, case.p, case.d)).astype(np.float32) / np.float32(np.sqrt(case.p))
    signs = rng.choice([-1, 1], shape).astype(np.float32)
    return rng.integers(case.p, size=shape).astype(np.uint32), signs, case.p


def check(case: Case, encode: Encode, reference: Any) -> None:
    """Runs one case; raises AssertionError with the case's name where the result is wrong."""
    rng = np.random.default_rng([case.seed, case.d, case.k_sim, case.p, *case.lengths])
    given, tokens = drawn_tokens(case, rng)
    offsets = np.concatenate([[0], np.cumsum(case.lengths)]).astype(np.int64)
    planes = rng.standard_normal((case.repetitions, case.k_sim, case.d)).astype(np.float32)
    projection = drawn_projection(case, rng)
    made = encode(given, offsets, planes, projection, case.queries, case.fill, case.halves)
    sketch = reference.Sketch(*projection) if isinstance(projection, tuple) else projection
    wanted = [
        reference.fde_encode(tokens[begin:end], planes, sketch, query=case.queries, fill=case.fill)
        for begin, end in pairwise(offsets)
    ]
    expected = np.stack(wanted).astype(np.float16 if case.halves else np.float32)
    assert made.dtype == expected.dtype and np.array_equal(made, expected), f"{case}: differs from the reference"


def small_cases() -> Iterator[Case]:
    """Odd sizes around warps and tiles; seconds on the emulator."""
    for fill in FILLS:
        yield Case((5, 0, 17, 1), 20, 3, 8, fill=fill)
        yield Case((3, 40), 33, 2, 5, repetitions=4, projection="dense", fill=fill)
        yield Case((1, 20), 17, 4, 17, projection="none", fill=fill)
    yield Case((9, 0, 4), 24, 3, 16, queries=True)
    yield Case((6, 2), 8, 0, 3, fill="nearest")
    yield Case((0, 0), 8, 2, 3, fill="nearest")
    yield Case((130, 7), 40, 5, 16, repetitions=20, fill="nearest")  # more than a tile of tokens
    yield Case((7, 3), 12, 7, 4, repetitions=30, fill="decay")  # more than a tile of hyperplanes
    yield Case((4,), 6, 1, 200, repetitions=2)  # more outputs than threads
    for tokens in ("float16", "bfloat16"):
        yield Case((5, 0, 12), 31, 3, 8, fill="nearest", tokens=tokens, halves=True)


def large_cases() -> Iterator[Case]:
    """Sizes that fill a device."""
    yield Case((80,) * 500, 128, 5, 16, repetitions=20, fill="nearest")
    yield Case((32,) * 1000, 128, 4, 8, repetitions=20, queries=True, tokens="float16", halves=True)
    yield Case((300, 1000, 5), 128, 8, 16, repetitions=4, fill="decay")
