"""Lists of labels: for each label the rows that carry it, so that asking for one reads those rows and no others."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from tessella.bitmap import Words, packed

_DENSE = 32  # a label of more than one row in 32 is kept as a bitmap: its list would take more memory


class Labels:
    """The labels of the rows of one part: `codes[offsets[i]:offsets[i + 1]]` are those of row i.

    `values[0]` is null, so code 0 stands for a null inside a list. A row whose list is null has no codes.
    """

    def __init__(self, lists: pl.Series, values: pl.Series) -> None:
        self.values = values
        self.rows = len(lists)
        self._offsets, codes = _flattened(lists)
        self._codes = np.asarray(codes)
        self._dense: dict[int, Words] = {}

    def having(self, labels: Sequence[Any], *, all_of: bool) -> Words:
        """The rows that carry any of the labels, or all of them."""
        codes = [self._code_of.get(label, -1) for label in dict.fromkeys(labels) if label is not None]
        if not all_of:
            return self._any_of([code for code in codes if code >= 0])
        if not codes:
            return packed(np.ones(self.rows, np.bool_))
        if min(codes) < 0:
            return packed(np.zeros(self.rows, np.bool_))
        words: Words = np.bitwise_and.reduce([self._words_of(code) for code in codes], axis=0)
        return words

    def of_length(self, length: int) -> Words:
        """The rows that carry so many labels, nulls among them; rows without a list carry none."""
        return packed(np.diff(self._offsets) == length)

    def _any_of(self, codes: list[int]) -> Words:
        if len(codes) == 1:
            return self._words_of(codes[0])
        mask = np.zeros(self.rows, np.bool_)
        for code in codes:
            mask[self._rows_of(code)] = True
        return packed(mask)

    def _words_of(self, code: int) -> Words:
        known = self._dense.get(code)
        if known is not None:
            return known
        rows = self._rows_of(code)
        mask = np.zeros(self.rows, np.bool_)
        mask[rows] = True
        words = packed(mask)
        if len(rows) * _DENSE > self.rows:
            self._dense[code] = words
        return words

    def _rows_of(self, code: int) -> npt.NDArray[np.uint32]:
        rows, starts = self._postings
        return rows[starts[code] : starts[code + 1]]

    @cached_property
    def _postings(self) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
        """Rows sorted by code, and where each code begins."""
        lengths = np.diff(self._offsets)
        rows = np.repeat(np.arange(self.rows, dtype=np.uint32), lengths)
        counts = np.bincount(self._codes, minlength=len(self.values))
        return rows[np.argsort(self._codes, kind="stable")], np.concatenate([[0], np.cumsum(counts)])

    @cached_property
    def _code_of(self) -> dict[Any, int]:
        return {value: code for code, value in enumerate(self.values.to_list()) if code}

    @property
    def nbytes(self) -> int:
        """Of what was made for searching; the lists themselves belong to the part."""
        made = self.__dict__.get("_postings", ())
        return int(sum(each.nbytes for each in made)) + sum(words.nbytes for words in self._dense.values())


def encoded(lists: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Lists of codes, and the values they stand for, null first."""
    offsets, flat = _flattened(lists)
    codes, values = codes_of(series_of("", flat))
    return _lists(lists, offsets, codes), values


def decoded(lists: pl.Series, values: pl.Series) -> pl.Series:
    """The lists that `encoded` was given."""
    offsets, flat = _flattened(lists)
    return _lists(lists, offsets, values.gather(series_of("", flat)))


def codes_of(column: pl.Series) -> tuple[pl.Series, pl.Series]:
    """For each row its place among the distinct values, in as few bytes as hold it; place 0 is null."""
    distinct = column.drop_nulls().unique().sort()
    if column.dtype == pl.String:
        places = column.cast(pl.Enum(distinct)).to_physical().cast(pl.UInt32).fill_null(0xFFFF_FFFF)
    else:
        filled = column.fill_null(0).to_numpy()
        found = pl.Series(np.searchsorted(distinct.to_numpy(), filled).astype(np.uint32))
        places = found.set(column.is_null(), 0xFFFF_FFFF)
    codes = places.to_numpy() + np.uint32(1)  # null wraps to 0
    narrowest = np.uint8 if len(distinct) < 1 << 8 else np.uint16 if len(distinct) < 1 << 16 else np.uint32
    values = pl.concat([pl.Series([None], dtype=column.dtype), distinct.alias("")])
    return pl.Series(column.name, codes.astype(narrowest)), values


def _flattened(lists: pl.Series) -> tuple[npt.NDArray[np.int64], Any]:
    """Where each list begins and the last one ends, and all elements as an Arrow array; null lists have none."""
    lengths = lists.list.len().fill_null(0).to_numpy()
    array: Any = lists.rechunk().to_arrow()
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]), array.flatten()


def _lists(like: pl.Series, offsets: npt.NDArray[np.int64], elements: pl.Series) -> pl.Series:
    """Lists of these elements, null where `like` is."""
    nulls = pa.array(like.is_null().to_numpy()) if like.null_count() else None
    made = pa.LargeListArray.from_arrays(pa.array(offsets), elements.rechunk().to_arrow(), mask=nulls)
    return series_of(like.name, made)


def series_of(name: str, array: Any) -> pl.Series:
    """An Arrow array as polars has it, over the same memory where that is possible."""
    return pl.Series(pl.from_arrow(array)).alias(name)
