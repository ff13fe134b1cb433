"""No inline function may leave a level object, or the linker could hand wide code to an old CPU.

An inline function that the compiler did not inline becomes a weak symbol; of equal weak symbols the linker
keeps one. Compiled for AVX-512 and shared with the rest of the library, it would stop every older machine.
So the weak symbols of each level object must lie inside that level's own namespace.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
X86_LEVELS = {"avx2", "avx512"} if os.uname().machine == "x86_64" else set()
LEVEL_OBJECT = re.compile(r" -o (\S*tessella_cpu_(\w+)\.dir/\S+\.isa\.cpp\S*)")


def cmake(*arguments: str) -> None:
    done = subprocess.run(["cmake", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def configured_tree(scratch: Path) -> Path:
    """The tree of `make test` where there is one, else a new one in `scratch`."""
    for tree in filter(None, [os.environ.get("TESSELLA_BUILD_DIR"), ROOT / "build" / "test"]):
        if (Path(tree) / "CMakeCache.txt").is_file():
            return Path(tree)
    tree = scratch / "tree"
    ninja = ["-G", "Ninja"] if shutil.which("ninja") else []
    cmake("-S", ".", "-B", str(tree), *ninja, "-DTESSELLA_PYTHON=OFF", "-DTESSELLA_CUDA=OFF")
    return tree


def level_commands(tree: Path) -> list[tuple[str, Path, str]]:
    """Level, object and compile command of every level file."""
    commands = [row["command"] for row in json.loads((tree / "compile_commands.json").read_text())]
    found = [(LEVEL_OBJECT.search(command), command) for command in commands]
    return [(match[2], tree / match[1], command) for match, command in found if match]


def weak_symbols(path: Path) -> list[str]:
    listed = subprocess.run(["nm", "--defined-only", str(path)], capture_output=True, text=True, check=True)
    rows = (line.split() for line in listed.stdout.splitlines())
    return [row[-1] for row in rows if len(row) == 3 and row[1] in "WwVvu"]


def own_namespace(level: str) -> re.Pattern[str]:
    """Mangled names inside tessella::<level>, static variables of its functions and their guards included."""
    return re.compile(rf"_ZT?(?:GV|GR)?Z?NK?8tessella{len(level)}{level}")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return configured_tree(tmp_path_factory.mktemp("levels"))


# One test over all levels: two workers building in one tree would meet.
def test_weak_symbols_stay_in_their_level(tree: Path) -> None:
    cmake("--build", str(tree), "--target", "tessella_core", "--parallel", "2")
    objects = [(level, path) for level, path, _ in level_commands(tree)]
    assert {"scalar", *X86_LEVELS} <= {level for level, _ in objects}
    escaped = {
        f"{level}: {path.name}": names
        for level, path in objects
        if (names := [name for name in weak_symbols(path) if not own_namespace(level).match(name)])
    }
    assert not escaped


def test_level_objects_are_compiled_strictly(tree: Path) -> None:
    """No link-time optimisation, no fast-math, no contraction: `fma` is a word one writes."""
    commands = [command for _, _, command in level_commands(tree)]
    assert commands
    for command in commands:
        assert "-ffp-contract=off" in command
        assert not re.search(r"-ffast-math|-Ofast|-flto|-march=native", command), command


def test_a_symbol_outside_is_told_from_one_inside() -> None:
    """What the compiler makes of `tessella::f()`, of one in a level, and of its static variable."""
    own = own_namespace("avx2")
    assert not own.match("_ZN8tessella1fEv")
    assert not own.match("_ZN8tessella6avx5121fEv")
    assert not own.match("_ZSt3minIfERKT_S2_S2_")
    assert own.match("_ZN8tessella4avx21fEv")
    assert own.match("_ZGVZN8tessella4avx21fEvE1x")
