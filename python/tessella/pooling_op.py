"""Pooling as an operator of torch: forward, backward and shapes, so that autograd, torch.compile and torch.export take
it as one node. Imported where a tensor asks for a gradient; needs torch."""

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

__all__ = ["pool", "pooled"]


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
        if not 1 <= dim <= hidden.shape[-1]:
            raise InvalidArgument(f"pool: expected dim from 1 to {hidden.shape[-1]}; got {dim}")
        y = y.reshape(len(y), len(modes), -1)[:, :, :dim].reshape(len(y), -1)
    if dense is not None:
        y = torch.nn.functional.linear(y, dense[0].float(), None if dense[1] is None else dense[1].float())[:, :dim]
    return torch.nn.functional.normalize(y, dim=1) if normalize else y


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
    n = hidden.shape[0] if cu_seqlens is None else cu_seqlens.shape[0] - 1
    rows = n if spans is None else spans.shape[0]
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


def _tensor(x: Any) -> Tensor | None:
    return None if x is None else torch.as_tensor(x)


def _span_tensor(spans: Any) -> Tensor | None:
    if spans is None or hasattr(spans, "ndim"):
        return _tensor(spans)
    triples = [(i, start, end) for i, own in enumerate(spans) for start, end in own]
    return torch.tensor(triples, dtype=torch.int64).reshape(-1, 3)
