"""What a filter that is kept spares its searches: alone and in batches, anew each time, kept, and materialised.

`anew` has nothing but its bitmap each time; `kept` is a filter of `Index.filter` that was asked before, whose rows may
have been sorted into lists; `copies` keeps 1-bit codes of its rows, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import tessella as ts
from bench.filtered.ours import RECALL
from bench.filtered.runs import Case
from bench.filtered.truth import K, share_found
from bench.filtered.workloads import Floats, Ids
from tessella.bitmap import Bitmap

ROUNDS = 5
Ask = Callable[[Floats, Any], Ids]


def ways(index: ts.Index, case: Case) -> dict[str, Any]:
    """What is passed as `where` for every query, one for each."""
    w = case.workload
    masks = [w.mask(i) for i in range(len(w.words))]
    kept = [index.filter(mask) for mask in masks]
    copied = [index.filter(mask, materialize=True) for mask in masks]
    anew = [Bitmap.of_words(w.words[i], w.n) for i in range(len(w.words))]
    return {"anew": anew, "kept": kept, "copies": copied}


def measured(index: ts.Index, x: Floats, case: Case) -> list[dict[str, Any]]:
    """Microseconds a query of each way, alone and together, and what was found."""
    w, rows = case.workload, []

    def ask(q: Floats, where: Any) -> Ids:
        ids: Ids = index.search(q, K, where=where, recall=RECALL, threads=1).ids
        return ids

    for way, filters in ways(index, case).items():
        each = [filters[i] for i in w.which]
        together = each[0] if w.shared else each
        found = share_found(x, w, case.truth, ask(w.queries, together))
        batch = [_seconds(lambda t=together: ask(w.queries, t)) for _ in range(ROUNDS)]
        alone = [_seconds(lambda e=each: _one_by_one(ask, w.queries, e)) for _ in range(ROUNDS)]
        plans = index.explain(w.queries[:50], K, recall=RECALL, where=together if w.shared else each[:50]).plans
        nbytes = (
            int(np.sum([f.nbytes for f in filters])) if way != "anew" else int(sum(f.words.nbytes for f in filters))
        )
        row = {"workload": w.name, "selectivity": w.selectivity, "way": way, "recall": round(found.mean, 4)}
        row |= {"short": found.short, "foreign": found.foreign, "plans": plans, "nbytes": nbytes}
        row |= {"us_batch": round(1e6 * float(np.median(batch)) / len(w.queries), 2)}
        rows.append(row | {"us_alone": round(1e6 * float(np.median(alone)) / len(w.queries), 2)})
    return rows


def _one_by_one(ask: Ask, queries: Floats, filters: Sequence[Any]) -> None:
    for i, where in enumerate(filters):
        ask(queries[i : i + 1], where)


def _seconds(call: Callable[[], Any]) -> float:
    begun = time.thread_time()
    call()
    return time.thread_time() - begun


def table(rows: Sequence[dict[str, Any]]) -> str:
    lines = ["| workload | index | filter | recall | bytes | alone, µs | in a batch, µs | plans |", "|" + " --- |" * 8]
    for row in rows:
        plans = ", ".join(f"{way} {count}" for way, count in row["plans"].items())
        lines.append(
            f"| {row['workload']} | {row['index']} | {row['way']} | {row['recall']:.3f} | {row['nbytes']:,}"
            f" | {row['us_alone']:.1f} | {row['us_batch']:.1f} | {plans} |"
        )
    return "\n".join(lines)
