"""The scalar family's test body, for whatever runs it: the emulator in CI, a real device where there is one.

A runner is a function `encode(residuals, bits, grid) -> (codes, scales, norms2)` over NumPy arrays. Results are equal
to tessella.reference bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Encode = Callable[[Array, int, str], tuple[Array, Array, Array]]


@dataclass(frozen=True)
class Case:
    n: int
    padded: int
    bits: int
    grid: str = "uniform"
    data: str = "normal"  # or "edges": whole steps and half steps, zeros, tiny and huge rows
    seed: int = 0

    def __str__(self) -> str:
        return f"n{self.n}-D{self.padded}-{self.bits}bits-{self.grid}-{self.data}"


def inputs(case: Case) -> Array:
    """Rotated residuals of a case."""
    rng = np.random.default_rng([case.seed, case.n, case.padded, case.bits])
    residuals = rng.standard_normal((case.n, case.padded))
    if case.data == "edges":
        residuals = np.rint(4 * residuals) / 4
        residuals *= np.array([1.0, 0.0, 1e-38, 1e-20, 1e15])[np.arange(case.n) % 5, None]
    return residuals.astype(np.float32)


def check(case: Case, encode: Encode, reference: Any) -> None:
    """Runs one case; raises AssertionError with the case's name where the result is wrong."""
    residuals = inputs(case)
    codes, scales, norms2 = encode(residuals, case.bits, case.grid)
    wanted = reference.scalar_encode(residuals, case.bits, case.grid)
    assert np.array_equal(codes, wanted.codes), f"{case}: codes differ from the reference"
    assert np.array_equal(scales, wanted.scales), f"{case}: scales differ from the reference"
    assert np.array_equal(norms2, wanted.norms2), f"{case}: norms differ from the reference"


def small_cases() -> Iterator[Case]:
    """Odd sizes around warps and groups; seconds on the emulator."""
    modes = [(bits, "uniform") for bits in range(2, 9)] + [(4, "lloyd")]
    for bits, grid in modes:
        for step, n in enumerate((1, 7, 31, 33, 127)):
            yield Case(n, (64, 128, 192, 320, 64)[(step + bits) % 5], bits, grid)
        yield Case(40, 128, bits, grid, data="edges")


def large_cases() -> Iterator[Case]:
    """Sizes that fill a device."""
    yield Case(20_003, 384, 8)
    yield Case(20_003, 768, 4, "lloyd")
    yield Case(5003, 1024, 7)
    yield Case(20_003, 384, 3, data="edges")
