"""A part as an Arrow stream and back: what an index file holds of a table.

Encoded strings are an Arrow dictionary, labels are lists of one, so any Arrow reader gives the values. The first
value of each dictionary is null.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import polars as pl
import pyarrow as pa

from tessella.attributes.labels import series_of
from tessella.attributes.parts import Part
from tessella.attributes.tables import Type, as_frame
from tessella.errors import FormatError, TessellaError

# What an Arrow table does not say by itself: how many rows a table without columns has, and which columns of labels
# have seen no label yet, so that they may become lists of strings or of integers.
_ROWS, _UNTYPED = b"tessella.rows", b"tessella.untyped"

_DAMAGE = (pa.ArrowException, pl.exceptions.PolarsError, TessellaError, LookupError, OSError, TypeError, ValueError)


_LEVEL = 3  # of zstd: higher ones take much longer for a few percent
_MOST = 256  # times as large as its compressed form a stream may be: what a damaged file can make of itself


def compressed(stream: bytes) -> bytes | None:
    """A stream by zstd; None where that is not there, or does not pay."""
    if not pa.Codec.is_available("zstd"):
        return None
    packed: bytes = pa.Codec("zstd", compression_level=_LEVEL).compress(stream, asbytes=True)
    return packed if 10 * len(packed) < 9 * len(stream) and len(stream) <= _MOST * len(packed) else None


def uncompressed(data: object, size: int) -> Any:
    """The stream of so many bytes, in memory of its own."""
    packed = pa.py_buffer(data)
    if not 0 <= size <= _MOST * packed.size:
        raise FormatError(f"load: the attributes are damaged: {packed.size} bytes cannot hold {size}")
    try:
        return pa.Codec("zstd").decompress(packed, size)
    except _DAMAGE as error:
        raise FormatError(f"load: the attributes are damaged: {error}") from error


def written(part: Part, types: Mapping[str, Type]) -> bytes:
    """The stream, uncompressed."""
    columns = {column.name: _array(column, part.values.get(column.name)) for column in part.frame.get_columns()}
    untyped = [name for name, kept in types.items() if kept == pl.List(pl.Null)]
    table = pa.table(columns).replace_schema_metadata({_ROWS: str(part.rows), _UNTYPED: json.dumps(untyped)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def read(data: object) -> tuple[Part, dict[str, Type]]:
    """The part, over the memory of `data`, and the types of its columns."""
    try:
        table = pa.ipc.open_stream(pa.py_buffer(data)).read_all().combine_chunks()
        table.validate(full=True)
        said = table.schema.metadata or {}
        rows, untyped = int(said[_ROWS]), json.loads(said[_UNTYPED])
        if rows < 0 or (table.num_columns and rows != table.num_rows):
            raise ValueError(f"it says {rows} rows and holds {table.num_rows}")
        columns, values, types = [], {}, {}
        for name in table.column_names:
            column, known = _series(name, _whole(table[name]))
            columns.append(column)
            types[name] = pl.List(pl.Null) if name in untyped else _type(column, known)
            if known is not None:
                values[name] = known.alias(name)
    except _DAMAGE as error:
        raise FormatError(f"load: the attributes are damaged: {error}") from error
    return Part(pl.DataFrame(columns), rows, values), types


def _array(column: pl.Series, values: pl.Series | None) -> Any:
    if values is None:
        return column.to_arrow()
    stored = values.to_arrow()
    if not isinstance(column.dtype, pl.List):
        return pa.DictionaryArray.from_arrays(column.to_arrow(), stored)
    lists: Any = column.to_arrow()
    elements = pa.DictionaryArray.from_arrays(lists.values, stored)
    return pa.LargeListArray.from_arrays(lists.offsets, elements, mask=lists.is_null() if lists.null_count else None)


def _whole(column: Any) -> Any:
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.array([], column.type) if column.num_chunks == 0 else pa.concat_arrays(column.chunks)


def _series(name: str, array: Any) -> tuple[pl.Series, pl.Series | None]:
    """A column of a part, and what its codes stand for."""
    if pa.types.is_dictionary(array.type):
        return series_of(name, array.indices), _values(array)
    if pa.types.is_large_list(array.type) and pa.types.is_dictionary(array.type.value_type):
        codes = pa.LargeListArray.from_arrays(
            array.offsets, array.values.indices, mask=array.is_null() if array.null_count else None
        )
        return series_of(name, codes), _values(array.values)
    (kept,) = as_frame({name: series_of(name, array)}, "load").get_columns()
    return kept, None


def _values(array: Any) -> pl.Series:
    values = series_of("", array.dictionary)
    if not len(values) and not len(array):
        return pl.Series([None], dtype=values.dtype)  # a table without rows is written without dictionaries
    if not len(values) or values[0] is not None or array.indices.null_count:
        raise ValueError("a dictionary does not begin with null")
    if values.dtype not in (pl.String, pl.Int64):
        raise ValueError(f"a dictionary has values of {values.dtype}")
    return values


def _type(column: pl.Series, values: pl.Series | None) -> Type:
    if values is None:
        return column.dtype
    return pl.List(values.dtype) if isinstance(column.dtype, pl.List) else values.dtype
