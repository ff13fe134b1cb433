"""Write `python/tessella/_core.pyi` and `_cuda.pyi` from the built modules, or check that they are current.

    python tools/stubs.py            # write
    python tools/stubs.py --check    # exit 1 and show the difference

Compiled functions carry no signature that a type checker could compare, so this difference is the guard.
"""

from __future__ import annotations

import argparse
import difflib
import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "python" / "tessella"
MODULES = ("_core", "_cuda")
# A C++ name that shows in a signature is a bug of the binding, and an error here.
GENERATOR = ["--exit-code"]
# pybind11 knows that a tuple comes, not of what; mypy --strict wants that said.
BARE = re.compile(r"(?<=-> )(tuple|list|dict)(?=:)|(?<=: )(tuple|list|dict)(?=[,)])")
WHOLE = {"tuple": "tuple[typing.Any, ...]", "list": "list[typing.Any]", "dict": "dict[str, typing.Any]"}


def built(module: str) -> bool:
    return importlib.util.find_spec(f"tessella.{module}") is not None


def generate(module: str) -> str:
    """The stub of one module, formatted as the repository is."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        stubgen = [sys.executable, "-m", "pybind11_stubgen", *GENERATOR, "--output-dir", folder]
        subprocess.run([*stubgen, f"tessella.{module}"], check=True)
        stub = out / "tessella" / f"{module}.pyi"
        text = BARE.sub(lambda found: WHOLE[found[0]], stub.read_text())
        stub.write_text(re.sub(r"(__version__: str) = .*", r"\1", text))  # pyproject.toml's to change
        config = str(PACKAGE.parents[1] / "pyproject.toml")
        for step in (["check", "--fix", "--quiet"], ["format", "--quiet"]):
            subprocess.run([sys.executable, "-m", "ruff", *step, "--config", config, str(stub)], check=True)
        return stub.read_text()


def difference(module: str, fresh: str) -> list[str]:
    committed = PACKAGE / f"{module}.pyi"
    old = committed.read_text() if committed.exists() else ""
    return list(
        difflib.unified_diff(
            old.splitlines(), fresh.splitlines(), f"committed {module}.pyi", "from the build", lineterm=""
        )
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the stubs of the built modules, or check them.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail on a stale stub")
    check = parser.parse_args().check
    stale = 0
    for module in MODULES:
        if not built(module):
            print(f"stubs: tessella.{module} is not built here; its stub was left as it is")
            continue
        fresh = generate(module)
        changes = difference(module, fresh)
        stale += bool(changes)
        if check:
            print("\n".join(changes) or f"stubs: {module}.pyi is current")
        else:
            (PACKAGE / f"{module}.pyi").write_text(fresh)
            print(f"stubs: {module}.pyi {'written' if changes else 'was current'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
