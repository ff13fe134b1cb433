"""Our indexes under filters: at the effort that `calibrate` found for a recall, whatever the filter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import tessella as ts
from bench.filtered.peers import Built, Entry
from bench.filtered.truth import K
from bench.filtered.workloads import Floats, Ids, Workload
from tessella.testing import filtered_by

RECALL = 0.95
WAYS = {"Flat": ("gather", "scan"), "IVF": ("gather", "lists"), "Graph": ("gather", "walk")}


def specs(n: int) -> list[str]:
    return ["Flat,B1+U8", "IVF512,B1+U8", "Graph32,B1+U8"] if n < 200_000 else ["IVF4096,B1+U8"]


def index_of(spec: str, x: Floats, known: Floats, kept: Built) -> ts.Index:
    """Built, and calibrated on queries `known` that are asked nowhere else; from the store where it is there."""
    file = kept.file(f"ours-{spec}")
    if file.is_file():
        return ts.Index.load(file)
    index = ts.Index(spec, dim=x.shape[1], metric="ip")
    index.add(x, threads=kept.threads)
    index.calibrate(known, K, threads=kept.threads)
    index.save(file)
    return index


def searched(index: ts.Index, way: str | None = None) -> Callable[[Workload], Callable[[int], Ids]]:
    """By the planner, or always in one way."""

    def prepare(workload: Workload) -> Callable[[int], Ids]:
        filters = [index.filter(workload.mask(i)) for i in range(len(workload.words))]
        where: Any = filters[0] if workload.shared else [filters[i] for i in workload.which]
        if workload.free:
            where = None

        def search(_: int) -> Ids:
            with filtered_by(way) if way else nullcontext():
                ids: Ids = index.search(workload.queries, K, where=where, recall=RECALL, threads=1).ids
            return ids

        return search

    return prepare


def entries(x: Floats, known: Floats, kept: Built, wanted: Callable[[str], bool]) -> Iterator[Entry]:
    """Each of our structures."""
    for spec in specs(len(x)):
        if wanted(spec):
            index = index_of(spec, x, known, kept)
            yield Entry(spec, (0,), searched(index), index.nbytes)


def forced(x: Floats, known: Floats, kept: Built, wanted: Callable[[str], bool]) -> Iterator[tuple[str, list[Entry]]]:
    """Each of our structures by the planner, then in each of its ways."""
    for spec in specs(len(x)):
        if wanted(spec):
            index = index_of(spec, x, known, kept)
            ways = WAYS[index.config.structure]
            yield spec, [Entry("planner", (0,), searched(index)), *(Entry(w, (0,), searched(index, w)) for w in ways)]
