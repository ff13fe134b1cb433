"""hnswlib and usearch through `harness.cpp`: finds their headers, compiles, and calls.

Headers are those of the source packages, fetched by pip into a cache once, or of the folders that `HNSWLIB_INCLUDE` and
`USEARCH_INCLUDE` name. What is not there is left out, and the report says why.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bench.filtered.truth import K
from bench.filtered.workloads import Floats, Ids, Workload

SOURCE = Path(__file__).with_name("harness.cpp")
HEADERS = {"hnswlib": "hnswlib/hnswlib.h", "usearch": "usearch/index_dense.hpp"}
_FLAGS = ["-std=c++20", "-O3", "-march=native", "-mprefer-vector-width=512", "-ffast-math", "-shared", "-fPIC", "-w"]


class Missing(Exception):
    """What a peer lacks, in a sentence."""


@cache
def include(library: str, store: Path) -> Path:
    """The folder that holds its headers."""
    named = os.environ.get(f"{library.upper()}_INCLUDE")
    places = [Path(named)] if named else [*(store / library).glob("*"), *(store / library).glob("*/include")]
    found = [place for place in [*places, Path("/usr/include")] if (place / HEADERS[library]).is_file()]
    if found:
        return found[0]
    if named:
        raise Missing(f"no {HEADERS[library]} in {named}")
    return fetched(library, store / library)


def fetched(library: str, folder: Path) -> Path:
    """Out of the source package at the package index."""
    folder.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-binary", ":all:", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*pip, library], cwd=folder, capture_output=True, text=True, check=False)
    for archive in folder.glob("*.tar.gz"):
        with tarfile.open(archive) as file:
            file.extractall(folder, filter="data")
    found = [each for each in [*folder.glob("*"), *folder.glob("*/include")] if (each / HEADERS[library]).is_file()]
    if not found:
        raise Missing(
            f"no headers of {library}: {(done.stderr.strip().splitlines() or ['pip brought none'])[-1][:150]}"
        )
    return found[0]


@cache
def built(library: str, store: Path) -> Any:
    """The harness over one library."""
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        raise Missing("no C++ compiler")
    folder = include(library, store)
    command = [compiler, *_FLAGS, f"-DWITH_{library.upper()}", f"-I{folder}", str(SOURCE)]
    name = hashlib.sha256(SOURCE.read_bytes() + str(command).encode()).hexdigest()[:16]
    made = store / f"{library}-{name}.so"
    if not made.is_file():
        done = subprocess.run([*command, "-o", str(made)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Missing(f"{library} does not compile: {done.stderr.strip().splitlines()[0][:150]}")
    harness = ctypes.CDLL(str(made))
    harness.peer_make.restype = ctypes.c_void_p
    return harness


class Graph:
    """A library's graph of rows (n, d) under inner product."""

    def __init__(self, library: str, x: Floats, store: Path, file: Path, *, m: int, efc: int, threads: int) -> None:
        self.harness = built(library, store)
        self.n = len(x)
        size = ctypes.c_size_t
        self.handle = ctypes.c_void_p(
            self.harness.peer_make(library.encode(), *(size(each) for each in (*x.shape, m, efc)))
        )
        if file.is_file():
            self.harness.peer_load(self.handle, str(file).encode())
        else:
            self.harness.peer_add(self.handle, x.ctypes.data_as(ctypes.c_void_p), size(self.n), size(threads))
            self.harness.peer_save(self.handle, str(file).encode())

    def search(self, rules: str, workload: Workload, counts: Ids, ef: int) -> Ids:
        """Ids (nq, k), -1 where there are fewer; one thread."""
        q = workload.queries
        ids = np.empty((len(q), K), np.int64)
        size = ctypes.c_size_t
        self.harness.peer_search(
            self.handle,
            rules.encode(),
            q.ctypes.data_as(ctypes.c_void_p),
            *(size(each) for each in (*q.shape, K, max(ef, K))),
            *(array.ctypes.data_as(ctypes.c_void_p) for array in (workload.words, counts, workload.which)),
            size(self.n),
            ids.ctypes.data_as(ctypes.c_void_p),
        )
        return ids

    def close(self) -> None:
        self.harness.peer_free(self.handle)
