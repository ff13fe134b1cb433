"""Losses on what will be stored: embeddings are quantised on the way in, gradients pass straight through."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from tessella.encoder.scales import LEVELS, default_step
from tessella.errors import InvalidArgument
from tessella.train.losses._loss import EMBEDDINGS, Loss, Wrapper, mapped

_LEVELS = 255
_MEMORY = 0.99


class QuantizationAware(Wrapper):
    """A loss on quantised embeddings (sign bits or int8), whose gradient passes as if nothing were quantised.

    | column | shape | |
    | --- | --- | --- |
    | query, positive, … | as the loss takes them | normalised here before they are quantised |

    Args:
        loss: any loss.
        kind: "binary": the signs, as a unit vector; "int8": whole steps, where values beyond the outermost have no
            gradient.
        step: of int8, what is deployed: one step for all dimensions, code = clip(round(x / step), -127, 127), as
            `Encoder` writes it. "encoder" is the step it has where none was fitted, 8 / (127 sqrt(d)), for prefixes
            by their own d; a number is one that was fitted (`encoder.scales.step(dim)`). None: 255 steps within a
            range for each dimension, a running mean (0.99) of the least and greatest of the batches, as codecs with a
            range for each dimension store it.
        sides: columns to quantise; ("positive", "negative") leaves queries in float, as for re-ranking bits by floats.

    Relations: `InfoNCE() + QuantizationAware(InfoNCE(), "binary")` keeps the float vectors good, too (BPR, Yamada et
    al., arXiv:2106.00882). Around `Matryoshka` it makes prefixes of codes; inside of it codes of prefixes, which is
    what `Encoder.encode(dim=…, dtype=…)` gives.

    >>> import torch
    >>> from tessella.train.losses import InfoNCE, QuantizationAware
    >>> x = torch.tensor([[3.0, 0.1], [-0.1, 2.0]], requires_grad=True)
    >>> loss = QuantizationAware(InfoNCE(temperature=0.5), "binary")(x, x.detach())
    >>> round(loss.item(), 4), bool(torch.autograd.grad(loss, x)[0].abs().sum() > 0)
    (0.1269, True)
    """

    def __init__(
        self,
        loss: Loss,
        kind: str = "binary",
        *,
        step: float | Literal["encoder"] | None = None,
        sides: Sequence[str] = EMBEDDINGS,
    ) -> None:
        super().__init__(loss)
        if kind not in ("binary", "int8"):
            raise InvalidArgument(f"QuantizationAware: expected kind to be 'binary' or 'int8'; got {kind!r}")
        if not set(sides) <= set(EMBEDDINGS):
            raise InvalidArgument(f"QuantizationAware: expected sides of {', '.join(EMBEDDINGS)}; got {tuple(sides)}")
        if step is not None and (kind != "int8" or not (step == "encoder" or _above_zero(step))):
            raise InvalidArgument(
                f"QuantizationAware: expected step as 'encoder' or a number above 0, with int8; got {step!r}"
            )
        self.kind, self.step, self.sides = kind, step, tuple(sides)
        self.range = RunningRange() if kind == "int8" and step is None else None

    def value(self, **columns: Tensor) -> Tensor:
        unit = mapped(columns, lambda x: functional.normalize(x, dim=-1), self.sides)
        if self.range is None:
            change = Sign.apply if self.step is None else self._stepped
            return self.loss(**mapped(unit, change, self.sides))
        if self.training:
            self.range.update(torch.cat([unit[name].flatten(0, -2) for name in self.sides if name in unit]))
        return self.loss(**mapped(unit, self.range, self.sides))

    def _stepped(self, x: Tensor) -> Tensor:
        assert self.step is not None
        return stepped(x, default_step(x.shape[-1]) if isinstance(self.step, str) else self.step)


def stepped(x: Tensor, step: float) -> Tensor:
    """Codes times their step, of the codes that `Encoder` would store; the gradient is that of x, beyond them zero."""
    inside = x.clamp(-LEVELS * step, LEVELS * step)
    rounded = torch.round(inside / step) * step
    return inside + (rounded - inside).detach()


class Sign(torch.autograd.Function):
    """Signs as a unit vector, zero counting as positive; the gradient passes through as it comes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype) / x.shape[-1] ** 0.5

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


class RunningRange(nn.Module):
    """The least and greatest of each dimension, and embeddings rounded to 255 steps between them."""

    low: Tensor
    high: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", torch.empty(0))
        self.register_buffer("high", torch.empty(0))

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Looks at a batch (n, d)."""
        low, high = x.amin(0), x.amax(0)
        if len(self.low) == 0:
            self.low, self.high = low, high
        else:
            self.low = torch.lerp(low, self.low, _MEMORY)
            self.high = torch.lerp(high, self.high, _MEMORY)

    def forward(self, x: Tensor) -> Tensor:
        """Rounded values; inside the range the gradient is that of x, beyond it zero."""
        if len(self.low) == 0:
            raise InvalidArgument("QuantizationAware: expected a range; a loss in training mode learns it")
        step = ((self.high - self.low) / _LEVELS).clamp_min(torch.finfo(x.dtype).tiny)
        inside = torch.minimum(torch.maximum(x, self.low), self.high)
        rounded = self.low + torch.round((inside - self.low) / step) * step
        return inside + (rounded - inside).detach()

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Takes ranges of whatever dimension the state has."""
        self.low = torch.empty_like(state.get(f"{prefix}low", self.low))
        self.high = torch.empty_like(state.get(f"{prefix}high", self.high))
        super()._load_from_state_dict(state, prefix, *rest)


def _above_zero(step: Any) -> bool:
    return isinstance(step, int | float) and not isinstance(step, bool) and math.isfinite(step) and step > 0
