"""What tests of code on top of tessella need: levels to pin, and how close two results must be."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tessella import _core
from tessella._structures import WAYS
from tessella.errors import InvalidArgument

_TOLERANCE = {"float32": 2e-6, "float16": 2e-3, "bfloat16": 1.6e-2, "uint8": 2e-6}


def available_isas() -> list[str]:
    """Instruction-set levels of this build that this CPU runs, best first; `scalar` is always among them."""
    return list(_core.available_isas())


def active_isa() -> str:
    """The level in use: the best there is, that of `TESSELLA_ISA`, or a pinned one."""
    return str(_core.active_isa())


@contextlib.contextmanager
def pinned_isa(isa: str) -> Iterator[None]:
    """Runs the body on one level; process-wide, so not from two threads at once.

    >>> with pinned_isa("scalar"):
    ...     pass
    """
    before = _core.active_isa()
    _core.pin_isa(isa)
    try:
        yield
    finally:
        _core.pin_isa(before)


@contextlib.contextmanager
def filtered_by(way: str) -> Iterator[None]:
    """Answers filtered searches in one way, where an index has it; process-wide, so not from two threads at once.

    `gather`, `scan`, `lists`, `walk` or `copies`: see `Index.explain`. What finds too little still ends in a gathering.

    >>> with filtered_by("gather"):
    ...     pass
    """
    if way not in WAYS:
        raise InvalidArgument(f"filtered_by: expected {', '.join(WAYS)}; got {way!r}")
    _core.force_way(WAYS.index(way))
    try:
        yield
    finally:
        _core.force_way(-1)


def tolerance(dtype: npt.DTypeLike) -> float:
    """Relative error allowed a float result computed from values of this type, of the sum of magnitudes."""
    return _TOLERANCE[np.dtype(dtype).name if not isinstance(dtype, str) else dtype]
