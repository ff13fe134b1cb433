"""Mining many negatives in constant memory: `python -m bench.train.mining --n 25000 50000 100000`, `--n 1000000`.

n documents and as many queries, each size in a process of its own. Both are made block by block and pass as iterators;
what stays is the index and the result. How far the process grew while it mined, less its result, should not depend on
n. Beside the time of mining a query stands that of the same search alone, over the first tenth of the queries.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import tessella as ts
from bench import machine, record
from tessella.train import PercPos, mine_hard_negatives

BLOCK, TOPICS, TAKE, DEPTH = 4096, 5000, 7, 70


def blocks(n: int, d: int, noise: float) -> Iterator[Any]:
    """Unit vectors about their topics; a query and its document, of the same number, share all but the noise."""
    centres = np.random.default_rng(0).standard_normal((TOPICS, d), dtype=np.float32)
    for start in range(0, n, BLOCK):
        draw = np.random.default_rng([1, start])
        count = min(BLOCK, n - start)
        rows = centres[draw.integers(0, TOPICS, count)] + 0.7 * draw.standard_normal((count, d), dtype=np.float32)
        rows += noise * np.random.default_rng([2, start]).standard_normal((count, d), dtype=np.float32)
        yield rows / np.linalg.norm(rows, axis=1, keepdims=True)


def peak_mb() -> float:
    """The most memory that this process has had, of its own: ru_maxrss would begin with its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def mined(n: int, settings: argparse.Namespace) -> dict[str, Any]:
    """What n documents and n queries take."""
    ts.set_num_threads(1)
    started = time.perf_counter()
    index = ts.Index(settings.spec, dim=settings.d, metric="cosine")
    index.train(np.concatenate([block for _, block in zip(range(8), blocks(n, settings.d, 0.0), strict=False)]))
    for block in blocks(n, settings.d, 0.0):
        index.add(block)
    index_s = time.perf_counter() - started
    searched, began = 0, time.perf_counter()
    for block in blocks(max(BLOCK, n // 10), settings.d, 0.3):
        index.search(block, DEPTH + 1)
        searched += len(block)
    search_s = time.perf_counter() - began
    before, began = peak_mb(), time.perf_counter()
    found = mine_hard_negatives(
        blocks(n, settings.d, 0.3), np.arange(n), index=index, keep=PercPos(0.95), take=TAKE, depth=DEPTH
    )
    mine_s = time.perf_counter() - began
    result_mb = (found.rows.nbytes + found.scores.nbytes) / 2**20
    return {
        "n": n, "queries": n, "d": settings.d, "spec": settings.spec, "index_s": round(index_s, 1),
        "search_us": round(1e6 * search_s / searched, 1), "mine_us": round(1e6 * mine_s / n, 1),
        "mine_s": round(mine_s, 1), "peak_mb": round(peak_mb()), "result_mb": round(result_mb, 1),
        "grew_mb": round(peak_mb() - before, 1), "full": round(float(found.full.mean()), 4),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, nargs="+", default=[25_000, 50_000, 100_000])
    parser.add_argument("--d", type=int, default=64)
    parser.add_argument("--spec", default="IVF,B1+U8")
    parser.add_argument("--save", action="store_true", help="append the results to bench/history")
    settings = parser.parse_args()
    for n in settings.n:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            row = pool.apply(mined, (n, settings))
        facts = {
            **machine.stamp(),
            "level": machine.cpu_level(), "threads": 1, "load_average": machine.load_average(),
        }  # fmt: skip
        print(json.dumps(row), flush=True)
        if settings.save:
            record.append("mining", [facts | row])


if __name__ == "__main__":
    main()
