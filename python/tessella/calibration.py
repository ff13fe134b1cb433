"""How much effort a recall takes: measured once, stored with the index, asked at every search."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from tessella.errors import InvalidArgument, UnsupportedType

Truth: TypeAlias = Literal["exact", "own best", "unknown"]

_EVERY = 16  # efforts up to here are all measured, larger ones in steps of a fifth
_STEP = 1.2
_LARGE = 128  # from here on of two fifths: the last few steps are what a measurement costs
_LARGE_STEP = 1.4
_GAP = 2.0  # efforts so far apart have nothing between them that is worth its cost
_ENOUGH = 3  # efforts in a row that add nothing end the measurement
_LEAST_GAIN = 2e-4
_IDLE_RECALL = 0.9  # below it a pause means nothing
_ALIKE = 3.0  # neighbours of a query are found or missed together: k of them tell as much as k / 3 apart would


class Span(NamedTuple):
    """Efforts that differ in what they do: from `least` in steps up to `stepped`, then `most`, which looks at all."""

    least: int
    stepped: int
    most: int


@dataclass(frozen=True)
class Calibration:
    """Recall of the true k best at rising effort (`nprobe`, `ef`), as measured on some queries.

    `truth` says which k best: `exact` neighbours, the index's `own best` of all its rows as its codes tell them, which
    leaves out what the codes themselves lose, or `unknown`, where a file does not say.

    >>> curve = Calibration(k=10, queries=1000, efforts=(1, 2, 4), recalls=(0.7, 0.9, 0.96))
    >>> curve.effort_for(0.92), curve.reaches(0.97)
    (3, False)
    """

    k: int
    queries: int
    efforts: tuple[int, ...]
    recalls: tuple[float, ...]
    truth: Truth = "unknown"

    def reaches(self, recall: float) -> bool:
        """Whether any measured effort has this recall."""
        return max(self.recalls) >= recall

    def effort_for(self, recall: float) -> int:
        """The least effort whose measured recall exceeds this one by its standard error, or is the highest there is.

        Between measured efforts recall is interpolated. Without the margin, half of the time other queries of the same
        kind would find less than was asked for: with a thousand of them, k = 10 and 0.95 it is 0.4 points.
        """
        recall = min(recall + self._error_at(recall), max(self.recalls))
        best = 0.0
        for place, (effort, reached) in enumerate(zip(self.efforts, self.recalls, strict=True)):
            if reached >= recall:
                if place == 0 or reached <= best:
                    return effort
                below = self.efforts[place - 1]
                if effort > _GAP * below and effort > below + 1:
                    return effort
                share = (recall - best) / (reached - best)
                return min(effort, math.ceil(below + share * (effort - below) - 1e-9))  # 3.0000000000000004 is 3
            best = max(best, reached)
        return self.efforts[int(np.argmax(self.recalls))]

    def recall_at(self, effort: int) -> float:
        """The recall to expect at this effort."""
        return float(np.interp(effort, self.efforts, self.recalls))

    def _error_at(self, recall: float) -> float:
        """How far a measured recall may be off: one standard error."""
        return math.sqrt(_ALIKE * recall * (1 - recall) / (self.k * self.queries))

    def as_config(self) -> dict[str, Any]:
        """Plain values for a file."""
        return {
            "k": self.k,
            "queries": self.queries,
            "efforts": list(self.efforts),
            "recalls": list(self.recalls),
            "truth": self.truth,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Calibration:
        """Out of a file; a ValueError where it makes no sense."""
        k, queries = config["k"], config["queries"]
        efforts, recalls = tuple(config["efforts"]), tuple(config["recalls"])
        whole = all(type(value) is int and 0 <= value < 1 << 32 for value in (k, queries, *efforts))
        shares = all(isinstance(value, (int, float)) and 0 <= value <= 1 for value in recalls)
        if not whole or not shares or not efforts or len(efforts) != len(recalls) or list(efforts) != sorted(efforts):
            raise ValueError("its calibration is not one")
        truth = config.get("truth", "unknown")  # files were written before it was kept
        if truth not in get_args(Truth):
            raise ValueError(f"its calibration counts against {truth!r}")
        return cls(k, queries, efforts, tuple(map(float, recalls)), truth)


def measure(
    recall_at: Callable[[int], float],
    span: Span,
    *,
    k: int,
    queries: int,
    truth: Truth = "unknown",
    enough: float = math.inf,
) -> Calibration:
    """Recall at rising effort until it rises no more, or is `enough`."""
    efforts: list[int] = []
    recalls: list[float] = []
    idle = 0
    for effort in efforts_of(span):
        efforts.append(effort)
        recalls.append(recall_at(effort))
        idle = idle + 1 if len(recalls) > 1 and recalls[-1] < max(recalls[:-1]) + _LEAST_GAIN else 0
        if recalls[-1] >= enough or (idle == _ENOUGH and recalls[-1] > _IDLE_RECALL):
            break
    return Calibration(k, queries, tuple(efforts), tuple(recalls), truth)


def share_found(ids: npt.NDArray[np.int64], truth: npt.NDArray[np.int64]) -> float:
    """The share of the true rows (nq, k) among the ids (nq, k) that were found; -1 in `truth` is no row."""
    wanted = truth >= 0
    found = (truth[:, :, None] == ids[:, None, :]).any(axis=2) & wanted
    return float(found.sum() / max(1, wanted.sum()))


def check_recall(recall: float, operation: str) -> float:
    """A share in (0, 1]."""
    try:
        value = float(recall)
    except (TypeError, ValueError):
        raise UnsupportedType(f"{operation}: expected recall as a number; got {type(recall).__name__}") from None
    if not 0.0 < value <= 1.0:
        raise InvalidArgument(f"{operation}: expected a recall above 0 and up to 1; got {recall}")
    return value


def efforts_of(span: Span) -> Iterator[int]:
    """The efforts that are worth a measurement, rising."""
    effort = span.least
    while effort < min(span.stepped, span.most):
        yield effort
        step = _STEP if effort < _LARGE else _LARGE_STEP
        effort = effort + 1 if effort < _EVERY else math.ceil(effort * step)
    yield span.most
