"""Fixed-dimensional encodings of torch tensors in CUDA memory: check, allocate, enqueue on torch's current stream."""

from __future__ import annotations

from typing import Any, NamedTuple

from tessella._cuda_tensors import Tensors, check, cuda_module, told
from tessella.errors import UnsupportedType

_TOKEN_TYPES = ("float32", "float16", "bfloat16")
_MOST_BITS = 16


class Matrices(NamedTuple):
    """Of an encoder, as CUDA tensors: what `FDE.matrices` holds, index as int32 and below p."""

    hyperplanes: Any  # (r, k_sim, d) float32
    projection: Any = None  # (r, p, d) float32
    index: Any = None  # (r, d) int32
    signs: Any = None  # (r, d) float32
    p: int = 0  # with an index


def fde_encode(
    tokens: Any, offsets: Any, matrices: Matrices, *, queries: bool, fill: str = "none", dtype: str = "float32"
) -> Any:
    """Encodings (n, r * 2^k_sim * p) of queries or documents, float32 or float16.

    tokens (T, d) are a CUDA tensor of float32, float16 or bfloat16, offsets (n + 1) one of int64 that rises from 0 to
    T; what they hold is not looked at, since nothing waits. Scratch: a word for each token and repetition.
    """
    tensors = Tensors("fde_encode")
    check(fill in ("none", "nearest", "decay"), f"fde_encode: expected fill none, nearest or decay; got {fill!r}")
    check(dtype in ("float32", "float16"), f"fde_encode: expected dtype float32 or float16; got {dtype!r}")
    kind = str(getattr(tokens, "dtype", "")).removeprefix("torch.")
    if kind not in _TOKEN_TYPES:
        raise UnsupportedType(f"fde_encode: expected tokens of {', '.join(_TOKEN_TYPES)}; got {told(tokens)}")
    tokens = tensors.take("tokens", tokens, kind, "T", "d")
    (count, d), offsets = tokens.shape, tensors.take("offsets", offsets, "int64", "n + 1")
    check(len(offsets) > 0, "fde_encode: expected offsets of shape (n + 1,); got (0,)")
    planes = tensors.take("hyperplanes", matrices.hyperplanes, "float32", "r", "k_sim", d)
    r, k_sim = planes.shape[:2]
    check(r > 0 and k_sim <= _MOST_BITS, f"fde_encode: expected repetitions and k_sim up to 16; got {r} and {k_sim}")
    matrix, index, signs, p = _projection(tensors, matrices, r, d)
    module, where, n = cuda_module("fde_encode"), tensors.where(), len(offsets) - 1
    out = tensors.empty(dtype, n, (r << k_sim) * p)
    room = module.fde_encode_scratch(tokens=count, d=d, repetitions=r, p=p, sketch=index is not None)
    scratch = tensors.empty("uint8", room)
    module.fde_encode(
        tokens=tokens.data_ptr(), type=kind, count=count, offsets=offsets.data_ptr(), n=n, d=d, repetitions=r,
        k_sim=k_sim, p=p, hyperplanes=planes.data_ptr(), matrix=_address(matrix), index=_address(index),
        signs=_address(signs), queries=queries, fill=fill, out_type=dtype, out=out.data_ptr(),
        scratch=scratch.data_ptr(), **where,
    )  # fmt: skip
    return out


def _projection(tensors: Tensors, matrices: Matrices, r: int, d: int) -> tuple[Any, Any, Any, int]:
    if matrices.projection is not None:
        matrix = tensors.take("projection", matrices.projection, "float32", r, "p", d)
        return matrix, None, None, int(matrix.shape[1])
    if matrices.index is None:
        return None, None, None, d
    check(matrices.p > 0, f"fde_encode: expected p > 0 with an index; got {matrices.p}")
    index = tensors.take("index", matrices.index, "int32", r, d)
    return None, index, tensors.take("signs", matrices.signs, "float32", r, d), matrices.p


def _address(x: Any) -> int:
    return 0 if x is None else int(x.data_ptr())
