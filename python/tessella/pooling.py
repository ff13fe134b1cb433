"""From hidden states of tokens to one vector for each text or span, in one pass."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tessella import _core
from tessella._arrays import as_float32, as_rows, is_torch, like_input
from tessella._backend import resolve_threads, whole_number
from tessella.errors import InvalidArgument, UnsupportedType

__all__ = ["MODES", "pool"]

Array = npt.NDArray[Any]
MODES = ("mean", "cls", "last", "max", "mean_sqrt", "weighted_mean")
_KINDS = ("f32", "f16", "bf16")


def pool(
    hidden: Any,
    mask: Any = None,
    *,
    mode: str | Sequence[str] = "mean",
    normalize: bool = True,
    dim: int | None = None,
    dtype: str = "float32",
    cu_seqlens: Any = None,
    spans: Any = None,
    instruction_lengths: Any = None,
    dense: tuple[Any, Any] | None = None,
    scale: Any = 127.0,
    threads: int | None = None,
) -> Any:
    """Vectors of texts: pool, project, truncate, normalise, cast; in this order and in one pass over `hidden`.

    Args:
        hidden: (n, t, d) with a `mask` (n, t), or flat (tokens, d) with `cu_seqlens` (n + 1): the place where each
            sequence starts, and the end. float32, float16 or bfloat16; NumPy or torch.
        mask: numbers or bools, 0 for tokens without a part; None: none of them. Flat: (tokens).
        mode: "mean", "cls", "last", "max", "mean_sqrt" (sum over the root of the number) or "weighted_mean" (by place,
            from 1); several are put one behind the other.
        normalize: divides each vector by its length (at least 1e-12).
        dim: numbers kept, of each mode (without `dense`) or of the projection: Matryoshka. Others are not computed.
        dtype: "float32", "float16", "int8" (round(scale * y), -127 .. 127) or "binary" (bits y > 0, little-endian).
        spans: pool these instead of whole sequences (late chunking): a list of (start, end) for each sequence, or an
            array (k, 3) of sequence, start and end, in tokens of the row of `hidden` or of the flat sequence.
        instruction_lengths: leading tokens of each sequence that have no part, one number or (n). `cls` may be one of
            them.
        dense: (weight (out, modes * d), bias (out) or None).
        scale: for int8, a number or one for each of the result's. 127 is for numbers within -1 .. 1; fit it once for a
            model, on the largest size a dimension has, so that codes of different calls compare.
        threads: default: `ts.get_num_threads()`.

    Returns:
        (n, width) in the kind of `hidden`, width being modes * dim, or dim of the projection; binary: (n, width / 8
        rounded up) uint8. A text without tokens gives zeros.

    A torch tensor that asks for a gradient gets one, through the custom operator of `tessella.pooling_op`; the result
    is then float32. Under `torch.compile` and `torch.export` every dtype is one operator. In CUDA memory everything is
    a tensor there, spans (k, 3).

    Cost: one reading of the tokens that count; padding is not read.

    >>> import numpy as np, tessella as ts
    >>> hidden = np.array([[[3.0, 4.0], [3.0, 4.0], [9.0, 9.0]]], np.float32)
    >>> ts.pool(hidden, [[1, 1, 0]]).astype(float).round(3).tolist()
    [[0.6, 0.8]]
    >>> ts.pool(hidden, [[1, 1, 0]], dtype="int8").tolist()
    [[76, 102]]

    See also: docs/concepts/pooling.md.
    """
    if is_torch(hidden) and ((asked := _asks_for_gradient(hidden)) or _is_compiled()):
        from tessella import pooling_op

        given = {"mode": mode, "normalize": normalize, "dim": dim, "cu_seqlens": cu_seqlens, "spans": spans}
        given |= {"instruction_lengths": instruction_lengths, "dense": dense}
        if dtype == "float32":
            return pooling_op.pool(hidden, mask, **given)
        if asked:
            raise InvalidArgument(f"pool: expected dtype 'float32' where a gradient is asked for; got {dtype!r}")
        return pooling_op.quantized(hidden, mask, dtype=dtype, scale=scale, threads=threads, **given)
    modes = mode_list(mode)
    if is_torch(hidden) and hidden.device.type == "cuda":
        from tessella import _cuda_pooling

        return _cuda_pooling.pool(
            hidden, mask, modes=modes, normalize=normalize, dim=dim, dtype=dtype, cu_seqlens=cu_seqlens, spans=spans,
            instruction_lengths=instruction_lengths, dense=dense, scale=scale,
        )  # fmt: skip
    states = flatten(hidden, mask, cu_seqlens, spans, instruction_lengths)
    weight, bias = _dense(dense)
    kept = _kept(dim, states.array.shape[1] if weight is None else len(weight))
    width = kept if weight is not None else len(modes) * kept
    pooled = _core.pooling_forward(
        states.array, kind=states.kind, segments=states.segments, mask=states.mask, modes=modes, weight=weight,
        bias=bias, dim=kept, normalize=normalize, dtype=dtype, scale=_scale(scale, width, dtype),
        threads=resolve_threads(threads, "pool"),
    )  # fmt: skip
    return like_input(pooled, hidden)


class States(NamedTuple):
    """What the kernels read: states (tokens, d), their kind, segments (n, 3) and a mask (tokens) where it has holes."""

    array: Array
    kind: str
    segments: npt.NDArray[np.uint64]
    mask: npt.NDArray[np.uint8] | None


def mode_list(mode: str | Sequence[str]) -> list[str]:
    """`mode` as a list of names of MODES."""
    modes = [mode] if isinstance(mode, str) else list(mode)
    unknown = [name for name in modes if name not in MODES]
    if unknown or not modes or len(modes) > len(MODES):
        raise InvalidArgument(f"pool: expected mode as one to six of {', '.join(MODES)}; got {mode!r}")
    return modes


def flatten(hidden: Any, mask: Any, cu_seqlens: Any, spans: Any, instruction_lengths: Any) -> States:
    """Padded or flat input as tokens and segments; nothing is copied that the kernels can read."""
    shape = tuple(getattr(hidden, "shape", np.shape(hidden)))
    flat = cu_seqlens is not None
    if len(shape) != (2 if flat else 3):
        expected = "(tokens, d) with cu_seqlens" if flat else "(n, t, d), or (tokens, d) with cu_seqlens"
        raise InvalidArgument(f"pool: expected hidden of shape {expected}; got {shape}")
    tokens = shape[0] if flat else shape[0] * shape[1]
    counted = _mask(mask, shape[:-1])
    rows = _starts(cu_seqlens, tokens) if flat else np.arange(shape[0] + 1) * shape[1]
    runs = _runs(counted, rows)
    skipped = _instructions(instruction_lengths, len(runs))
    segments = np.stack([runs[:, 0], np.minimum(runs[:, 0] + skipped, runs[:, 1]), runs[:, 1]], axis=1)
    if spans is not None:
        segments = _spanned(_spans(spans, len(runs)), rows, segments)
    array, kind = _states(hidden, shape, tokens)
    whole = counted is None or bool((_counts(counted, segments) == segments[:, 2] - segments[:, 0]).all())
    return States(array, kind, segments.astype(np.uint64), None if whole else counted)


def _states(hidden: Any, shape: tuple[int, ...], tokens: int) -> tuple[Array, str]:
    if 0 in shape:
        if shape[-1] == 0:
            raise InvalidArgument(f"pool: expected hidden with at least one column; got {shape}")
        return np.zeros((tokens, shape[-1]), np.float32), "f32"
    rows = hidden if hasattr(hidden, "reshape") else np.asarray(hidden)
    taken = as_rows(rows.reshape(tokens, shape[-1]), "hidden", "pool", dtypes=_KINDS)
    return taken.array, taken.kind


def _host(x: Any) -> Array:
    return np.asarray(x.detach().cpu() if is_torch(x) else x)


def _whole(x: Any, name: str, shape: str) -> npt.NDArray[np.int64]:
    array = _host(x)
    if array.dtype.kind not in "iu" and array.size:
        raise UnsupportedType(f"pool: expected {name} of an integer type; got {array.dtype}")
    if array.ndim != 1:
        raise InvalidArgument(f"pool: expected {name} of shape {shape}; got {array.shape}")
    return array.astype(np.int64)


def _mask(mask: Any, shape: tuple[int, ...]) -> npt.NDArray[np.uint8] | None:
    if mask is None:
        return None
    array = _host(mask)
    if array.shape != shape:
        raise InvalidArgument(f"pool: expected mask of shape {shape}; got {array.shape}")
    return np.ascontiguousarray(array != 0).reshape(-1).view(np.uint8)


def _starts(cu_seqlens: Any, tokens: int) -> npt.NDArray[np.int64]:
    starts = _whole(cu_seqlens, "cu_seqlens", "(n + 1,)")
    if len(starts) == 0 or starts[0] != 0 or starts[-1] > tokens or (np.diff(starts) < 0).any():
        raise InvalidArgument(f"pool: expected cu_seqlens rising from 0 to at most {tokens}; got {starts.tolist()}")
    return starts


def _runs(counted: npt.NDArray[np.uint8] | None, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(n, 2): from the first token of each row that counts to behind the last; both the row's start where none does."""
    starts, ends = rows[:-1], rows[1:]
    if counted is None:
        return np.stack([starts, ends], axis=1)
    places = np.flatnonzero(counted)
    low, high = np.searchsorted(places, starts), np.searchsorted(places, ends)
    some, padded = high > low, np.append(places, 0)
    return np.stack([np.where(some, padded[low], starts), np.where(some, padded[high - 1] + 1, starts)], axis=1)


def _counts(counted: npt.NDArray[np.uint8], segments: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    before = np.concatenate([[0], np.cumsum(counted, dtype=np.int64)])
    return np.asarray(before[segments[:, 2]] - before[segments[:, 0]])


def _instructions(lengths: Any, n: int) -> npt.NDArray[np.int64]:
    if lengths is None:
        return np.zeros(n, np.int64)
    if _host(lengths).ndim == 0:
        return np.full(n, whole_number(_host(lengths).item(), 0, "instruction_lengths", "pool"))
    skipped = _whole(lengths, "instruction_lengths", f"({n},)")
    if len(skipped) != n or (skipped < 0).any():
        raise InvalidArgument(f"pool: expected instruction_lengths of {n} numbers >= 0; got {skipped.tolist()}")
    return skipped


def _spans(spans: Any, n: int) -> npt.NDArray[np.int64]:
    """(k, 3): sequence, start, end."""
    if hasattr(spans, "ndim"):
        array = _host(spans)
    else:
        if len(spans) != n:
            raise InvalidArgument(f"pool: expected spans of {n} sequences; got {len(spans)}")
        triples = [(i, start, end) for i, own in enumerate(spans) for start, end in own]
        array = np.array(triples, np.int64).reshape(-1, 3)
    if array.ndim != 2 or array.shape[1] != 3:
        raise InvalidArgument(f"pool: expected spans of shape (k, 3); got {array.shape}")
    if array.dtype.kind not in "iu":
        raise UnsupportedType(f"pool: expected spans of an integer type; got {array.dtype}")
    return array.astype(np.int64)


def _spanned(
    spans: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], segments: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    which, start, end = spans.T
    known = (which >= 0) & (which < len(segments))
    lengths = np.diff(rows)[np.where(known, which, 0)] if len(segments) else np.zeros(len(spans), np.int64)
    wrong = ~known | (start < 0) | (end < start) | (end > lengths)
    if wrong.any():
        place = int(np.argmax(wrong))
        raise InvalidArgument(f"pool: expected spans inside of their sequences; got {spans[place].tolist()}")
    first, last = rows[which] + start, rows[which] + end
    begin = np.clip(segments[which, 1], first, last)  # an instruction has no part in a span either
    return np.stack([first, begin, last], axis=1)


def _dense(dense: tuple[Any, Any] | None) -> tuple[Array | None, Array | None]:
    if dense is None:
        return None, None
    weight = as_rows(dense[0], "dense weight", "pool", dtypes=_KINDS)
    bias = None if dense[1] is None else as_rows(dense[1], "dense bias", "pool", dtypes=_KINDS)
    flat = None if bias is None else as_float32(bias.array, bias.kind).reshape(-1)
    return as_float32(weight.array, weight.kind), flat


def _kept(dim: int | None, most: int) -> int:
    kept = most if dim is None else whole_number(dim, 1, "dim", "pool")
    if kept > most:
        raise InvalidArgument(f"pool: expected dim from 1 to {most}; got {kept}")
    return kept


def _scale(scale: Any, width: int, dtype: str) -> npt.NDArray[np.float32]:
    if dtype != "int8":
        return np.ones(0, np.float32)
    array = _host(scale).astype(np.float32)
    if array.ndim > 1 or (array.ndim == 1 and len(array) != width) or not np.isfinite(array).all():
        raise InvalidArgument(f"pool: expected scale as a finite number or ({width},) of them; got {array.shape}")
    return np.ascontiguousarray(np.broadcast_to(array, (width,)))


def _asks_for_gradient(hidden: Any) -> bool:
    return bool(hidden.requires_grad and sys.modules["torch"].is_grad_enabled())


def _is_compiled() -> bool:
    return bool(sys.modules["torch"].compiler.is_compiling())
