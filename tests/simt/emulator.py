"""The emulated kernels as Python functions over NumPy arrays."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
ROOT = Path(__file__).resolve().parents[2]
SOURCES = [ROOT / "csrc" / "cuda", ROOT / "csrc" / "include", ROOT / "csrc" / "common", ROOT / "tests" / "simt"]
LIBRARY = "libtessella_simt.so"
TYPES = {"float32": 0, "float16": 1, "uint16": 2, "uint8": 3}  # ScalarType; uint16 holds bfloat16 patterns
METRICS = {"l2": 0, "ip": 1}
CANDIDATE = np.dtype({"names": ["similarity", "row"], "formats": ["<f4", "<i8"], "offsets": [0, 8], "itemsize": 16})


def newest_source() -> float:
    kinds = {".cu", ".h", ".cpp", ".txt"}
    files = (path for folder in SOURCES for path in folder.rglob("*") if path.suffix in kinds)
    return max(path.stat().st_mtime for path in files)


def library() -> Path:
    """The emulator of `make test` where it is current, else one built into build/simt."""
    made = ROOT / "build" / "test" / "tests" / "simt" / LIBRARY
    if made.is_file() and made.stat().st_mtime > newest_source():
        return made
    tree = ROOT / "build" / "simt"
    tree.mkdir(parents=True, exist_ok=True)
    with open(tree / ".lock", "w") as lock:  # one of several pytest workers builds, the others wait
        fcntl.flock(lock, fcntl.LOCK_EX)
        ninja = ["-G", "Ninja"] if shutil.which("ninja") and not (tree / "CMakeCache.txt").is_file() else []
        _cmake("-S", str(ROOT / "tests" / "simt"), "-B", str(tree), "-DCMAKE_BUILD_TYPE=Release", *ninja)
        _cmake("--build", str(tree), "--parallel", str(os.cpu_count() or 1), "--target", "tessella_simt")
    return tree / LIBRARY


def _cmake(*arguments: str) -> None:
    done = subprocess.run(["cmake", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"cmake {' '.join(arguments)} failed:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")


class Emulator:
    def __init__(self) -> None:
        self._library = ctypes.CDLL(str(library()))

    def order(self, order: int) -> None:
        """Threads and blocks forward (0), backward (1) or shuffled by a seed."""
        self._library.simt_order(ctypes.c_uint(order))

    @staticmethod
    def empty_lists(nq: int, k: int) -> Array:
        lists = np.zeros((nq, k), dtype=CANDIDATE)
        lists["similarity"], lists["row"] = -np.inf, -1
        return lists

    def topk(
        self, queries: Array, rows: Array, k: int, metric: str, ids: Array | None, lists: Array, first_row: int
    ) -> None:
        """exact_topk of the contract: `lists` go in and come out."""
        self._call(
            "simt_exact_topk", *self._matrices(queries, rows, metric),
            ctypes.c_int64(first_row), _pointer(ids), ctypes.c_size_t(k), _pointer(lists),
        )  # fmt: skip

    def search(
        self, queries: Array, rows: Array, k: int, metric: str, ids: Array | None, allowed: Array | None = None
    ) -> tuple[Array, Array]:
        """A whole search, as the Python door enqueues it. Outputs start as rubbish."""
        words = None if allowed is None else _packed(allowed)
        scores = np.full((len(queries), k), np.nan, dtype=np.float32)
        found = np.full((len(queries), k), -77, dtype=np.int64)
        self._call(
            "simt_exact_search", *self._matrices(queries, rows, metric),
            _pointer(ids), ctypes.c_size_t(k), _pointer(scores), _pointer(found),
            _pointer(words), ctypes.c_int(allowed is not None and allowed.ndim == 2),
        )  # fmt: skip
        return scores, found

    def score(self, query: Array, rows: Array, metric: str, which: Array | None, gather: Array | None = None) -> Array:
        """`gather` has the addresses of rows."""
        count = len(next(x for x in (gather, which, rows) if x is not None))
        out = np.full(count, np.nan, dtype=np.float32)
        self._call(
            "simt_exact_score", _pointer(query), _pointer(rows), TYPES[rows.dtype.name],
            ctypes.c_size_t(rows.shape[1]), METRICS[metric], _pointer(which), _pointer(gather), ctypes.c_size_t(count),
            _pointer(out),
        )  # fmt: skip
        return out

    @staticmethod
    def _matrices(queries: Array, rows: Array, metric: str) -> list[Any]:
        assert queries.dtype == np.float32
        assert queries.shape[1] == rows.shape[1]
        (nq, d), n = queries.shape, len(rows)
        return [
            _pointer(queries), ctypes.c_size_t(nq), _pointer(rows), TYPES[rows.dtype.name],
            ctypes.c_size_t(n), ctypes.c_size_t(d), METRICS[metric],
        ]  # fmt: skip

    def call(self, name: str, *arguments: Array | int | float | None) -> None:
        """A C function of the library: arrays and None become pointers, whole numbers size_t, others float."""
        self._call(name, *map(_argument, arguments))

    def _call(self, name: str, *arguments: Any) -> None:
        error = ctypes.create_string_buffer(512)
        if getattr(self._library, name)(*arguments, error) != 0:
            raise RuntimeError(error.value.decode())


def _packed(mask: Array) -> Array:
    """Masks (…, n) as words of 64 rows (…, ceil(n / 64))."""
    padded = np.zeros((*mask.shape[:-1], -(-mask.shape[-1] // 64) * 64), dtype=bool)
    padded[..., : mask.shape[-1]] = mask
    return np.packbits(padded, axis=-1, bitorder="little").view(np.uint64)


def _argument(x: Array | int | float | None) -> Any:
    if isinstance(x, int):
        return ctypes.c_size_t(x)
    return ctypes.c_float(x) if isinstance(x, float) else _pointer(x)


def _pointer(array: Array | None) -> ctypes.c_void_p:
    if array is None:
        return ctypes.c_void_p(None)
    assert array.flags.c_contiguous
    return ctypes.c_void_p(array.ctypes.data)
