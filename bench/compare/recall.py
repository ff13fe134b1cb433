"""Recall that ties cannot hurt, and speed at a recall floor.

A returned row counts when its true score reaches the true k-th best score, whatever its id and whatever score
the library reported: of several rows that tie for the last place, each is as good as the other. True scores
are float64 sums over the float32 vectors; a row may fall short by 1e-6 of the k-th score, about the rounding
of a float32 sum.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from bench.datasets import Dataset

Ids: TypeAlias = npt.NDArray[np.integer[Any]]
Doubles: TypeAlias = npt.NDArray[np.float64]
FLOORS = (0.95, 0.99)  # where speeds are compared
_TOLERANCE = 1e-6
_EXTRA = 32  # candidates kept beyond k while float32 ranks them
_SLICE = 256


class Point(NamedTuple):
    """One setting of one index."""

    recall: float
    qps: float


def true_scores(data: Dataset, ids: Ids, queries: slice = slice(None)) -> Doubles:
    """Scores (nq, k) in float64, larger is better (`l2`: the distance's negative); -inf for ids of no row."""
    q = data.queries[queries].astype(np.float64)
    valid = (ids >= 0) & (ids < len(data.base))
    rows = data.base[np.where(valid, ids, 0)].astype(np.float64)  # (nq, k, d)
    if data.metric == "l2":
        scores = -np.square(rows - q[:, None, :]).sum(axis=2)
    else:
        scores = np.einsum("qkd,qd->qk", rows, q)
    return np.where(valid, scores, -np.inf)


def true_floors(data: Dataset, k: int) -> Doubles:
    """The true k-th best score (nq,) of every query, by exact search."""
    if not 0 < k <= len(data.base):
        raise ValueError(f"recall: expected 1 <= k <= {len(data.base)}, the rows there are; got {k}")
    squares = np.einsum("ij,ij->i", data.base, data.base) if data.metric == "l2" else None
    floors = np.empty(len(data.queries))
    keep = min(k + _EXTRA, len(data.base))
    for start in range(0, len(floors), _SLICE):
        part = slice(start, start + _SLICE)
        rough = data.queries[part] @ data.base.T
        if squares is not None:
            rough = 2 * rough - squares
        ids = np.argpartition(rough, -keep, axis=1)[:, -keep:]
        floors[part] = np.sort(true_scores(data, ids, part), axis=1)[:, -k]
    return floors


def recall(data: Dataset, ids: Ids, floors: Doubles) -> float:
    """The share of returned rows that reach the floor; a row returned twice counts once."""
    hits = 0
    for start in range(0, len(ids), _SLICE):
        part = slice(start, min(start + _SLICE, len(ids)))  # ids may be of the first queries only
        floor = floors[part, None]
        reached = true_scores(data, ids[part], part) >= floor - _TOLERANCE * np.abs(floor)
        hits += int((reached & ~_repeated(ids[part])).sum())
    return hits / ids.size


def _repeated(ids: Ids) -> npt.NDArray[np.bool_]:
    """Marks every id that stands earlier in its row already."""
    order = np.argsort(ids, axis=1, kind="stable")
    ranked = np.take_along_axis(ids, order, axis=1)
    again = np.zeros(ids.shape, dtype=bool)
    np.put_along_axis(again, order[:, 1:], ranked[:, 1:] == ranked[:, :-1], axis=1)
    return again


def frontier(points: Iterable[Point]) -> list[Point]:
    """The points no other point beats in both recall and speed, by rising recall and falling speed."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (-p.recall, -p.qps)):
        if not best or point.qps > best[-1].qps:
            best.append(point)
    return best[::-1]


class AtFloor(NamedTuple):
    """Queries a second at a recall floor; `bound` is True where every setting lies above the floor."""

    qps: float
    bound: bool


def qps_at(points: Sequence[Point], floor: float) -> AtFloor | None:
    """Speed at the floor: between its neighbours on the frontier, log-linear in recall; None if unreached.

    Nothing is extrapolated: where every setting lies above the floor, the fastest gives a lower bound.
    """
    curve = frontier(points)
    above = [point for point in curve if point.recall >= floor]
    below = [point for point in curve if point.recall < floor]
    if not above:
        return None
    right = above[0]
    if not below or right.recall == floor:
        return AtFloor(right.qps, bound=not below and right.recall > floor)
    left = below[-1]
    share = (floor - left.recall) / (right.recall - left.recall)
    return AtFloor(math.exp((1 - share) * math.log(left.qps) + share * math.log(right.qps)), bound=False)
