"""Scalar codes of torch tensors in CUDA memory: check, allocate, enqueue on torch's current stream."""

from __future__ import annotations

from typing import Any

from tessella._cuda_tensors import Tensors, check, cuda_module


def scalar_encode(residuals: Any, bits: int, grid: str = "uniform") -> tuple[Any, Any, Any]:
    """Rotated residuals (n, D) float32 -> codes (n, D*bits/8) uint8, scales (n), norms2 (n) float32.

    `grid` is "uniform" at 2 to 8 bits, or "lloyd" at 4.
    """
    tensors = Tensors("scalar_encode")
    residuals = tensors.take("residuals", residuals, "float32", "n", "D")
    n, padded = residuals.shape
    check(padded > 0 and padded % 64 == 0, f"scalar_encode: expected D to be a multiple of 64; got {padded}")
    check(2 <= bits <= 8, f"scalar_encode: expected 2 to 8 bits; got {bits}")
    check(grid == "uniform" or (grid == "lloyd" and bits == 4),
          f"scalar_encode: expected grid 'uniform', or 'lloyd' at 4 bits; got {grid!r} at {bits}")  # fmt: skip
    codes = tensors.empty("uint8", n, padded * bits // 8)
    scales, norms2 = tensors.empty("float32", n), tensors.empty("float32", n)
    cuda_module("scalar_encode").scalar_encode(
        residuals=residuals.data_ptr(), n=n, padded=padded, bits=bits, lloyd=grid == "lloyd", codes=codes.data_ptr(),
        scales=scales.data_ptr(), norms2=norms2.data_ptr(), **tensors.where(),
    )  # fmt: skip
    return codes, scales, norms2
