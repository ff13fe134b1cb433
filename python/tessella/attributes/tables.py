"""The door for tables: whatever holds columns comes in here and leaves as a polars frame of the types we keep.

Nothing but polars and pyarrow is imported: pandas, DuckDB and the others speak the Arrow stream or the
interchange protocol themselves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import polars as pl
import pyarrow as pa
from pyarrow.interchange import from_dataframe

from tessella.errors import InvalidArgument, UnsupportedType

Type: TypeAlias = Any  # a polars type: its classes and instances are interchangeable, which no annotation says

KEPT = "bool, integers, floats, strings, dates, timestamps, and lists of strings or integers"
TABLES = (
    "a polars or pandas DataFrame, an Arrow table or anything with __arrow_c_stream__, a dict of arrays or lists,"
    " or a list of dicts"
)
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")
_PLAIN = {pl.Null, pl.Boolean, pl.Float32, pl.Float64, pl.String, pl.Date}
_INTEGERS = [pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64]


def as_frame(table: object, operation: str) -> pl.DataFrame:
    """`table` as a frame of kept types; NaN, which pandas writes for a missing number, becomes null."""
    try:
        frame = _frame(table)
    except (TypeError, ValueError, OverflowError, pa.ArrowException, pl.exceptions.PolarsError) as error:
        raise UnsupportedType(
            f"{operation}: expected attributes as {TABLES}; got {type(table).__name__} ({_first_line(error)})"
        ) from error
    return frame.select(_kept(column, operation) for column in frame.get_columns())


def common_type(kept: Type, given: Type) -> Type | None:
    """The type that a column of type `kept` has once values of type `given` have joined it; None where they cannot."""
    if kept == given or given == pl.Null:
        return kept
    if kept == pl.Null:
        return given
    if kept in _INTEGERS and given in _INTEGERS:
        return _wider(kept, given)
    if kept in _INTEGERS and given.is_float():
        return kept  # pandas turns integers with gaps into floats; `converted` insists on whole numbers
    if kept.is_float() and given.is_numeric():
        return pl.Float64
    if isinstance(kept, pl.Datetime) and given == pl.Date:
        return kept
    if isinstance(kept, pl.Datetime) and isinstance(given, pl.Datetime):
        return _finer(kept, given) if (kept.time_zone is None) == (given.time_zone is None) else None
    if isinstance(kept, pl.List) and isinstance(given, pl.List):
        inner = common_type(kept.inner, given.inner)
        return None if inner is None else pl.List(inner)
    return None


def converted(column: pl.Series, wanted: Type, operation: str) -> pl.Series:
    """The column in the type it is kept in; an error where a value would change."""
    if column.dtype == wanted:
        return column
    try:
        cast = column.cast(wanted, strict=True)
        if column.dtype.is_float() and not wanted.is_float() and not (cast == column).all():
            raise ValueError("some numbers are not whole")
    except (ValueError, pl.exceptions.PolarsError) as error:
        raise InvalidArgument(
            f"{operation}: expected column {column.name!r} as {wanted}, which it is here;"
            f" got {column.dtype} ({_first_line(error)})"
        ) from error
    return cast


def _frame(table: Any) -> pl.DataFrame:
    if isinstance(table, pl.DataFrame):
        return table
    if isinstance(table, pl.LazyFrame):
        return table.collect()
    if isinstance(table, Mapping):
        return pl.DataFrame([_series(str(name), values) for name, values in table.items()])
    if isinstance(table, Sequence) and all(isinstance(row, Mapping) for row in table):
        return pl.from_dicts(list(table), infer_schema_length=None) if table else pl.DataFrame()
    if hasattr(table, "__arrow_c_stream__") or hasattr(table, "__arrow_c_array__"):
        return _from_arrow(pa.table(table))
    if hasattr(table, "__dataframe__"):
        return _from_arrow(from_dataframe(table))
    if hasattr(table, "columns") and hasattr(table, "__getitem__"):
        return pl.DataFrame([_series(str(name), table[name]) for name in table.columns])
    raise TypeError("it has none of their protocols")


def _from_arrow(table: pa.Table) -> pl.DataFrame:
    own = [name for name in table.column_names if not _PANDAS_INDEX.fullmatch(name)]
    frame = pl.from_arrow(table.select(own))
    assert isinstance(frame, pl.DataFrame)
    return frame


def _series(name: str, values: Any) -> pl.Series:
    if isinstance(values, pl.Series):
        return values.alias(name)
    if not isinstance(values, (list, tuple)) and not hasattr(values, "__arrow_c_stream__"):
        values = np.asarray(values)
        if values.ndim != 1 and values.dtype.kind not in "iuU":
            raise ValueError(f"column {name!r} has shape {values.shape}")
        if values.dtype == object or values.ndim != 1:
            values = values.tolist()
    return pl.Series(name, values, strict=True)


def _kept(column: pl.Series, operation: str) -> pl.Series:
    wanted = _kept_type(column.dtype)
    if wanted is None:
        raise UnsupportedType(f"{operation}: expected columns of {KEPT}; got {column.name!r} of {column.dtype}")
    cast = column if column.dtype == wanted else column.cast(wanted)
    return cast.fill_nan(None) if wanted in (pl.Float32, pl.Float64) else cast


def _kept_type(given: Type) -> Type | None:
    if given in _PLAIN or given in _INTEGERS or isinstance(given, pl.Datetime):
        return given
    if given.is_float():
        return pl.Float32  # half precision: a polars of today has it, one of yesterday does not
    if isinstance(given, (pl.Categorical, pl.Enum)):
        return pl.String
    if isinstance(given, (pl.List, pl.Array)):
        inner = _kept_type(given.inner)
        if inner in _INTEGERS:
            return pl.List(pl.Int64)
        return pl.List(inner) if inner in (pl.Null, pl.String) else None
    return None


def _wider(one: Type, other: Type) -> Type:
    if one.is_signed_integer() == other.is_signed_integer():
        return max(one, other, key=_INTEGERS.index)
    return pl.Int64


def _finer(one: pl.Datetime, other: pl.Datetime) -> pl.Datetime:
    units = ["ms", "us", "ns"]
    return pl.Datetime(max(one.time_unit, other.time_unit, key=units.index), one.time_zone)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
