"""`python -m bench.multivector encode quality`: parts one after another, and a row for each line in `bench/history`."""

from __future__ import annotations

import argparse
import importlib
import os
from pathlib import Path

from bench import machine, record

# Modules with rows(options) and line(row).
PARTS = ("encode", "quality", "sparse", "maxsim", "search", "plaid", "judged")


def main() -> None:
    """On one core, threads pinned before anything is imported; nothing else should run."""
    parser = argparse.ArgumentParser(prog="python -m bench.multivector", description="Late interaction.")
    parser.add_argument("parts", nargs="+", choices=PARTS, metavar="part", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TESSELLA_DATA", "../shared/data")))
    parser.add_argument("--tokens", type=Path, help="SciFact's, from `python -m bench.multivector.scifact`; else LoTTE")
    parser.add_argument("--sizes", type=int, nargs="+", help="documents of the searches (default: 10,000 and 100,000)")
    parser.add_argument("--encoders", nargs="+", help="of searches and of quality (default: fde and lemur)")
    parser.add_argument("--store", type=Path, help="folder that keeps the indexes of the searches")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--save", action="store_true", help="append the results to bench/history")
    chosen = parser.parse_args()
    machine.pin_cores(1)
    with machine.environment(machine.pinned_environment(1) | {"RAYON_NUM_THREADS": "1"}):
        for part in chosen.parts:
            run(part, chosen)


def run(part: str, chosen: argparse.Namespace) -> None:
    """Prints each line as it comes."""
    module = importlib.import_module(f"bench.multivector.{part}")
    level = importlib.import_module("tessella.testing").active_isa()  # TESSELLA_ISA may pin a lower one
    print(f"{machine.cpu_model()}, level {level}, one thread", flush=True)
    common = {
        **machine.stamp(),
        "level": level,
        "threads": 1,
        "part": part,
    }
    for row in module.rows(chosen):
        print(module.line(row), flush=True)
        if chosen.save:
            record.append("multivector", [common | {"load_average": machine.load_average()} | row])


if __name__ == "__main__":
    main()
