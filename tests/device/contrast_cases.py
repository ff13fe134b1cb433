"""The contrast family's test body, for whatever runs it: the emulator in CI, a real device where there is one.

A runner has `forward(arguments, rules) -> out` and `backward(arguments, rules, out, out_gradient) -> gradients` over
NumPy arrays; ids and groups are int32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tessella.reference import contrast as reference

Array = npt.NDArray[Any]


class Runner(Protocol):
    def forward(self, given: dict[str, Array | None], rules: dict[str, Any]) -> Array: ...

    def backward(
        self, given: dict[str, Array | None], rules: dict[str, Any], out: Array, out_gradient: Array
    ) -> tuple[Array | None, ...]: ...


@dataclass(frozen=True)
class Case:
    n: int
    c: int
    d: int
    rules: str = ""  # of "hardness bound ids groups guide", a letter each; "s" softplus; "x" no column scale
    dims: int = 1
    seed: int = 0

    def __str__(self) -> str:
        return f"n{self.n}-c{self.c}-d{self.d}-p{self.dims}-{self.rules or 'plain'}"


def inputs(case: Case) -> tuple[dict[str, Array | None], dict[str, Any], Array]:
    """Arguments, rules and the gradient of out."""
    rng = np.random.default_rng([case.seed, case.n, case.c, case.d])
    n, c, d = case.n, case.c, case.d
    dims = sorted({max(1, d * (i + 1) // case.dims) for i in range(case.dims)})

    def floats(*shape: int, low: float | None = None) -> Array:
        drawn = rng.standard_normal(shape) if low is None else rng.uniform(low, 2 * low, shape)
        return drawn.astype(np.float32)

    given = {
        "rows": floats(n, d),
        "columns": floats(c, d),
        "row_scale": floats(len(dims), n, low=1.5) / np.float32(np.sqrt(d)),
        "column_scale": None if "x" in case.rules else floats(len(dims), c, low=0.6),
    }

    def numbers(low: int, high: int, length: int) -> Array:
        return rng.integers(low, high, length).astype(np.int32)

    places = np.arange(max(n, c), dtype=np.int32)
    known: dict[str, Any] = {
        "h": {"hardness": floats(n, low=0.3)},
        "b": {"row_bound": floats(len(dims), n, low=0.8)},
        "i": {"ids": [(numbers(-1, 6, n), numbers(-1, 6, c)), (places[:n], places[:c])]},
        "g": {"groups": (numbers(0, 2, n), numbers(0, 2, c))},
        "u": {"guide": (floats(n, 5), floats(c, 5), floats(n, low=0.7))},
        "s": {"reduce": "softplus"},
        "x": {},
    }  # fmt: skip
    rules: dict[str, Any] = {"dims": dims}
    for letter in case.rules:
        rules |= known[letter]
    return given, rules, floats(len(dims), n)


def check(case: Case, runner: Runner) -> None:
    """Runs one case; raises AssertionError with the case's name where the result is wrong."""
    given, rules, out_gradient = inputs(case)
    out = runner.forward(given, rules)
    _close(case, "out", out, reference.contrast_forward(**given, **rules))
    found = runner.backward(given, rules, out, out_gradient)
    wanted = reference.contrast_backward(**given, **rules, out_gradient=out_gradient)
    for name, got, expected in zip(wanted._fields, found, wanted, strict=True):
        if got is not None:
            _close(case, name, got, expected)


def _close(case: Case, what: str, got: Array, wanted: Array) -> None:
    finite = np.isfinite(wanted)
    assert np.array_equal(np.isfinite(got), finite), f"{case}: {what} differs in what is finite"
    expected = wanted[finite]
    allowed = 2e-5 * np.abs(expected).max(initial=1e-30)
    off = np.abs(got[finite] - expected).max(initial=0.0)
    assert off <= allowed, f"{case}: {what} is off by {off / allowed:.2f} times what is allowed"


def small_cases() -> Iterator[Case]:
    """Odd sizes around warps and tiles, each rule alone and all at once; seconds on the emulator."""
    for n, c, d in [(1, 1, 1), (7, 33, 17), (33, 7, 16), (127, 129, 20), (130, 31, 3)]:
        yield Case(n, c, d)
        yield Case(n, c, d, "xs")
    for rule in "hbigu":
        yield Case(31, 140, 12, rule)
    yield Case(129, 257, 24, "hbigu", dims=3)
    yield Case(40, 150, 130, "hbigus", dims=2)
    yield Case(5, 300, 150)  # more dimensions than a tile


def large_cases() -> Iterator[Case]:
    """Sizes that fill a device."""
    yield Case(2011, 3000, 384)
    yield Case(1000, 5000, 96, "hbigu", dims=4)
    yield Case(3000, 700, 64, "s")
