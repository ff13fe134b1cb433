"""Files of the inverted file: whole ones, and such as contradict themselves."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tessella as ts
from tests.index.cases import SPECS, assert_same_results, drawer, made
from tests.index.damage import ROOT, USE, assert_refused, put, rewritten


@pytest.mark.parametrize("way", ["load", "mmap", "pickle"])
@pytest.mark.parametrize("spec", SPECS)
def test_copies_bring_everything_back(rng: np.random.Generator, spec: str, way: str, tmp_path: Path) -> None:
    draw = drawer(rng, 24)
    x, q = draw(800), draw(50)
    ix = made(spec, x, "ip")
    ix.remove([3, 790])
    ix.nprobe = 5
    ix.calibrate(q, 10, truth=ix.search(q, 10, nprobe=16).ids)
    ix.save(tmp_path / "index")
    other = pickle.loads(pickle.dumps(ix)) if way == "pickle" else ts.Index.load(tmp_path / "index", mmap=way == "mmap")
    assert (other.nprobe, other.calibration, other.spec, len(other)) == (5, ix.calibration, spec, 798)
    np.testing.assert_array_equal(other.list_sizes, ix.list_sizes)
    np.testing.assert_array_equal(other.reconstruct(other.ids), ix.reconstruct(ix.ids))
    assert_same_results(ix, other, q, epsilon=1.9)
    assert_same_results(ix, other, q, nprobe=2)
    for each in (ix, other):
        each.remove(np.arange(100, 300))
        each.add(x[:50], ids=np.arange(50) + 5000)
        each.update(np.arange(400, 450), x[:50])
        each.compact()
    np.testing.assert_array_equal(other.list_sizes, ix.list_sizes)
    assert_same_results(ix, other, q, nprobe=3)


@pytest.mark.parametrize("spec", ["IVF", "IVF4,B1", "IVF4+SOAR,B1+U8"])
def test_an_index_without_rows_goes_round(rng: np.random.Generator, spec: str, tmp_path: Path) -> None:
    ix, x = ts.Index(spec, dim=12), rng.standard_normal((400, 12))
    for trained in (False, True):
        if trained:
            ix.train(x)
        ix.save(tmp_path / "index")
        for mmap in (False, True):
            other = ts.Index.load(tmp_path / "index", mmap=mmap)
            assert (len(other), other.is_trained) == (0, trained) and len(other.list_sizes) == len(ix.list_sizes)
            other.add(x)
            assert other.search(x[:5], 1, nprobe=99).ids.shape == (5, 1) and len(other) == 400


# ---- damaged ones


def first_twice(rows: Any) -> Any:
    rows = rows.copy()
    rows[1] = rows[0]
    return rows


DAMAGE: list[tuple[dict[str, Callable[[Any], Any]], dict[str, Any], str]] = [
    ({"list.sizes": put(0, 2**32 - 1)}, {}, "the lists' rows are not as many as their sizes say"),
    ({"list.sizes": put(0, 0)}, {}, "the lists' rows are not as many as their sizes say"),
    ({"list.sizes": lambda a: a[:-1]}, {}, "the lists' rows are not as many as their sizes say"),
    ({"list.sizes": lambda a: np.append(a, np.uint32(0))}, {}, "there are not as many shrinks as lists"),
    ({"list.sizes": lambda a: a[:0], "list.rows": lambda a: a[:0], "list.blocks": lambda a: a[:0]}, {}, "shrinks"),
    ({"list.rows": lambda a: a[:-1]}, {}, "the lists' rows are not as many as their sizes say"),
    ({"list.rows": put(5, 200)}, {}, "a list names a row that is not there"),
    ({"list.rows": put(5, 2**32 - 1)}, {}, "a list names a row that is not there"),
    ({"list.rows": first_twice}, {}, "a list names a row twice"),
    ({"list.blocks": lambda a: a[:-1]}, {}, "the lists' blocks do not fit their sizes"),
    ({"list.blocks": lambda a: a[:, :-1]}, {}, "the lists' blocks do not fit their sizes"),
    ({"list.shrinks": put(2, np.nan)}, {}, "the shrinks has a NaN or an infinity"),
    ({"list.shrinks": put(2, np.inf)}, {}, "the shrinks has a NaN or an infinity"),
    ({"list.shrinks": lambda a: a[:-1]}, {}, "there are not as many shrinks as lists"),
    ({"list.shrinks": lambda a: a[None]}, {}, "expected tensor 'list.shrinks' to be F32"),
    ({"list.shrinks": lambda a: a.view(np.uint32)}, {}, "expected tensor 'list.shrinks' to be F32"),
    ({"list.sizes": lambda a: a[:, None]}, {}, "expected tensor 'list.sizes' to be U32"),
    ({"list.rows": lambda a: None}, {}, "it lacks the tensor 'list.rows'"),
    ({"centroid.codes": lambda a: None}, {}, "columns are not those of its spec"),
    ({"centroid.codes": lambda a: np.concatenate([a, a])}, {}, "does not have the size its rows need"),
    ({"column.codes": lambda a: a[:, :-1]}, {}, "does not have the size its rows need"),
    ({}, {"rows": 201}, "a row is in no list"),
    ({}, {"rows": 199}, "a list names a row that is not there"),
    ({}, {"rows": 2**31}, "does not have the size its rows need"),
    ({}, {"spec": "IVF4,B1+U8"}, "a row is in more lists than its spec allows"),
    ({}, {"spec": "IVF4,U8"}, "is damaged"),
    ({}, {"spec": "Flat,B1+U8"}, "is damaged"),
    ({}, {"nprobe": 0}, "its config does not describe an index"),
    ({}, {"nprobe": "many"}, "its config does not describe an index"),
    ({}, {"calibration": {"k": 10}}, "its config does not describe an index"),
    ({}, {"calibration": {"k": 1, "queries": 1, "efforts": [2, 1], "recalls": [0.1, 0.2]}}, "calibration is not one"),
    ({}, {"calibration": {"k": 1, "queries": 1, "efforts": [1], "recalls": [1.5]}}, "calibration is not one"),
    ({}, {"calibration": {"k": 1, "queries": 1, "efforts": [], "recalls": []}}, "calibration is not one"),
    ({}, {"calibration": 7}, "its config does not describe an index"),
]


@pytest.mark.parametrize(("tensors", "config", "message"), DAMAGE)
def test_files_that_contradict_themselves_are_refused(
    rng: np.random.Generator,
    tmp_path: Path,
    tensors: dict[str, Callable[[Any], Any]],
    config: dict[str, Any],
    message: str,
) -> None:
    path = tmp_path / "index"
    made("IVF4+SOAR,B1+U8", rng.standard_normal((200, 24)).astype(np.float32)).save(path)
    assert_refused(path, tensors, config, message)


LIMITED = """
import resource, sys, tessella
room = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + (1 << 30)
resource.setrlimit(resource.RLIMIT_AS, (room, room))
try:
    tessella.Index.load(sys.argv[1])
except tessella.FormatError:
    print("refused")
"""


@pytest.mark.parametrize("rows", [201, 2**31, 2**32 - 2, 2**40])
def test_rows_that_no_tensor_backs_take_no_memory(rng: np.random.Generator, tmp_path: Path, rows: int) -> None:
    """IVF,B1 has no column, so the lists alone tell how many rows there are; a gigabyte must do to see it."""
    path = tmp_path / "index"
    made("IVF4,B1", rng.standard_normal((200, 24)).astype(np.float32)).save(path)
    rewritten(path, config={"rows": rows})
    done = subprocess.run([sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, check=False)
    assert done.stdout == "refused\n", done.stderr


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("spec", ["IVF4,B1", "IVF4+SOAR,B1+U8"])
@pytest.mark.parametrize("damage", ["scales", "large scales", "factors", "blocks"])
def test_centroids_and_codes_that_are_no_numbers_do_no_harm(
    rng: np.random.Generator, tmp_path: Path, damage: str, spec: str, metric: str
) -> None:
    """They are refused, or give odd results; in a process of its own, for a crash must not take the tests with it."""
    path = tmp_path / "index"
    made(spec, rng.standard_normal((200, 24)).astype(np.float32), metric).save(path)
    name = {"factors": "centroid.b1", "blocks": "list.blocks"}.get(damage, "centroid.scales")

    def change(array: Any) -> Any:
        array = array.copy()
        if damage == "large scales":
            array.view(np.float32)[:] = 3e38
        else:  # a NaN in float16 and in float32; of blocks, only the factors
            array[:, 0 if damage == "scales" else 64 // 8 * 32 :] = 255
        return array

    rewritten(path, {name: change})
    done = subprocess.run(
        [sys.executable, "-c", USE, str(path), spec], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.stdout in ("loaded\n", "refused\n"), done.stderr
