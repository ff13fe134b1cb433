"""RaBitQuantizer: 1 to 8 bits a dimension, unbiased inner products and a bound on their error."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from tessella import _core
from tessella._arrays import like_input
from tessella._backend import whole_number
from tessella._quantizer import DEFAULT_SEED, Codes, Floats, RotatedQuantizer
from tessella.errors import InvalidArgument

__all__ = ["RaBitQuantizer"]


class RaBitQuantizer(RotatedQuantizer):
    """RaBitQ codes: a random rotation, a grid, and per row a scale and an error factor.

    Gao & Long, SIGMOD 2024 (arXiv 2405.12497) for one bit; Gao et al. (arXiv 2409.09913) for more. Nothing
    has to be trained; `train` takes off the mean of the rows, which makes codes sharper where it is far
    from zero.

    Args:
        dim: length of a row.
        bits: 1 to 8 bits a dimension. The standard deviation of an estimate is about 0.76, 0.37, 0.20, 0.11,
            0.06, 0.03, 0.017 and 0.009 times |q| |x - centre| / sqrt(dim).
        seed: of the rotation. Codes are read with the seed and centre they were made with.

    Rows and queries are float32, float16, bfloat16 or uint8, as NumPy arrays, CPU torch tensors or anything
    with `__dlpack__`; results come in the kind of the input. A wrong shape, NaN or infinity is an
    InvalidArgument, a wrong type an UnsupportedType. A code is the packed bits, then scale, error and |r|^2
    as float32.

    >>> import numpy as np, tessella as ts
    >>> x = np.random.default_rng(0).standard_normal((1000, 96), dtype=np.float32)
    >>> quantizer = ts.RaBitQuantizer(96, bits=4)
    >>> codes = quantizer.encode(x)
    >>> codes.shape, codes.dtype
    ((1000, 76), dtype('uint8'))
    >>> off = np.abs(quantizer.inner_product(x[:5], codes) - x[:5] @ x.T)
    >>> bool((off <= quantizer.error_bound(x[:5], codes)).mean() > 0.94)
    True

    See also: ScalarQuantizer (the codes an Index refines with), docs/concepts/rabitq.md.
    """

    _kind: ClassVar[str] = "rabitq"
    _factors: ClassVar[int] = 3

    def __init__(self, dim: int, bits: int = 1, *, seed: int = DEFAULT_SEED) -> None:
        if whole_number(bits, 1, "bits", "rabitq") > 8:
            raise InvalidArgument(f"rabitq: expected bits in 1..8; got {bits}")
        super().__init__(dim, int(bits), seed)

    def error_bound(self, queries: object, codes: object, *, epsilon: float = 1.9) -> Any:
        """Bounds of the errors of `inner_product`, (nq, n) float32: epsilon standard deviations of each.

        Of `squared_distance` the bound is twice that for the queries less the centre.
        """
        if not 0 <= epsilon < np.inf:
            raise InvalidArgument(f"error_bound: expected a finite epsilon >= 0; got {epsilon}")
        q, rows = self._queries(queries, "error_bound")
        _, factors = self._split(codes, "error_bound")
        lengths = np.sqrt(np.einsum("ij,ij->i", q, q, dtype=np.float64)).astype(np.float32)
        return like_input(np.float32(epsilon) * lengths[:, None] * factors[:, 1], rows)

    @property
    def _packed_bytes(self) -> int:
        return self._padded * self._bits // 8

    def _encode_residuals(self, residuals: Floats) -> tuple[Codes, tuple[Floats, ...]]:
        if self._bits == 1:
            packed, scales, errors, norms2 = _core.rabitq_encode(residuals)
            return packed, (scales, errors, norms2)
        packed, scales, norms2 = _core.scalar_encode(residuals, self._bits, "uniform")
        # scale v - r stands at a right angle to r, so its length follows from the other two
        v = self._values(packed)
        square = scales.astype(np.float64) ** 2 * np.einsum("ij,ij->i", v, v, dtype=np.float64)
        errors = np.sqrt(np.maximum(square - norms2, 0) / (self._padded - 1))
        return packed, (scales, errors.astype(np.float32), norms2)

    def _values(self, packed: Codes) -> Floats:
        if self._bits == 1:
            signs = np.unpackbits(packed, axis=1, bitorder="little").astype(np.float32)
            return np.asarray(2 * signs - 1)
        values: Floats = _core.scalar_decode(packed, self._bits, "uniform")
        return values

    def _products(self, rotated: Floats, packed: Codes) -> Floats:
        products: Floats = (
            _core.binary_dot(rotated, packed)
            if self._bits == 1
            else _core.scalar_dot(rotated, packed, self._bits, "uniform")
        )
        return products
