"""The true neighbours under a filter, and what of them was found.

A row that was found counts when its true score, in float64, reaches that of the true k-th: rows with the same text have
the same vector, and any of them will do.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

import tessella as ts
from bench.filtered.workloads import Floats, Ids, Workload

K = 10
_SLACK = 1e-6  # of a score: the last digit of float32


@dataclass(frozen=True)
class Truth:
    """Of one workload: how many rows each query should find, and the score that the last of them has."""

    wanted: Ids  # (nq,)
    least: npt.NDArray[np.float64]  # (nq,)


@dataclass(frozen=True)
class Share:
    """What a search found."""

    recalls: npt.NDArray[np.float64]  # (nq,) of each query; 1 where there is nothing to find
    short: int  # queries with fewer than min(k, matches) different rows
    foreign: int  # rows that their filter does not admit

    @property
    def mean(self) -> float:
        return float(self.recalls.mean())

    @property
    def low(self) -> float:
        """The 5th percentile of the queries."""
        return float(np.percentile(self.recalls, 5))


class Truths:
    """Kept in a file, by workload."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.arrays: dict[str, npt.NDArray[np.float64]] = dict(np.load(file)) if file.is_file() else {}

    def get(self, name: str) -> Truth | None:
        both = self.arrays.get(name)
        return None if both is None else Truth(both[0].astype(np.int64), both[1])

    def put(self, name: str, truth: Truth) -> None:
        self.arrays[name] = np.stack([truth.wanted.astype(np.float64), truth.least])

    def write(self) -> None:
        np.savez(self.file, **self.arrays)


def scores_of(x: Floats, q: Floats, ids: Ids) -> npt.NDArray[np.float64]:
    """(nq, k) inner products in float64; -inf for no row."""
    rows = x[np.maximum(ids, 0)].astype(np.float64)
    scores = np.einsum("qkd,qd->qk", rows, q.astype(np.float64))
    return np.where(ids < 0, -np.inf, scores)


def truth_of(exact: ts.Index, x: Floats, workload: Workload) -> Truth:
    """By exact search over float32 rows."""
    where = None if workload.free else [exact.filter(workload.mask(i)) for i in range(len(workload.words))]
    each = None if where is None else [where[i] for i in workload.which]
    ids = exact.search(workload.queries, K, where=each).ids
    wanted = np.minimum(K, workload.counts[workload.which])
    if not np.array_equal((ids >= 0).sum(axis=1), wanted):
        raise AssertionError(f"{workload.name}: exact search found {(ids >= 0).sum(axis=1)}, expected {wanted}")
    scores = scores_of(x, workload.queries, ids)
    least = np.where(wanted > 0, np.take_along_axis(scores, np.maximum(wanted - 1, 0)[:, None], axis=1)[:, 0], np.inf)
    return Truth(wanted, least)


def check_truth(x: Floats, workload: Workload, truth: Truth, count: int = 3) -> None:
    """Some queries once more by NumPy in float64."""
    for i in range(min(count, len(workload.queries))):
        rows = x[workload.mask(int(workload.which[i]))].astype(np.float64)
        scores = np.sort(rows @ workload.queries[i].astype(np.float64))[::-1]
        if truth.wanted[i] and abs(scores[truth.wanted[i] - 1] - truth.least[i]) > _SLACK:
            raise AssertionError(
                f"{workload.name}: query {i} is {truth.least[i]}, expected {scores[: truth.wanted[i]]}"
            )


def share_found(x: Floats, workload: Workload, truth: Truth, ids: Ids) -> Share:
    """Of found rows (nq, k), -1 where there are none."""
    ids = np.asarray(ids, np.int64)
    there = ids >= 0
    rows, lists = np.maximum(ids, 0), workload.words[workload.which]
    bits = np.take_along_axis(lists, rows // 64, axis=1) >> (rows % 64).astype(np.uint64) & np.uint64(1)
    admitted = there & (bits == 1)
    first = np.ones_like(there)  # of its kind: a row returned twice counts once
    for j in range(1, ids.shape[1]):
        first[:, j] = (ids[:, :j] != ids[:, j : j + 1]).all(axis=1)
    good = admitted & first
    hits = (good & (scores_of(x, workload.queries, ids) >= truth.least[:, None] - _SLACK)).sum(axis=1)
    recalls = np.where(truth.wanted > 0, np.minimum(hits, truth.wanted) / np.maximum(truth.wanted, 1), 1.0)
    short = int((good.sum(axis=1) < truth.wanted).sum())
    return Share(recalls, short, int((there & (bits == 0)).sum()))


def local_share(exact: ts.Index, workload: Workload, most: int = 1000) -> float:
    """Selectivity among the 1,000 nearest rows over that among all, of the median query: above 1, it goes with it."""
    if workload.counts.min() == 0:
        return 1.0
    near = exact.search(workload.queries[:100], most).ids
    ratios = []
    for ids, number in zip(near, workload.which, strict=False):
        ratios.append(workload.mask(int(number))[ids].mean() / (workload.counts[number] / workload.n))
    return float(np.median(ratios))
