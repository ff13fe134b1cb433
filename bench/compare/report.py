"""The tables of a run: every setting, and every index at the recall floors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.compare.recall import FLOORS, Point, qps_at
from bench.compare.rounds import Measured, Result
from bench.datasets import Dataset
from bench.roofs import Roofs

_SETTING = ["threads", "mode", "index", "setting"]
_INDEX = ["threads", "mode", "index", "version"]


def settings_table(data: Dataset, results: Sequence[Result], roofs: dict[int, Roofs]) -> str:
    """One line for each measured setting; exact indexes also show how far the roof is."""
    head = [*_SETTING, "recall", ">queries/s", ">low to high", ">p50 / p99 µs", ">rows seen", ">rate"]
    lines = [
        [
            str(result.threads),
            m.mode,
            result.entry.name,
            _knobs(m.knobs),
            f"{m.recall:.4f}",
            f"{m.qps:,.0f}",
            _spread(m),
            _latency(m),
            _seen(data, m),
            _rate(data, result, m, roofs.get(result.threads)),
        ]
        for mode in ("batch", "single")
        for result in results
        for m in result.measured
        if m.mode == mode
    ]
    return table(head, lines)


def summary_table(data: Dataset, results: Sequence[Result]) -> str:
    """One line for each index and mode; a missing peer has its line too, with the reason."""
    floors = [f">q/s at {floor}" for floor in FLOORS]
    head = [*_INDEX, *floors, ">best recall", ">build s", ">CPU s", ">bytes/vector", ""]
    lines = []
    for result in results:
        if result.built is None or result.failure:
            lines.append([str(result.threads), "–", result.entry.name, *[""] * 7, str(result.failure)])
            continue
        built = result.built
        for mode, curve in result.curves().items():
            size = f"{built.nbytes / len(data.base):,.0f}" if built.nbytes else "–"
            lines.append(
                [
                    str(result.threads),
                    mode,
                    result.entry.name,
                    built.version,
                    *[_at(curve, floor) for floor in FLOORS],
                    f"{max(point.recall for point in curve):.4f}",
                    f"{built.build_s:.1f}",
                    f"{built.build_cpu_s:.1f}",
                    size,
                    built.note,
                ]
            )
    return table(head, lines)


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Columns wide enough for their text; those headed `>` are aligned right."""
    rows = [[title.removeprefix(">") for title in head], *lines]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    adjust = [str.rjust if title.startswith(">") else str.ljust for title in head]
    text = ["  ".join(a(c, w) for a, c, w in zip(adjust, row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([text[0], "-" * len(text[0]), *text[1:]])


def _at(points: Sequence[Point], floor: float) -> str:
    found = qps_at(points, floor)
    return "not reached" if found is None else f"{'≥ ' * found.bound}{found.qps:,.0f}"


def _knobs(knobs: dict[str, float]) -> str:
    return " ".join(f"{name}={value:g}" for name, value in knobs.items()) or "–"


def _spread(m: Measured) -> str:
    rates = [timed.qps for timed in m.rounds]
    return f"{min(rates):,.0f} to {max(rates):,.0f}"


def _latency(m: Measured) -> str:
    return "" if m.mode == "batch" else f"{m.median('p50_us'):,.0f} / {m.median('p99_us'):,.0f}"


def _seen(data: Dataset, m: Measured) -> str:
    """Rows that a query looked at, where the index counts them."""
    if "rows" not in m.counts:
        return ""
    return f"{m.counts['rows']:,.0f} ({m.counts['rows'] / len(data.base):.2%})"


def _rate(data: Dataset, result: Result, m: Measured, roof: Roofs | None) -> str:
    """Arithmetic of a batch, bytes of a single query: only where every row is scored in float32."""
    if result.built is None or not result.built.exact:
        return ""
    n, d = data.shape
    if m.mode == "batch":
        rate, unit, peak = 2 * n * d * m.qps / 1e9, "GFLOP/s", roof.product_gflops if roof else 0
    else:
        rate, unit, peak = 4 * n * d * m.qps / 1e9, "GB/s", roof.read_gb_per_s if roof else 0
    return f"{rate:,.0f} {unit}" + (f" ({rate / peak:.0%})" if peak else "")
