"""Product quantization beside faiss: `python -m bench.pq`, by a Python that has faiss.

The same bytes, the same rows, one thread, no refinement: recall@10, the shares of the true ten and of the true hundred
among the first 1,000, rows encoded a second, and nanoseconds a row of a whole top-10 search, alone and 64 queries at a
time. Both libraries take turns within each round, and medians are compared; training has the same number of iterations.
faiss has no anisotropic codes: beside `APQ48` it has plain ones of the same bytes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from bench import machine, record
from bench.datasets import Dataset, load

CODES = ("PQ32", "PQ48", "PQ96", "PQ192", "PQ64x4", "PQ96x4", "PQ192x4", "PQ384x4", "OPQ32", "OPQ48", "OPQ96", "OPQ192",
         "OPQ96x4",
         "APQ32", "APQ48", "APQ96", "APQ96x4", "PRQ24x2x8", "PRQ48x2x4")  # fmt: skip
FIRST, ITERATIONS, BATCH, SINGLES = 1000, 25, 64, 16
COUNTED = {"recall_at_10": (10, 10), f"recall_10_in_{FIRST}": (10, FIRST), f"recall_100_in_{FIRST}": (100, FIRST)}
Ids = npt.NDArray[np.int64]
Search = Callable[[npt.NDArray[np.float32], int], Ids]


@dataclass(frozen=True)
class Side:
    """One library with trained codes: what is timed."""

    train_s: float
    encode: Callable[[npt.NDArray[np.float32]], object]
    search: Search


def ours(name: str, x: npt.NDArray[np.float32]) -> Side:
    import tessella as ts

    code = Code.parse(name)
    quantizer = ts.ProductQuantizer(
        x.shape[1], code.m, code.bits, opq=code.kind == "O", residual_levels=code.levels,
        anisotropic=0.2 if code.kind == "A" else None,
    )  # fmt: skip
    start = time.perf_counter()
    quantizer.train(x, iterations=ITERATIONS)
    taken = time.perf_counter() - start
    index = ts.Index(f"Flat,{name}", dim=x.shape[1], metric="ip")
    index.add(x)  # learns the same codebooks once more
    return Side(taken, quantizer.encode, lambda q, k: np.asarray(index.search(q, k).ids))


def theirs(name: str, x: npt.NDArray[np.float32]) -> Side:
    import faiss

    code, d = Code.parse(name), x.shape[1]
    index = faiss.IndexPQ(d, code.m, 8, faiss.METRIC_INNER_PRODUCT)
    if code.bits == 4:
        index = faiss.IndexPQFastScan(d, code.m, 4, faiss.METRIC_INNER_PRODUCT)
    if code.levels > 1:
        return _residual(code, x)
    index.pq.cp.niter = ITERATIONS
    codes = index
    if code.kind == "O":
        rotation = faiss.OPQMatrix(d, code.m)
        rotation.niter = ITERATIONS
        rotation.pq = faiss.ProductQuantizer(d, code.m, code.bits)
        index = faiss.IndexPreTransform(rotation, index)
    start = time.perf_counter()
    index.train(x)
    taken = time.perf_counter() - start
    index.add(x)

    def encode(rows: npt.NDArray[np.float32]) -> object:
        return codes.pq.compute_codes(rotation.apply(rows) if code.kind == "O" else rows)

    return Side(taken, encode, lambda q, k: np.asarray(index.search(q, k)[1]))


def _residual(code: Code, x: npt.NDArray[np.float32]) -> Side:
    """Residual levels of faiss, as it has them by default: codes are looked for by a beam."""
    import faiss

    shape = (x.shape[1], code.m, code.levels, code.bits, faiss.METRIC_INNER_PRODUCT)
    if code.bits == 8:
        index = faiss.IndexProductResidualQuantizer(*shape)
    else:
        unscaled = faiss.AdditiveQuantizer.ST_LUT_nonorm
        index = faiss.IndexProductResidualQuantizerFastScan(*shape, unscaled)
    start = time.perf_counter()
    index.train(x)
    taken = time.perf_counter() - start
    index.add(x)
    quantizer = index.prq if code.bits == 8 else index.aq
    return Side(taken, quantizer.compute_codes, lambda q, k: np.asarray(index.search(q, k)[1]))


@dataclass(frozen=True)
class Code:
    """A codec's name taken apart: `PQ48`, `OPQ96x4`, `APQ48`, `PRQ24x2x8` (2 levels)."""

    kind: str  # "", "O" or "A"
    m: int
    levels: int
    bits: int

    @classmethod
    def parse(cls, name: str) -> Code:
        kind, _, numbers = name.partition("PRQ" if "PRQ" in name else "PQ")
        m, *more = map(int, numbers.split("x"))
        levels = more.pop(0) if "PRQ" in name else 1
        return cls(kind, m, levels, more[0] if more else 8)


def recalls(search: Search, queries: npt.NDArray[np.float32], truth: Ids) -> dict[str, float]:
    """Of the true ten or hundred, the share among so many first ones."""
    found = search(queries, FIRST)
    return {
        name: float(np.mean([np.isin(true[:k], mine[:first]).mean() for mine, true in zip(found, truth, strict=True)]))
        for name, (k, first) in COUNTED.items()
    }


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def compared(name: str, data: Dataset, truth: Ids, rounds: int) -> list[dict[str, Any]]:
    """A row of results for each library, ours first."""
    x, queries = data.base, data.queries
    sides = [ours(name, x), theirs(name, x)]
    some = x[:16_384]
    work: dict[str, tuple[Callable[[Side], object], float]] = {
        "encode_us": (lambda side: side.encode(some), len(some) / 1e6),
        "single_ns": (lambda side: [side.search(queries[i : i + 1], 10) for i in range(SINGLES)], SINGLES / 1e9),
        "batch_ns": (lambda side: side.search(queries[:BATCH], 10), BATCH / 1e9),
    }
    rows: list[dict[str, Any]] = []
    for side in sides:
        rows.append({"train_s": round(side.train_s, 2), **recalls(side.search, queries, truth)})
    for key, (call, units) in work.items():
        seconds: list[list[float]] = [[], []]
        for _ in range(rounds):
            for i, side in enumerate(sides):
                seconds[i].append(timed(partial(call, side)))
        for row, each in zip(rows, seconds, strict=True):
            per = units if key == "encode_us" else units * len(x)
            row[key] = round(statistics.median(each) / per, 3)
            row[f"{key}_low"], row[f"{key}_high"] = round(min(each) / per, 3), round(max(each) / per, 3)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.pq", description="Product quantization beside faiss.")
    parser.add_argument("codes", nargs="*", default=CODES, help=f"like {', '.join(CODES)}")
    parser.add_argument("--data", help="folder of the real sets")
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--isa", help="level to pin (default: the best)")
    parser.add_argument("--save", action="store_true", help="append the results to bench/history")
    chosen = parser.parse_args()
    machine.pin_cores(1)
    import faiss

    import tessella as ts
    from tessella.testing import available_isas, pinned_isa

    faiss.omp_set_num_threads(1)
    ts.set_num_threads(1)
    level = chosen.isa or available_isas()[0]
    data = load("debian", data=chosen.data, count=chosen.queries)
    truth = np.argsort(-(data.queries @ data.base.T), axis=1, kind="stable")[:, :100]
    common = {
        **machine.stamp(),
        "level": level,
        "threads": 1,
        "dataset": data.name,
        "n": len(data.base),
        "d": data.base.shape[1],
        "queries": len(data.queries),
        "seed": 0,
    }
    print(f"{machine.cpu_model()}, level {level}; {data.name}, {len(data.base):,} rows, one thread; ours / faiss")
    shares = f"{'recall@10':>16}{f'10 in {FIRST}':>16}{f'100 in {FIRST}':>16}"
    print(f"{'code':10}{shares}{'encode us':>18}{'alone ns':>20}{'batch ns':>20}")
    with pinned_isa(level):
        for name in chosen.codes:
            mine, other = compared(name, data, truth, chosen.rounds)
            print(line(name, mine, other), flush=True)
            if chosen.save:
                told = common | {"load_average": machine.load_average(), "code": name}
                both = (("tessella", mine), (f"faiss {faiss.__version__}", other))
                record.append("pq", [told | {"peer": peer} | row for peer, row in both])


def line(name: str, mine: dict[str, Any], other: dict[str, Any]) -> str:
    """Ours, faiss's, and how many times faster ours is."""
    text = f"{name:10}"
    for key in COUNTED:
        text += f"{mine[key]:8.4f}/{other[key]:.4f}".rjust(16)
    for key, width in (("encode_us", 18), ("single_ns", 20), ("batch_ns", 20)):
        text += f"{mine[key]:.2f}/{other[key]:.2f} x{other[key] / mine[key]:.2f}".rjust(width)
    return text + f"   train {mine['train_s']:.0f}/{other['train_s']:.0f} s"


if __name__ == "__main__":
    main()
