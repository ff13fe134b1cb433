"""Threads and levels of the compiled core."""

from __future__ import annotations

import operator

from tessella import _core
from tessella.errors import InvalidArgument, UnsupportedType


def get_num_threads() -> int:
    """Threads a call uses when it does not say: at first, the CPUs this process may run on."""
    return int(_core.num_threads())


def set_num_threads(threads: int) -> None:
    """Sets how many threads calls use from now on when they do not say."""
    _core.set_num_threads(resolve_threads(threads, "set_num_threads"))


def resolve_threads(threads: int | None, operation: str) -> int:
    """`threads`, or the default for None; anything but a whole number >= 1 is an error."""
    if threads is None:
        return get_num_threads()
    return whole_number(threads, 1, "threads", operation)


def whole_number(value: object, least: int, name: str, operation: str) -> int:
    """`value` as an int >= `least`; bools and floats are not whole numbers."""
    if type(value) is int and least <= value < 1 << 63:  # what most callers pass
        return value
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise UnsupportedType(f"{operation}: expected {name} as an int; got {type(value).__name__}")
    number = operator.index(value)
    if number < least or number >= 1 << 63:
        raise InvalidArgument(f"{operation}: expected {name} >= {least}; got {number}")
    return number
