"""Builds `_cuda` for the chip that is there, with the tools that are there, into build/gpu."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TREE = ROOT / "build" / "gpu"
MODULES = TREE / "modules"


class BuildFailed(Exception):
    """cmake or the compiler refused; the end of what they said."""


def build(capability: str) -> Path:
    """Configures and builds the one target; returns the module."""
    pybind11 = importlib.import_module("pybind11")
    options = {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_CUDA_ARCHITECTURES": f"{capability}-real",
        "CMAKE_LIBRARY_OUTPUT_DIRECTORY": str(MODULES),
        "TESSELLA_CUDA": "ON",
        "Python_EXECUTABLE": sys.executable,
        "pybind11_DIR": pybind11.get_cmake_dir(),
    }
    ninja = ["-G", "Ninja"] if shutil.which("ninja") and not (TREE / "CMakeCache.txt").exists() else []
    _run("cmake", "-S", str(ROOT), "-B", str(TREE), *ninja, *(f"-D{key}={value}" for key, value in options.items()))
    _run("cmake", "--build", str(TREE), "--target", "_cuda", "--parallel", str(min(16, os.cpu_count() or 1)))
    (module,) = MODULES.glob("_cuda*.so")
    return module


def load(family: str) -> Any:
    """The door of a family, in `tessella` as a bare package, so that its pure-Python parts and the new `_cuda` work
    where `_core` is not built.

    Nothing of an installed tessella takes part: the sources of this tree are what is checked and timed.
    """
    if "tessella" not in sys.modules:
        package = types.ModuleType("tessella")
        package.__path__ = [str(ROOT / "python" / "tessella"), str(MODULES)]
        sys.modules["tessella"] = package
    return importlib.import_module(f"tessella._cuda_{family}")


def _run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildFailed(f"gpu: `{' '.join(command[:2])} …` failed:\n{(done.stdout + done.stderr)[-3000:]}")
