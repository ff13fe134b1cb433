"""Vectors in a list column of a .parquet file, and the rows' ids in another column of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tessella.cli.extras import require
from tessella.errors import FormatError, InvalidArgument


class ParquetSource:
    """A `sources.Source` over the columns of a table; only those two are read, a batch of rows at a time."""

    def __init__(self, path: Path, column: str | None, id_column: str | None) -> None:
        self._types = require("pyarrow").types
        self._file = require("pyarrow.parquet").ParquetFile(path)
        self._path = path
        self._column = self._choose(column)
        self._id_column = id_column
        if id_column is not None:
            self._check_ids(id_column)
        self.n = int(self._file.metadata.num_rows)
        if self.n == 0:
            raise InvalidArgument(f"read: expected rows in {path}; it has none")
        self.dim = int(next(self._batches(1))[0].shape[1])

    def batches(self, rows: int) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[np.int64] | None]]:
        done = 0
        for vectors, ids in self._batches(rows):
            if vectors.shape[1] != self.dim:
                raise InvalidArgument(
                    f"read: row {done} of {self._path} has {vectors.shape[1]} dimensions; row 0 {self.dim}"
                )
            yield vectors, ids
            done += len(vectors)

    def sample(self, rows: int) -> npt.NDArray[Any]:
        """The first rows: a .parquet file cannot be read here and there without decoding most of it."""
        return next(self.batches(rows))[0]

    def _batches(self, rows: int) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[np.int64] | None]]:
        done = 0
        for batch in self._read(rows):
            ids = None if self._id_column is None else self._numbers(batch[self._id_column], self._id_column)
            yield self._matrix(batch[self._column], done), ids
            done += batch.num_rows

    def _read(self, rows: int) -> Iterator[Any]:
        columns = [self._column] if self._id_column is None else [self._column, self._id_column]
        try:
            yield from self._file.iter_batches(rows, columns=columns)
        except (ValueError, OSError) as error:
            raise FormatError(f"read: {self._path} is damaged ({error})") from error

    def _matrix(self, lists: Any, start: int) -> npt.NDArray[Any]:
        """Lists of one length as a matrix over Arrow's own memory."""
        if lists.null_count:
            raise InvalidArgument(f"read: column {self._column} of {self._path} has empty places (null)")
        lengths = require("pyarrow.compute").list_value_length(lists).to_numpy(zero_copy_only=False)
        if (lengths != lengths[0]).any():
            row = int(np.argmax(lengths != lengths[0]))
            raise InvalidArgument(
                f"read: row {start + row} of {self._path} has {lengths[row]} dimensions; others {lengths[0]}"
            )
        return self._numbers(lists.flatten(), self._column).reshape(len(lengths), int(lengths[0]))

    def _numbers(self, values: Any, column: str) -> npt.NDArray[Any]:
        if values.null_count:
            raise InvalidArgument(f"read: column {column} of {self._path} has empty places (null)")
        array: npt.NDArray[Any] = values.to_numpy(zero_copy_only=False)
        return array

    def _choose(self, column: str | None) -> str:
        lists = [field.name for field in self._file.schema_arrow if self._holds_vectors(field.type)]
        if column is None and len(lists) == 1:
            return str(lists[0])
        if column not in lists:
            have = f"its columns of vectors are {', '.join(lists)}" if lists else "it has no column of vectors"
            raise InvalidArgument(f"read: expected a column of vectors of {self._path}; got {column}, and {have}")
        return str(column)

    def _holds_vectors(self, kind: Any) -> bool:
        known = self._types
        is_list = known.is_list(kind) or known.is_large_list(kind) or known.is_fixed_size_list(kind)
        return bool(is_list and (known.is_floating(kind.value_type) or known.is_integer(kind.value_type)))

    def _check_ids(self, column: str) -> None:
        fits = [field.name for field in self._file.schema_arrow if self._types.is_integer(field.type)]
        if column not in fits:
            raise InvalidArgument(
                f"read: expected an integer column of {self._path} for ids; got {column}, and it has"
                f" {', '.join(fits) or 'none'}"
            )
