"""What the planner's steps cost here, beside the constants of csrc/index/plan.cpp that they are to be compared with.

Steps are told apart by slopes: a way is prescribed, and timed under filters by chance of different sizes. Caches are
warm, so these are the least that steps cost.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import tessella as ts
from bench.filtered.truth import K
from bench.filtered.workloads import SEED, Floats, Mask, member
from tessella.bitmap import Bitmap
from tessella.testing import filtered_by

REPEATS = 9


def measured(index: ts.Index, q: Floats) -> dict[str, float]:
    """Nanoseconds of each step that this structure shows; `q` (nq, d) are asked one after another."""
    order = np.random.default_rng(SEED).permutation(len(index))
    costs = {}
    few, many = len(index) // 100, len(index) // 4
    gathered = {m: _each(index, q, "gather", index.filter(member(order[:m], len(index)))) for m in (1, few, many)}
    costs["gathered row"] = (gathered[many] - gathered[few]) / (many - few)
    shared = {m: _together(index, q, "gather", index.filter(member(order[:m], len(index)))) for m in (few, many)}
    costs["gathered row of a batch"] = (shared[many] - shared[few]) / (many - few)
    costs["query, one row"] = gathered[1]
    costs["query of a batch, one row"] = _together(index, q, "gather", index.filter(member(order[:1], len(index))))
    copied = {
        m: _each(index, q, "copies", index.filter(member(order[:m], len(index)), materialize=True))
        for m in (len(index) // 8, len(index) // 2)
    }
    costs["block of copies"] = 32 * (copied[len(index) // 2] - copied[len(index) // 8]) / (len(index) * 3 / 8)
    if index.config.structure == "IVF":
        half = len(index) // 2
        costs["row sorted into its list"] = _sorting(index, q[:2], member(order[:half], len(index))) / half
    return costs


def _sorting(index: ts.Index, q: Floats, mask: Mask) -> float:
    """Two queries under a filter that is new, less those under one whose rows are sorted.

    A fourth of the lists are asked for, half of them looked into: sorting pays, and what else there is to do is little.
    """
    kept, new = index.filter(mask), Bitmap.of_mask(mask)
    nprobe = len(index.list_sizes) // 4
    times = [
        _nanoseconds("lists", lambda where=where: index.search(q, 1, where=where, nprobe=nprobe, threads=1))
        for where in (new, kept)
    ]
    return times[0] - times[1]


def _each(index: ts.Index, q: Floats, way: str, where: Any) -> float:
    def one_by_one() -> None:
        for i in range(len(q)):
            index.search(q[i : i + 1], K, where=where, threads=1)

    return _nanoseconds(way, one_by_one) / len(q)


def _together(index: ts.Index, q: Floats, way: str, where: Any) -> float:
    return _nanoseconds(way, lambda: index.search(q, K, where=where, threads=1)) / len(q)


def _nanoseconds(way: str, call: Callable[[], Any]) -> float:
    """CPU time of this thread, the least of several: what else the machine does is not told."""
    with filtered_by(way):
        call()
        times = []
        for _ in range(REPEATS):
            begun = time.thread_time_ns()
            call()
            times.append(time.thread_time_ns() - begun)
    return float(min(times))
