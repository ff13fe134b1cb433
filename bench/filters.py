"""Compiling filters: `python -m bench.filters`, over the attributes of the Debian set.

A filter costs twice: cold, the first time after the table changed, and on a hit, when it comes again. Beside them
stands what polars itself takes for the same expression over the same columns as they came, strings and lists as such.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import polars as pl

from bench import machine, record
from bench.datasets import data_folder
from bench.timing import Timing, measure
from tessella import field
from tessella.attributes import Attributes
from tessella.filters import Filters

THREE = "section = 'python' AND installed_kib < 4096 AND array_has(tags, 'implemented-in::python')"
# The same conditions in each way of writing them.
SPELLINGS: dict[str, Any] = {
    "sql": THREE,
    "field": (field("section") == "python")
    & (field("installed_kib") < 4096)
    & field("tags").has("implemented-in::python"),
    "dict": {"section": "python", "installed_kib": {"$lt": 4096}, "tags": "implemented-in::python"},
    "polars": (pl.col("section") == "python")
    & (pl.col("installed_kib") < 4096)
    & pl.col("tags").list.contains("implemented-in::python"),
}


def as_sql(expr: str) -> str:
    """An expression of `filters.json` in SQL."""
    expr = re.sub(r"(\w+) contains ('[^']*')", r"array_has(\1, \2)", expr)
    expr = re.sub(r"(\w+) is empty", r"array_length(\1) = 0", expr)
    return re.sub(r"in \[([^]]*)\]", r"IN (\1)", expr).replace("==", "=")


def wheres(folder: Path) -> dict[str, Any]:
    """Name and filter: those of the data, then one in several spellings."""
    cases = json.loads((folder / "filters.json").read_text())
    return {case["name"]: as_sql(case["expr"]) for case in cases} | {
        f"three, as {name}": where for name, where in SPELLINGS.items()
    }


def by_polars(frame: pl.DataFrame, where: Any) -> Timing | None:
    """Evaluating the whole expression, without a table of ours."""
    if isinstance(where, str):
        where = pl.sql_expr(where.replace("array_has", "array_contains"))
    return measure(lambda: frame.select(where)) if isinstance(where, pl.Expr) else None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.filters", description="Compiling filters.")
    parser.add_argument("--data", help="folder of the real sets (or TESSELLA_DATA)")
    parser.add_argument("--copies", type=int, default=1, help="of the table, one after another: 16 make a million rows")
    parser.add_argument("--save", action="store_true", help="append the results to bench/history")
    chosen = parser.parse_args()
    folder = data_folder(chosen.data) / "debian"
    frame = pl.read_parquet(folder / "packages.parquet").with_columns(pl.col(pl.Categorical).cast(pl.String))
    frame = pl.concat([frame] * chosen.copies).rechunk()
    table = Attributes(frame)
    table.view()
    common = {
        **machine.stamp(),
        "dataset": "debian",
        "n": len(table),
        "polars": pl.__version__,
        "threads": pl.thread_pool_size(),
        "nbytes": table.nbytes,
    }
    print(f"{machine.cpu_model()}; {len(table):,} rows, {table.nbytes / 1e6:.1f} MB; polars {pl.__version__}")
    print(f"{'filter':16}{'rows':>9}{'cold':>28}{'hit':>12}{'polars alone':>14}")
    for name, where in wheres(folder).items():
        cold = measure(lambda where=where: Filters(table).compile(where))
        kept = Filters(table)
        rows = kept.compile(where).count
        hit, alone = measure(lambda where=where, kept=kept: kept.compile(where)), by_polars(frame, where)
        spread = f"{cold.median * 1e6:.0f} ({cold.low * 1e6:.0f} to {cold.high * 1e6:.0f}) us"
        beside = f"{alone.median * 1e6:.0f} us" if alone else ""
        print(f"{name:16}{rows:9,}{spread:>28}{hit.median * 1e6:9.2f} us{beside:>14}", flush=True)
        if chosen.save:
            row = {"filter": name, "rows": rows, "cold_us": cold.median * 1e6, "hit_us": hit.median * 1e6}
            row |= {"cold_us_low": cold.low * 1e6, "cold_us_high": cold.high * 1e6}
            row |= {"polars_us": alone.median * 1e6 if alone else None, "load_average": machine.load_average()}
            record.append("filters", [common | row])


if __name__ == "__main__":
    main()
