"""The arrows of ARCHITECTURE.md: who may include or import whom, read from the sources themselves."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
PACKAGE = ROOT / "python" / "tessella"

# Every room of csrc and the rooms it may lean on; a room may always include itself.
CPP_ARROWS = {
    "include": set(),
    "common": {"include"},
    "simd": set(),
    "cpu": {"include", "common", "simd"},
    "cuda": {"include", "common"},
    "index": {"include", "common"},
    "bind": {"include", "common", "cpu", "cuda", "index"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)
PYTHON_HEADER = re.compile(r"#\s*include\s*[<\"](?:pybind11/|Python\.h)")
# Parts of the package that stand outside it: they use the public face as any user would.
GUESTS = {"encoder", "eval", "train", "faiss", "cli"}
OUTSIDE = ["tests", "bench", "examples", "docs"]
# Kernels have no public face of their own: who tests or times one goes through its door.
DOORS = {"tessella._core", "tessella._cuda"}
AT_THE_DOORS = ("tests/kernels/", "tests/device/", "bench/kernels", "bench/gpu")


def sources(folder: Path, *suffixes: str) -> Iterator[Path]:
    yield from sorted(path for path in folder.rglob("*") if path.suffix in suffixes)


def room_of(path: Path) -> str:
    return path.relative_to(CSRC).parts[0]


def included(path: Path) -> Iterator[Path]:
    """Our own files that `path` includes, resolved as the compiler would."""
    for name in INCLUDE.findall(path.read_text()):
        for base in (path.parent, CSRC, CSRC / "include"):
            if (base / name).is_file():
                yield (base / name).resolve()
                break
        else:
            raise AssertionError(f'{path.relative_to(ROOT)} includes "{name}", which is no file of ours')


def test_every_room_is_on_the_map() -> None:
    rooms = {path.name for path in CSRC.iterdir() if path.is_dir()}
    assert rooms == set(CPP_ARROWS)


@pytest.mark.parametrize("room", CPP_ARROWS)
def test_includes_follow_the_arrows(room: str) -> None:
    allowed = CPP_ARROWS[room] | {room}
    wrong = [
        f"{path.relative_to(ROOT)} -> {target.relative_to(ROOT)}"
        for path in sources(CSRC / room, ".h", ".cpp", ".cu", ".cuh")
        for target in included(path)
        if room_of(target) not in allowed
    ]
    assert not wrong, f"{room} may include {sorted(allowed)} only"


def test_only_the_bindings_know_python() -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for path in sources(CSRC, ".h", ".cpp", ".cu", ".cuh")
        if room_of(path) != "bind" and PYTHON_HEADER.search(path.read_text())
    ]
    assert not wrong


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Dotted names of tessella that a file imports, relative ones written out."""
    package = path.relative_to(PACKAGE.parent).with_suffix("").parts if path.is_relative_to(PACKAGE) else ()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            stem = ".".join([*package[: len(package) - node.level], *filter(None, [node.module])])
            base = stem if node.level else str(node.module)
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from ((name, node.lineno) for name in names if name.split(".")[0] == "tessella")


def private_part(name: str) -> str | None:
    """The first part of a dotted name that is nobody else's business, if there is one."""
    return next((part for part in name.split(".") if re.match(r"_(?!_)", part)), None)


def test_guests_and_outsiders_use_the_public_face() -> None:
    homes = [ROOT / folder for folder in OUTSIDE] + [PACKAGE / guest for guest in GUESTS]
    files = [path for home in homes if home.is_dir() for path in sources(home, ".py")]
    files += [PACKAGE / f"{guest}.py" for guest in GUESTS if (PACKAGE / f"{guest}.py").is_file()]
    wrong = []
    for path in files:
        if path.is_relative_to(ROOT / "tests" / "structure"):
            continue  # this folder looks at the house from inside
        where = path.relative_to(ROOT).as_posix()
        home = ".".join(path.relative_to(PACKAGE.parent).parts[:2]) if path.is_relative_to(PACKAGE) else None
        for name, line in imports(path):
            own = home is not None and name.startswith(home.removesuffix(".py"))
            door = where.startswith(AT_THE_DOORS) and ".".join(name.split(".")[:2]) in DOORS
            if private_part(name) and not own and not door:
                wrong.append(f"{where}:{line} imports {name}")
    assert not wrong


def test_the_reference_leans_on_numpy_alone() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources(PACKAGE / "reference", ".py")
        for name, line in imports(path)
        if not name.startswith("tessella.reference")
    ]
    assert not wrong


def test_the_package_does_not_import_its_guests() -> None:
    own = [
        path
        for path in sources(PACKAGE, ".py")
        if path.relative_to(PACKAGE).parts[0].removesuffix(".py") not in GUESTS | {"__main__"}
    ]
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in own
        for name, line in imports(path)
        if len(name.split(".")) > 1 and name.split(".")[1] in GUESTS
    ]
    assert not wrong


def test_cpp_tests_stay_below_the_bindings() -> None:
    """tests/cpp sees the contract, the ground, the words and the algorithms, never Python's doors."""
    wrong = [
        f"{path.relative_to(ROOT)} includes {name}"
        for path in sources(ROOT / "tests" / "cpp", ".h", ".cpp")
        for name in INCLUDE.findall(path.read_text())
        if name.startswith(("bind/", "pybind11/"))
    ]
    assert not wrong
