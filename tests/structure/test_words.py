"""The tree says nothing of the machine it was written on, and its files are in their rooms."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SKIPPED_SUFFIXES = {".parquet", ".npy", ".npz", ".png", ".safetensors", ".tessella"}
MACHINE_PATH = re.compile(r"(?<![\w./<])/(?:home|root|work|mnt|Users)/\w")
REGISTRY_HOST = re.compile(r"(?:files\.pythonhosted|deb\.debian|registry\.npmjs)\.org")
UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X)\b")


def tree() -> list[Path]:
    """Tracked and new files; without git (an unpacked archive), everything but build products."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listing.returncode == 0:
        return [ROOT / name for name in listing.stdout.splitlines() if (ROOT / name).is_file()]
    products = {"build", "dist", ".venv", ".nox"}
    files = (path for path in ROOT.rglob("*") if path.is_file())
    return [path for path in files if not products & set(path.relative_to(ROOT).parts)]


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    read = {}
    for path in tree():
        if path.suffix not in SKIPPED_SUFFIXES:
            read[str(path.relative_to(ROOT))] = path.read_text(encoding="utf-8")
    assert "README.md" in read
    return read


@pytest.mark.parametrize("pattern", [MACHINE_PATH, REGISTRY_HOST, UNFINISHED], ids=["path", "host", "unfinished"])
def test_no_line_matches(texts: dict[str, str], pattern: re.Pattern[str]) -> None:
    hits = [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]
    assert not hits


def test_whole_tree_fits_a_copy_to_another_machine() -> None:
    """`make gpu` is run on a copy of the tree, which stays under 40 MB."""
    assert sum(path.stat().st_size for path in tree()) < 40_000_000
