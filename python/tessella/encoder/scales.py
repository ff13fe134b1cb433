"""The int8 quantizer: one step for all coordinates, fitted once and kept with the model.

code = clip(round(x / step), -127, 127). One step for all coordinates, so inner products of codes are those of the
vectors but for a factor. It never depends on the texts of a call: the same text has the same code in any company.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tessella.errors import FormatError, InvalidArgument

LEVELS = 127
DEVIATIONS = 8.0  # where nothing was fitted: a coordinate of a unit vector has a deviation of dim^-1/2


@dataclass(frozen=True, slots=True)
class Scales:
    """Steps by dimension, since a prefix that is normalised again has larger coordinates."""

    steps: Mapping[int, float] = field(default_factory=dict)

    @classmethod
    def fit(cls, samples: Mapping[int, npt.NDArray[np.float32]]) -> Scales:
        """Steps for vectors (n, dim) of each dimension, so that none of their coordinates is clipped.

        A wider step costs little, since rounding errors are independent; clipping takes from the coordinates that
        matter most. Vectors that are all zero, or not finite, have no step: an InvalidArgument.
        """
        steps = {dim: float(np.abs(x).max()) / LEVELS for dim, x in samples.items()}
        for dim, step in steps.items():
            if not _usable(step):
                largest = step * LEVELS
                raise InvalidArgument(
                    f"fit_quantizer: expected texts whose vectors of {dim} dimensions are finite and not all zero; the"
                    f" largest coordinate of theirs is {largest:g}"
                )
        return cls(steps)

    def joined(self, later: Scales) -> Scales:
        """These and later ones, which count where both have a step."""
        return Scales({**self.steps, **later.steps})

    def step(self, dim: int) -> float | None:
        """The fitted step of that dimension."""
        return self.steps.get(dim)

    def as_json(self) -> dict[str, float]:
        return {str(dim): step for dim, step in self.steps.items()}

    @classmethod
    def from_json(cls, stored: Any) -> Scales:
        try:
            steps = {int(dim): float(step) for dim, step in stored.items()}
        except (AttributeError, TypeError, ValueError) as error:
            raise FormatError(f"load: expected steps of int8 by dimension; got {stored!r}") from error
        if not all(_usable(step) and dim > 0 for dim, step in steps.items()):
            raise FormatError(f"load: expected steps of int8 above 0; got {stored!r}")
        return cls(steps)


def _usable(step: float) -> bool:
    """Whether float32 can divide by it."""
    return bool(np.finfo(np.float32).tiny <= step <= np.finfo(np.float32).max)


def default_step(dim: int) -> float:
    """For unit vectors, where nothing was fitted."""
    return DEVIATIONS / math.sqrt(dim) / LEVELS


def quantize(x: npt.NDArray[np.float32], step: float) -> npt.NDArray[np.int8]:
    """Codes of rows (n, dim)."""
    codes: npt.NDArray[np.int8] = np.clip(np.rint(x / np.float32(step)), -LEVELS, LEVELS).astype(np.int8)
    return codes
