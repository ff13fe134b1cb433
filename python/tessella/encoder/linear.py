"""Linear layers whose weights are laid out once for the CPU's product kernels.

Numerics: the kernel sums a row's products in one order, whatever the number of rows beside it, so that an embedding
does not depend on the batch it was computed in; MKL's, which torch takes otherwise, changes with the number of rows.
A GELU that follows is applied by the same kernel, to sums that are still in registers.
"""

from __future__ import annotations

import functools
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import gelu, linear

_ROWS = 1024  # for which the layout is chosen; any number may follow
_SAMPLE = 64  # numbers of a weight that every call looks at
_GELU = {"GELUActivation": "none", "GELUTanh": "tanh"}  # of transformers, and what torch calls them


class _LaidOut(NamedTuple):
    """A weight as the kernel reads it, and what told of its changes when it was laid out."""

    weight: Any
    version: int
    place: int
    sample: npt.NDArray[np.float32]  # a view, which keeps those numbers' memory from being used for others
    seen: bytes

    @classmethod
    def of(cls, weight: torch.Tensor) -> _LaidOut:
        # What tells of changes is read first: one that comes in between is then noticed by the next call.
        version, place, sample = weight._version, weight.data_ptr(), _sample(weight)
        seen = sample.tobytes()
        return cls(
            torch.ops.mkldnn._reorder_linear_weight(weight.detach().clone(), _ROWS), version, place, sample, seen
        )

    def still(self, weight: torch.Tensor) -> bool:
        same = self.version == weight._version and self.place == weight.data_ptr()
        return same and self.sample.tobytes() == self.seen


def _sample(weight: torch.Tensor) -> npt.NDArray[np.float32]:
    """The diagonal of a coarse grid over the weight, so that every part of its rows and of its columns has a number."""
    grid = weight.detach()[:: max(1, weight.shape[0] // _SAMPLE), :: max(1, weight.shape[1] // _SAMPLE)]
    view: npt.NDArray[np.float32] = grid.diagonal().numpy()
    return view


class PackedLinear(torch.nn.Linear):
    """torch's Linear, its parameters and their names untouched; the copy that was laid out serves inference alone.

    It is laid out again when the weight has changed: by torch's count of writes, or, since writes to `weight.data` are
    not counted (peft merges its adapters so, and averages of weights are often kept so), by where the weight lies and
    by 64 numbers of it, which each call compares with what they were. Not noticed is an uncounted write that leaves
    those 64 as they are, to a few rows of the weight for example: after such a one, call
    `torch.autograd.graph.increment_version(weight)`.
    """

    _laid_out: _LaidOut | None = None

    def forward(self, x: torch.Tensor, *, approximate: str | None = None) -> torch.Tensor:
        """The linear map and, with `approximate` as torch's `gelu` has it, that function of it."""
        if torch.is_grad_enabled() or not self._takes(x):
            plain = linear(x, self.weight, self.bias)
            return plain if approximate is None else gelu(plain, approximate=approximate)
        laid_out = self._laid_out
        if laid_out is None or not laid_out.still(self.weight):
            laid_out = self._laid_out = _LaidOut.of(self.weight)
        after = "none" if approximate is None else "gelu"
        return torch.ops.mkldnn._linear_pointwise(x, laid_out.weight, self.bias, after, [], approximate or "")

    def __getstate__(self) -> dict[str, Any]:
        """Without the copy, which torch can neither copy nor write."""
        return {name: value for name, value in self.__dict__.items() if name != "_laid_out"}

    def _takes(self, x: torch.Tensor) -> bool:
        """What the kernel is for; of a weight made in inference mode torch keeps no version."""
        on_cpu = x.dtype == torch.float32 and x.device.type == "cpu"
        return on_cpu and x.numel() > 0 and not self.weight.is_inference()


class _Joined(torch.nn.Module):
    """A block of a linear layer and the GELU of it, which are computed as one where nothing has been put around them.

    Only its class is another: layers, names and what is saved are those of the block. Where the layer has been
    replaced, as LoRA does, or where gradients are wanted, the block does what it did.
    """

    _names: ClassVar[tuple[str, str, str]]  # of the layer, of the activation, and torch's name of its kind

    def forward(self, *given: Any, **named: Any) -> Any:
        layer, activation, approximate = self._names
        first, second = getattr(self, layer), getattr(self, activation)
        watched = first._forward_hooks or second._forward_hooks or second._forward_pre_hooks
        if type(first) is PackedLinear and len(given) == 1 and not (named or watched or torch.is_grad_enabled()):
            return first(given[0], approximate=approximate)
        return super().forward(*given, **named)

    def __reduce__(self) -> Any:
        return _again, (type(self).__mro__[2], self._names), self.__dict__


@functools.cache
def _joined(kind: Any, names: tuple[str, str, str]) -> Any:
    return type(f"Joined{kind.__name__}", (_Joined, kind), {"_names": names})


def _again(kind: Any, names: tuple[str, str, str]) -> Any:
    made = _joined(kind, names)
    return made.__new__(made)


def pack(model: torch.nn.Module) -> None:
    """Turns the float32 Linear layers of a model into PackedLinear, where this build of torch has the kernel."""
    if not torch.backends.mkldnn.is_available():
        return
    for module in model.modules():
        if type(module) is torch.nn.Linear and module.weight.dtype == torch.float32:
            module.__class__ = PackedLinear
    for module in model.modules():
        _join(module)


@torch.inference_mode()
def _join(module: torch.nn.Module) -> None:
    """Joins a block that is a linear layer and its GELU: tried on a few rows, not looked up by its name."""
    children = dict(module.named_children())
    layers = [name for name, each in children.items() if type(each) is PackedLinear]
    activations = [name for name, each in children.items() if type(each).__name__ in _GELU]
    if len(children) != 2 or len(layers) != 1 or len(activations) != 1:
        return
    layer, approximate = children[layers[0]], _GELU[type(children[activations[0]]).__name__]
    x = torch.randn(3, int(layer.in_features), generator=torch.Generator().manual_seed(0))
    try:
        same = torch.allclose(module(x), layer(x, approximate=approximate), rtol=1e-5, atol=1e-6)
    except Exception:  # the block takes something else than rows
        return
    if same:
        kind: Any = type(module)
        module.__class__ = _joined(kind, (layers[0], activations[0], approximate))
