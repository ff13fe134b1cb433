"""A row of JSON for each result, in `bench/history`."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench import machine, record
from bench.compare.recall import FLOORS, Point, qps_at
from bench.compare.rounds import Measured, Plan, Result
from bench.datasets import Dataset
from bench.roofs import Roofs


def write(
    folder: Path, name: str, data: Dataset, results: Sequence[Result], plan: Plan, roofs: dict[int, Roofs]
) -> Path:
    """Appends a row for each index, number of threads and mode to `<date>-<name>.jsonl`."""
    common = {
        **machine.stamp(),
        "level": machine.cpu_level(),
        "load_average": machine.load_average(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "dataset": data.name,
        "metric": data.metric,
        "n": len(data.base),
        "d": data.base.shape[1],
        "k": plan.k,
        "seed": data.seed,
        "huge_pages": plan.huge_pages,
    }
    rows = (
        common | _peaks(roofs.get(result.threads)) | row
        for result in results
        for row in _rows(result, plan, len(data.base))
    )
    return record.append(name, rows, folder)


def _rows(result: Result, plan: Plan, n: int) -> Iterable[dict[str, Any]]:
    index = {"peer": result.entry.peer, "spec": result.entry.spec, "threads": result.threads}
    if result.built is None or result.failure:
        yield index | {"failure": result.failure}
        return
    built = result.built
    index |= {
        "version": built.version,
        "build_s": round(built.build_s, 3),
        "build_cpu_s": round(built.build_cpu_s, 3),
        "bytes_per_vector": round(built.nbytes / n, 2) if built.nbytes else None,
        "peak_mb": round(built.peak_mb, 1),
    }
    for mode, points in result.curves().items():
        at = {f"qps_at_{floor}": _found(points, floor) for floor in FLOORS}
        curve = [_point(m) for m in result.measured if m.mode == mode]
        yield index | {"mode": mode, "queries": plan.count(mode), "rounds": plan.rounds, **at, "curve": curve}


def _peaks(roof: Roofs | None) -> dict[str, float]:
    if roof is None:
        return {}
    return {
        "product_peak_gflops": round(roof.product_gflops, 1),
        "read_gb_per_s": round(roof.read_gb_per_s, 1),
    }


def _point(m: Measured) -> dict[str, Any]:
    rates = [timed.qps for timed in m.rounds]
    point: dict[str, Any] = {"knobs": m.knobs, "recall": round(m.recall, 5), "qps": round(m.qps, 1)}
    point |= {"low": round(min(rates), 1), "high": round(max(rates), 1)}
    if m.rounds[0].p50_us is not None:
        point |= {"p50_us": round(m.median("p50_us"), 1), "p99_us": round(m.median("p99_us"), 1)}
    return point | ({"counts": m.counts} if m.counts else {})


def _found(points: Sequence[Point], floor: float) -> dict[str, Any] | None:
    found = qps_at(points, floor)
    return None if found is None else {"qps": round(found.qps, 1), "bound": found.bound}
