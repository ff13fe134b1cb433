"""A table of systems and measures, with how sure one may be of the differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tessella.eval.significance import bootstrap, permutation_test


@dataclass(frozen=True, slots=True)
class Report:
    """What each system achieved on each query.

    Attributes:
        values: system → measure → (nq,).
        against: the system that others are compared with.
        name: of the task.
    """

    values: Mapping[str, Mapping[str, npt.NDArray[np.float64]]]
    against: str
    name: str = ""

    def mean(self, system: str, measure: str) -> float:
        """The mean over the queries."""
        return float(self.values[system][measure].mean())

    def p_value(self, system: str, measure: str) -> float:
        """How often chance alone would set the two so far apart (`permutation_test`)."""
        return permutation_test(self.values[system][measure], self.values[self.against][measure])

    def interval(self, system: str, measure: str) -> tuple[float, float]:
        """Where the difference lies, with 95 % confidence (`bootstrap`)."""
        return bootstrap(self.values[system][measure], self.values[self.against][measure])

    @property
    def measures(self) -> list[str]:
        return list(next(iter(self.values.values())))

    def rows(self) -> list[tuple[str, ...]]:
        """Name, the mean of every measure, and the difference in the first one from `against` with its p-value."""
        first = self.measures[0]
        made = []
        for system in self.values:
            told = ""
            if system != self.against:
                low, high = self.interval(system, first)
                told = f"{low:+.4f} to {high:+.4f}, p = {self.p_value(system, first):.4f}"
            made.append((system, *(f"{self.mean(system, each):.4f}" for each in self.measures), told))
        return made

    def columns(self) -> list[str]:
        return ["", *self.measures, f"{self.measures[0]} less that of {self.against}"]

    def __str__(self) -> str:
        table = [tuple(self.columns()), *self.rows()]
        widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
        cells = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in table]
        return "\n".join(["  ".join(row).rstrip() for row in cells])
