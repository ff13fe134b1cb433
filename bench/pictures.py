"""`python -m bench.pictures` draws `bench/history`: recall and speed of every library, one SVG for each data set.

The newest row of each index, mode and number of threads counts, and only rows of the machine that measured last:
those of different machines are never compared. A line is what a library reaches with the best of its indexes and
settings, one for each structure of ours.
"""

from __future__ import annotations

import argparse
import io
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from bench.compare.peers import PACKAGES
from bench.compare.recall import Point, frontier
from bench.machine import ROOT
from bench.record import HISTORY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row: TypeAlias = dict[str, Any]
Panel: TypeAlias = tuple[str, int]  # mode and threads
PICTURES = ROOT / "docs" / "pictures"

_LEAST_RECALL = 0.7  # that is shown
_SAME = ("cpu", "level", "n", "d", "metric", "k", "seed")  # what the rows of one picture share
_OURS = {"Graph": ("#a50f15", "o"), "IVF": ("#ef3b2c", "s"), "Flat": ("#fc9272", "D")}
_THEIRS = dict(
    zip(
        [peer for peer in PACKAGES if peer != "tessella"],
        [
            ("#000000", "x"),
            ("#1f77b4", "^"),
            ("#7f7f7f", "v"),
            ("#8c6d31", "<"),
            ("#2ca02c", "D"),
            ("#9467bd", "s"),
            ("#17becf", "P"),
            ("#393b79", ">"),
        ],
        strict=True,
    )
)


class Line(NamedTuple):
    """The frontier of a library, or of a structure of ours; `specs` are the indexes that have a point on it."""

    name: str
    specs: tuple[str, ...]
    points: list[Point]


def read(folder: Path) -> dict[str, list[Row]]:
    """The rows of comparisons by data set, oldest first; of each index, mode and number of threads the newest."""
    found: dict[str, dict[tuple[object, ...], Row]] = {}
    lines = [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]
    rows = [row for row in map(json.loads, lines) if "curve" in row]
    for row in sorted(rows, key=lambda row: str(row["time"])):
        index = (row["peer"], row["spec"], row["mode"], row["threads"], *(row[key] for key in _SAME))
        newest = found.setdefault(row["dataset"], {})
        newest.pop(index, None)
        newest[index] = row
    return {dataset: _of_one_machine([*newest.values()]) for dataset, newest in sorted(found.items())}


def _of_one_machine(rows: Sequence[Row]) -> list[Row]:
    """Rows of the machine, and of the very data, that the last row is of."""
    return [row for row in rows if all(row[key] == rows[-1][key] for key in _SAME)]


def panels(rows: Iterable[Row]) -> dict[Panel, list[Line]]:
    """The lines of each mode and number of threads, ours first."""
    grouped: dict[Panel, dict[str, list[Row]]] = {}
    for row in rows:
        grouped.setdefault((row["mode"], row["threads"]), {}).setdefault(_name(row), []).append(row)
    order = [*(f"tessella {structure}" for structure in _OURS), *_THEIRS]
    return {
        panel: [_line(name, lines[name]) for name in sorted(lines, key=order.index)]
        for panel, lines in sorted(grouped.items())
    }


def _name(row: Row) -> str:
    structure = re.match("[A-Za-z]*", row["spec"])
    return f"tessella {structure[0]}" if row["peer"] == "tessella" and structure else str(row["peer"])


def _line(name: str, rows: Sequence[Row]) -> Line:
    points = [(Point(at["recall"], at["qps"]), row["spec"]) for row in rows for at in row["curve"]]
    best = frontier(point for point, _ in points)
    return Line(name, tuple(sorted({spec for point, spec in points if point in best})), best)


# ---- drawing


def draw(path: Path, rows: Sequence[Row]) -> None:
    """Draws a panel for each mode and number of threads; the same rows make the same bytes."""
    import matplotlib
    from matplotlib.figure import Figure

    drawn = panels(rows)
    modes, threads = (sorted({panel[part] for panel in drawn}) for part in (0, 1))
    with matplotlib.rc_context({"svg.hashsalt": "tessella", "svg.fonttype": "none", "font.size": 10}):
        down, across = (len(modes), len(threads)) if len(threads) > 1 else (1, len(modes))
        figure = Figure(figsize=(5.2 * across, 4.0 * down + 1.5), layout="constrained")
        grid = figure.subplots(down, across, sharex=True, sharey="row", squeeze=False)
        places = [(mode, count) for mode in modes for count in threads]
        for axes, place in zip(grid.flat, places, strict=True):
            _panel(axes, place, drawn.get(place, []))
        grid[0, 0].set_xlim(_range(drawn))
        for axes in grid[-1]:
            axes.set_xlabel(f"recall@{rows[-1]['k']}")
        for axes in grid[:, 0]:
            axes.set_ylabel("queries per second")
        figure.suptitle(_title(rows), fontsize=11)
        _legend(figure, drawn)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None}, facecolor="white")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines()))


def _panel(axes: Axes, place: Panel, lines: Sequence[Line]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    mode, threads = place
    for line in reversed(lines):  # ours on top
        x, y = zip(*line.points, strict=True)
        axes.plot(x, y, **_style(line.name))
    axes.set_yscale("log")
    axes.set_title(f"{'one batch' if mode == 'batch' else 'one by one'}, {threads} thread{'s' * (threads > 1)}")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:,.0f}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)


def _range(drawn: dict[Panel, list[Line]]) -> tuple[float, float]:
    least = min(point.recall for lines in drawn.values() for line in lines for point in line.points)
    return max(_LEAST_RECALL, least - 0.005), 1.003


def _style(name: str) -> dict[str, Any]:
    ours = name.removeprefix("tessella ")
    colour, marker = _OURS[ours] if ours in _OURS else _THEIRS[name]
    return {"color": colour, "marker": marker, "linewidth": 2.4 if ours in _OURS else 1.2, "markersize": 4.5}


def _title(rows: Sequence[Row]) -> str:
    last = rows[-1]
    days = sorted({str(row["time"])[:10] for row in rows})
    rounds = sorted({row["rounds"] for row in rows})
    return (
        f"{last['dataset']}: {last['n']:,} × {last['d']}, {last['metric']}\n"
        f"{last['cpu']}, {last['level']}; medians of {' to '.join(map(str, rounds))} rounds, "
        f"{' to '.join(dict.fromkeys((days[0], days[-1])))}"
    )


def _legend(figure: Figure, drawn: dict[Panel, list[Line]]) -> None:
    """Below the panels, a line's indexes beside its name."""
    from matplotlib.lines import Line2D

    specs: dict[str, set[str]] = {}
    for line in (line for lines in drawn.values() for line in lines):
        specs.setdefault(line.name, set()).update(line.specs)
    handles = [Line2D([], [], **_style(name), label=f"{name}: {'; '.join(sorted(specs[name]))}") for name in specs]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8.5, frameon=False)


def main() -> None:
    """Draws every data set that the history knows."""
    parser = argparse.ArgumentParser(prog="python -m bench.pictures", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--history", type=Path, default=HISTORY)
    parser.add_argument("--out", type=Path, default=PICTURES, help="folder of the pictures")
    chosen = parser.parse_args()
    for dataset, rows in read(chosen.history).items():
        draw(chosen.out / f"{dataset}.svg", rows)
        print(chosen.out / f"{dataset}.svg")


if __name__ == "__main__":
    main()
