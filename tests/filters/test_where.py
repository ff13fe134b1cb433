"""Everything that may be passed as `where`, beside the rows it stands for."""

from __future__ import annotations

import datetime
import re
import subprocess
import sys
import threading
import types
from typing import Any

import numpy as np
import polars as pl
import pyarrow.compute as pc
import pytest

import tessella as ts
from tessella.attributes import Attributes
from tessella.errors import InvalidArgument, TessellaError, UnsupportedType
from tessella.filters import Filters

field = ts.field
DAYS = [datetime.date(2024, month, 1) for month in range(1, 6)]
TABLE = {
    "section": ["python", "math", None, "python", "it's"],
    "size": [10, 20, 30, None, -5],
    "price": [0.5, 2.0, None, 1.5, 1.0],
    "free": [True, False, None, True, False],
    "day": [*DAYS[:4], None],
    "at": [datetime.datetime(2024, 1, day, 12) for day in range(1, 5)] + [None],
    "utc": [datetime.datetime(2024, 1, day, 12, tzinfo=datetime.timezone.utc) for day in range(1, 6)],
    "tags": [["a", "b"], [], None, ["b", None], ["c", "b", "a"]],
    "years": [[2020], [2021, 2020], [], None, [2022]],
    "nothing": [None] * 5,
}


@pytest.fixture(params=["one part", "three parts", "after changes"])
def filters(request: pytest.FixtureRequest) -> Filters:
    """The same table, however it came to be."""
    whole = pl.DataFrame(TABLE, strict=False)
    if request.param == "one part":
        return Filters(Attributes(whole))
    table = Attributes(whole[:2] if request.param == "three parts" else pl.concat([whole[3:], whole[2:], whole[:1]]))
    table.view()
    if request.param == "three parts":
        table.append(whole[2:4])
        table.view()
        table.append(whole[4:])
    else:
        table.update([0, 1], whole[:2])
        table.append(whole[4:])
        table.remove([6, 5], [4, 3], 5)
        table.update([3, 4, 2], pl.concat([whole[3:], whole[2:3]]))
    assert table.to_frame().equals(whole.select(*table.types), null_equal=True)
    return Filters(table)


def rows(filters: Filters, where: Any) -> list[int]:
    bitmap = filters.compile(where)
    assert bitmap.n == 5 and bitmap.count == len(bitmap.rows())
    return bitmap.rows().tolist()


SQL = {
    "section = 'python'": [0, 3],
    "section <> 'python'": [1, 4],
    "section = 'it''s'": [4],
    "section IN ('python', 'math')": [0, 1, 3],
    "section NOT IN ('python', 'math')": [4],
    "section IN ('python', NULL)": [0, 3],
    "section NOT IN ('python', NULL)": [],
    "section LIKE 'p%n'": [0, 3],
    "section NOT LIKE '%t%'": [],
    "section > 'math'": [0, 3],
    "section IS NULL": [2],
    "section IS NOT NULL AND size IS NULL": [3],
    "size < 25": [0, 1, 4],
    "NOT (size < 25)": [2],
    "size BETWEEN 10 AND 20": [0, 1],
    "size NOT BETWEEN 10 AND 20": [2, 4],
    "size = 10.0": [0],
    "size IN (10, 30, 4000000000)": [0, 2],
    "size + 10 > price * 20": [0],
    "price >= 1.5": [1, 3],
    "free": [0, 3],
    "NOT free": [1, 4],
    "free = TRUE OR size = 30": [0, 2, 3],
    "day >= DATE '2024-03-01'": [2, 3],
    "at < TIMESTAMP '2024-01-02 13:00:00'": [0, 1],
    "array_has(tags, 'a')": [0, 4],
    "ARRAY_CONTAINS(tags, 'a')": [0, 4],
    "NOT array_has(tags, 'a')": [1, 3],
    "array_has(tags, 'nobody')": [],
    "NOT array_has(tags, 'nobody')": [0, 1, 3, 4],
    "array_has(tags, NULL)": [],
    "NOT array_has(tags, NULL)": [],
    "array_has_any(tags, ['a', 'c'])": [0, 4],
    "array_has_any(tags, [])": [],
    "NOT array_has_any(tags, [])": [0, 1, 3, 4],
    "array_has_any(tags, NULL)": [],
    "array_has_all(tags, ['a', 'b'])": [0, 4],
    "NOT array_has_all(tags, ['a', 'b'])": [1, 3],
    "array_has_all(tags, [])": [0, 1, 3, 4],
    "array_has(years, 2020)": [0, 1],
    "array_has_any(years, [2021, 2022])": [1, 4],
    "array_length(tags) = 0": [1],
    "array_length(tags) > 1 AND section = 'python'": [0, 3],
    "tags IS NULL OR array_has(tags, 'c')": [2, 4],
    "CASE WHEN array_contains(tags, 'a') THEN TRUE ELSE FALSE END": [0, 4],
    "upper(section) = 'PYTHON'": [0, 3],
    "section || CAST(size AS VARCHAR) = 'python10'": [0],
    "coalesce(section, 'none') = 'none'": [2],
    "size > (10 + 5) AND (section = 'math' OR array_has(tags, 'a') OR section IS NULL)": [1, 2],
    "size = (size)": [0, 1, 2, 4],
    "TRUE": [0, 1, 2, 3, 4],
    "section = 'python' AND FALSE": [],
    "section = 'array_has(tags, '": [],
    "nothing = 1": [],
    "nothing IS NULL": [0, 1, 2, 3, 4],
    "array_has(nothing, 'a')": [],
}


@pytest.mark.parametrize("text", SQL)
def test_sql(filters: Filters, text: str) -> None:
    assert rows(filters, text) == SQL[text]


def test_what_concerns_the_whole_table_leaves_removed_rows_out(filters: Filters) -> None:
    """A mean is taken over the rows there are, not over those that a change has left behind."""
    expected = pl.DataFrame(TABLE, strict=False).with_row_index().filter(pl.col("size") > pl.col("size").mean())
    assert rows(filters, pl.col("size") > pl.col("size").mean()) == expected["index"].to_list()


FIELDS = [
    (field("section") == "python", [0, 3]),
    (field("section") != "python", [1, 4]),
    (~(field("section") == "python"), [1, 4]),
    (field("section") >= "math", [0, 1, 3]),
    (field("section").is_in(["python", "it's", "nobody"]), [0, 3, 4]),
    (field("section").is_in([]), []),
    (~field("section").is_in([]), [0, 1, 2, 3, 4]),
    (field("section").like("p%"), [0, 3]),
    (field("section").is_null() | (field("size") > 10), [1, 2]),
    (field("section").is_not_null() & ~field("tags").is_empty(), [0, 3, 4]),
    (field("size") < 25, [0, 1, 4]),
    (field("size") <= np.int8(10), [0, 4]),
    (~(field("size") > 10.5), [0, 4]),
    (field("size").between(10, 20), [0, 1]),
    (~field("size").between(10, 20), [2, 4]),
    (field("size").is_in([10.0, 20.5]), [0]),
    (field("size").is_in([10, 1 << 63, float("inf")]), [0]),
    (~field("size").is_in([1 << 63, float("nan")]), [0, 1, 2, 4]),
    (~field("size").is_in([20.5]), [0, 1, 2, 4]),
    (field("price").is_in([2, 0.5]), [0, 1]),
    (field("free") == True, [0, 3]),  # noqa: E712
    (field("day") >= "2024-03-01", [2, 3]),
    (field("day") == DAYS[1], [1]),
    (field("day").is_in([DAYS[0], "2024-02-01"]), [0, 1]),
    (field("at") > datetime.datetime(2024, 1, 2, 13), [2, 3]),
    (field("at") > "2024-01-02T13:00", [2, 3]),
    (field("at") > np.datetime64("2024-01-02T13:00:00", "ns"), [2, 3]),
    (field("at") >= DAYS[0], [0, 1, 2, 3]),
    (field("utc") > "2024-01-03T12:00:00Z", [3, 4]),
    (field("utc") > "2024-01-03T13:00:00+02:00", [2, 3, 4]),
    (field("utc") >= "2024-01-04", [3, 4]),
    (field("tags").has("a"), [0, 4]),
    (~field("tags").has("a"), [1, 3]),
    (field("tags").has_any(["a", "c"]), [0, 4]),
    (field("tags").has_any([]), []),
    (field("tags").has_all(["a", "b", "c"]), [4]),
    (~field("tags").has_all(["a", "b", "c"]), [0, 1, 3]),
    (field("tags").has_all([]), [0, 1, 3, 4]),
    (field("tags").is_empty(), [1]),
    (~field("tags").is_empty(), [0, 3, 4]),
    (field("tags").is_null(), [2]),
    (field("years").has(2020), [0, 1]),
    (field("nothing") == 3, []),
    (field("nothing").is_null(), [0, 1, 2, 3, 4]),
    (~(field("nothing").has("x") | field("nothing").is_in([1])), []),
    ((field("section") == "python") & (field("price") < 1) & field("tags").has("b"), [0]),
    ((field("tags").has("c") | (field("price") < 1)) & ~(field("size") == 10), [4]),
]


@pytest.mark.parametrize(("condition", "expected"), FIELDS, ids=str)
def test_conditions(filters: Filters, condition: Any, expected: list[int]) -> None:
    assert rows(filters, condition) == expected


DOCUMENTS: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [0, 1, 2, 3, 4]),
    ({"section": "python"}, [0, 3]),
    ({"section": "python", "size": {"$lt": 15}}, [0]),
    ({"section": {"$eq": "python"}}, [0, 3]),
    ({"section": {"$ne": "python"}}, [1, 4]),
    ({"section": None}, [2]),
    ({"section": {"$ne": None}}, [0, 1, 3, 4]),
    ({"section": {"$in": ["python", "math"]}}, [0, 1, 3]),
    ({"section": ["python", "math"]}, [0, 1, 3]),
    ({"section": {"$in": ["math", None]}}, [1, 2]),
    ({"section": {"$nin": ["python", "math"]}}, [4]),
    ({"section": {"$nin": ["math", None]}}, [0, 3, 4]),
    ({"section": {"$nin": []}}, [0, 1, 2, 3, 4]),
    ({"section": {"$exists": True}}, [0, 1, 3, 4]),
    ({"section": {"$exists": False}}, [2]),
    ({"section": {"$like": "%t%"}}, [0, 1, 3, 4]),
    ({"section": {"$contains": "yth"}}, [0, 3]),
    ({"section": {"$not_contains": "yth"}}, [1, 4]),
    ({"section": {"$not": {"$in": ["python"]}}}, [1, 4]),
    ({"size": {"$gte": 10, "$lt": 30}}, [0, 1]),
    ({"size": {"$between": [10, 20]}}, [0, 1]),
    ({"day": {"$gt": "2024-03-01"}}, [3]),
    ({"$or": [{"section": "math"}, {"size": {"$gt": 20}}]}, [1, 2]),
    ({"$and": [{"size": {"$gt": 0}}, {"$not": {"section": "python"}}]}, [1]),
    ({"$nor": [{"section": "python"}, {"size": 20}]}, [4]),
    ({"tags": "a"}, [0, 4]),
    ({"tags": {"$ne": "a"}}, [1, 3]),
    ({"tags": {"$in": ["a", "c"]}}, [0, 4]),
    ({"tags": {"$nin": ["a", "c"]}}, [1, 3]),
    ({"tags": {"$all": ["a", "c"]}}, [4]),
    ({"tags": {"$contains": "b"}}, [0, 3, 4]),
    ({"tags": {"$size": 2}}, [0, 3]),
    ({"tags": None}, [2]),
]


@pytest.mark.parametrize(("document", "expected"), DOCUMENTS, ids=str)
def test_dicts(filters: Filters, document: dict[str, Any], expected: list[int]) -> None:
    assert rows(filters, document) == expected


def _short_text(text: str) -> bool:
    return len([*filter(str.isprintable, text)]) < 5


POLARS = [
    (pl.col("section") == "python", [0, 3]),
    ((pl.col("size") < 25) & pl.col("tags").list.contains("a"), [0, 4]),
    (~pl.col("tags").list.contains("a"), [1, 3]),
    (pl.col("section").is_in(["python"]) | pl.col("section").is_null(), [0, 2, 3]),
    (pl.col("section").str.len_chars() == pl.col("size") - 4, [0]),
    (pl.col("tags").list.first() == "b", [3]),
    (pl.col("tags").list.len() == 2, [0, 3]),
    (pl.col("section").is_duplicated(), [0, 3]),
    (pl.col("section").map_elements(_short_text, return_dtype=pl.Boolean), [1, 4]),
    (pl.lit(True), [0, 1, 2, 3, 4]),
]


@pytest.mark.parametrize(("expr", "expected"), POLARS, ids=str)
def test_polars_expressions(filters: Filters, expr: pl.Expr, expected: list[int]) -> None:
    assert rows(filters, expr) == expected


PYARROW = [
    (pc.field("section") == "python", [0, 3]),
    ((pc.field("size") < 25) & ~(pc.field("section") == "python"), [1, 4]),
    (pc.field("size").is_null() | (pc.field("price") > 1.75), [1, 3]),
    (pc.field("size").isin([10, 20]), [0, 1]),
]


@pytest.mark.parametrize(("expr", "expected"), PYARROW, ids=str)
def test_pyarrow_expressions(filters: Filters, expr: Any, expected: list[int]) -> None:
    assert rows(filters, expr) == expected


def test_label_questions_by_postings_and_by_polars_agree(rng: np.random.Generator) -> None:
    """Postings answer a question by itself; inside of something else polars reads the lists."""
    names = np.array(["a", "b", "c", "d"], dtype=object)
    lists = [
        None if rng.random() < 0.1 else rng.choice(names, rng.integers(0, 4)).tolist() + [None] * (rng.random() < 0.1)
        for _ in range(1000)
    ]
    filters = Filters(Attributes({"tags": lists, "years": [[1, 2][: i % 3] for i in range(1000)]}))
    for column, label in [("tags", "'a'"), ("tags", "'z'"), ("years", "2")]:
        for no in ("", "NOT "):
            direct = filters.compile(f"{no}array_has({column}, {label})")
            through = filters.compile(f"CASE WHEN TRUE THEN {no}array_contains({column}, {label}) END")
            assert direct.rows().tolist() == through.rows().tolist()
    assert filters.compile("array_has(tags, 'a')").count == sum("a" in (each or []) for each in lists)


# ---- masks, ids and selectors


def test_masks_and_ids_need_no_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("polars", "pyarrow"):
        monkeypatch.setitem(sys.modules, module, None)
    filters = Filters(rows=lambda: 5)
    assert rows(filters, np.array([True, False, False, True, False])) == [0, 3]
    assert rows(filters, [True, False, False, True, False]) == [0, 3]
    assert rows(filters, np.array([4, 1, 99])) == [1, 4]
    assert rows(filters, [0, 2]) == rows(filters, {0, 2}) == rows(filters, (0, 2)) == [0, 2]
    assert rows(filters, []) == rows(filters, np.array([], np.int64)) == []
    assert rows(filters, None) == [0, 1, 2, 3, 4]
    with pytest.raises(InvalidArgument, match="there are no attributes"):
        filters.compile("size < 3")


def test_ids_are_those_of_the_rows() -> None:
    filters = Filters(rows=lambda: 3, ids=lambda: np.array([30, 10, 20]))
    assert filters.compile([10, 20, 7]).rows().tolist() == [1, 2]
    assert filters.compile(np.array([True, False, False])).rows().tolist() == [0]


def test_conditions_on_many_strings(rng: np.random.Generator) -> None:
    """Few ranges of codes are compared, many are looked up; every other value makes as many ranges as can be."""
    names = [None, *(f"name {i:03}" for i in range(100))]
    values = [names[i] for i in rng.integers(0, len(names), 5000)]
    filters = Filters(Attributes({"name": values}))
    for count in (0, 1, 2, 5, 50, 100):
        wanted = names[1 : 2 * count : 2] if count < 100 else names[1:]
        condition = field("name").is_in(wanted)
        expected = [i for i, value in enumerate(values) if value in wanted]
        others = [i for i, value in enumerate(values) if value not in wanted and (value is not None or not wanted)]
        assert filters.compile(condition).rows().tolist() == expected
        assert filters.compile(~condition).rows().tolist() == others
        if wanted:
            listed = ", ".join(f"'{each}'" for each in wanted)
            assert filters.compile(f"name IN ({listed})").rows().tolist() == expected
            assert filters.compile(f"upper(name) IN ({listed.upper()})").rows().tolist() == expected
            assert filters.compile(f"NOT upper(name) IN ({listed.upper()})").rows().tolist() == others


def test_torch_masks_and_ids(filters: Filters) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    assert rows(filters, torch.tensor([True, False, False, False, True])) == [0, 4]
    assert rows(filters, torch.tensor([3, 2])) == [2, 3]


class IDSelectorRange:
    def __init__(self, imin: int, imax: int) -> None:
        self.imin, self.imax = imin, imax


class IDSelectorArray:
    def __init__(self, ids: Any) -> None:
        self.ids, self.n = ids, len(ids)


class IDSelectorBitmap:
    def __init__(self, bitmap: Any) -> None:
        self.bitmap, self.n = bitmap, len(bitmap)


class IDSelectorBatch:
    """FAISS lets nobody see the ids of a batch, only ask for one."""

    def __init__(self, ids: Any) -> None:
        self._hidden = set(map(int, ids))

    def is_member(self, id: int) -> bool:
        return id in self._hidden


class IDSelectorAll:
    pass


class IDSelectorNot:
    def __init__(self, sel: Any) -> None:
        self.sel = sel


class _OfTwo:
    def __init__(self, lhs: Any, rhs: Any) -> None:
        self.lhs, self.rhs = lhs, rhs


IDSelectorAnd = type("IDSelectorAnd", (_OfTwo,), {})
IDSelectorOr = type("IDSelectorOr", (_OfTwo,), {})
IDSelectorXOr = type("IDSelectorXOr", (_OfTwo,), {})


def faiss_or_stand_ins(real: bool) -> Any:
    if real:
        return pytest.importorskip("faiss", reason="faiss is not installed")
    return types.SimpleNamespace(**{name: each for name, each in globals().items() if name.startswith("IDSelector")})


@pytest.mark.parametrize("real", [False, True], ids=["stand-ins", "faiss"])
def test_selectors(real: bool) -> None:
    faiss = faiss_or_stand_ins(real)
    ids = np.array([30, 10, 20, 11, 12])
    filters = Filters(rows=lambda: 5, ids=lambda: ids)
    array, batch = faiss.IDSelectorArray(np.array([30, 12, 77])), faiss.IDSelectorBatch(np.array([10, 11, 77]))
    bits = faiss.IDSelectorBitmap(np.packbits(np.isin(np.arange(16), [10, 12]), bitorder="little"))
    some = faiss.IDSelectorRange(11, 21)
    for selector, expected in [
        (some, [2, 3, 4]),
        (array, [0, 4]),
        (batch, [1, 3]),
        (bits, [1, 4]),
        (faiss.IDSelectorAll(), [0, 1, 2, 3, 4]),
        (faiss.IDSelectorNot(array), [1, 2, 3]),
        (faiss.IDSelectorAnd(array, faiss.IDSelectorNot(batch)), [0, 4]),
        (faiss.IDSelectorOr(faiss.IDSelectorAnd(array, some), batch), [1, 3, 4]),
        (faiss.IDSelectorXOr(some, bits), [1, 2, 3]),
    ]:
        assert filters.compile(selector).rows().tolist() == expected


# ---- one filter, or one for each query


def test_one_filter_for_all_queries(filters: Filters) -> None:
    for where in ["size < 25", {"section": "python"}, [1, 2], np.array([1, 2])]:
        assert isinstance(filters.compile_filters(where, 3), ts.filters.Bitmap)


def test_one_filter_for_each_query(filters: Filters) -> None:
    mask = np.array([True] * 5)
    wheres = ["size < 25", None, {"section": "python"}, [0], mask, "size < 25", field("size") < 25, mask]
    made = filters.compile_filters(wheres, len(wheres))
    assert isinstance(made, list)
    assert [each.count for each in made] == [3, 5, 2, 1, 5, 3, 3, 5]
    assert made[0] is made[5] and made[4] is made[7]
    several = filters.compile_filters(np.array([[True, False, False, False, True], [False] * 5]), 2)
    assert isinstance(several, list) and [each.count for each in several] == [2, 0]
    with pytest.raises(InvalidArgument, match="one for each of 3 queries; got 2"):
        filters.compile_filters(["size < 25", None], 3)


# ---- what is kept


@pytest.mark.parametrize(
    "make",
    [
        lambda: "size < 25",
        lambda: field("size") < 25,
        lambda: {"size": {"$lt": 25}, "tags": {"$in": ["a", "b"]}},
        lambda: pl.col("size") < 25,
    ],
)
def test_equal_filters_are_compiled_once_until_the_table_changes(filters: Filters, make: Any) -> None:
    first = filters.compile(make())
    assert filters.compile(make()) is first
    assert filters._attributes is not None
    filters._attributes.update([2], {"size": [1], "tags": [["a"]]})
    assert filters.compile(make()).rows().tolist() == sorted([*first.rows().tolist(), 2])


def test_filters_that_look_equal_and_are_not(filters: Filters) -> None:
    assert filters.compile({"size": 1}).count == 0
    with pytest.raises(InvalidArgument, match="got bool True"):
        filters.compile({"size": True})
    assert (field("size") == 1) != (field("size") == True)  # noqa: E712
    assert rows(filters, {"price": 1}) == rows(filters, {"price": 1.0}) == [4]


def test_more_filters_than_are_kept() -> None:
    filters = Filters(Attributes({"size": np.arange(1000)}))
    for bound in range(600):
        assert filters.compile(f"size < {bound}").count == bound
    assert filters.compile("size < 7").count == 7


# ---- errors


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("sectoin = 'python'", r"columns out of 'section', .*; got 'sectoin'; did you mean 'section'\?"),
        ('section = "python"', "got 'python'.*text stands in single quotes"),
        (field("Section") == "x", "did you mean 'section'"),
        ({"nobody": 1}, "expected columns out of .*; got 'nobody'"),
        (pl.col("nobody") == 1, "got 'nobody'"),
        (pc.field("nobody") == 1, "expected an expression over 'section'"),
        ("size < 'a'", "fits the columns; polars says"),
        ("section < 5", "fits the columns; polars says"),
        ("section", "expected one bool for each"),
        ("size FROM", "expected an SQL condition"),
        ("section = 'python' size", "which names its result"),
        ("size < 5 price > 3", "expected an SQL condition"),
        ("", "expected an SQL condition"),
        ("array_has_any(tags, ['a']) IS NULL", "array_has_any and array_has_all as conditions by themselves"),
        ("array_has_all(tags, tags)", "array_has_any and array_has_all as conditions by themselves"),
        ("array_has(tags, 5)", "column 'tags' of List.String. can be compared with; got int 5"),
        ("array_has(section, 'a')", "fits the columns; polars says"),
        (field("section").has("a"), "a column of labels to ask for"),
        (field("tags") == "a", r"has\(…\), has_any\(…\) or has_all\(…\) for 'tags'"),
        (field("size") == "a", "column 'size' of Int64 can be compared with; got str 'a'"),
        (field("size") == True, "got bool True"),  # noqa: E712
        (field("free") == 1, "got int 1"),
        (field("size") == 1 << 70, "can be compared with; got int"),
        (field("section") == 1, "got int 1"),
        (field("section").is_in(["a", 1]), "got int 1"),
        (field("day") == "yesterday", "got str 'yesterday'"),
        (field("day") == 5, "got int 5"),
        (field("utc") == "2024-01-01T12:00", "can be compared with"),
        (field("at") == "2024-01-01T12:00Z", "can be compared with"),
        (field("size").like("a%"), "a column of strings"),
        (field("size").is_empty(), "a column of labels"),
        ({"size": {"$foo": 1}}, r"expected one of \$lt.* got '\$foo'"),
        ({"$foo": []}, "'\\$and', '\\$or', '\\$nor' or '\\$not'; got '\\$foo'"),
        ({"$or": []}, "a list of dicts"),
        ({"$or": ["x"]}, "expected a dict behind"),
        ({"$not": "x"}, "expected a dict behind"),
        ({"size": {"$in": 3}}, "expected a list behind '\\$in'"),
        ({"size": {"$in": ["a"]}}, "got str 'a'"),
        ({"size": {"$between": [1]}}, "two bounds"),
        ({"tags": {"$size": 1.5}}, "a whole number"),
        ({"size": {"$exists": 1}}, "True or False"),
        ({"size": object()}, "a bool, number, string, date or timestamp"),
        ({"size": {"$lt": None}}, "got None"),
        ({"section": {"$contains": 5}}, "expected a string"),
        (pl.col("section"), "expected one bool for each"),
        (pl.col("size", "price") > 1, "expected"),
        (pc.field("size"), "one bool a row; got int64"),
        (np.zeros(4, np.bool_), r"mask of shape \(5,\), one bool a stored row; got \(4,\)"),
        ([-1], "ids between 0"),
        (np.array([0.5]), "where as SQL text"),
        (object(), "where as SQL text"),
        (5, "where as SQL text"),
        ([0, "a"], "where as SQL text"),
        (type("IDSelectorOdd", (), {})(), "one of FAISS's selectors"),
    ],
    ids=lambda value: re.sub(" at 0x[0-9a-f]+", "", str(value)),  # the same names in every process
)
def test_errors(filters: Filters, where: Any, message: str) -> None:
    with pytest.raises(TessellaError, match=message) as caught:
        filters.compile(where)
    assert isinstance(caught.value, InvalidArgument | UnsupportedType)
    assert caught.value.args[0].startswith("where: expected")


@pytest.mark.parametrize(
    "make",
    [
        lambda: field("size") == None,  # noqa: E711
        lambda: field("size").is_in([1, None]),
        lambda: field("size").is_in("abc"),
        lambda: field("tags").has(None),
        lambda: field("size") == [1],
        lambda: field("section").like(5),
        lambda: bool(field("size")),
        lambda: 1 < field("size") < 3,
        lambda: (field("size") == 1) and (field("price") == 2),
        lambda: not (field("size") < 1),
        lambda: (field("size") == 1) & True,
        lambda: (field("size") == 1) | "x",
    ],
)
def test_conditions_that_cannot_be_made(make: Any) -> None:
    with pytest.raises(InvalidArgument, match="where: expected"):
        make()


def test_a_condition_nested_too_deep_is_an_error_of_ours(filters: Filters) -> None:
    condition = field("size") == 1
    for _ in range(20_000):
        condition = ~condition
    with pytest.raises((InvalidArgument, RecursionError)):
        filters.compile(condition)


def test_a_long_chain_is_fine(filters: Filters) -> None:
    assert rows(filters, " OR ".join(f"size = {i}" for i in range(-200, 200))) == [0, 1, 2, 4]


def test_an_empty_table() -> None:
    filters = Filters(Attributes({"a": [1], "s": ["x"], "tags": [["x"]]}))
    filters._attributes.remove([], [], 0)
    for where in ["a < 3", "s = 'x' AND array_has(tags, 'x')", {"s": "x"}, pc.field("a") < 3, None, []]:
        assert filters.compile(where).count == 0 == filters.compile(where).n


def test_filters_compile_beside_one_writer() -> None:
    """Every bitmap belongs to the table as it was at one moment: as many rows, and the right ones of them."""
    table = Attributes({"size": np.arange(1000), "tags": [["a"]] * 1000})
    filters = Filters(table)
    stop = threading.Event()
    wrong: list[Any] = []

    def read() -> None:
        while not stop.is_set():
            bitmap = filters.compile("size >= 0 AND array_has(tags, 'a')")
            if bitmap.count != bitmap.n:
                wrong.append(bitmap)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for step in range(150):
        table.append({"size": np.arange(20), "tags": [["a"]] * 20})
        table.update(np.arange(step, step + 10), {"size": np.arange(10)})
        table.remove(np.arange(len(table) - 5, len(table)), np.arange(5), len(table) - 5)
    stop.set()
    for reader in readers:
        reader.join()
    assert not wrong and filters.compile("size >= 0").n == len(table) == 1000 + 150 * 15


@pytest.mark.parametrize("missing", ["polars", "pyarrow"])
def test_a_missing_extra_is_named(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; import tessella.filters; import tessella.attributes"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode and "attributes: expected polars and pyarrow; `pip install" in result.stderr


def test_field_is_the_only_new_name() -> None:
    assert ts.field is field and "Filters" not in ts.__all__
