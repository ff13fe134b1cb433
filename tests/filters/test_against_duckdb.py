"""Random conditions, as SQL text and as objects, select the rows that DuckDB selects; nulls and empty lists abound."""

from __future__ import annotations

import datetime
import functools
import operator
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tessella as ts
from tessella.attributes import Attributes
from tessella.filters import Condition, Filters
from tessella.filters.conditions import HasLength

field = ts.field
TEXTS = ["", "a", "b", "ab", "a%b", "it's", "é", "\n", 'q"', "array_has(tags, 'a')"]
DAYS = [datetime.date(2024, 1, day) for day in (1, 2, 3)]
MOMENTS = [datetime.datetime(2024, 1, 1, hour, 30) for hour in (0, 12, 23)]
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "number": st.integers(-3, 3) | st.integers(-(1 << 60), 1 << 60),
    "small": st.integers(-3, 3),
    "ratio": st.sampled_from([-1.5, -0.0, 0.0, 0.5, 2.0, 1e300, float("inf"), float("nan")]),
    "text": st.sampled_from(TEXTS),
    "flag": st.booleans(),
    "day": st.sampled_from(DAYS),
    "moment": st.sampled_from(MOMENTS),
    "tags": st.lists(st.none() | st.sampled_from(TEXTS), max_size=3),
    "years": st.lists(st.none() | st.integers(2020, 2023), max_size=3),
}
# Every column gets a type from these rows, however few values the others bring.
FIRST = {
    "number": 1,
    "small": 2,
    "ratio": 0.5,
    "text": "a",
    "flag": True,
    "day": DAYS[0],
    "moment": MOMENTS[1],
    "tags": ["a", "b"],
    "years": [2020],
}


class Pair(NamedTuple):
    """One condition, twice."""

    sql: str
    condition: Condition


def literal(value: Any) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, datetime.datetime):
        return f"TIMESTAMP '{value}'"
    return f"DATE '{value}'" if isinstance(value, datetime.date) else str(value)


def several(values: list[Any]) -> str:
    return ", ".join(map(literal, values))


OPERATORS = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
LITERALS = VALUES | {"ratio": st.sampled_from([-1.5, 0.0, 0.5, 2.0]), "small": st.integers(-300, 300)}
scalars = st.sampled_from(["number", "small", "ratio", "text", "flag", "day", "moment"])
ordered = st.sampled_from(["number", "small", "ratio", "text", "day", "moment"])
lists = st.sampled_from(["tags", "years"])
LABELS = {"tags": st.sampled_from([*TEXTS, "nobody"]), "years": st.integers(2019, 2023)}
patterns = st.text(alphabet="ab%_é'", max_size=4)


@st.composite
def comparisons(draw: st.DrawFn) -> Pair:
    name = draw(ordered)
    sign, value = draw(st.sampled_from(sorted(OPERATORS))), draw(LITERALS[name])
    return Pair(f"{name} {sign} {literal(value)}", OPERATORS[sign](field(name), value))


@st.composite
def mixed_numbers(draw: st.DrawFn) -> Pair:
    """Integers beside fractions, fractions beside integers."""
    name = draw(st.sampled_from(["number", "small", "ratio"]))
    sign, value = draw(st.sampled_from(sorted(OPERATORS))), draw(st.sampled_from([-1.5, 2.0, 0.5, 0, 2, 200]))
    return Pair(f"{name} {sign} {value}", OPERATORS[sign](field(name), value))


@st.composite
def flags(draw: st.DrawFn) -> Pair:
    value = draw(st.booleans())
    sql = draw(st.sampled_from([f"flag = {value}", "flag" if value else "NOT flag"]))
    return Pair(sql, field("flag") == value)


@st.composite
def memberships(draw: st.DrawFn) -> Pair:
    name = draw(ordered)
    values = draw(st.lists(LITERALS[name], min_size=1, max_size=4))
    negated = draw(st.booleans())
    condition = field(name).is_in(values)
    return Pair(f"{name} {'NOT ' * negated}IN ({several(values)})", ~condition if negated else condition)


@st.composite
def betweens(draw: st.DrawFn) -> Pair:
    name, negated = draw(ordered), draw(st.booleans())
    low, high = draw(LITERALS[name]), draw(LITERALS[name])
    condition = field(name).between(low, high)
    sql = f"{name} {'NOT ' * negated}BETWEEN {literal(low)} AND {literal(high)}"
    return Pair(sql, ~condition if negated else condition)


@st.composite
def nulls(draw: st.DrawFn) -> Pair:
    name = draw(scalars | lists)
    if draw(st.booleans()):
        return Pair(f"{name} IS NOT NULL", field(name).is_not_null())
    return Pair(f"{name} IS NULL", field(name).is_null())


@st.composite
def likes(draw: st.DrawFn) -> Pair:
    pattern, negated = draw(patterns), draw(st.booleans())
    condition = field("text").like(pattern)
    return Pair(f"text {'NOT ' * negated}LIKE {literal(pattern)}", ~condition if negated else condition)


@st.composite
def labels(draw: st.DrawFn) -> Pair:
    name = draw(lists)
    wanted = draw(st.lists(LABELS[name], min_size=1, max_size=3))
    kind = draw(st.sampled_from(["array_has", "array_contains", "array_has_any", "list_has_all"]))
    if kind in ("array_has", "array_contains"):
        return Pair(f"{kind}({name}, {literal(wanted[0])})", field(name).has(wanted[0]))
    condition = field(name).has_any(wanted) if kind == "array_has_any" else field(name).has_all(wanted)
    return Pair(f"{kind}({name}, [{several(wanted)}])", condition)


@st.composite
def lengths(draw: st.DrawFn) -> Pair:
    name = draw(lists)
    length = draw(st.integers(0, 3))
    asked = field(name).is_empty() if length == 0 else HasLength(name, length)
    return Pair(f"array_length({name}) = {length}", asked)


atoms = st.one_of(
    comparisons(), mixed_numbers(), flags(), memberships(), betweens(), nulls(), likes(), labels(), labels(), lengths()
)


def joined(children: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    several = st.lists(children, min_size=2, max_size=3)
    return st.one_of(
        children.map(lambda one: Pair(f"NOT ({one.sql})", ~one.condition)),
        several.map(lambda all: _join(all, " AND ", operator.and_)),
        several.map(lambda any: _join(any, " OR ", operator.or_)),
    )


def _join(pairs: list[Pair], word: str, join: Any) -> Pair:
    sql = word.join(f"({each.sql})" for each in pairs)
    return Pair(sql, functools.reduce(join, (each.condition for each in pairs)))


conditions = st.recursive(atoms, joined, max_leaves=6)
rows = st.lists(st.fixed_dictionaries({name: st.none() | values for name, values in VALUES.items()}), max_size=30)


def table_of(pieces: list[list[dict[str, Any]]], removed: int) -> Attributes:
    """A table that came to be in pieces, of which the first rows have been removed again."""
    table = Attributes([FIRST])
    for piece in pieces:
        table.append(piece)
        table.view()
    gone = min(removed, len(table) // 2)
    stay = len(table) - gone
    table.remove(np.arange(stay, len(table)), np.arange(gone), stay)
    return table


@pytest.fixture(scope="module")
def database() -> Any:
    with duckdb.connect() as connection:
        yield connection


def selected(database: Any, table: Attributes, sql: str) -> list[int]:
    attributes = table.to_frame().with_row_index("row_number").to_arrow()
    database.register("attributes", attributes)
    found = database.execute(f"SELECT row_number FROM attributes WHERE {sql} ORDER BY 1").fetchall()
    return [row for (row,) in found]


@settings(max_examples=400)
@given(pieces=st.lists(rows, max_size=3), removed=st.integers(0, 4), pairs=st.lists(conditions, min_size=1, max_size=4))
def test_the_same_rows(database: Any, pieces: list[list[dict[str, Any]]], removed: int, pairs: list[Pair]) -> None:
    table = table_of(pieces, removed)
    filters = Filters(table)
    for pair in pairs:
        expected = selected(database, table, pair.sql)
        assert filters.compile(pair.sql).rows().tolist() == expected, pair.sql
        assert filters.compile(pair.condition).rows().tolist() == expected, pair.sql
