"""BinaryQuantizer: the sign bits of vectors as they are."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import numpy.typing as npt

from tessella import _container, _core
from tessella._arrays import as_rows, like_input
from tessella._backend import whole_number
from tessella._quantizer import code_rows, column_means, float_rows, float_slices, natural
from tessella.errors import FormatError

__all__ = ["BinaryQuantizer"]


class BinaryQuantizer:
    """One bit a dimension without rotation: 32 times smaller than float32.

    For embeddings trained to survive it; bit j is x_j > t_j, t = 0, or the mean of each dimension after
    `train`. Codes are compared by Hamming distance (Charikar, STOC 2002), or with float queries (asymmetric:
    Dong, Charikar & Li, SIGIR 2008), which keeps more of the order.

    Args:
        dim: length of a row; codes take ceil(dim / 8) bytes, bit 0 first, spare bits 0.

    Rows and queries are float32, float16, bfloat16 or uint8, as NumPy arrays, CPU torch tensors or anything
    with `__dlpack__`; results come in the kind of the input. A wrong shape, NaN or infinity is an
    InvalidArgument, a wrong type an UnsupportedType.

    >>> import numpy as np, tessella as ts
    >>> quantizer = ts.BinaryQuantizer(3)
    >>> codes = quantizer.encode(np.array([[0.5, -1.0, 0.25], [-0.5, -1.0, 0.0]]))
    >>> codes.tolist()
    [[5], [0]]
    >>> quantizer.hamming(codes[:1], codes).tolist()
    [[0, 2]]
    >>> quantizer.inner_product(np.array([[0.5, -1.0, 0.25]]), codes).tolist()
    [[1.75, 0.25]]

    See also: RaBitQuantizer (rotated, with a scale and a bound), docs/concepts/binary.md.
    """

    def __init__(self, dim: int) -> None:
        self._dim = whole_number(dim, 1, "dim", "binary")
        self._thresholds: npt.NDArray[np.float32] | None = None

    @property
    def dim(self) -> int:
        """Length of a row."""
        return self._dim

    @property
    def code_bytes(self) -> int:
        """Length of a code."""
        return (self._dim + 7) // 8

    @property
    def is_trained(self) -> bool:
        """Whether the thresholds are the means of training rows; without it they are 0."""
        return self._thresholds is not None

    @property
    def thresholds(self) -> npt.NDArray[np.float32]:
        """What a coordinate has to exceed, (dim,)."""
        return np.zeros(self._dim, np.float32) if self._thresholds is None else self._thresholds.copy()

    def __repr__(self) -> str:
        return f"BinaryQuantizer({self._dim}: {self.code_bytes} bytes a row)"

    def train(self, x: object) -> None:
        """Takes the means of the columns of `x` (n, dim) as thresholds. Codes made before no longer fit."""
        self._thresholds = column_means(as_rows(x, "x", "train", self._dim), "train")

    def encode(self, x: object) -> Any:
        """Codes of rows `x` (n, dim): (n, code_bytes) uint8. One pass over the rows."""
        rows = as_rows(x, "x", "encode", self._dim)
        pieces = [_core.binary_encode(piece, self._thresholds) for piece in float_slices(rows, "x", "encode")]
        codes = np.concatenate(pieces) if pieces else np.empty((0, self.code_bytes), dtype=np.uint8)
        return like_input(codes, rows)

    def decode(self, codes: object) -> Any:
        """+1 where a bit is set and -1 where it is not: (n, dim) float32."""
        array = code_rows(codes, self.code_bytes, "decode")
        bits = np.unpackbits(array, axis=1, count=self._dim, bitorder="little")
        return like_input(2 * bits.astype(np.float32) - 1, codes)

    def hamming(self, queries: object, codes: object) -> Any:
        """Differing bits of codes (nq, code_bytes) and codes (n, code_bytes): (nq, n) int32."""
        wanted = code_rows(queries, self.code_bytes, "hamming")
        return like_input(_core.binary_hamming(wanted, code_rows(codes, self.code_bytes, "hamming")), queries)

    def inner_product(self, queries: object, codes: object) -> Any:
        """<q, decode(code)> of float queries (nq, dim) and codes (n, code_bytes): (nq, n) float32."""
        rows = as_rows(queries, "queries", "inner_product", self._dim)
        wanted = float_rows(rows, "queries", "inner_product")
        array = code_rows(codes, self.code_bytes, "inner_product")
        return like_input(_core.binary_dot(wanted, array), rows)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the quantizer, not any codes, to one small safetensors file."""
        config = {"dim": self._dim, "trained": self.is_trained}
        thresholds = ("thresholds", "F32", (self._dim,), [self.thresholds])
        _container.write(path, [thresholds], {"kind": "binary", "config": json.dumps(config)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> BinaryQuantizer:
        """Reads what `save` wrote; a FormatError where that is not what the file holds."""
        file = _container.read(path, kind="binary")
        try:
            config = file.config
            thresholds = file.take("thresholds", "F32", (natural(config, "dim"),))
            if not np.isfinite(thresholds).all():
                raise ValueError("its thresholds are not finite")
            made = cls(natural(config, "dim"))
            made._thresholds = thresholds if config["trained"] is True else None
        except FormatError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"load: {file.path} is damaged: it describes no quantizer ({error})") from error
        return made
