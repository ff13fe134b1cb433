"""`make gpu`: on a machine with an NVIDIA GPU, build `_cuda` for it, check it, time it. No network, under 8 minutes.

    python3 bench/gpu.py [--out FOLDER] [--seed N] [--checks-only]

Uses the python3, torch, nvcc, cmake and pybind11 that are there. Writes bench/history/gpu-<model>-<date>.json.
Exit code 0: all checks passed; 1: a check or the build failed; 3: the machine lacks something, which is named.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import re
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # instead of bench/, whose names are not top-level modules

from bench.gpu import beside, build, check, exact, machine  # noqa: E402

CHECK_SECONDS = 150
FAMILIES_SECONDS = 300  # no measurement of the families other than exact begins after that,
TOTAL_SECONDS = 430  # and none at all after that
FAMILIES = ("kmeans", "rabitq", "pq", "graph", "rotate", "scalar", "fde", "maxsim", "contrast", "pooling")


def commit() -> str | None:
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def measure_all(
    torch: Any, found: machine.Machine, exact_topk: Any, roofs: dict[str, float], start: float
) -> list[Any]:
    rows: list[dict[str, Any]] = []
    for setting in exact.settings():
        if time.monotonic() - start > TOTAL_SECONDS:
            rows.append({"not_measured": str(setting)})
            continue
        rows.append(exact.measure(torch, found, exact_topk, setting))
        print(exact.line(rows[-1], roofs), flush=True)
        torch.cuda.empty_cache()
    return rows


def measure_families(torch: Any, start: float) -> dict[str, list[Any]]:
    """The families other than exact: a few settings each."""
    rows: dict[str, list[Any]] = {family: [] for family in FAMILIES}
    for family, made in rows.items():
        settings = importlib.import_module(f"bench.gpu.{family}").comparisons(torch, build.load(family))
        for name, prepare in settings:
            if time.monotonic() - start > FAMILIES_SECONDS:
                made.append({"not_measured": name})
                continue
            made.append(beside.measure(torch, name, prepare()))
            print(beside.line(family, made[-1]), flush=True)
            torch.cuda.empty_cache()
    return rows


def write(folder: Path, result: dict[str, Any]) -> Path:
    model = re.sub(r"[^a-z0-9]+", "-", result["machine"]["gpu"].lower()).strip("-")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"gpu-{model}-{result['date']}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "history", help="where the JSON goes")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31), help="of the random data; new each time")
    parser.add_argument("--checks-only", action="store_true", help="build and check, measure nothing")
    options = parser.parse_args()
    start = time.monotonic()
    try:
        found = machine.find()
        print(f"{found.gpu}, sm_{found.capability}; torch {found.torch}; {found.nvcc}; seed {options.seed}", flush=True)
        build.build(found.capability)
    except (machine.Missing, build.BuildFailed) as error:
        print(error, file=sys.stderr)
        return 3 if isinstance(error, machine.Missing) else 1
    build_s = round(time.monotonic() - start, 1)
    torch = importlib.import_module("torch")
    torch.manual_seed(options.seed)
    checks = check.run_checks(torch, build.load, options.seed, CHECK_SECONDS)
    print(f"built in {build_s} s; {checks['passed']} checks passed, {len(checks['failed'])} failed", flush=True)
    for failure in checks["failed"]:
        print(f"FAILED {failure}", file=sys.stderr)
    result: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "commit": commit(), "seed": options.seed, "machine": found.as_row(), "build_s": build_s, "checks": checks,
    }  # fmt: skip
    if not options.checks_only and not checks["failed"]:  # the time of a wrong result is of no interest
        result["roofs"] = machine.roofs(torch)
        print("roofs: " + ", ".join(f"{key} {value:,.0f}" for key, value in result["roofs"].items()), flush=True)
        result |= measure_families(torch, start)
        result["exact"] = measure_all(torch, found, build.load("exact").exact_topk, result["roofs"], start)
    print(f"wrote {write(options.out, result)} after {time.monotonic() - start:.0f} s")
    return 1 if checks["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
