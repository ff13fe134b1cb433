"""One name runs through the house: every kernel family of kernels.h has its tile in every room."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = ROOT / "csrc" / "include" / "tessella"
KERNELS = (CONTRACT / "kernels.h").read_text()
FAMILIES = re.findall(r'#include "tessella/(\w+)\.h"', KERNELS)
SLOTS = re.findall(r"^\s+\w+Fn (\w+)(?: = nullptr)?;", KERNELS, re.MULTILINE)
ROOMS = {
    "contract": "csrc/include/tessella/{}.h",
    "reference": "python/tessella/reference/{}.py",
    "cpu": "csrc/cpu/{}.isa.cpp",
    "tests": "tests/kernels/test_{}.py",
    "docs": "docs/concepts/{}.md",
}


def test_the_table_is_read_whole() -> None:
    assert FAMILIES
    assert SLOTS
    declared = re.search(r"struct Kernels \{(.*?)\n\};", KERNELS, re.DOTALL)
    assert declared is not None
    assert len(re.findall(r"Fn \w+", declared[1])) == len(SLOTS)


@pytest.mark.parametrize("slot", SLOTS)
def test_every_kernel_carries_its_family(slot: str) -> None:
    assert slot.split("_")[0] in FAMILIES


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_its_row(family: str, room: str) -> None:
    tile = ROOMS[room].format(family)
    folder = tile.rsplit(".", 1)[0].removesuffix(".isa")  # a family that outgrew one file
    assert (ROOT / tile).is_file() or (ROOT / folder).is_dir(), f"{family} lacks {tile}"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_grid_names_every_family(family: str) -> None:
    assert re.search(rf"^\| \*\*{family}\*\* \|", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE)


def test_the_grid_shows_no_cuda_tile_that_is_not_there() -> None:
    """A row's CUDA column is a dash exactly where csrc/cuda has no file of that name."""
    grid = (ROOT / "ARCHITECTURE.md").read_text()
    header = re.search(r"^\| family \|.*$", grid, re.MULTILINE)
    assert header is not None
    column = [cell.strip() for cell in header[0].split("|")].index("cuda")
    for family in FAMILIES:
        row = re.search(rf"^\| \*\*{family}\*\* \|.*$", grid, re.MULTILINE)
        assert row is not None
        empty = row[0].split("|")[column].strip() == "–"
        assert empty != (ROOT / "csrc" / "cuda" / f"{family}.cu").is_file(), family
