"""SQL text and polars expressions as conditions: what polars has parsed is taken apart at its AND, OR and NOT.

Of an expression polars shows its inputs and whether it equals another one. That is enough: an expression with
inputs a and b that equals `a & b` is an AND. Whatever is none of these stays one polars expression.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from tessella.errors import InvalidArgument
from tessella.filters.conditions import OPERATORS, And, Compare, Condition, Has, HasLength, IsIn, Not, Or, Typed

_NAMES = {
    "array_has": "array_contains",
    "list_has": "array_contains",
    "list_contains": "array_contains",
    # polars' SQL has no names for these. The two functions below take two arguments and no lists, so that none of
    # them can be meant, and reach us as they were written.
    "array_has_any": "atan2",
    "list_has_any": "atan2",
    "array_has_all": "atan2d",
    "list_has_all": "atan2d",
}
# Quoted text is passed over, so that only names of functions are replaced.
_CALL = re.compile(r"'(?:[^']|'')*'" r'|"(?:[^"]|"")*"' rf"|\b({'|'.join(_NAMES)})(?=\s*\()", re.IGNORECASE)

# Functions that polars' SQL has beside those of its expressions; each is of one row's values.
_SQL_FUNCTIONS = {
    f"sql_{name}"
    for name in (
        *("add", "sub", "mul", "div", "rem", "int_div", "round", "to_float"),
        *("eq", "eq_missing", "lt", "lt_eq", "gt", "gt_eq"),
    )
}
_LISTS = (pl.List, pl.Null)  # columns of labels, and such as may become one


@dataclass(frozen=True, eq=False)
class Expression(Condition):
    """A condition that polars evaluates."""

    expr: pl.Expr


UNKNOWN = Expression(pl.lit(None, dtype=pl.Boolean))


def parsed(text: str) -> pl.Expr:
    """The expression that SQL text stands for."""
    try:
        expr = pl.sql_expr(_CALL.sub(lambda found: _NAMES[found[1].lower()] if found[1] else found[0], text))
    except pl.exceptions.PolarsError as error:
        raise InvalidArgument(f"where: expected an SQL condition; got {text!r} ({error})") from error
    inputs = expr.meta.pop()
    if len(inputs) == 1 and expr.meta.eq(inputs[0].alias(expr.meta.output_name())):
        # A word too many, as a forgotten AND leaves behind, would be a name for the result.
        raise InvalidArgument(f"where: expected an SQL condition; got {text!r}, which names its result")
    return expr


def condition_of(expr: pl.Expr, types: Mapping[str, Any]) -> Condition:
    """The same as a tree of conditions, whose questions for labels of a column are our own."""
    inputs = expr.meta.pop()
    if len(inputs) == 2:
        return _of_two(expr, inputs[1], inputs[0], types)
    if len(inputs) == 1:
        return _of_one(expr, inputs[0], types)
    return Expression(expr)


def _of_one(expr: pl.Expr, inner: pl.Expr, types: Mapping[str, Any]) -> Condition:
    if expr.meta.eq(~inner):
        return Not(condition_of(inner, types))
    if expr.meta.eq(inner.cast(pl.Boolean)):  # SQL's NOT casts first
        condition = condition_of(inner, types)
        opaque = isinstance(condition, Expression) and condition is not UNKNOWN
        return Expression(expr) if opaque else condition
    if expr.meta.eq(inner.degrees()):
        return _has(expr, inner, types, all_of=True)
    return Expression(expr)


def _of_two(expr: pl.Expr, left: pl.Expr, right: pl.Expr, types: Mapping[str, Any]) -> Condition:
    sign = _sign(expr, left)
    if sign == "&" and expr.meta.eq(left & right):
        return And(tuple(condition_of(each, types) for each in _chain(expr, pl.Expr.__and__)))
    if sign == "|" and expr.meta.eq(left | right):
        return Or(tuple(condition_of(each, types) for each in _chain(expr, pl.Expr.__or__)))
    if sign in OPERATORS:
        return _comparison(expr, sign, left, right, types)
    column = _column(left, types)
    if column is None or right.meta.root_names():
        return _has(expr, expr, types, all_of=False)
    if types[column].base_type() in _LISTS and expr.meta.eq(left.list.contains(right)):
        (label,) = _values(right)
        return UNKNOWN if label is None else Has(column, _typed([label]), all_of=False)
    if types[column] == pl.String and str(expr) == f"{left}.sql_is_in([{right}])":
        (values,) = _values(right)
        return IsIn(column, _typed(values)) if all(isinstance(each, str) for each in values) else Expression(expr)
    return Expression(expr)


def _sign(expr: pl.Expr, left: pl.Expr) -> str:
    """What stands between the inputs, if it is written so; what it means is still to be checked."""
    before = f"[({left}) "
    text = str(expr)
    return text[len(before) :].partition(" ")[0] if text.startswith(before) else ""


def _comparison(expr: pl.Expr, sign: str, left: pl.Expr, right: pl.Expr, types: Mapping[str, Any]) -> Condition:
    """A column or the length of its lists beside a whole number, or a column beside a string, which need no evaluation
    by polars; or the expression as it is."""
    column, value = _column(left, types), _constant(right)
    if value is None or not expr.meta.eq(OPERATORS[sign](left, right)):
        return Expression(expr)
    if column is None:
        lists = _measured(left, types) if sign == "==" else None
        return HasLength(lists, value) if lists is not None and isinstance(value, int) else Expression(expr)
    fits = types[column] == pl.String if isinstance(value, str) else types[column].is_numeric()
    return Compare(column, sign, Typed(value, type(value))) if fits else Expression(expr)


def _constant(literal: pl.Expr) -> str | int | None:
    """The value, where it is a whole number or a string."""
    text = str(literal)
    number = text.removeprefix("dyn int: ")
    value = text[1:-1] if number == text else int(number)
    return value if literal.meta.eq(pl.lit(value)) else None  # to ask polars for it takes ten times as long


def _chain(expr: pl.Expr, join: Callable[[pl.Expr, pl.Expr], pl.Expr]) -> list[pl.Expr]:
    """a, b, c, … of a AND b AND c …, without a call within a call for each."""
    links: list[pl.Expr] = []
    while len(inputs := expr.meta.pop()) == 2 and expr.meta.eq(join(inputs[1], inputs[0])):
        links.append(inputs[0])
        expr = inputs[1]
    return [expr, *reversed(links)]


def _has(expr: pl.Expr, call: pl.Expr, types: Mapping[str, Any], *, all_of: bool) -> Condition:
    """`array_has_any` or `array_has_all`, which come as arc tangents."""
    inputs = call.meta.pop()
    if len(inputs) != 2 or not call.meta.eq(pl.arctan2(inputs[1], inputs[0])):
        return Expression(expr)
    column, labels = _column(_bare(inputs[1]), types), _bare(inputs[0])
    if column is None or types[column].base_type() not in _LISTS or labels.meta.root_names():
        return Expression(expr)
    (values,) = _values(labels)
    if values is None:
        return UNKNOWN
    return Has(column, _typed(values if isinstance(values, list) else [values]), all_of)


def _bare(expr: pl.Expr) -> pl.Expr:
    """What stands inside of what SQL wraps the arguments of an arc tangent in."""
    while len(inputs := expr.meta.pop()) == 1:
        expr = inputs[0]
    return expr


def _column(expr: pl.Expr, types: Mapping[str, Any]) -> str | None:
    """The name, where the expression is one of these columns and no more."""
    names = expr.meta.root_names()
    return names[0] if len(names) == 1 and names[0] in types and expr.meta.eq(pl.col(names[0])) else None


def _measured(expr: pl.Expr, types: Mapping[str, Any]) -> str | None:
    """The column of lists whose length the expression is, and no more."""
    inputs = expr.meta.pop()
    column = _column(inputs[0], types) if len(inputs) == 1 else None
    known = column is not None and types[column].base_type() in _LISTS
    return column if known and expr.meta.eq(inputs[0].list.len()) else None


def _values(literal: pl.Expr) -> list[Any]:
    constant = _constant(literal)
    return pl.select(literal.alias("value")).to_series().to_list() if constant is None else [constant]


def _typed(values: list[Any]) -> tuple[Typed, ...]:
    """Labels; a null among them is none."""
    return tuple(Typed(value, type(value)) for value in values if value is not None)


def is_row_by_row(expr: pl.Expr) -> bool:
    """Whether the value of a row depends on that row alone; what polars does not tell counts as no."""
    inputs = expr.meta.pop()[::-1]
    text = str(expr)
    if len(inputs) == 2 and text in (f"{inputs[0]}.{name}([{inputs[1]}])" for name in ("is_in", "sql_is_in")):
        return is_row_by_row(inputs[0]) and (_is_constant(inputs[1]) or is_row_by_row(inputs[1]))
    return _is_separable(expr, text, inputs) and all(is_row_by_row(each) for each in inputs)


def _is_separable(expr: pl.Expr, text: str, inputs: list[pl.Expr]) -> bool:
    """Whether rows stay apart in this step, whatever its inputs are."""
    try:
        return bool(expr.meta.is_row_separable())
    except pl.exceptions.PolarsError:  # of SQL's own arithmetic polars tells only where it knows the columns
        before = f"{inputs[0]}." if inputs else ""
        return text.startswith(before) and text[len(before) :].partition("(")[0] in _SQL_FUNCTIONS


def _is_constant(expr: pl.Expr) -> bool:
    """Whether it is a literal, be it a whole series."""
    return expr.meta.is_literal()


def asks_lengths_alone(expr: pl.Expr) -> bool:
    """Whether all it wants of any list is its length or whether there is one."""
    return all(
        any(each.meta.eq(same) for same in (inner.list.len(), inner.is_null(), inner.is_not_null()))
        for each, inner in _uses_of_columns(expr)
    )


def refuse_leftovers(expr: pl.Expr) -> None:
    """An error where `array_has_any` or `array_has_all` stands where we do not find it."""
    for each in _inside(expr):
        inputs = each.meta.pop()
        if len(inputs) == 2 and each.meta.eq(pl.arctan2(inputs[1], inputs[0])):
            raise InvalidArgument(
                "where: expected array_has_any and array_has_all as conditions by themselves, of a column of labels"
                " and a list of values, joined by AND, OR and NOT"
            )


def _uses_of_columns(expr: pl.Expr) -> Iterator[tuple[pl.Expr, pl.Expr]]:
    """Each expression that a column goes into, and the column."""
    for each in _inside(expr):
        for inner in each.meta.pop():
            if not inner.meta.pop() and inner.meta.root_names():
                yield each, inner


def _inside(expr: pl.Expr) -> Iterator[pl.Expr]:
    yield expr
    for each in expr.meta.pop():
        yield from _inside(each)
