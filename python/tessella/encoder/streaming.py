"""Embeddings of any number of texts, written as they come: into an index or a .npy file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from tessella.errors import InvalidArgument

T = TypeVar("T")
_HEADER_BYTES = 128  # room for any number of rows; a multiple of 64, as the format wants


class Index(Protocol):
    """What is asked of an index: `tessella.Index` has it."""

    def add(self, x: Any, *, ids: Any | None = None) -> object: ...


def in_blocks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one shorter."""
    iterator = iter(items)
    while block := list(islice(iterator, size)):
        yield block


class NpyFile:
    """A .npy file that grows row by row; it takes the target's place when all is written, and is gone otherwise."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._target = Path(path)
        if self._target.suffix != ".npy":
            raise InvalidArgument(f"encode_to: expected an index or a path that ends in .npy; got {os.fspath(path)!r}")
        self._temporary = self._target.with_name(f".{self._target.name[:100]}.{os.urandom(8).hex()}.tmp")
        self._file: BinaryIO
        self._rows = 0
        self._row: npt.NDArray[Any] | None = None

    def __enter__(self) -> NpyFile:
        self._file = self._temporary.open("wb")
        self._file.write(bytes(_HEADER_BYTES))
        return self

    def write(self, rows: npt.NDArray[Any]) -> None:
        self._row = rows[:0]
        self._rows += len(rows)
        self._file.write(np.ascontiguousarray(rows).data)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self._file.seek(0)
            self._file.write(self._header())
        self._file.close()
        if kind is None:
            os.replace(self._temporary, self._target)
        else:
            self._temporary.unlink(missing_ok=True)

    def _header(self) -> bytes:
        row = np.empty((0, 0), np.float32) if self._row is None else self._row
        facts = {"descr": np.lib.format.dtype_to_descr(row.dtype), "fortran_order": False}
        text = repr(facts | {"shape": (self._rows, row.shape[1])})
        start = np.lib.format.magic(1, 0) + (_HEADER_BYTES - 10).to_bytes(2, "little")
        return start + text.encode().ljust(_HEADER_BYTES - 11) + b"\n"
