"""A table of systems and measures, with how sure one may be of the differences."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tessella.eval.significance import bootstrap, permutation_test


class Table(ABC):
    """Systems, what each achieved, and their differences from one of them."""

    values: Mapping[str, Mapping[str, Any]]
    against: str

    @property
    def systems(self) -> list[str]:
        """Names, in the order of the table."""
        return list(self.values)

    @property
    def measures(self) -> list[str]:
        """Names; the first one is that of the differences in the table."""
        return list(next(iter(self.values.values())))

    @abstractmethod
    def mean(self, system: str, measure: str) -> float:
        """What it achieved."""

    @abstractmethod
    def p_value(self, system: str, measure: str) -> float:
        """How often chance alone would set it and `against` so far apart."""

    @abstractmethod
    def interval(self, system: str, measure: str) -> tuple[float, float]:
        """Where the difference from `against` lies, with 95 % confidence."""

    def rows(self) -> list[tuple[str, ...]]:
        """Name, the mean of every measure, and the difference in the first one from `against` with its p-value."""
        first = self.measures[0]
        made = []
        for system in self.systems:
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


@dataclass(frozen=True, slots=True)
class Report(Table):
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


@dataclass(frozen=True, slots=True)
class Resampled(Table):
    """What each system achieved by measures of all examples together, and on examples drawn again and again.

    A correlation or an F1 is no mean of what single examples have, so its differences are tested by a paired bootstrap:
    every system is measured on the same draws.

    Attributes:
        values: system → measure → what it is on the task.
        draws: system → measure → (rounds,), what it is on each draw of examples.
        against: the system that others are compared with.
        name: of the task.
    """

    values: Mapping[str, Mapping[str, float]]
    draws: Mapping[str, Mapping[str, npt.NDArray[np.float64]]]
    against: str
    name: str = ""

    def mean(self, system: str, measure: str) -> float:
        """The measure on all examples."""
        return self.values[system][measure]

    def p_value(self, system: str, measure: str) -> float:
        """Twice the share of draws in which the difference is not on its side of zero; at least 2 / (rounds + 1)."""
        difference = self._differences(system, measure)
        least = min((difference <= 0).sum(), (difference >= 0).sum())
        return min(1.0, 2 * (int(least) + 1) / (len(difference) + 1))

    def interval(self, system: str, measure: str) -> tuple[float, float]:
        """Where the difference lies, with 95 % confidence (Efron's percentiles)."""
        low, high = np.quantile(self._differences(system, measure), [0.025, 0.975])
        return float(low), float(high)

    def _differences(self, system: str, measure: str) -> npt.NDArray[np.float64]:
        return np.asarray(self.draws[system][measure] - self.draws[self.against][measure], np.float64)
