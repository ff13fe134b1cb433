"""Speed and recall of an index, measured as the command line shows them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tessella import Index

Array: TypeAlias = npt.NDArray[Any]
Ids: TypeAlias = npt.NDArray[np.int64]
_QUERIES_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Speed:
    """Queries a second: the median over the runs, and the slowest and fastest of them."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:,.0f} ({self.low:,.0f} to {self.high:,.0f})"


def speed(search: Callable[[], object], queries: int, repeats: int = 5) -> Speed:
    """Times `search`, which answers that many queries, after one run to warm up."""
    search()
    rates = []
    for _ in range(repeats):
        start = time.perf_counter()
        search()
        rates.append(queries / (time.perf_counter() - start))
    return Speed(statistics.median(rates), min(rates), max(rates))


def row(name: str, index: Index, exact: Index, q: Array, k: int, repeats: int) -> tuple[str, ...]:
    """One line of `tessella bench`: recall, bytes a vector, queries a second together and one by one."""
    few = q[:200]
    many = speed(lambda: index.search(q, k), len(q), repeats)
    one = speed(lambda: [index.search(each, k) for each in few], len(few), repeats)
    found = recall(exact, q, np.asarray(index.search(q, k).ids))
    return name, f"{found:.4f}", f"{index.nbytes / max(1, len(index)):.1f}", str(many), str(one)


def recall(exact: Index, q: Array, ids: Ids) -> float:
    """The share of found rows that belong to the exact top k, where rows with equal scores are equally good.

    `exact` holds the vectors as they came; `ids` is (nq, k), -1 where nothing was found.
    """
    k = min(ids.shape[1], len(exact))
    hits = 0
    for start in range(0, len(q), _QUERIES_AT_ONCE):
        part = slice(start, start + _QUERIES_AT_ONCE)
        best = _scores(exact, q[part], np.asarray(exact.search(q[part], k).ids))
        floor = best[:, -1:]
        hits += int((_scores(exact, q[part], ids[part]) >= floor - 1e-6 * np.abs(floor)).sum())
    return float(hits / max(1, len(q) * k))


def _scores(exact: Index, q: Array, ids: Ids) -> npt.NDArray[np.float64]:
    """Scores in float64, larger is better, of each query with the rows found for it; -inf for none."""
    found = ids >= 0
    x = np.zeros((*ids.shape, exact.dim))
    x[found] = exact.reconstruct(ids[found])
    q = np.asarray(q, dtype=np.float64)[:, None, :]
    if exact.metric == "l2":
        scores = -np.square(x - q).sum(axis=2)
    else:
        scores = (x * q).sum(axis=2)
        if exact.metric == "cosine":
            scores /= np.maximum(np.linalg.norm(x, axis=2) * np.linalg.norm(q, axis=2), 1e-30)
    return np.where(found, scores, -np.inf)
