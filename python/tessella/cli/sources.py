"""Files of vectors, read a batch at a time: .npy, .npz, .fvecs, .bvecs, .ivecs, .safetensors and .parquet."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from tessella.cli.extras import require
from tessella.cli.parquet import ParquetSource
from tessella.errors import FormatError, InvalidArgument, TessellaError

Array: TypeAlias = npt.NDArray[Any]
Ids: TypeAlias = npt.NDArray[np.int64]
_VECS = {".fvecs": "<f4", ".bvecs": "u1", ".ivecs": "<i4"}


class Source(Protocol):
    """Rows of one file. `batches` gives vectors and, where the file has them, the rows' own ids."""

    @property
    def n(self) -> int: ...
    @property
    def dim(self) -> int: ...
    def batches(self, rows: int) -> Iterator[tuple[Array, Ids | None]]: ...
    def sample(self, rows: int) -> Array: ...


@dataclass(frozen=True, slots=True)
class MatrixSource:
    """A matrix, usually mapped; `widen` turns a batch into numbers where NumPy lacks the stored type."""

    matrix: Array
    widen: Callable[[Array], Array] | None = None

    @property
    def n(self) -> int:
        return int(self.matrix.shape[0])

    @property
    def dim(self) -> int:
        return int(self.matrix.shape[1])

    def batches(self, rows: int) -> Iterator[tuple[Array, Ids | None]]:
        for start in range(0, self.n, rows):
            yield self._numbers(self.matrix[start : start + rows]), None

    def sample(self, rows: int) -> Array:
        """About that many rows, from all over the file."""
        return self._numbers(self.matrix[:: max(1, self.n // rows)])

    def _numbers(self, part: Array) -> Array:
        return part if self.widen is None else self.widen(part)


def open_vectors(text: str, column: str | None = None, id_column: str | None = None) -> Source:
    """Opens `path`, or `path:name` for one array of an .npz or one tensor of a .safetensors file."""
    path, name = _split(text)
    suffix = path.suffix.lower()
    if suffix not in _READERS and suffix != ".parquet":
        known = ", ".join([*_READERS, ".parquet"])
        raise InvalidArgument(f"read: expected a file of one of the kinds {known}; got {path}")
    if suffix != ".parquet" and (column or id_column):
        raise InvalidArgument(f"read: expected a .parquet file where columns are named; got {path}")
    if not path.is_file():
        raise InvalidArgument(f"read: expected {path} to be a file, and there is none")
    try:
        if suffix == ".parquet":
            return ParquetSource(path, column, id_column)
        source = _READERS[suffix](path, name)
    except TessellaError:
        raise
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise FormatError(f"read: {path} is no readable {suffix} file ({error})") from error
    if source.matrix.ndim != 2 or 0 in source.matrix.shape:
        raise InvalidArgument(f"read: expected {text} to be of shape (n, d); got {source.matrix.shape}")
    return source


def read_all(text: str, column: str | None = None) -> Array:
    """All vectors of a file as one matrix; for queries, which are few."""
    return read_rows(open_vectors(text, column))[0]


def read_rows(source: Source, batch: int = 65_536) -> tuple[Array, Ids | None]:
    """All vectors of a source as one matrix, and the ids where it has them."""
    vectors, ids = zip(*source.batches(batch), strict=True)
    return np.concatenate(vectors), None if ids[0] is None else np.concatenate(ids)


def _split(text: str) -> tuple[Path, str | None]:
    path, colon, name = text.rpartition(":")
    if colon and not os.path.exists(text) and Path(path).suffix.lower() in {".npz", ".safetensors"}:
        return Path(path), name
    return Path(text), None


def _choose(names: list[str], name: str | None, path: Path, what: str) -> str:
    if name is None and len(names) == 1:
        return names[0]
    if name not in names:
        raise InvalidArgument(f"read: expected {path}:NAME with one of the {what}s {', '.join(names)}; got {name}")
    return name


def _npy(path: Path, _: str | None) -> MatrixSource:
    return MatrixSource(np.load(path, mmap_mode="r", allow_pickle=False))


def _npz(path: Path, name: str | None) -> MatrixSource:
    with np.load(path, allow_pickle=False) as arrays:
        return MatrixSource(arrays[_choose(list(arrays), name, path, "array")])


def _vecs(path: Path, _: str | None) -> MatrixSource:
    """Each row is its dimension as int32, then its numbers."""
    d = int(np.fromfile(path, "<i4", 1).sum())  # an empty file gives 0
    if not 0 < d < 1 << 24:
        raise ValueError(f"its first row claims {d} dimensions")
    record = np.dtype([("d", "<i4"), ("x", _VECS[path.suffix.lower()], (d,))])
    if path.stat().st_size % record.itemsize:
        raise ValueError(f"its size is no multiple of rows of {d} dimensions")
    rows = np.memmap(path, record, mode="r")
    if (rows["d"] != d).any():
        raise ValueError(f"row {int(np.argmax(rows['d'] != d))} is not of {d} dimensions, as row 0 is")
    return MatrixSource(rows["x"])


def _safetensors(path: Path, name: str | None) -> MatrixSource:
    library = require("safetensors")
    try:
        with library.safe_open(path, framework="np") as file:  # checks every offset in the header
            name = _choose([key for key in file.keys() if not key.startswith("__")], name, path, "tensor")  # noqa: SIM118
    except library.SafetensorError as error:
        raise ValueError(str(error)) from error
    with path.open("rb") as raw:
        length = int.from_bytes(raw.read(8), "little")
        entry = json.loads(raw.read(length))[name]
    types = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "U8": "u1", "I8": "i1"}
    if entry["dtype"] not in types:
        raise ValueError(f"tensor {name} is of type {entry['dtype']}")
    offset = 8 + length + entry["data_offsets"][0]
    matrix = np.memmap(path, types[entry["dtype"]], "r", offset, tuple(entry["shape"]))
    return MatrixSource(matrix, _bfloat16 if entry["dtype"] == "BF16" else None)


def _bfloat16(bits: Array) -> Array:
    return (bits.astype(np.uint32) << 16).view(np.float32)


_READERS = {".npy": _npy, ".npz": _npz, **dict.fromkeys(_VECS, _vecs), ".safetensors": _safetensors}
