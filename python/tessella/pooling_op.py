"""Pooling as an operator of torch: forward, backward and shapes, so that autograd, torch.compile and torch.export take
it as one node; and the same up to float16, int8 or binary. Imported where a tensor asks for a gradient, or a call is
compiled; needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tessella import _core, _cuda_pooling
from tessella._backend import get_num_threads
from tessella.errors import InvalidArgument
from tessella.pooling import flatten, mode_list
from tessella.pooling import pool as eager

__all__ = ["pool", "pooled", "quantized"]
_TYPES = {"float16": torch.float16, "int8": torch.int8, "binary": torch.uint8}


def pool(
    hidden: Tensor,
    mask: Any = None,
    *,
    mode: str | Sequence[str] = "mean",
    normalize: bool = True,
    dim: int | None = None,
    cu_seqlens: Any = None,
    spans: Any = None,
    instruction_lengths: Any = None,
    dense: tuple[Tensor, Tensor | None] | None = None,
) -> Tensor:
    """`ts.pool` where gradients are wanted: the operator, then torch's own linear map and norm. float32.

    Masks, cu_seqlens and instruction_lengths are best tensors, spans a tensor (k, 3), where the call is compiled.
    """
    modes = mode_list(mode)
    y = pooled(
        hidden, _tensor(mask), _tensor(cu_seqlens), _span_tensor(spans), _tensor(instruction_lengths), ",".join(modes)
    )
    if dense is None and dim is not None and dim != hidden.shape[-1]:
        _check_dim(dim, hidden.shape[-1])
        y = y.reshape(len(y), len(modes), -1)[:, :, :dim].reshape(len(y), -1)
    if dense is not None:
        y = torch.nn.functional.linear(y, dense[0].float(), None if dense[1] is None else dense[1].float())[:, :dim]
    return torch.nn.functional.normalize(y, dim=1) if normalize else y


def quantized(
    hidden: Tensor,
    mask: Any = None,
    *,
    dtype: str,
    scale: Any = 127.0,
    mode: str | Sequence[str] = "mean",
    normalize: bool = True,
    dim: int | None = None,
    cu_seqlens: Any = None,
    spans: Any = None,
    instruction_lengths: Any = None,
    dense: tuple[Tensor, Tensor | None] | None = None,
    threads: int | None = None,
) -> Tensor:
    """`ts.pool` to float16, int8 or binary as one operator, without a gradient."""
    if dtype not in _TYPES:
        raise InvalidArgument(f"pool: expected dtype 'float32', 'float16', 'int8' or 'binary'; got {dtype!r}")
    weight, bias = (None, None) if dense is None else dense
    if dim is not None:
        _check_dim(dim, hidden.shape[-1] if weight is None else weight.shape[0])
    return _finished(
        hidden.detach(), _tensor(mask), _tensor(cu_seqlens), _span_tensor(spans), _tensor(instruction_lengths),
        None if weight is None else weight.detach(), None if bias is None else bias.detach(),
        torch.as_tensor(scale, dtype=torch.float32), ",".join(mode_list(mode)), normalize, dim, dtype, threads,
    )  # fmt: skip


@torch.library.custom_op("tessella::pool_quantized", mutates_args=())
def _finished(
    hidden: Tensor,
    mask: Tensor | None,
    cu_seqlens: Tensor | None,
    spans: Tensor | None,
    instruction_lengths: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    scale: Tensor,
    modes: str,
    normalize: bool,
    dim: int | None,
    dtype: str,
    threads: int | None,
) -> Tensor:
    found: Tensor = eager(
        hidden, mask, mode=modes.split(","), normalize=normalize, dim=dim, dtype=dtype, cu_seqlens=cu_seqlens,
        spans=spans, instruction_lengths=instruction_lengths, dense=None if weight is None else (weight, bias),
        scale=scale, threads=threads,
    )  # fmt: skip
    return found


@_finished.register_fake
def _(
    hidden: Tensor,
    mask: Tensor | None,
    cu_seqlens: Tensor | None,
    spans: Tensor | None,
    instruction_lengths: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    scale: Tensor,
    modes: str,
    normalize: bool,
    dim: int | None,
    dtype: str,
    threads: int | None,
) -> Tensor:
    kept = dim if dim is not None else hidden.shape[-1] if weight is None else weight.shape[0]
    width = kept if weight is not None else len(modes.split(",")) * kept
    size = (width + 7) // 8 if dtype == "binary" else width
    return hidden.new_empty((_rows(hidden, cu_seqlens, spans), size), dtype=_TYPES[dtype])


@torch.library.custom_op("tessella::pool", mutates_args=())
def pooled(
    hidden: Tensor,
    mask: Tensor | None,
    cu_seqlens: Tensor | None,
    spans: Tensor | None,
    instruction_lengths: Tensor | None,
    modes: str,
) -> Tensor:
    """Pooled numbers (n, modes * d) in float32, neither truncated nor normalised; modes are joined by commas."""
    if hidden.device.type == "cuda":
        on_device: Tensor = _cuda_pooling.pool(
            hidden, mask, modes=modes.split(","), normalize=False, dim=None, dtype="float32", cu_seqlens=cu_seqlens,
            spans=spans, instruction_lengths=instruction_lengths, dense=None, scale=127.0,
        )  # fmt: skip
        return on_device
    states = flatten(hidden, mask, cu_seqlens, spans, instruction_lengths)
    found = _core.pooling_forward(
        states.array, kind=states.kind, segments=states.segments, mask=states.mask, modes=modes.split(","),
        dim=states.array.shape[1], normalize=False, dtype="float32", scale=np.ones(0, np.float32),
        threads=get_num_threads(),
    )  # fmt: skip
    return torch.from_numpy(found)


@torch.library.custom_op("tessella::pool_backward", mutates_args=())
def pooled_backward(
    gradient: Tensor,
    hidden: Tensor,
    mask: Tensor | None,
    cu_seqlens: Tensor | None,
    spans: Tensor | None,
    instruction_lengths: Tensor | None,
    modes: str,
) -> Tensor:
    """Gradient of `hidden`, in its type."""
    if hidden.device.type == "cuda":
        on_device: Tensor = _cuda_pooling.backward(
            gradient.float(), hidden, mask, modes=modes.split(","), cu_seqlens=cu_seqlens, spans=spans,
            instruction_lengths=instruction_lengths,
        )  # fmt: skip
        return on_device.to(hidden.dtype)
    states = flatten(hidden, mask, cu_seqlens, spans, instruction_lengths)
    found = _core.pooling_backward(
        states.array, kind=states.kind, segments=states.segments, mask=states.mask, modes=modes.split(","),
        pooled_gradient=gradient.float().contiguous().numpy(), threads=get_num_threads(),
    )  # fmt: skip
    return torch.from_numpy(found).reshape(hidden.shape).to(hidden.dtype)


@pooled.register_fake
def _(
    hidden: Tensor,
    mask: Tensor | None,
    cu_seqlens: Tensor | None,
    spans: Tensor | None,
    instruction_lengths: Tensor | None,
    modes: str,
) -> Tensor:
    rows = _rows(hidden, cu_seqlens, spans)
    return hidden.new_empty((rows, len(modes.split(",")) * hidden.shape[-1]), dtype=torch.float32)


@pooled_backward.register_fake
def _(
    gradient: Tensor,
    hidden: Tensor,
    mask: Tensor | None,
    cu_seqlens: Tensor | None,
    spans: Tensor | None,
    instruction_lengths: Tensor | None,
    modes: str,
) -> Tensor:
    return hidden.new_empty(hidden.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.modes = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    return pooled_backward(gradient, *ctx.saved_tensors, ctx.modes), None, None, None, None, None


pooled.register_autograd(_differentiate, setup_context=_keep)


def _rows(hidden: Tensor, cu_seqlens: Tensor | None, spans: Tensor | None) -> int:
    """Vectors that come out."""
    given, more = (spans, 0) if spans is not None else (hidden, 0) if cu_seqlens is None else (cu_seqlens, 1)
    rows: int = given.shape[0]  # a symbol where shapes are dynamic
    return rows - more


def _check_dim(dim: int, most: int) -> None:
    if not 1 <= dim <= most:
        raise InvalidArgument(f"pool: expected dim from 1 to {most}; got {dim}")


def _tensor(x: Any) -> Tensor | None:
    return None if x is None else torch.as_tensor(x)


def _span_tensor(spans: Any) -> Tensor | None:
    if spans is None or hasattr(spans, "ndim"):
        return _tensor(spans)
    triples = [(i, start, end) for i, own in enumerate(spans) for start, end in own]
    return torch.tensor(triples, dtype=torch.int64).reshape(-1, 3)
