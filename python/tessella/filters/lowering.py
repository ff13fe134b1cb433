"""From conditions to what can be evaluated: columns and types checked, NOT pushed down to the leaves.

Only whether a condition is true matters in the end, and NOT is the one place where false and unknown differ. So it
is taken to the leaves, by De Morgan's laws, and above them two-valued AND and OR suffice.
"""

from __future__ import annotations

import datetime
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import polars as pl

from tessella.errors import InvalidArgument
from tessella.filters import expressions
from tessella.filters.conditions import (
    OPERATORS,
    And,
    Between,
    Compare,
    Condition,
    Contains,
    Has,
    HasLength,
    IsIn,
    IsNull,
    Like,
    Not,
    Or,
    Typed,
)
from tessella.filters.expressions import Expression

Types: TypeAlias = Mapping[str, Any]
_UNKNOWN = expressions.UNKNOWN.expr


@dataclass(frozen=True, eq=False)
class Scalar:
    """True where `expr` is."""

    expr: pl.Expr
    columns: tuple[str, ...]
    row_by_row: bool
    lengths_alone: bool  # of lists among the columns


@dataclass(frozen=True)
class Compared:
    """True where a column of numbers compares so with the value, which its type can hold."""

    column: str
    operator: str
    value: float


@dataclass(frozen=True)
class Named:
    """True where a string column has one of the values or, negated, has a value that is none of them."""

    column: str
    values: tuple[str, ...]
    negated: bool


@dataclass(frozen=True)
class Labelled:
    """True where the list has the labels or, negated, where there is a list that has not."""

    column: str
    labels: tuple[Any, ...]
    all_of: bool
    negated: bool


@dataclass(frozen=True)
class Measured:
    """True where the list has so many labels or, negated, where there is a list that has not."""

    column: str
    length: int
    negated: bool


@dataclass(frozen=True, eq=False)
class Joined:
    """True where every one of the nodes is, or any."""

    nodes: tuple[Node, ...]
    every: bool


Node: TypeAlias = Scalar | Compared | Named | Labelled | Measured | Joined


def lowered(condition: Condition, types: Types, negated: bool = False) -> Node:
    """What to evaluate on a table of these columns."""
    if isinstance(condition, Not):
        return lowered(condition.condition, types, not negated)
    if isinstance(condition, And | Or):
        every = isinstance(condition, And) is not negated
        return Joined(tuple(lowered(each, types, negated) for each in condition.conditions), every)
    if isinstance(condition, Expression):
        return _scalar(condition.expr, types, negated)
    if isinstance(condition, Has):
        return _labelled(condition, types, negated)
    if isinstance(condition, HasLength):
        there = _check(condition, type_of(condition.column, types), pl.List)
        return Measured(condition.column, condition.length, negated) if there else _scalar(_UNKNOWN, types, negated)
    if isinstance(condition, Between):
        column, low, high = condition.column, condition.low, condition.high
        return lowered(And((Compare(column, ">=", low), Compare(column, "<=", high))), types, negated)
    if isinstance(condition, Compare | IsIn):
        kept = type_of(condition.column, types)
        looked_up = _named(condition, negated) if kept == pl.String else _compared(condition, kept, negated)
        if looked_up is not None:
            return looked_up
    return _scalar(_expression(condition, types), types, negated)


def every_row_by_row(node: Node) -> bool:
    """Whether each row can be looked at by itself."""
    if isinstance(node, Joined):
        return all(map(every_row_by_row, node.nodes))
    return not isinstance(node, Scalar) or node.row_by_row


def type_of(column: str, types: Types) -> Any:
    """The column's type; an error that names its neighbours where there is none."""
    if column in types:
        return types[column]
    known = {name.lower(): name for name in types}
    close = difflib.get_close_matches(column.lower(), known, n=1)
    hint = f"; did you mean {known[close[0]]!r}?" if close else "."
    raise InvalidArgument(
        f"where: expected columns out of {', '.join(map(repr, types)) or 'none, as there are none'};"
        f" got {column!r}{hint} (In SQL, text stands in single quotes.)"
    )


def _scalar(expr: pl.Expr, types: Types, negated: bool) -> Scalar:
    columns = tuple(dict.fromkeys(expr.meta.root_names()))
    lists = [name for name in columns if isinstance(type_of(name, types), pl.List)]
    if lists:
        expressions.refuse_leftovers(expr)
    return Scalar(
        ~expr if negated else expr,
        columns,
        expressions.is_row_by_row(expr),
        not lists or expressions.asks_lengths_alone(expr),
    )


def _named(condition: Compare | IsIn, negated: bool) -> Named | None:
    """Equality and membership among strings; None for what asks for more."""
    if isinstance(condition, Compare):
        if condition.operator not in ("==", "!="):
            return None
        negated = negated is not (condition.operator == "!=")
    given = (condition.value,) if isinstance(condition, Compare) else condition.values
    values = tuple(_fitted(condition.column, pl.String, each) for each in given)
    return Named(condition.column, values, negated) if values else None


def _compared(condition: Compare | IsIn, kept: Any, negated: bool) -> Compared | None:
    """A comparison of numbers that needs no conversion; None for any other."""
    if not isinstance(condition, Compare) or condition.value.kind not in (int, float):
        return None
    value = condition.value.value
    exact = kept.is_integer() and condition.value.kind is int and _holds(kept, value)
    if not exact and not (kept == pl.Float64 and abs(value) < 1 << 53):
        return None
    return Compared(condition.column, _OPPOSITE[condition.operator] if negated else condition.operator, value)


# A column has no NaN, so of two numbers one of these is true.
_OPPOSITE = {"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}


def _holds(kept: Any, value: float) -> bool:
    """Whether an integer type has room for the value."""
    bits = int(str(kept).lstrip("UInt"))
    return -(1 << (bits - 1)) <= value < 1 << (bits - 1) if kept.is_signed_integer() else 0 <= value < 1 << bits


def _labelled(condition: Has, types: Types, negated: bool) -> Node:
    kept = type_of(condition.column, types)
    if kept == pl.Null:
        return Scalar(_UNKNOWN, (), True, True)
    if not isinstance(kept, pl.List):
        raise InvalidArgument(
            f"where: expected a column of labels to ask for {[each.value for each in condition.labels]};"
            f" got {condition.column!r} of {kept}"
        )
    for label in condition.labels:
        if kept.inner != pl.Null and label.kind is not (str if kept.inner == pl.String else int):
            raise _wrong(condition.column, kept, label)
    if not condition.labels and not condition.all_of and not negated:
        return Joined((), every=False)
    return Labelled(condition.column, tuple(each.value for each in condition.labels), condition.all_of, negated)


def _expression(condition: Condition, types: Types) -> pl.Expr:
    assert isinstance(condition, Compare | IsIn | Like | Contains | IsNull)
    kept = type_of(condition.column, types)
    column = pl.col(condition.column)
    if isinstance(condition, IsNull):
        return column.is_null()
    if isinstance(condition, Like):
        return _like(condition) if _check(condition, kept, pl.String) else _UNKNOWN
    if isinstance(condition, Contains):
        return column.str.contains(condition.text, literal=True) if _check(condition, kept, pl.String) else _UNKNOWN
    if isinstance(condition, IsIn):
        return _is_in(condition, kept)
    compared: pl.Expr = OPERATORS[condition.operator](column, _literal(condition.column, kept, condition.value))
    return compared


def _check(condition: HasLength | Like | Contains, kept: Any, wanted: Any) -> bool:
    """Whether the column has values of this kind; False where it has none at all."""
    if kept != pl.Null and kept.base_type() != wanted:
        what = "labels" if wanted is pl.List else "strings"
        raise InvalidArgument(f"where: expected a column of {what} for {condition}; got one of {kept}")
    return bool(kept != pl.Null)


def _like(condition: Like) -> pl.Expr:
    column, pattern = condition.column.replace('"', '""'), condition.pattern.replace("'", "''")
    return expressions.parsed(f"\"{column}\" LIKE '{pattern}'")


def _is_in(condition: IsIn, kept: Any) -> pl.Expr:
    if not condition.values:
        return pl.lit(False)
    values = [_fitted(condition.column, kept, each) for each in condition.values]
    if kept == pl.Null:
        return _UNKNOWN
    if kept.is_integer():
        return _is_in_integers(pl.col(condition.column), kept, values)
    if kept.is_temporal():
        literals = (_literal(condition.column, kept, each) for each in condition.values)
        return pl.any_horizontal([pl.col(condition.column) == each for each in literals])
    return pl.col(condition.column).is_in(pl.Series(values, dtype=kept))


def _is_in_integers(column: pl.Expr, kept: Any, values: list[Any]) -> pl.Expr:
    """2.0 is 2; no integer is 2.5, nor what its type has no room for."""
    able = [int(value) for value in values if value == value // 1 and _holds(kept, value)]
    return column.is_in(pl.Series(able, dtype=kept))


def _literal(column: str, kept: Any, value: Typed) -> pl.Expr:
    fitted = _fitted(column, kept, value)
    if not isinstance(kept, pl.Datetime):
        return pl.lit(fitted)
    if kept.time_zone is None:
        return pl.lit(fitted, dtype=kept)
    return pl.lit(fitted, dtype=pl.Datetime(kept.time_unit, "UTC")).dt.convert_time_zone(kept.time_zone)


def _fitted(column: str, kept: Any, value: Typed) -> Any:
    """The value as one that the column can be compared with."""
    plain = value.value
    if kept == pl.Null:
        return None
    if kept.is_numeric():
        fits = value.kind is float or (value.kind is int and -(1 << 63) <= plain < 1 << 64)
    elif kept == pl.Boolean:
        fits = value.kind is bool
    elif kept == pl.String:
        fits = value.kind is str
    elif kept.is_temporal():
        return _moment(column, kept, value)
    else:
        raise InvalidArgument(
            f"where: expected has(…), has_any(…) or has_all(…) for {column!r}, a column of labels;"
            f" got a comparison with {plain!r}"
        )
    if not fits:
        raise _wrong(column, kept, value)
    return plain


def _moment(column: str, kept: Any, value: Typed) -> datetime.date:
    """A date or timestamp, out of itself or of ISO text such as 2024-05-31T12:00:00+00:00."""
    plain = value.value
    try:
        if isinstance(plain, str):
            text = plain[:-1] + "+00:00" if plain.endswith("Z") else plain  # a Python of 3.10 knows no Z
            plain = datetime.date.fromisoformat(text) if len(text) == 10 else datetime.datetime.fromisoformat(text)
    except ValueError:
        raise _wrong(column, kept, value) from None
    if not isinstance(plain, datetime.date):
        raise _wrong(column, kept, value)
    if kept == pl.Date:
        return plain
    if not isinstance(plain, datetime.datetime):
        zone = None if kept.time_zone is None else datetime.timezone.utc
        plain = datetime.datetime(plain.year, plain.month, plain.day, tzinfo=zone)
    if (plain.tzinfo is None) != (kept.time_zone is None):
        raise _wrong(column, kept, value)
    return plain if plain.tzinfo is None else plain.astimezone(datetime.timezone.utc)


def _wrong(column: str, kept: Any, value: Typed) -> InvalidArgument:
    return InvalidArgument(
        f"where: expected a value that column {column!r} of {kept} can be compared with;"
        f" got {value.kind.__name__} {value.value!r}"
    )
