"""The rotate family's test body, for whatever runs it: the emulator in CI, a real device where there is one.

A runner is a function `rotate(rows, signs, centre) -> (n, D)` over NumPy arrays. Results are equal to
tessella.reference bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Rotate = Callable[[Array, Array, "Array | None"], Array]


@dataclass(frozen=True)
class Case:
    n: int
    d: int
    centred: bool = False
    data: str = "normal"  # or "zeros"
    seed: int = 0

    def __str__(self) -> str:
        return f"n{self.n}-d{self.d}-{self.data}" + ("-centred" if self.centred else "")


def check(case: Case, rotate: Rotate, reference: Any) -> None:
    """Runs one case; raises AssertionError with the case's name where the result is wrong."""
    rng = np.random.default_rng([case.seed, case.n, case.d])
    rows = (rng.standard_normal((case.n, case.d)) * (case.data == "normal")).astype(np.float32)
    centre = rng.standard_normal(case.d).astype(np.float32) if case.centred else None
    signs = reference.rotate_signs(reference.padded_dim(case.d), seed=case.seed + 7)
    made = rotate(rows, signs, centre)
    assert np.array_equal(made, reference.rotate_forward(rows, signs, centre)), f"{case}: differs from the reference"


def small_cases() -> Iterator[Case]:
    """Odd sizes around words and powers of two; seconds on the emulator."""
    for step, d in enumerate((1, 7, 31, 33, 64, 65, 127, 128, 192, 320, 384, 768, 1000, 2048)):
        yield Case(1 + step % 3, d, centred=step % 2 == 0)
    yield Case(33, 96, centred=True)
    yield Case(2, 40, data="zeros")


def large_cases() -> Iterator[Case]:
    """Sizes that fill a device."""
    yield Case(10_007, 768, centred=True)
    yield Case(20_003, 384)
    yield Case(33, 40_000, centred=True)
