"""`import tessella` brings NumPy and the standard library, and is quick about it."""

from __future__ import annotations

import json
import subprocess
import sys

ALLOWED_SECONDS = 0.150
RUNS = 7


def run(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def imported_by(module: str) -> set[str]:
    """Top-level names in sys.modules after importing `module` in a fresh interpreter."""
    listed = json.loads(run(f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"))
    return {name.split(".")[0] for name in listed}


def best_seconds(module: str) -> float:
    # The processor's time, not the wall's: what other programs take of the machine is not ours.
    code = f"import time; t = time.process_time(); import {module}; print(time.process_time() - t)"
    return min(float(run(code)) for _ in range(RUNS))


def test_import_needs_numpy_alone() -> None:
    extra = imported_by("tessella") - imported_by("numpy") - set(sys.stdlib_module_names) - {"tessella"}
    assert extra == set()


def test_import_takes_little_more_than_numpy() -> None:
    """Best of several runs each, because a busy machine only ever adds."""
    assert best_seconds("tessella") - best_seconds("numpy") < ALLOWED_SECONDS


def test_import_needs_no_driver() -> None:
    """With nothing on the library path that a CUDA driver could come from, the import is the same."""
    code = (
        "import os; os.environ['CUDA_VISIBLE_DEVICES'] = ''; import tessella;"
        "index = tessella.Index('Flat', dim=8); print(len(index))"
    )
    assert run(code).strip() == "0"


def test_typing_marker_ships() -> None:
    assert run("import importlib.resources as r; print((r.files('tessella') / 'py.typed').is_file())") == "True\n"
