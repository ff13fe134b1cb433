"""ScalarQuantizer: the 8-bit and 4-bit codes an Index refines with, U8 and N4."""

from __future__ import annotations

from typing import ClassVar

from tessella import _core
from tessella._backend import whole_number
from tessella._quantizer import DEFAULT_SEED, Codes, Floats, RotatedQuantizer
from tessella.errors import InvalidArgument

__all__ = ["ScalarQuantizer"]


class ScalarQuantizer(RotatedQuantizer):
    """Scalar codes of rotated residuals with one unbiased scale a row.

    8 bits (U8) are a uniform grid and stand in for float32 up to a recall of about 0.99; 4 bits (N4) are the
    Gaussian levels of Lloyd and Max, whose error is a tenth smaller than the uniform grid's. RaBitQ's scale
    (arXiv 2405.12497, 2409.09913) with EDEN's levels (Vargaftik et al., ICML 2022). Nothing has to be
    trained; `train` takes off the mean of the rows.

    Args:
        dim: length of a row.
        bits: 8 or 4. The standard deviation of an estimate is about 0.009 or 0.098 times
            |q| |x - centre| / sqrt(dim).
        seed: of the rotation. Codes are read with the seed and centre they were made with.

    Rows and queries are float32, float16, bfloat16 or uint8, as NumPy arrays, CPU torch tensors or anything
    with `__dlpack__`; results come in the kind of the input. A wrong shape, NaN or infinity is an
    InvalidArgument, a wrong type an UnsupportedType. A code is the packed bits, then scale and |r|^2 as
    float32.

    >>> import numpy as np, tessella as ts
    >>> x = np.random.default_rng(0).standard_normal((1000, 128), dtype=np.float32)
    >>> quantizer = ts.ScalarQuantizer(128, bits=8)
    >>> quantizer.train(x)
    >>> codes = quantizer.encode(x)
    >>> codes.shape
    (1000, 136)
    >>> bool(np.abs(quantizer.decode(codes) - x).mean() < 0.01)
    True
    >>> quantizer.squared_distance(x[:3], codes).argmin(axis=1).tolist()
    [0, 1, 2]

    See also: RaBitQuantizer (any number of bits, and a bound on the error), docs/concepts/scalar.md.
    """

    _kind: ClassVar[str] = "scalar"
    _factors: ClassVar[int] = 2

    def __init__(self, dim: int, bits: int = 8, *, seed: int = DEFAULT_SEED) -> None:
        if whole_number(bits, 1, "bits", "scalar") not in (4, 8):
            raise InvalidArgument(f"scalar: expected 8 or 4 bits; got {bits}")
        super().__init__(dim, int(bits), seed)

    @property
    def _grid(self) -> str:
        return str(_core.N4_GRID) if self._bits == 4 else "uniform"

    @property
    def _packed_bytes(self) -> int:
        return self._padded * self._bits // 8

    def _encode_residuals(self, residuals: Floats) -> tuple[Codes, tuple[Floats, ...]]:
        packed, scales, norms2 = _core.scalar_encode(residuals, self._bits, self._grid)
        return packed, (scales, norms2)

    def _values(self, packed: Codes) -> Floats:
        values: Floats = _core.scalar_decode(packed, self._bits, self._grid)
        return values

    def _products(self, rotated: Floats, packed: Codes) -> Floats:
        products: Floats = _core.scalar_dot(rotated, packed, self._bits, self._grid)
        return products
