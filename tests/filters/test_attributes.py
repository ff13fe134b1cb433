"""The table of attributes: what it takes, what changes do to it, and what comes out again."""

from __future__ import annotations

import datetime
import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from tessella.attributes import Attributes, arrow
from tessella.errors import FormatError, InvalidArgument, TessellaError, UnsupportedType

DAY = datetime.date(2024, 5, 31)
NOON = datetime.datetime(2024, 5, 31, 12)
COLUMNS: dict[str, list[Any]] = {
    "flag": [True, None, False],
    "size": [1, None, -3],
    "price": [0.5, None, 2.0],
    "name": ["a", None, "a"],
    "day": [DAY, None, DAY],
    "at": [NOON, None, NOON],
    "tags": [["x", "y", None], None, []],
    "years": [[2020, 2021], None, []],
}


class Stream:
    """What any library that speaks Arrow looks like from outside."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)


class Interchange:
    """What a DataFrame of another library looks like: no more than `__dataframe__`."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame = frame

    def __dataframe__(self, **options: Any) -> Any:
        return self.frame.to_arrow().__dataframe__(**options)


class Columns:
    """A DataFrame that has columns and no protocol."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self.columns, self.frame = frame.columns, frame

    def __getitem__(self, name: str) -> np.ndarray:
        return np.array(self.frame[name].to_list(), dtype=object)


def records(table: Attributes) -> list[dict[str, Any]]:
    return table.to_frame().to_dicts()


PLAIN = pl.DataFrame({"size": [3, 4], "name": ["a", "b"]})
KINDS: dict[str, Callable[[], Any]] = {
    "polars": lambda: PLAIN,
    "lazy": lambda: PLAIN.lazy(),
    "arrow": lambda: PLAIN.to_arrow(),
    "batch": lambda: PLAIN.to_arrow().to_batches()[0],
    "stream": lambda: Stream(PLAIN.to_arrow()),
    "interchange": lambda: Interchange(PLAIN),
    "columns": lambda: Columns(PLAIN),
    "lists": lambda: PLAIN.to_dict(as_series=False),
    "arrays": lambda: {"size": np.array([3, 4], np.int32), "name": np.array(["a", "b"])},
    "objects": lambda: {"size": (3, 4), "name": np.array(["a", "b"], dtype=object)},
    "records": lambda: PLAIN.to_dicts(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_tables_of_every_kind(kind: str) -> None:
    assert records(Attributes(KINDS[kind]())) == PLAIN.to_dicts()


def test_pandas_with_its_index_left_out() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame({"size": [3.0, float("nan")], "name": ["a", None]}, index=[10, 20])
    assert records(Attributes(frame)) == [{"size": 3.0, "name": "a"}, {"size": None, "name": None}]


def test_every_type_with_nulls() -> None:
    table = Attributes(COLUMNS)
    assert table.to_frame().to_dict(as_series=False) == COLUMNS
    assert table.types["tags"] == pl.List(pl.String) and table.types["at"] == pl.Datetime("us")


def test_types_that_are_kept_as_others() -> None:
    frame = pl.DataFrame(
        {
            "a": pl.Series(["x", "y"], dtype=pl.Categorical),
            "b": pl.Series([["x"], []], dtype=pl.List(pl.Enum(["x"]))),
            "c": pl.Series([[1, 2], [3, 4]], dtype=pl.Array(pl.Int16, 2)),
        }
    )
    assert Attributes(frame).types == {"a": pl.String, "b": pl.List(pl.String), "c": pl.List(pl.Int64)}


def test_nan_is_null() -> None:
    assert Attributes({"x": np.array([1.0, np.nan])}).to_frame()["x"].to_list() == [1.0, None]


def test_numbers_and_labels_from_numpy() -> None:
    table = Attributes({"day": np.array(["2024-05-31"], "M8[D]"), "years": np.array([[1, 2]])})
    assert records(table) == [{"day": DAY, "years": [1, 2]}]


def test_missing_and_new_columns_are_null() -> None:
    table = Attributes({"a": [1], "tags": [["x"]]})
    table.append({"b": ["y"]})
    table.append(None, rows=1)
    nothing = {"a": None, "tags": None, "b": None}
    assert records(table) == [nothing | {"a": 1, "tags": ["x"]}, nothing | {"b": "y"}, nothing]


def test_rows_without_any_column() -> None:
    table = Attributes()
    table.append(None, rows=3)
    assert (len(table), table.types) == (3, {})
    table.append({"a": [1]})
    assert table.to_frame()["a"].to_list() == [None, None, None, 1]


@pytest.mark.parametrize(
    ("first", "second", "kept", "values"),
    [
        ([1], np.array([1 << 40]), pl.Int64, [1, 1 << 40]),
        (np.array([1], np.int8), np.array([400]), pl.Int64, [1, 400]),
        (np.array([1], np.int8), np.array([200], np.uint8), pl.Int64, [1, 200]),
        ([1], [2.0, None], pl.Int64, [1, 2, None]),
        ([1.5], [2], pl.Float64, [1.5, 2.0]),
        (np.array([1.5], np.float32), [0.1], pl.Float64, [1.5, 0.1]),
        ([None], ["x"], pl.String, [None, "x"]),
        (["x"], [None], pl.String, ["x", None]),
        ([[]], [[1]], pl.List(pl.Int64), [[], [1]]),
        ([NOON], [DAY], pl.Datetime("us"), [NOON, datetime.datetime(2024, 5, 31)]),
    ],
)
def test_types_that_join(first: Any, second: Any, kept: Any, values: list[Any]) -> None:
    table = Attributes({"x": first})
    table.view()  # what was there before is a part by now
    table.append({"x": second})
    assert table.types["x"] == kept and table.to_frame()["x"].to_list() == values


@pytest.mark.parametrize(
    "second",
    [
        {"x": ["a"]},
        {"x": [1.5]},
        {"x": [[1]]},
        {"x": [True]},
        {"x": [1], "y": [{"z": 1}]},
        {"x": [1, 2], "y": ["a"]},
        {"x": [1, "a"]},
        {"x": np.zeros((1, 1, 1))},
        {"x": pl.Series([1 << 63], dtype=pl.UInt64)},
        {"x": pl.Series([b"raw"])},
        5,
        "x",
    ],
)
def test_what_does_not_fit_changes_nothing(second: Any) -> None:
    table = Attributes({"x": [7]})
    version = table.version
    with pytest.raises(TessellaError, match="append: expected"):
        table.append(second)
    assert (records(table), table.version) == ([{"x": 7}], version)
    with pytest.raises(TessellaError, match="update: expected"):
        table.update([0], second)
    assert (records(table), table.version) == ([{"x": 7}], version)


def test_errors_name_the_column_and_both_types() -> None:
    table = Attributes({"size": [1]})
    with pytest.raises(InvalidArgument, match="column 'size' as Int64, which it is here; got String"):
        table.append({"size": ["large"]})
    with pytest.raises(UnsupportedType, match=r"expected columns of bool, integers, .* got 'size' of Binary"):
        table.append({"size": pl.Series([b"raw"])})
    with pytest.raises(InvalidArgument, match="expected attributes of 2 rows; got 1"):
        table.append({"size": [1]}, rows=2)


def test_rows_in_any_order_and_missing_ones() -> None:
    table = Attributes(COLUMNS)
    table.append(COLUMNS)
    picked = table.rows([5, 0, -1, 0], ["name", "tags"])
    assert picked.to_dict(as_series=False) == {
        "name": ["a", "a", None, "a"],
        "tags": [[], ["x", "y", None], None, ["x", "y", None]],
    }
    assert table.rows([], ["name"]).height == 0
    assert Attributes({"a": [1]}).rows([-1]).to_dicts() == [{"a": None}]


@pytest.mark.parametrize(("numbers", "columns"), [([6], None), ([-2], None), ([0.5], None), ([0], ["price_"])])
def test_rows_that_are_not_there(numbers: Any, columns: Any) -> None:
    with pytest.raises(InvalidArgument, match="rows: expected"):
        Attributes(COLUMNS).rows(numbers, columns)


def test_updates_keep_the_other_columns() -> None:
    table = Attributes(COLUMNS)
    table.update([2, 0], {"size": [10, 20], "new": ["p", "q"]})
    assert table.to_frame()["size"].to_list() == [20, None, 10]
    assert table.to_frame()["new"].to_list() == ["q", None, "p"]
    assert table.to_frame()["tags"].to_list() == COLUMNS["tags"]
    with pytest.raises(InvalidArgument, match="each row once"):
        table.update([1, 1], {"size": [1, 2]})
    with pytest.raises(InvalidArgument, match="expected attributes of 2 rows; got 1"):
        table.update([0, 1], {"size": [1]})


def test_removal_fills_gaps_from_the_end() -> None:
    table = Attributes({"a": list(range(6))})
    table.remove([5, 4], [0, 2], 4)
    assert table.to_frame()["a"].to_list() == [5, 1, 4, 3]
    table.append({"a": [9]})
    assert table.to_frame()["a"].to_list() == [5, 1, 4, 3, 9]
    table.remove([], [], 0)
    assert len(table) == 0 and table.to_frame().height == 0


@pytest.mark.parametrize(("old", "new", "rows"), [([6], [0], 5), ([5], [5], 5), ([5], [0, 1], 5), ([], [], 7)])
def test_removals_that_make_no_sense(old: list[int], new: list[int], rows: int) -> None:
    table = Attributes({"a": list(range(6))})
    with pytest.raises(InvalidArgument, match="remove: expected"):
        table.remove(old, new, rows)
    assert table.to_frame()["a"].to_list() == list(range(6))


def test_any_history_ends_in_the_same_table(rng: np.random.Generator) -> None:
    """Appends, updates and removals at random, beside a plain list of rows."""
    table, plain, top = Attributes(), [], 0
    for step in range(300):
        kind = rng.integers(4)
        if kind <= 1 or not plain:
            count = int(rng.integers(1, 40))
            new = [_row(rng) for _ in range(count)]
            table.append(new)
            plain += new
        elif kind == 2:
            at = rng.permutation(len(plain))[: rng.integers(1, 20)]
            new = [_row(rng) for _ in at]
            table.update(at, new)
            for place, row in zip(at, new, strict=True):
                plain[place] = row
        else:
            rows = len(plain) - int(rng.integers(0, min(30, len(plain))))
            old = rng.permutation(np.arange(rows, len(plain)))
            new_places = rng.permutation(rows)[: len(old)]
            old = old[: len(new_places)]
            for source, target in zip(old, new_places, strict=True):
                plain[target] = plain[source]
            plain = plain[:rows]
            table.remove(old, new_places, rows)
        top = max(top, len(table.view().parts))
        if step % 20 == 0:
            assert records(table) == plain
    assert records(table) == plain
    assert 2 <= top <= 8  # small parts are merged into larger ones


def _row(rng: np.random.Generator) -> dict[str, Any]:
    names = [None, "a", "b", "c"]
    labels = [None, [], ["x"], ["x", "y"], ["z", None]]
    return {
        "size": int(rng.integers(100)),
        "name": names[rng.integers(len(names))],
        "tags": labels[rng.integers(len(labels))],
        "text": f"text {rng.integers(1 << 30)}",
    }


def test_a_view_does_not_see_later_changes() -> None:
    table = Attributes({"a": [1, 2, 3]})
    table.remove([2], [0], 2)
    view = table.view()
    table.remove([1], [0], 1)
    table.append({"a": [4]})
    assert view.places is not None
    assert [view.parts[0].frame["a"][place] for place in view.places.tolist()] == [3, 2]


def test_memory_that_changes_leave_behind_is_given_back() -> None:
    table = Attributes({"a": np.arange(20_000)})
    before = table.nbytes
    for _ in range(5):
        table.update(np.arange(20_000), {"a": np.arange(20_000)})
    assert table.nbytes < 2.5 * before
    table.compact()
    assert table.nbytes == before


def test_repeated_strings_are_stored_once() -> None:
    repeated = Attributes({"s": ["a long text that nobody wants to keep ten thousand times"] * 10_000})
    assert repeated.nbytes == 0 or repeated.view()  # parts are made when somebody looks
    assert repeated.nbytes < 2 * 10_000


@pytest.mark.parametrize("history", ["fresh", "changed", "empty", "no columns", "no rows at all"])
def test_arrow_and_back(history: str, tmp_path: Path) -> None:
    table = Attributes() if history in ("no columns", "no rows at all") else Attributes(COLUMNS)
    if history == "changed":
        table.append(COLUMNS)
        table.remove([5], [1], 5)
    if history == "empty":
        table.remove([], [], 0)
    if history == "no columns":
        table.append(None, rows=4)
    path = tmp_path / "table.arrow"
    path.write_bytes(table.to_arrow() or b"")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        back = Attributes.from_arrow(mapped)
        assert (len(back), back.types) == (len(table), table.types)
        assert records(back) == records(table)
        back.append(None, rows=1)
        assert len(back) == len(table) + 1
        del back


def test_any_arrow_reader_reads_it() -> None:
    read = pa.ipc.open_stream(Attributes(COLUMNS).to_arrow()).read_all()
    assert read.to_pydict() == COLUMNS
    assert pa.types.is_dictionary(read.schema.field("name").type)


def test_damaged_bytes_are_refused(rng: np.random.Generator) -> None:
    table = Attributes({"s": ["a", "b", "a", None] * 50, "tags": [["x"], [], None, ["y", "x"]] * 50})
    whole = table.to_arrow()
    with pytest.raises(FormatError, match="damaged"):
        Attributes.from_arrow(whole[: len(whole) // 2])
    with pytest.raises(FormatError, match="damaged"):
        Attributes.from_arrow(b"")
    with pytest.raises(FormatError, match="damaged"):
        Attributes.from_arrow(pa.ipc.open_stream(whole).schema.serialize())
    refused = 0
    for place in rng.integers(0, len(whole), 300):
        broken = bytearray(whole)
        broken[place] ^= 0xFF
        try:
            Attributes.from_arrow(bytes(broken)).to_frame()
        except FormatError:
            refused += 1
    assert refused > 0


# ---- in a file -------------------------------------------------------------------------------------------------------


def test_a_stream_is_compressed_where_it_pays() -> None:
    stream = Attributes({"section": ["python", "math", "games"] * 2000, "size": list(range(6000))}).to_arrow()
    packed = arrow.compressed(stream)
    assert packed is not None and len(packed) < 0.9 * len(stream)
    assert bytes(arrow.uncompressed(packed, len(stream))) == stream
    noise = np.random.default_rng(0).random(6000)
    assert arrow.compressed(Attributes({"noise": noise}).to_arrow()) is None
    assert arrow.compressed(Attributes({"same": ["x"] * 3_000_000}).to_arrow()) is None  # more than a reader believes


def test_a_stream_that_says_it_is_longer_than_it_can_be_is_refused() -> None:
    stream = Attributes({"section": ["python"] * 3000}).to_arrow()
    packed = arrow.compressed(stream)
    assert packed is not None
    for data, size in [
        (packed, 257 * len(packed)),
        (packed, len(stream) + 1),
        (packed, len(stream) - 1),
        (packed[:-5], len(stream)),
        (packed[:20] + bytes(10) + packed[30:], len(stream)),
    ]:
        with pytest.raises(FormatError, match="attributes are damaged"):
            arrow.uncompressed(data, size)
