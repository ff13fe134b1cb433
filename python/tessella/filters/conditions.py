"""`field("size") < 10`: conditions as objects, which `&`, `|` and `~` join.

A condition is true, false or, where a value is null, unknown, as in SQL; what is unknown is not selected, and
neither is its opposite.
"""

from __future__ import annotations

import datetime
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tessella.errors import InvalidArgument


@dataclass(frozen=True)
class Typed:
    """A value and its type, because 1, 1.0 and True are equal and stand for different conditions."""

    value: Any
    kind: type


OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Condition:
    """What rows must be like; join them with `&` (and), `|` (or) and `~` (not)."""

    def __and__(self, other: Condition) -> Condition:
        return And((*(self.conditions if isinstance(self, And) else (self,)), _operand(other, "&")))

    def __or__(self, other: Condition) -> Condition:
        return Or((*(self.conditions if isinstance(self, Or) else (self,)), _operand(other, "|")))

    def __invert__(self) -> Condition:
        return Not(self)

    def __bool__(self) -> bool:
        raise InvalidArgument(
            "where: expected conditions joined by &, | and ~, with comparisons in parentheses;"
            " got and, or, not, or a chain such as 1 < field(...) < 2"
        )


@dataclass(frozen=True)
class And(Condition):
    conditions: tuple[Condition, ...]


@dataclass(frozen=True)
class Or(Condition):
    conditions: tuple[Condition, ...]


@dataclass(frozen=True)
class Not(Condition):
    condition: Condition


@dataclass(frozen=True)
class Compare(Condition):
    """`column operator value`; operators are those of Python."""

    column: str
    operator: str
    value: Typed


@dataclass(frozen=True)
class Between(Condition):
    """low <= column <= high"""

    column: str
    low: Typed
    high: Typed


@dataclass(frozen=True)
class IsIn(Condition):
    column: str
    values: tuple[Typed, ...]


@dataclass(frozen=True)
class Like(Condition):
    """SQL's LIKE: % stands for any text, _ for one character."""

    column: str
    pattern: str


@dataclass(frozen=True)
class Contains(Condition):
    """The string has this text in it."""

    column: str
    text: str


@dataclass(frozen=True)
class IsNull(Condition):
    column: str


@dataclass(frozen=True)
class Has(Condition):
    """The row's list has any of the labels, or all of them."""

    column: str
    labels: tuple[Typed, ...]
    all_of: bool


@dataclass(frozen=True)
class HasLength(Condition):
    """The row's list has so many labels."""

    column: str
    length: int


class field:
    """A column by its name, to make conditions of: compare it, or ask it for labels.

    >>> import tessella as ts
    >>> (ts.field("section") == "python") & (ts.field("installed_kib") < 4096) & ts.field("tags").has("web")
    ... # doctest: +ELLIPSIS
    And(...)
    """

    __hash__ = None  # type: ignore[assignment]
    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise InvalidArgument(f"field: expected the name of a column; got {name!r}")
        self.name = name

    def __repr__(self) -> str:
        return f"field({self.name!r})"

    def __eq__(self, value: object) -> Condition:  # type: ignore[override]
        return self._compare("==", value)

    def __ne__(self, value: object) -> Condition:  # type: ignore[override]
        return self._compare("!=", value)

    def __lt__(self, value: object) -> Condition:
        return self._compare("<", value)

    def __le__(self, value: object) -> Condition:
        return self._compare("<=", value)

    def __gt__(self, value: object) -> Condition:
        return self._compare(">", value)

    def __ge__(self, value: object) -> Condition:
        return self._compare(">=", value)

    def __bool__(self) -> bool:
        raise InvalidArgument(f"where: expected a condition; got {self!r}, which stands for a column")

    def is_in(self, values: Iterable[object]) -> Condition:
        """Whether the value is one of these; of no values none is one, and then a null is not unknown."""
        return IsIn(self.name, self._typed_all(values))

    def between(self, low: object, high: object) -> Condition:
        """low <= value <= high"""
        return Between(self.name, self._typed(low), self._typed(high))

    def like(self, pattern: str) -> Condition:
        """Whether the string matches SQL's LIKE: % stands for any text, _ for one character."""
        if not isinstance(pattern, str):
            raise InvalidArgument(f"where: expected {self!r}.like of a string; got {pattern!r}")
        return Like(self.name, pattern)

    def is_null(self) -> Condition:
        """Whether there is no value; this is never unknown."""
        return IsNull(self.name)

    def is_not_null(self) -> Condition:
        """Whether there is a value; this is never unknown."""
        return Not(IsNull(self.name))

    def has(self, label: object) -> Condition:
        """Whether the list has this label."""
        return Has(self.name, (self._typed(label),), False)

    def has_any(self, labels: Iterable[object]) -> Condition:
        """Whether the list has one of these labels; of none it has not."""
        return Has(self.name, self._typed_all(labels), False)

    def has_all(self, labels: Iterable[object]) -> Condition:
        """Whether the list has each of these labels; of none it has."""
        return Has(self.name, self._typed_all(labels), True)

    def is_empty(self) -> Condition:
        """Whether the list has no labels; null is not a list, so then this is unknown."""
        return HasLength(self.name, 0)

    def _compare(self, operator: str, value: object) -> Condition:
        return Compare(self.name, operator, self._typed(value))

    def _typed(self, value: object) -> Typed:
        if value is None:
            raise InvalidArgument(
                f"where: expected a value to compare {self!r} with; got None. To find rows without a value, write"
                f" {self!r}.is_null()"
            )
        return typed(value, self.name)

    def _typed_all(self, values: Iterable[object]) -> tuple[Typed, ...]:
        if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
            raise InvalidArgument(f"where: expected several values for {self!r}; got {values!r}")
        return tuple(self._typed(value) for value in values)


def typed(value: object, column: str) -> Typed:
    """Checks that this is a value a column may hold."""
    plain = _plain(value)
    if not isinstance(plain, (bool, int, float, str, datetime.date)):
        raise InvalidArgument(
            f"where: expected a bool, number, string, date or timestamp for column {column!r};"
            f" got {type(value).__name__} {value!r}"
        )
    return Typed(plain, type(plain))


def _plain(value: object) -> object:
    if isinstance(value, np.datetime64):
        return value.astype("M8[us]").item()  # nanoseconds would become a number
    return value.item() if isinstance(value, np.generic) else value


def _operand(other: object, sign: str) -> Condition:
    if not isinstance(other, Condition):
        raise InvalidArgument(
            f"where: expected a condition on both sides of {sign}, with comparisons in parentheses; got {other!r}"
        )
    return other
