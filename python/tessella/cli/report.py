"""What the command line shows: tables on the screen and one drawing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from tessella import Index, get_num_threads
from tessella.cli.extras import require

WIDE = 120  # columns, where output goes to a file or a pipe
RECALLS = (0.8, 0.9, 0.95, 0.98, 0.99)  # whose price `info` tells


def console() -> Console:
    made = Console(highlight=False)
    return made if made.is_terminal else Console(highlight=False, width=WIDE)


def progress(done: str = "{task.completed}/{task.total}") -> Progress:
    """A bar on stderr, where a person looks on; nothing where output goes to a file."""
    errors = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn(done),
        TimeRemainingColumn(),
        console=errors,
        disable=not errors.is_terminal,
    )


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A plain table; a column whose name starts with > is aligned right, a last one without may wrap."""
    made = Table(title=title or None, title_justify="left", show_header=any(columns), box=None, pad_edge=False)
    made.padding = (0, 2, 0, 0)
    for name in columns:
        right = name.startswith(">")
        made.add_column(name.lstrip(">"), justify="right" if right else "left", no_wrap=right or name != columns[-1])
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))  # Text: brackets in a description are no markup
    return made


def efforts(index: Index) -> list[tuple[str, str]]:
    """What a search of this index looks into, and what recall takes as far as that was measured."""
    facts = []
    sizes = index.list_sizes
    if index.config.structure == "IVF":
        spread = f"{len(sizes):,} of {sizes.min():,} to {sizes.max():,} rows" if len(sizes) else "none: not trained"
        facts = [("lists", spread)]
    if index.knob:
        facts.append((index.knob, f"{index.effort:,}"))
    curve = index.calibration
    if curve is None:
        return facts
    best = f"best {max(curve.recalls):.4f}"
    if index.knob:
        prices = [f"{each} at {index.knob} {curve.effort_for(each)}" for each in RECALLS if curve.reaches(each)]
        best = ", ".join([*prices, best])
    own = ", against the index's own best" if curve.truth == "own best" else ""
    return [*facts, ("calibration", f"recall@{curve.k} of {curve.queries:,} queries: {best}{own}")]


def threads() -> str:
    count = get_num_threads()
    return f"{count} thread{'' if count == 1 else 's'}"


def file_size(nbytes: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if nbytes < 1000:
            return f"{nbytes:,.1f} {unit}" if unit != "bytes" else f"{nbytes:,.0f} {unit}"
        nbytes /= 1000
    return f"{nbytes:,.1f} GB"


def draw_recall(path: Path, points: Sequence[tuple[str, float, float]], title: str) -> None:
    """Draws (name, bytes per vector, recall) as recall against bytes."""
    require("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no display is needed
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.scatter([size for _, size, _ in points], [recall for *_, recall in points], color="#2a6f97")
    for name, size, recall in points:
        axes.annotate(name, (size, recall), xytext=(5, -11), textcoords="offset points", fontsize=8)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set(xlabel="bytes per vector", ylabel="recall@10", title=title)
    axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
