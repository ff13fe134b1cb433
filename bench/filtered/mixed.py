"""W15: queries that each bring a filter of their own as text, in one call, beside a loop over FAISS.

A fifth of the filters are different; the others come again, as Zipf has it. Ours compiles all of them in the call, the
loop evaluates each different one once, with polars, and hands its bits to FAISS. Both begin with nothing compiled.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

import tessella as ts
from bench.filtered.ours import RECALL
from bench.filtered.truth import K
from bench.filtered.workloads import SEED, Debian, Ids, Workload

QUERIES, DIFFERENT = 1000, 200


def mixed(debian: Debian, workloads: Sequence[Workload]) -> tuple[Workload, list[str]]:
    """Queries with a filter each, and its text."""
    rng = np.random.default_rng(SEED)
    with_texts = [each for each in workloads if each.texts and not each.free]
    pool: list[str] = []
    while len(pool) < DIFFERENT:
        some = with_texts[rng.integers(len(with_texts))]
        text = some.texts[rng.integers(len(some.texts))]
        pool += [text] if text not in pool else []
    weight = 1 / np.arange(1, DIFFERENT + 1)
    which = rng.choice(DIFFERENT, QUERIES, p=weight / weight.sum())
    which[:DIFFERENT] = np.arange(DIFFERENT)
    rng.shuffle(which)
    texts = [pool[i] for i in which]
    numbers = rng.integers(len(debian.queries), size=QUERIES)
    words = np.stack([debian.index.filter(text).bitmap().words for text in pool])
    queries = np.ascontiguousarray(debian.queries[numbers])
    return Workload("W15", "each query its own", queries, words, which, len(debian.x), tuple(pool)), texts


def ours(index: ts.Index, workload: Workload, texts: list[str]) -> tuple[float, Ids]:
    """Seconds of one call, and what it found; `index` is fresh, so nothing is compiled."""
    begun = time.perf_counter()
    ids = index.search(workload.queries, K, where=texts, recall=RECALL, threads=1).ids
    return time.perf_counter() - begun, ids


def by_loop(
    search: Any, frame: pl.DataFrame, workload: Workload, texts: list[str], effort: Any
) -> tuple[float, float, Ids]:
    """Seconds, those of them that predicates took, and what was found, query by query."""
    import faiss

    ids = np.empty((len(texts), K), np.int64)
    known: dict[str, Any] = {}
    spent = 0.0
    begun = time.perf_counter()
    for i, text in enumerate(texts):
        if text not in known:
            at = time.perf_counter()
            mask = frame.select(pl.sql_expr(text.replace("array_has", "array_contains"))).to_series().fill_null(False)
            bits = mask.to_numpy()
            rows = np.flatnonzero(bits) if bits.mean() < 0.01 else None  # what FAISS is quickest with
            data = np.packbits(bits, bitorder="little") if rows is None else rows
            known[text] = (faiss.IDSelectorBitmap if rows is None else faiss.IDSelectorArray)(data), data
            spent += time.perf_counter() - at
        ids[i] = search(workload.queries[i : i + 1], known[text][0], effort)
    return time.perf_counter() - begun, spent, ids
