"""From the head's vectors to what the caller asked for: dimension, length, type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import normalize

from tessella import BinaryQuantizer
from tessella.encoder.scales import quantize

DTYPES = ("float32", "float16", "int8", "binary")


@dataclass(frozen=True, slots=True)
class Output:
    """Truncation, then length 1, then the type; in this order, so that a prefix has length 1, too."""

    dim: int
    dtype: str
    normalize: bool
    step: float | None  # of int8

    def empty(self, n: int) -> npt.NDArray[Any]:
        kind: type[np.generic] = np.uint8 if self.dtype == "binary" else np.dtype(self.dtype).type
        return np.empty((n, -(-self.dim // 8) if self.dtype == "binary" else self.dim), kind)

    def options(self) -> dict[str, Any]:
        """The same as arguments of `tessella.pool`."""
        scale = {} if self.step is None else {"scale": 1 / np.float32(self.step)}
        return {"dim": self.dim, "dtype": self.dtype, "normalize": self.normalize, **scale}

    def vectors(self, x: torch.Tensor) -> torch.Tensor:
        """Rows (n, d) cut to `dim` and, where asked for, of length 1; float32."""
        x = x[:, : self.dim].float()
        return normalize(x, dim=-1) if self.normalize else x

    def finished(self, x: torch.Tensor) -> npt.NDArray[Any]:
        """Rows (n, d) of the head in the type asked for."""
        rows: npt.NDArray[np.float32] = self.vectors(x).cpu().numpy()
        if self.dtype == "binary":
            codes: npt.NDArray[np.uint8] = BinaryQuantizer(self.dim).encode(rows)
            return codes
        if self.dtype == "int8":
            assert self.step is not None
            return quantize(rows, self.step)
        return rows.astype(self.dtype, copy=False)
