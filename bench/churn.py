"""Deletes and inserts: `python -m bench.churn`, what an index finds after rounds of both beside one built afresh.

Half of the rows leave, drawn with the seed, and as many that are not in the index come in their place. After each round
the index and a fresh one over the same rows answer the same queries at the same effort.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

import tessella as ts
from bench import datasets, machine, record
from bench.compare.recall import recall, true_floors

Ids: TypeAlias = npt.NDArray[np.int64]


class Round(NamedTuple):
    """Recall after a round, and the seconds that its changes took."""

    churned: float
    fresh: float
    remove_s: float
    add_s: float


def swapped(live: Ids, n: int, share: float, rng: np.random.Generator) -> tuple[Ids, Ids]:
    """Ids that leave and ids that come, as many of each."""
    count = round(share * len(live))
    outside = np.setdiff1d(np.arange(n), live)
    if count > len(outside):
        raise ValueError(f"churn: expected at least {count:,} rows outside the index; got {len(outside):,}")
    return rng.choice(live, count, replace=False), rng.choice(outside, count, replace=False)


def rounds(
    data: datasets.Dataset, spec: str, live_count: int, share: float, count: int, **search: Any
) -> Iterator[Round]:
    """Yields `count` rounds; `search` holds k and the effort."""
    rng = np.random.default_rng(datasets.SEED)
    live = np.sort(rng.choice(len(data.base), live_count, replace=False))
    churned = built(data, spec, live)
    for _ in range(count):
        gone, come = swapped(live, len(data.base), share, rng)
        start = time.perf_counter()
        churned.remove(gone)
        removed = time.perf_counter()
        churned.add(data.base[come], ids=come)
        added = time.perf_counter()
        live = np.sort(np.concatenate([np.setdiff1d(live, gone), come]))
        yield Round(
            found(data, churned, live, **search),
            found(data, built(data, spec, live), live, **search),
            removed - start,
            added - removed,
        )


def built(data: datasets.Dataset, spec: str, live: Ids) -> ts.Index:
    """A fresh index over those rows, under their places in the whole set."""
    index = ts.Index(spec, dim=data.shape[1], metric=data.metric)
    index.add(data.base[live], ids=live)
    return index


def found(data: datasets.Dataset, index: ts.Index, live: Ids, *, k: int, **effort: Any) -> float:
    """Recall@k among the rows that are there."""
    there = datasets.Dataset(data.name, data.metric, data.base[live], data.queries)
    ids = np.asarray(index.search(data.queries, k, **effort).ids)
    places = np.where(ids < 0, -1, np.searchsorted(live, ids))
    return recall(there, places, true_floors(there, k))


def main() -> None:
    """Measures, prints, and appends a row with --save."""
    parser = argparse.ArgumentParser(prog="python -m bench.churn", description="Deletes and inserts.")
    parser.add_argument("--dataset", default="debian", help="as for bench.compare")
    parser.add_argument("--data", help="folder of the real sets (or TESSELLA_DATA)")
    parser.add_argument("--spec", default="Graph32,B1+U8")
    parser.add_argument("--effort", default="ef=56", help="ef=… or nprobe=…, for both indexes in every round")
    parser.add_argument("--rows", type=int, default=30_000, help="in the index at any time")
    parser.add_argument("--share", type=float, default=0.5, help="of them that leave in a round")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--save", action="store_true", help="append the result to bench/history")
    chosen = parser.parse_args()
    knob, _, value = chosen.effort.partition("=")
    data = datasets.load(chosen.dataset, data=chosen.data, count=chosen.queries)
    print(f"{data.name}, {chosen.spec}, {chosen.rows:,} rows, {chosen.share:.0%} leave a round, {chosen.effort}")
    print(f"{'round':>5}{'recall':>9}{'fresh':>9}{'remove':>10}{'add':>10}")
    done = []
    for each in rounds(data, chosen.spec, chosen.rows, chosen.share, chosen.rounds, k=chosen.k, **{knob: int(value)}):
        done.append(each)
        print(f"{len(done):5}{each.churned:9.4f}{each.fresh:9.4f}{each.remove_s:8.2f} s{each.add_s:8.2f} s", flush=True)
    if chosen.save:
        row = {
            **machine.stamp(),
            "load_average": machine.load_average(),
            "threads": ts.get_num_threads(),
            "dataset": data.name,
            "spec": chosen.spec,
            "effort": chosen.effort,
            "rows": chosen.rows,
            "share": chosen.share,
            "rounds": [each._asdict() for each in done],
        }
        record.append("churn", [row])


if __name__ == "__main__":
    main()
