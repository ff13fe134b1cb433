"""What searches return, and what they cost."""

from __future__ import annotations

from typing import Any, NamedTuple


class _Pair(NamedTuple):
    ids: Any
    scores: Any


class Hits(_Pair):
    """The best rows of each query: `ids` (nq, k) int64, -1 where there are fewer; `scores` (nq, k) float32.

    `attributes`, where they were asked for, is a polars frame of nq * k rows: those of query i begin at i * k.
    """

    attributes: Any = None


class RangeHits(NamedTuple):
    """Rows within a threshold: those of query i are `ids[offsets[i]:offsets[i + 1]]`, best first."""

    offsets: Any
    ids: Any
    scores: Any


class Explanation(NamedTuple):
    """What a search cost, summed over its queries."""

    spec: str
    queries: int
    rows: int
    scanned: int  # rows looked at through the first codec
    refined: int  # … through the second
    rescored: int  # final candidates scored once more
    probed: int  # inverted lists looked into, or rows visited on a walk
    matched: int  # rows that the filter admits
    plans: dict[str, int]  # of a filtered search: how many queries were answered in which way
    estimates: dict[str, float]  # microseconds a query, of each way there was; what is not in `plans` was refused
