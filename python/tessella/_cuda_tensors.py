"""What the doors of the CUDA column share: tensors that are checked in full sentences, and where work is enqueued.

torch is looked up among the loaded modules, never imported: whoever has a CUDA tensor has loaded it. Its allocator
hands memory of the current stream back to that stream alone, so letting go of scratch, or of a copy made here, before
the kernels have run is safe.
"""

from __future__ import annotations

import sys
from typing import Any

from tessella.errors import DeviceUnavailable, InvalidArgument, UnsupportedType


def cuda_module(operation: str) -> Any:
    """`tessella._cuda`, or DeviceUnavailable."""
    try:
        from tessella import _cuda
    except ImportError as error:
        raise DeviceUnavailable(f"{operation}: this build of tessella has no CUDA module") from error
    return _cuda


class Tensors:
    """The tensor arguments of one call, checked one by one; all must lie on the device of the first."""

    def __init__(self, operation: str) -> None:
        self.operation = operation
        self.torch = sys.modules.get("torch")
        self.device: Any = None

    def take(self, name: str, x: Any, dtype: str, *shape: int | str) -> Any:
        """`x`, contiguous; a name in `shape` stands for any length."""
        if self.torch is None or not isinstance(x, self.torch.Tensor) or x.dtype != getattr(self.torch, dtype):
            raise UnsupportedType(f"{self.operation}: expected {name} as a torch tensor of {dtype}; got {told(x)}")
        wrong = any(isinstance(wanted, int) and wanted != got for wanted, got in zip(shape, x.shape, strict=False))
        if x.ndim != len(shape) or wrong:
            wanted = "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"
            raise InvalidArgument(f"{self.operation}: expected {name} of shape {wanted}; got {tuple(x.shape)}")
        self.device = self.device or x.device
        if self.device.type != "cuda" or x.device != self.device:
            raise UnsupportedType(
                f"{self.operation}: expected {name} on one CUDA device with the other tensors; got {x.device}"
            )
        return x.detach().contiguous()

    def empty(self, dtype: str, *shape: int) -> Any:
        """A result, or scratch, on the device."""
        assert self.torch is not None
        return self.torch.empty(shape, dtype=getattr(self.torch, dtype), device=self.device)

    def where(self) -> dict[str, int]:
        """The device, and torch's current stream of it."""
        assert self.torch is not None
        stream = self.torch.cuda.current_stream(self.device).cuda_stream
        return {"device": int(self.device.index), "stream": stream}


def check(holds: bool, sentence: str) -> None:
    if not holds:
        raise InvalidArgument(sentence)


def told(x: Any) -> str:
    return f"{x.dtype} on {x.device}" if hasattr(x, "device") and hasattr(x, "dtype") else type(x).__name__
