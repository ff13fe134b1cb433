"""What encoders of token sets share: one vector a query or document, whose inner products stand for MaxSim.

All of them have files. One of dense vectors brings how a slice of tokens becomes float32 or float16 rows; types,
results of the caller's and codes of one bit are here.
"""

from __future__ import annotations

import json
import os
import sys
from abc import ABC, abstractmethod
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from tessella import _container
from tessella._arrays import is_torch
from tessella._backend import resolve_threads
from tessella._ragged import Ragged, as_ragged
from tessella.errors import FormatError, InvalidArgument, UnsupportedType
from tessella.rabitq import RaBitQuantizer

Array = npt.NDArray[Any]
Settings = dict[str, Any]
Arrays = dict[str, Array]
Self = TypeVar("Self", bound="SetEncoder")

_DTYPES: dict[str, np.dtype[Any]] = {"float32": np.dtype(np.float32), "float16": np.dtype(np.float16)}
FILE_DTYPES = {"float32": "F32", "uint32": "U32"}
_SLICE_BYTES = 64 << 20  # of rows that stand in memory before they become 1-bit codes


class SetEncoder(ABC):
    """What makes one vector, dense or sparse, of the vectors of a query's or document's tokens."""

    _kind: ClassVar[str]  # of its file

    @property
    @abstractmethod
    def dim(self) -> int:
        """Length of a token vector."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the encoder, its matrices included, to one safetensors file."""
        settings, arrays = self.state()
        tensors = [(name, FILE_DTYPES[x.dtype.name], x.shape, [x]) for name, x in arrays.items()]
        _container.write(path, tensors, {"kind": self._kind, "config": json.dumps(settings)})

    @classmethod
    def load(cls: type[Self], path: str | os.PathLike[str]) -> Self:
        """Reads what `save` wrote; a FormatError where that is not what the file holds."""
        file = _container.read(path, kind=cls._kind)
        try:
            return cls.from_state(file.config, file.tensors)
        except FormatError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"load: {file.path} is damaged: it describes no encoder ({error})") from error

    @abstractmethod
    def state(self) -> tuple[Settings, Arrays]:
        """What an encoder is made of, for a file: settings that JSON holds, and arrays by name."""

    @classmethod
    @abstractmethod
    def from_state(cls: type[Self], settings: Settings, arrays: Arrays) -> Self:
        """The encoder that `state` was taken of; a KeyError, TypeError or ValueError where that is not one."""


class TokenEncoder(SetEncoder):
    """One dense vector for each query or document, out of the vectors of its tokens."""

    @property
    @abstractmethod
    def output_dim(self) -> int:
        """Length of an encoding."""

    @property
    def binary_quantizer(self) -> RaBitQuantizer:
        """What reads 1-bit codes: `binary_quantizer.inner_product(encode_queries(q), codes)`."""
        return RaBitQuantizer(self.output_dim, 1)

    def encode_queries(
        self,
        queries: object,
        *,
        mask: object | None = None,
        out: Any = None,
        dtype: str = "float32",
        threads: int | None = None,
    ) -> Any:
        """Encodings (n, output_dim) of queries, float32 or float16; they are sums over tokens, so tokens may be split.

        `queries` is a list of (t, dim) arrays, a pair (flat tokens, offsets), or a padded array (n, t, dim) with its
        `mask` (n, t); float32, float16, bfloat16 or int8, NumPy or CPU torch. `out` takes the result, where given.
        """
        if dtype == "binary":
            raise InvalidArgument("encode_queries: expected float32 or float16, since 1-bit codes are for documents")
        return self._encoded("encode_queries", queries, mask, out, dtype, threads)

    def encode_documents(
        self,
        documents: object,
        *,
        mask: object | None = None,
        out: Any = None,
        dtype: str = "float32",
        threads: int | None = None,
    ) -> Any:
        """Encodings (n, output_dim) of documents, float32 or float16; `documents` as for `encode_queries`.

        dtype "binary" gives the codes of `binary_quantizer` instead, (n, code_bytes) uint8. Documents may be
        without tokens: nothing is then like them, whatever the query.
        """
        return self._encoded("encode_documents", documents, mask, out, dtype, threads)

    @abstractmethod
    def _encode(self, tokens: Ragged, out: Array, query: bool, threads: int) -> None:
        """Writes rows of float32 or float16."""

    # ---- behind the door

    def _encoded(self, operation: str, tokens: object, mask: object, out: Any, dtype: str, threads: int | None) -> Any:
        ragged, count = as_ragged(operation, tokens, dim=self.dim, mask=mask), resolve_threads(threads, operation)
        query = operation == "encode_queries"
        if dtype not in (*_DTYPES, "binary"):
            raise InvalidArgument(f"{operation}: expected dtype 'float32', 'float16' or 'binary'; got {dtype!r}")
        if dtype != "binary":
            rows, result = self._results(operation, out, (ragged.n, self.output_dim), _DTYPES[dtype], ragged.torch)
            self._encode(ragged, rows, query, count)
            return result
        quantizer = self.binary_quantizer
        shape = (ragged.n, quantizer.code_bytes)
        codes, result = self._results(operation, out, shape, np.dtype(np.uint8), ragged.torch)
        made = [self._coded(part, quantizer, count) for part in self._slices(ragged)]
        if made:
            np.concatenate(made, out=codes)
        return result

    def _slices(self, ragged: Ragged) -> list[Ragged]:
        step = max(1, _SLICE_BYTES // (4 * self.output_dim))
        return [ragged.part(first, min(first + step, ragged.n)) for first in range(0, ragged.n, step)]

    def _coded(self, part: Ragged, quantizer: RaBitQuantizer, threads: int) -> Array:
        rows = np.empty((part.n, self.output_dim), np.float32)
        self._encode(part, rows, False, threads)
        codes: Array = quantizer.encode(rows)
        return codes

    @staticmethod
    def _results(
        operation: str, out: Any, shape: tuple[int, int], dtype: np.dtype[Any], torch: bool
    ) -> tuple[Array, Any]:
        """Where rows are written, and what the caller gets: `out` itself, or a new array in the kind of the input."""
        if out is None:
            made = np.empty(shape, dtype)
            return made, sys.modules["torch"].from_numpy(made) if torch else made
        if not (isinstance(out, np.ndarray) or (is_torch(out) and out.device.type == "cpu")):
            raise UnsupportedType(f"{operation}: expected out as a NumPy array or CPU tensor; got {type(out).__name__}")
        rows = out if isinstance(out, np.ndarray) else out.detach().numpy()
        if rows.dtype != dtype or rows.shape != shape or not (rows.flags.c_contiguous and rows.flags.writeable):
            raise InvalidArgument(
                f"{operation}: expected out of shape {shape} and type {dtype}, contiguous and writeable;"
                f" got {rows.shape}, {rows.dtype}"
            )
        return rows, out
