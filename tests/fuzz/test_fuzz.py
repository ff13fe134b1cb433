"""Short runs of the two scripts beside this file; their `--count` and `--kills` make them long."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.fuzz.kill_save import run as kill_saves

ROOT = Path(__file__).resolve().parents[2]


def test_damaged_files_load_or_are_refused() -> None:
    """In a process of its own, for a crash must not take the tests with it."""
    command = [sys.executable, "-m", "tests.fuzz.fuzz_files", "--count", "500"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    tally = dict(re.findall(r"(\d+) (\w+)", done.stdout.partition(":")[2]))
    assert {"refused", "loaded"} == set(tally.values()), "damage must sometimes reach what is behind the reader"


def test_a_killed_save_leaves_a_whole_file(tmp_path: Path) -> None:
    assert "always whole" in kill_saves(tmp_path, kills=4, rows=8_192)
