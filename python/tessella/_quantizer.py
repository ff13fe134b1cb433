"""What the quantizers share: rows at the door, and codes of rotated residuals with their factors.

A row x becomes r = R(x - centre), R the Hadamard–Kac rotation; a code of r is a string of small integers that
stand for values v, and scale = |r|^2 / <v, r>, so that <r, q'> ~ scale <v, q'> without bias.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from tessella import _container, _core
from tessella._arrays import Input, as_float32, as_rows, like_input, row_slices
from tessella._backend import whole_number
from tessella.errors import FormatError, InvalidArgument

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]
Self = TypeVar("Self", bound="RotatedQuantizer")

DEFAULT_SEED = 0x7E55E11A
_SLICE_ROWS = 16_384


def float_slices(rows: Input, name: str, operation: str) -> Iterator[Floats]:
    """The rows as finite float32, a slice at a time; what is not finite is an error that names its row."""
    start = 0
    for piece in row_slices(rows, _SLICE_ROWS):
        x = as_float32(piece, rows.kind)
        fits = np.einsum("ij,ij->i", x, x, dtype=np.float64) <= np.finfo(np.float32).max
        if not fits.all():
            row = int(np.argmin(fits))
            too_long = np.isfinite(x[row]).all()
            fault = "has a squared norm beyond float32" if too_long else "has a NaN or an infinity"
            raise InvalidArgument(f"{operation}: expected finite {name}; row {start + row} {fault}")
        yield x
        start += len(x)


def float_rows(rows: Input, name: str, operation: str) -> Floats:
    """All rows as finite float32."""
    pieces = list(float_slices(rows, name, operation)) or [np.empty((0, rows.d), np.float32)]
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def column_means(rows: Input, operation: str) -> Floats:
    """The mean of each column, summed in float64."""
    if rows.n == 0:
        raise InvalidArgument(f"{operation}: expected x with at least one row; got {rows.source.shape}")
    total = np.zeros(rows.d)
    for piece in float_slices(rows, "x", operation):
        total += piece.sum(axis=0, dtype=np.float64)
    return (total / rows.n).astype(np.float32)


def code_rows(codes: object, code_bytes: int, operation: str) -> Codes:
    """Codes as `encode` returns them, (n, code_bytes) uint8."""
    return as_rows(codes, "codes", operation, code_bytes, dtypes=("u8",)).array


def natural(config: dict[str, Any], key: str) -> int:
    """A count out of a file's config."""
    value = config[key]
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise ValueError(f"{key!r} is {value!r}")
    return value


class RotatedQuantizer(ABC):
    """Codes of rotated residuals: what is common to RaBitQuantizer and ScalarQuantizer."""

    _kind: ClassVar[str]  # of its file
    _factors: ClassVar[int]  # float32 numbers at the end of a code: scale first, squared norm last

    def __init__(self, dim: int, bits: int, seed: int) -> None:
        self._dim = whole_number(dim, 1, "dim", self._kind)
        self._bits = bits
        self._seed = whole_number(seed, 0, "seed", self._kind)
        self._padded = -(-self._dim // 64) * 64
        self._signs = _core.rotate_signs(self._padded, self._seed)
        self._centre = np.zeros(self._dim, dtype=np.float32)
        self._trained = False

    @property
    def dim(self) -> int:
        """Length of a row."""
        return self._dim

    @property
    def bits(self) -> int:
        """Bits a dimension."""
        return self._bits

    @property
    def code_bytes(self) -> int:
        """Length of a code: bits for the dimensions, padded to a multiple of 64, then float32 factors."""
        return self._packed_bytes + 4 * self._factors

    @property
    def centre(self) -> Floats:
        """What is taken off every row, (dim,): the mean of the training rows, zeros before training."""
        return self._centre.copy()

    @property
    def is_trained(self) -> bool:
        """Whether `train` has been called; without it the centre is zero."""
        return self._trained

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._dim}, bits={self._bits}: {self.code_bytes} bytes a row)"

    def train(self, x: object) -> None:
        """Takes the mean of `x` (n, dim) as the centre. Codes made before no longer fit."""
        self._centre = column_means(as_rows(x, "x", "train", self._dim), "train")
        self._trained = True

    def encode(self, x: object) -> Any:
        """Codes of rows `x` (n, dim): (n, code_bytes) uint8, each complete in itself. O(n dim log dim)."""
        rows = as_rows(x, "x", "encode", self._dim)
        codes = np.empty((rows.n, self.code_bytes), dtype=np.uint8)
        start = 0
        for piece in float_slices(rows, "x", "encode"):
            packed, factors = self._encode_residuals(_core.rotate_forward(piece, self._signs, self._centre))
            here = codes[start : start + len(piece)]
            here[:, : self._packed_bytes] = packed
            here[:, self._packed_bytes :] = np.stack(factors, axis=1).astype("<f4").view(np.uint8)
            start += len(piece)
        return like_input(codes, rows)

    def decode(self, codes: object) -> Any:
        """Rows (n, dim) float32 whose inner products are the unbiased estimates; not the closest rows."""
        packed, factors = self._split(codes, "decode")
        values = self._values(packed) * factors[:, :1]
        return like_input(_core.rotate_inverse(values, self._signs, self._dim, self._centre), codes)

    def inner_product(self, queries: object, codes: object) -> Any:
        """Estimates of <q, x>: queries (nq, dim), codes (n, code_bytes) -> (nq, n) float32.

        Reads the codes once a query, after copying them once; an `Index` scans many rows faster.
        """
        q, rows = self._queries(queries, "inner_product")
        packed, factors = self._split(codes, "inner_product")
        products = self._products(_core.rotate_forward(q, self._signs), packed)
        products *= factors[:, 0]
        products += (q.astype(np.float64) @ self._centre).astype(np.float32)[:, None]
        return like_input(products, rows)

    def squared_distance(self, queries: object, codes: object) -> Any:
        """Estimates of |q - x|^2, shapes as for `inner_product`; very small ones may come out below 0."""
        q, rows = self._queries(queries, "squared_distance")
        packed, factors = self._split(codes, "squared_distance")
        products = self._products(_core.rotate_forward(q, self._signs, self._centre), packed)
        products *= -2 * factors[:, 0]
        products += ((q.astype(np.float64) - self._centre) ** 2).sum(axis=1).astype(np.float32)[:, None]
        products += factors[:, -1]
        return like_input(products, rows)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the quantizer, not any codes, to one small safetensors file."""
        config = {"dim": self._dim, "bits": self._bits, "seed": self._seed, "trained": self._trained}
        centre = ("centre", "F32", (self._dim,), [self._centre])
        _container.write(path, [centre], {"kind": self._kind, "config": json.dumps(config)})

    @classmethod
    def load(cls: type[Self], path: str | os.PathLike[str]) -> Self:
        """Reads what `save` wrote; a FormatError where that is not what the file holds."""
        file = _container.read(path, kind=cls._kind)
        try:
            config = file.config
            centre = file.take("centre", "F32", (natural(config, "dim"),))
            if not np.isfinite(centre).all():
                raise ValueError("its centre is not finite")
            made = cls(natural(config, "dim"), natural(config, "bits"), seed=natural(config, "seed"))
            made._centre, made._trained = centre, config["trained"] is True
        except FormatError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"load: {file.path} is damaged: it describes no quantizer ({error})") from error
        return made

    # ---- what a kind of codes brings

    @property
    @abstractmethod
    def _packed_bytes(self) -> int: ...

    @abstractmethod
    def _encode_residuals(self, residuals: Floats) -> tuple[Codes, tuple[Floats, ...]]:
        """Packed codes (n, packed_bytes), and factors (n,): the scale first, |r|^2 last."""

    @abstractmethod
    def _values(self, packed: Codes) -> Floats:
        """v (n, D)."""

    @abstractmethod
    def _products(self, rotated: Floats, packed: Codes) -> Floats:
        """<v, q'> (nq, n)."""

    # ---- behind the door

    def _queries(self, queries: object, operation: str) -> tuple[Floats, Input]:
        rows = as_rows(queries, "queries", operation, self._dim)
        return float_rows(rows, "queries", operation), rows

    def _split(self, codes: object, operation: str) -> tuple[Codes, Floats]:
        """Packed codes and factors, each contiguous."""
        array = code_rows(codes, self.code_bytes, operation)
        packed = np.ascontiguousarray(array[:, : self._packed_bytes])
        factors = np.ascontiguousarray(array[:, self._packed_bytes :]).view("<f4")
        return packed, factors.astype(np.float32, copy=False)
