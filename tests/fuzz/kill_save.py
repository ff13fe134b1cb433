"""Kills a process while it saves a 50 MB index over another: the file stays the old or the new one, whole.

    python -m tests.fuzz.kill_save --kills 100

A kill counts when it fell between the start and the end of a save. The leftovers of a killed save are hidden
temporary files beside the target, which are counted and removed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import tessella as ts

DIM = 384
SEED = 7
CHILD = """
import sys, tessella
index = tessella.Index.load(sys.argv[1])
print("saving", flush=True)
index.save(sys.argv[2])
print("saved", flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--rows", type=int, default=32_768, help="of 1,536 bytes each")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(run(Path(folder), arguments.kills, arguments.rows))


def run(folder: Path, kills: int, rows: int) -> str:
    versions = [make(folder / f"version{number}", rows + number, number) for number in range(2)]
    target = folder / "index"
    seconds = save_in_child(versions[0], target, None)[1]
    rng = np.random.default_rng(SEED)
    here, killed, replaced, leftovers = 0, 0, 0, 0
    while killed < kills:
        finished, _ = save_in_child(versions[1 - here], target, rng.uniform(0, 1.2 * seconds))
        found = which(target, rows)
        if finished and found == here:
            raise SystemExit("a save that reported its end left the old file")
        killed += not finished
        replaced += not finished and found != here
        here = found
        for left in folder.glob(".index.*.tmp"):
            leftovers += 1
            left.unlink()
    size = target.stat().st_size / 1e6
    return (
        f"{killed} kills during save of {size:.0f} MB: the old file {killed - replaced} times, the new one"
        f" {replaced} times, always whole; {leftovers} temporary files left beside it"
    )


def make(path: Path, rows: int, number: int) -> Path:
    index = ts.Index("Flat", dim=DIM, metric="ip")
    index.add(np.random.default_rng(number).standard_normal((rows, DIM), dtype=np.float32))
    index.save(path)
    return path


def save_in_child(source: Path, target: Path, kill_after: float | None) -> tuple[bool, float]:
    """Whether the save reached its end before the kill, and how long it was left to work."""
    command = [sys.executable, "-c", CHILD, str(source), str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        if child.stdout.readline() != "saving\n":
            raise SystemExit("the child did not come as far as its save")
        start = time.perf_counter()
        if kill_after is not None:
            time.sleep(kill_after)
            child.kill()
        finished = child.stdout.readline() == "saved\n"
        return finished, time.perf_counter() - start


def which(target: Path, rows: int) -> int:
    """0 for the old version, 1 for the new one; every checksum is verified."""
    number = len(ts.Index.load(target, verify=True)) - rows
    if number not in (0, 1):
        raise SystemExit(f"the file has {rows + number} rows, which neither version has")
    return number


if __name__ == "__main__":
    main()
