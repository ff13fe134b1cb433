"""Tables of a run, and rows for `bench/history`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench import machine, record

Times = Mapping[str, Mapping[str, float | None]]

# What a filtered search should be faster than, by how much: share of the rows up to which a line holds, then the factor
# against the best of all, FAISS's HNSW, hnswlib and usearch, and Qdrant's rules. None: nothing is asked.
MUSTS: list[tuple[float, tuple[float, float | None, float | None, float]]] = [
    (0.0003, (1.0, None, 300, 1.0)),
    (0.003, (1.5, None, 100, 2.0)),
    (0.03, (3.0, 30, 20, 4.0)),
    (0.07, (2.0, 8, 6, 4.0)),
    (0.15, (2.0, 6, 4, 4.0)),
    (0.3, (2.0, 4, 3, 3.0)),
    (0.8, (2.0, 3, 2.5, 2.5)),
    (1.0, (1.5, 2, 2, 2.0)),
]
COLUMNS = ("best", "faiss HNSW", "hnswlib, usearch", "qdrant rules")


def must_for(share: float) -> tuple[float, float | None, float | None, float]:
    return next(factors for most, factors in MUSTS if share <= most)


def ratios(ours: float, times: Mapping[str, float | None]) -> tuple[str, list[float | None]]:
    """The best peer, and its time, that of FAISS's graph, the better of two libraries, and Qdrant's rules over ours."""
    there = {name: value for name, value in times.items() if value is not None}

    def least(*begins: str) -> float | None:
        some = [value for name, value in there.items() if name.startswith(begins)]
        return min(some) / ours if some else None

    best = min(there, key=lambda name: there[name]) if there else "none"
    return best, [least(""), least("faiss HNSW"), least("hnswlib", "usearch"), least("qdrant")]


def percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def shares(selectivity: Sequence[float]) -> str:
    low, middle, high = selectivity
    return percent(middle) if low == high else f"{percent(low)} / {percent(middle)} / {percent(high)}"


def found_table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| workload | filter | rows, p5 / median / p95 | near | index | recall | p5 | µs |", "|" + " --- |" * 8]
    for row in rows:
        flaws = f" ({row['short']} short, {row['foreign']} foreign)" if row["short"] or row["foreign"] else ""
        lines.append(
            f"| {row['workload']} | {row['says']} | {shares(row['selectivity'])} | {row['near']:.2g} | {row['index']}"
            f" | {row['recall']:.3f}{flaws} | {row['p5']:.2f} | {row['us']:.1f} |"
        )
    return "\n".join(lines)


def speed_table(ours: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Each workload's times over ours, and what falls short of `MUSTS`."""
    lines = [f"| workload | rows | `{ours}`, µs | best peer | " + " | ".join(COLUMNS) + " |", "|" + " --- |" * 8]
    for row in rows:
        cells = []
        for ratio, must in zip(row["ratios"], row["musts"], strict=True):
            text = "–" if ratio is None else f"{ratio:.3g}×"
            cells.append(f"**{text}** (of {must:g})" if ratio is not None and must and ratio < must else text)
        lines.append(
            f"| {row['workload']} | {percent(row['selectivity'][1])} | {row['us']:.1f} | {row['best']} | "
            + " | ".join(cells)
            + " |"
        )
    return "\n".join(lines)


def save(kind: str, common: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Appends rows to today's history."""
    stamp = {
        **machine.stamp(),
        "level": machine.cpu_level(),
        "threads": 1,
        "kind": kind,
        "load_average": machine.load_average(),
    }
    record.append("filtered", [stamp | dict(common) | dict(row) for row in rows])
