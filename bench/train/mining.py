"""Mining many negatives in constant memory: `python -m bench.train.mining --n 1000000 --queries 1000000`.

Documents and queries are made block by block and pass as iterators; what stays is the index and the result. Beside the
time of mining stands that of the same searches alone, batch by batch, and how far the process grew while it mined.
"""

from __future__ import annotations

import argparse
import datetime
import json
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import tessella as ts
from bench import machine
from tessella.train import PercPos, mine_hard_negatives

HISTORY = Path(__file__).resolve().parents[1] / "history"
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
    """The most memory that the process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=20_000)
    parser.add_argument("--d", type=int, default=128)
    parser.add_argument("--spec", default="IVF,B1+U8")
    settings = parser.parse_args()
    ts.set_num_threads(1)
    index = ts.Index(settings.spec, dim=settings.d, metric="cosine")
    index.train(
        np.concatenate([block for _, block in zip(range(8), blocks(settings.n, settings.d, 0.0), strict=False)])
    )
    for block in blocks(settings.n, settings.d, 0.0):
        index.add(block)
    own = np.arange(settings.queries)
    began = time.perf_counter()
    for block in blocks(settings.queries, settings.d, 0.3):
        index.search(block, DEPTH + 1)
    search_s = time.perf_counter() - began
    before = peak_mb()
    began = time.perf_counter()
    found = mine_hard_negatives(
        blocks(settings.queries, settings.d, 0.3), own, index=index, keep=PercPos(0.95), take=TAKE, depth=DEPTH
    )
    mine_s = time.perf_counter() - began
    now = datetime.datetime.now(datetime.timezone.utc)
    row = {
        "time": now.isoformat(timespec="seconds"), "commit": machine.commit(), "cpu": machine.cpu_model(),
        "level": machine.cpu_level(), "threads": 1, "load_average": machine.load_average(), "n": settings.n,
        "queries": settings.queries, "d": settings.d, "spec": settings.spec, "search_s": round(search_s, 2),
        "mine_s": round(mine_s, 2), "grew_mb": round(peak_mb() - before, 1),
        "result_mb": round((found.rows.nbytes + found.scores.nbytes) / 2**20, 1),
        "full": round(float(found.full.mean()), 4),
    }  # fmt: skip
    print(json.dumps(row, indent=1))
    with (HISTORY / f"{now.date()}-mining.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
