"""The rotation of torch tensors in CUDA memory: check, allocate, enqueue on torch's current stream."""

from __future__ import annotations

from typing import Any

from tessella._cuda_tensors import Tensors, check, cuda_module

MOST_DIMENSIONS = 40960


def rotate_forward(rows: Any, signs: Any, centre: Any = None) -> Any:
    """R(rows - centre): (n, d) float32 -> (n, D), D = d rounded up to a multiple of 64.

    signs are (4, D/64) words of sign bits as int64, centre (d) float32.
    """
    tensors = Tensors("rotate_forward")
    rows = tensors.take("rows", rows, "float32", "n", "d")
    n, d = rows.shape
    check(1 <= d <= MOST_DIMENSIONS, f"rotate_forward: expected 1 to {MOST_DIMENSIONS} dimensions; got {d}")
    words = -(-d // 64)
    signs = tensors.take("signs", signs, "int64", 4, words)
    if centre is not None:
        centre = tensors.take("centre", centre, "float32", d)
    out = tensors.empty("float32", n, 64 * words)
    cuda_module("rotate_forward").rotate_forward(
        signs=signs.data_ptr(), rows=rows.data_ptr(), n=n, d=d, centre=0 if centre is None else centre.data_ptr(),
        out=out.data_ptr(), **tensors.where(),
    )  # fmt: skip
    return out
