"""Linear layers whose weights are laid out once for the CPU's product kernels.

Numerics: the kernel sums a row's products in one order, whatever the number of rows beside it, so that an embedding
does not depend on the batch it was computed in; MKL's, which torch takes otherwise, changes with the number of rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import linear

_ROWS = 1024  # for which the layout is chosen; any number may follow


class PackedLinear(torch.nn.Linear):
    """torch's Linear, its parameters and their names untouched; the copy that was laid out serves inference alone.

    It is laid out again when the version that torch keeps of the weight has changed. Whoever writes to `weight.data`,
    which torch does not count, has to call `torch.autograd.graph.increment_version`.
    """

    _packed: Any = None
    _version = -1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled() or x.dtype != torch.float32 or x.device.type != "cpu" or not x.numel():
            return linear(x, self.weight, self.bias)
        version = self.weight._version
        if self._packed is None or self._version != version:  # training has moved the weights
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach().clone(), _ROWS)
            self._version = version
        return torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, "none", [], "")


def pack(model: torch.nn.Module) -> None:
    """Turns the float32 Linear layers of a model into PackedLinear, where this build of torch has the kernel."""
    if not torch.backends.mkldnn.is_available():
        return
    for module in model.modules():
        if type(module) is torch.nn.Linear and module.weight.dtype == torch.float32:
            module.__class__ = PackedLinear
