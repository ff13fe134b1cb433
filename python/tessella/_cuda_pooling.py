"""Pooling of torch tensors in CUDA memory: check, allocate, enqueue on torch's current stream. Nothing waits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tessella._cuda_tensors import Tensors, check, cuda_module

_MODES = ("mean", "mean_sqrt", "weighted_mean", "max", "cls", "last")  # as PoolMode counts
_KINDS = ("float32", "float16", "bfloat16")  # as ScalarType counts
_OUT = {"float32": "float32", "float16": "float16", "int8": "int8", "binary": "uint8"}  # as PoolType counts


def pool(
    hidden: Any, mask: Any, *, modes: Sequence[str], normalize: bool, dim: int | None, dtype: str, cu_seqlens: Any,
    spans: Any, instruction_lengths: Any, dense: tuple[Any, Any] | None, scale: Any,
) -> Any:  # fmt: skip
    """`ts.pool` of a tensor in CUDA memory; masks, cu_seqlens and spans (k, 3) are tensors there, too."""
    tensors = Tensors("pool")
    check(dtype in _OUT, f"pool: expected dtype 'float32', 'float16', 'int8' or 'binary'; got {dtype!r}")
    torch, d = tensors.torch, hidden.shape[-1]
    assert torch is not None
    job = _job(tensors, hidden, mask, modes, cu_seqlens, spans, instruction_lengths)
    weight: Any
    weight, bias = (None, None) if dense is None else dense
    if weight is not None:
        weight = tensors.take("dense weight", weight, "float32", "out", len(modes) * d)
    if bias is not None:
        bias = tensors.take("dense bias", bias, "float32", len(weight))
    most = d if weight is None else len(weight)
    kept = most if dim is None else int(dim)
    check(1 <= kept <= most, f"pool: expected dim from 1 to {most}; got {kept}")
    width = kept if weight is not None else len(modes) * kept
    rows = len(job["segments"])
    out = tensors.empty(_OUT[dtype], rows, (width + 7) // 8 if dtype == "binary" else width)
    scales = torch.as_tensor(scale, dtype=torch.float32, device=hidden.device).expand(width).contiguous()
    job |= {"weight": weight, "bias": bias, "scale": scales, "out": out}
    numbers = {"dim": kept, "normalize": normalize, "out_type": list(_OUT).index(dtype)}
    cuda_module("pool").pooling_forward(_addresses(job) | numbers, **tensors.where())
    return out


def backward(
    gradient: Any, hidden: Any, mask: Any, *, modes: Sequence[str], cu_seqlens: Any, spans: Any,
    instruction_lengths: Any,
) -> Any:  # fmt: skip
    """Gradient of `hidden` in float32, given that of the pooled numbers (n, modes * d), float32."""
    tensors = Tensors("pool")
    job = _job(tensors, hidden, mask, modes, cu_seqlens, spans, instruction_lengths)
    rows, width = len(job["segments"]), len(modes) * hidden.shape[-1]
    job["pooled_gradient"] = tensors.take("gradient", gradient, "float32", rows, width)
    job["hidden_gradient"] = made = tensors.empty("float32", *hidden.shape).zero_()
    # spans may share tokens; sequences do not
    cuda_module("pool").pooling_backward(_addresses(job) | {"disjoint": spans is None}, **tensors.where())
    return made


def _job(
    tensors: Tensors, hidden: Any, mask: Any, modes: Sequence[str], cu_seqlens: Any, spans: Any, skip: Any
) -> dict[str, Any]:
    """What both directions are told: tensors, which have to live until the work is enqueued, and numbers."""
    torch = tensors.torch
    assert torch is not None
    kinds = {getattr(torch, name): i for i, name in enumerate(_KINDS)}
    check(hidden.dtype in kinds, f"pool: expected hidden of {', '.join(_KINDS)}; got {hidden.dtype}")
    flat = cu_seqlens is not None
    expected = "(tokens, d) with cu_seqlens" if flat else "(n, t, d)"
    check(hidden.ndim == (2 if flat else 3), f"pool: expected hidden of shape {expected}; got {tuple(hidden.shape)}")
    states = tensors.take("hidden", hidden, _KINDS[kinds[hidden.dtype]], *hidden.shape)
    counted = None if mask is None else mask.to(hidden.device) != 0
    if counted is not None:
        check(counted.shape == hidden.shape[:-1], f"pool: expected mask of shape {tuple(hidden.shape[:-1])}")
    segments = _segments(torch, states, counted, cu_seqlens, spans, skip)
    return {
        "hidden": states, "kind": kinds[hidden.dtype], "d": hidden.shape[-1],
        "mask": None if counted is None else counted.reshape(-1).to(torch.uint8), "segments": segments,
        "n": len(segments), "modes": [_MODES.index(mode) for mode in modes],
    }  # fmt: skip


def _addresses(job: dict[str, Any]) -> dict[str, Any]:
    """The job with tensors as addresses, 0 where there is none."""
    return {name: each if isinstance(each, (int, list)) else _address(each) for name, each in job.items()}


def _address(x: Any) -> int:
    return 0 if x is None else int(x.data_ptr())


def _segments(torch: Any, states: Any, counted: Any, cu_seqlens: Any, spans: Any, skip: Any) -> Any:
    """(n, 3) int64: first, begin and end of each sequence or span, computed where the states are."""
    where = states.device
    if cu_seqlens is None:
        rows = torch.arange(len(states) + 1, device=where) * states.shape[1]
    else:
        rows = torch.as_tensor(cu_seqlens, device=where).to(torch.int64)
    first, end = (rows[:-1], rows[1:]) if counted is None else _runs(torch, counted, rows)
    begin = first if skip is None else torch.minimum(first + torch.as_tensor(skip, device=where), end)
    if spans is None:
        return torch.stack([first, begin, end], dim=1).contiguous()
    table = torch.as_tensor(spans, device=where).to(torch.int64)
    check(table.ndim == 2 and table.shape[1] == 3, f"pool: expected spans of shape (k, 3); got {tuple(table.shape)}")
    which, start, stop = table.unbind(1)
    low, high = rows[which] + start, rows[which] + stop
    return torch.stack([low, torch.minimum(torch.maximum(begin[which], low), high), high], dim=1).contiguous()


def _runs(torch: Any, counted: Any, rows: Any) -> tuple[Any, Any]:
    """From the first token of each row that counts to behind the last; both the row's start where none does."""
    upto = counted.reshape(-1).cumsum(0)  # tokens that count, each token included
    before = torch.nn.functional.pad(upto, (1, 0))[rows]
    low, high = before[:-1], before[1:]
    some, starts = high > low, rows[:-1]
    first, last = torch.searchsorted(upto, low + 1), torch.searchsorted(upto, high)
    return torch.where(some, first, starts), torch.where(some, last + 1, starts)
