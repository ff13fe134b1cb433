"""What `Index.build` promises: `python -m bench.builds`, recall on queries it has not seen beside the target.

The queries of a set are divided at random: an index is built, and its effort calibrated, with half of them; the others
measure what a search finds that names no effort.
"""

from __future__ import annotations

import argparse
import time
from typing import NamedTuple

import numpy as np

import tessella as ts
from bench import datasets, machine, record
from bench.compare.recall import recall, true_floors

SETS = ("debian", "sift10k", "synthetic:n=100000,d=128", "synthetic:n=100000,d=384")


class Outcome(NamedTuple):
    """One build: the spec and effort chosen, the recall that its report expects, and that of unseen queries."""

    target: float
    spec: str
    effort: int
    expected: float
    unseen: float
    build_s: float


def outcome(data: datasets.Dataset, target: float, k: int) -> Outcome:
    """Builds for the target with half of the queries, and asks the other half."""
    queries = np.random.default_rng(datasets.SEED).permutation(data.queries)
    seen, others = np.array_split(queries, 2)
    start = time.perf_counter()
    index = ts.Index.build(data.base, metric=data.metric, recall=target, queries=seen, k=k)
    taken = time.perf_counter() - start
    unseen = datasets.Dataset(data.name, data.metric, data.base, others)
    share = recall(unseen, index.search(unseen.queries, k).ids, true_floors(unseen, k))
    assert index.report is not None
    return Outcome(target, index.spec, index.effort, index.report.recall, share, taken)


def main() -> None:
    """Measures, prints, and appends rows with --save."""
    parser = argparse.ArgumentParser(prog="python -m bench.builds", description="Index.build beside its targets.")
    parser.add_argument("--dataset", nargs="+", default=SETS, help="as for bench.compare")
    parser.add_argument("--data", help="folder of the real sets (or TESSELLA_DATA)")
    parser.add_argument("--recall", nargs="+", type=float, default=[0.9, 0.95, 0.99])
    parser.add_argument("--queries", type=int, default=2000, help="half of them are seen")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--save", action="store_true", help="append the result to bench/history")
    chosen = parser.parse_args()
    print(f"{'data':28}{'target':>7}{'expected':>10}{'unseen':>8}{'build':>9}  index")
    for name in chosen.dataset:
        data = datasets.load(name, data=chosen.data, count=chosen.queries)
        for target in chosen.recall:
            each = outcome(data, target, chosen.k)
            print(
                f"{data.name:28}{target:7.2f}{each.expected:10.4f}{each.unseen:8.4f}{each.build_s:7.1f} s"
                f"  {each.spec} at {each.effort}",
                flush=True,
            )
            if chosen.save:
                _save(data, chosen.k, each)


def _save(data: datasets.Dataset, k: int, each: Outcome) -> None:
    row = {
        **machine.stamp(),
        "load_average": machine.load_average(),
        "threads": ts.get_num_threads(),
        "dataset": data.name,
        "queries": len(data.queries) // 2,
        "k": k,
        **each._asdict(),
    }
    record.append("builds", [row])


if __name__ == "__main__":
    main()
