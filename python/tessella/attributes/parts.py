"""A run of rows that never changes: strings as codes, labels as lists of codes, everything else as it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from tessella.attributes.labels import Labels, codes_of, decoded, encoded
from tessella.attributes.tables import Type
from tessella.bitmap import Words, full_words, packed

_SAMPLE_ROWS = 8192


class Part:
    """`frame` holds the columns, `values` what the codes of an encoded one stand for: `values[name][0]` is null.

    An encoded column has no nulls of its own. A string column is encoded where at most every second value is a new
    one; a column of labels always is.
    """

    def __init__(self, frame: pl.DataFrame, rows: int, values: dict[str, pl.Series]) -> None:
        self.frame, self.rows, self.values = frame, rows, values
        self._coded = {name for name in values if not isinstance(frame[name].dtype, pl.List)}
        self._places: dict[str, dict[str, int]] = {}
        self._labels: dict[str, Labels] = {}
        self._lists: dict[str, Words] = {}
        self._codes: dict[str, npt.NDArray[Any]] = {}

    @classmethod
    def of(cls, frame: pl.DataFrame, rows: int) -> Part:
        """Encodes a frame of kept types."""
        columns, values = [], {}
        for column in frame.rechunk().get_columns():
            codes = _encoded(column)
            columns.append(column if codes is None else codes[0])
            if codes is not None:
                values[column.name] = codes[1].alias(column.name)
        return cls(pl.DataFrame(columns), rows, values)

    def decoded(self, types: Mapping[str, Type], at: npt.NDArray[np.int64] | None = None) -> pl.DataFrame:
        """These columns as they were given, of these types; all rows, or those of the numbers `at`."""
        columns = []
        for name, wanted in types.items():
            if name not in self.frame.columns:
                rows = self.rows if at is None else len(at)
                columns.append(nulls(name, wanted, rows))
                continue
            column = self.frame[name] if at is None else self.frame[name].gather(at)
            columns.append(self._decoded(column).cast(wanted))
        return pl.DataFrame(columns)

    def retyped(self, types: Mapping[str, Type]) -> Part:
        """The same rows as a table of these columns holds them."""
        columns, values = [], dict(self.values)
        for name, wanted in types.items():
            known = self.frame[name] if name in self.frame.columns else None
            if known is not None and (name in values or known.dtype == wanted):
                columns.append(known)
                if name in values:
                    inner = wanted.inner if isinstance(wanted, pl.List) else wanted
                    values[name] = values[name].cast(pl.String if inner == pl.Null else inner)
                continue
            made = nulls(name, wanted, self.rows) if known is None else known.cast(wanted)
            codes = _encoded(made)
            columns.append(made if codes is None else codes[0])
            if codes is not None:
                values[name] = codes[1].alias(name)
        return Part(pl.DataFrame(columns), self.rows, values)

    def with_decoded(self, names: Iterable[str]) -> pl.DataFrame:
        """The frame with these columns as they were given."""
        return self.frame.with_columns([self._decoded(self.frame[name]) for name in names if name in self.values])

    def is_coded(self, name: str) -> bool:
        """Whether the column holds one code a row."""
        return name in self._coded

    def codes(self, name: str) -> npt.NDArray[Any]:
        """(rows,) the codes of a string column."""
        known = self._codes.get(name)
        if known is None:
            known = self._codes[name] = self.frame[name].to_numpy()
        return known

    def places(self, name: str) -> dict[str, int]:
        """The code of each value of a string column."""
        known = self._places.get(name)
        if known is None:
            known = self._places[name] = {value: code for code, value in enumerate(self.values[name].to_list()) if code}
        return known

    def labels(self, name: str) -> Labels:
        """The labels of a column, ready to be asked."""
        known = self._labels.get(name)
        if known is None:
            known = self._labels[name] = Labels(self.frame[name], self.values[name])
        return known

    def lists(self, name: str) -> Words:
        """The rows that have a list, be it empty."""
        known = self._lists.get(name)
        if known is None:
            known = self._lists[name] = packed(self.frame[name].is_not_null().to_numpy())
        return known

    @cached_property
    def all_rows(self) -> Words:
        return full_words(self.rows)

    @property
    def nbytes(self) -> int:
        """Bytes of the columns, their values and what was made for searching."""
        values = sum(series.estimated_size() for series in self.values.values())
        return int(self.frame.estimated_size() + values) + sum(labels.nbytes for labels in self._labels.values())

    def _decoded(self, column: pl.Series) -> pl.Series:
        values = self.values.get(column.name)
        if values is None:
            return column
        if isinstance(column.dtype, pl.List):
            return decoded(column, values)
        return values.gather(column).alias(column.name)


def nulls(name: str, wanted: Type, rows: int) -> pl.Series:
    """A column without a value."""
    return pl.Series(name, [None], dtype=wanted).new_from_index(0, rows)


def _encoded(column: pl.Series) -> tuple[pl.Series, pl.Series] | None:
    """Codes and values; None where the column is better kept as it is."""
    if isinstance(column.dtype, pl.List):
        return encoded(column.cast(pl.List(pl.String)) if column.dtype.inner == pl.Null else column)
    if column.dtype != pl.String or _mostly_new(column.head(_SAMPLE_ROWS)) or _mostly_new(column):
        return None
    return codes_of(column)


def _mostly_new(column: pl.Series) -> bool:
    return column.n_unique() * 2 > len(column) + 1
