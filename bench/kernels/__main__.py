"""`python -m bench.kernels`: the table, and a row for each line of it in `bench/history`."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence

from bench import machine, record
from bench.kernels.rows import HEADER, Row

FAMILIES = (
    "rotate", "pq", "rabitq", "scalar", "graph", "kmeans", "binary", "fde", "maxsim", "contrast", "pooling", "smve",
)  # fmt: skip


def main() -> None:
    """Runs on one core; nothing else should."""
    parser = argparse.ArgumentParser(prog="python -m bench.kernels", description="Times kernels on one core.")
    parser.add_argument("families", nargs="*", metavar="family", help=f"of {', '.join(FAMILIES)} (default: all)")
    parser.add_argument("--dims", type=int, nargs="+", default=[128, 384, 768, 1536])
    parser.add_argument("--isa", help="level to pin (default: the best)")
    parser.add_argument("--memory-mib", type=int, default=512, help="size of what is read from memory")
    parser.add_argument("--save", action="store_true", help="append the results to bench/history")
    chosen = parser.parse_args()
    unknown = set(chosen.families) - set(FAMILIES)
    if unknown:
        parser.error(f"expected families of {', '.join(FAMILIES)}; got {', '.join(sorted(unknown))}")
    machine.pin_cores(1)
    rows = run(chosen.families or FAMILIES, chosen.dims, chosen.isa, chosen.memory_mib << 20)
    if chosen.save:
        save(rows, chosen.isa)


def run(families: Sequence[str], dims: Sequence[int], isa: str | None, memory_bytes: int) -> list[Row]:
    """Prints each line as it comes."""
    from tessella import _core

    if isa is not None:
        _core.pin_isa(isa)
    _core.set_num_threads(1)
    print(f"{machine.cpu_model()}, level {_core.active_isa()}; `prior` was measured on another machine")
    print(HEADER)
    rows = []
    for family in families:
        measured = importlib.import_module(f"bench.kernels.{family}").measured
        for d in dims:
            for row in measured(d, memory_bytes):
                rows.append(row)
                print(row, flush=True)
    return rows


def save(rows: Sequence[Row], isa: str | None) -> None:
    """Appends a row of JSON for each line."""
    from tessella import _core

    common = {
        **machine.stamp(),
        "level": isa or _core.active_isa(),
        "load_average": machine.load_average(),
        "threads": 1,
        "seed": 0,
    }
    path = record.append("kernels", [common | row.as_json() for row in rows])
    print(f"{len(rows)} rows in {path.name}")


if __name__ == "__main__":
    main()
