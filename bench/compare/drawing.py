"""Recall against speed, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.compare.recall import frontier
from bench.compare.rounds import Result
from bench.datasets import Dataset


def draw(path: Path, data: Dataset, results: Sequence[Result], k: int) -> None:
    """Draws a panel for each mode and number of threads; raises ModuleNotFoundError without matplotlib."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    panels = sorted({(m.mode, result.threads) for result in results for m in result.measured})
    if not panels:
        return
    figure, axes = pyplot.subplots(1, len(panels), figsize=(7.5 * len(panels), 6), squeeze=False)
    names = list(dict.fromkeys(result.entry.name for result in results))
    for axis, (mode, threads) in zip(axes[0], panels, strict=True):
        for result in results:
            curve = frontier(result.curves().get(mode, []) if result.threads == threads else [])
            if curve:
                number = names.index(result.entry.name)
                style = {"color": f"C{number % 10}", "marker": "osD^v"[number // 10 % 5], "markersize": 4}
                ours = 2.5 if result.entry.peer == "tessella" else 1.2
                x, y = zip(*curve, strict=True)
                axis.plot(x, y, label=result.entry.name, linewidth=ours, **style)
        axis.set(yscale="log", xlabel=f"recall@{k}", ylabel="queries per second")
        axis.set_title(f"{data.name}, {mode}, {threads} thread{'s' * (threads > 1)}")
        axis.grid(alpha=0.3, which="both")
        axis.legend(fontsize=7)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
