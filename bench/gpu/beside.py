"""One kernel beside what a torch user would write for the same result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from bench.gpu.timing import Stopwatch, Timing


@dataclass(frozen=True)
class Comparison:
    ours: Callable[[], object]
    torchs: Callable[[], object]
    moved_bytes: int  # that ours reads and writes at least
    operations: float  # that ours needs: multiply-adds, bits counted, look-ups
    items: int  # rows, or rows times queries
    recall: float | None = None  # of torch's results, where ours are not the same


Comparisons = Iterator[tuple[str, Callable[[], Comparison]]]  # names, and what makes the data when its turn has come


def measure(torch: Any, name: str, comparison: Comparison) -> dict[str, Any]:
    watch = Stopwatch(torch, limit_s=1.0)
    ours, torchs = watch.time(comparison.ours), watch.time(comparison.torchs)
    again = watch.time(comparison.ours)  # the same work once more: how much of a difference is noise
    return {
        "name": name,
        **({} if comparison.recall is None else {"recall": comparison.recall}),
        "ours": asdict(ours),
        "ours_again_median_ms": again.median_ms,
        "torch": asdict(torchs),
        "times_torch": torchs.median_ms / ours.median_ms,
        "items_s": 1e3 * comparison.items / ours.median_ms,
        "gb_s": comparison.moved_bytes / ours.median_ms / 1e6,
        "giga_operations_s": comparison.operations / ours.median_ms / 1e6,
    }


def line(family: str, row: dict[str, Any]) -> str:
    ours, torchs = Timing(**row["ours"]), Timing(**row["torch"])
    return (
        f"{family:7} {row['name']:42} {ours.median_ms:9.3f} ms ({ours.p10_ms:.3f}–{ours.p90_ms:.3f})"
        f"  torch {torchs.median_ms:9.3f} ms  ×{row['times_torch']:<6.2f} {row['items_s']:>16,.0f} a second"
        f"  {row['gb_s']:7,.0f} GB/s  {row['giga_operations_s']:10,.0f} Gop/s"
        + (f"  recall {row['recall']:.3f}" if "recall" in row else "")
    )
