"""Files of an index that say something else, under checksums that are right."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tessella as ts
from tests.fuzz.mutations import join, repaired, split

ROOT = Path(__file__).resolve().parents[2]
DTYPES = {"F32": np.float32, "U32": np.uint32, "U8": np.uint8, "I64": np.int64}
# Loads a file and uses what it brings: to be run in a process of its own, with the file and its spec.
USE = """
import sys
from pathlib import Path
import numpy as np
from tests.fuzz.fuzz_files import load_and_use
print(load_and_use(sys.argv[2], Path(sys.argv[1]), np.random.default_rng(0)))
"""


def rewritten(
    path: Path, tensors: dict[str, Callable[[Any], Any]] | None = None, config: dict[str, Any] | None = None
) -> None:
    """The file with changed tensors (None: left out) or config, under checksums that are right."""
    header, data = split(path.read_bytes())
    metadata = header["__metadata__"]
    entries: dict[str, Any] = {
        "__metadata__": metadata | {"config": json.dumps(json.loads(metadata["config"]) | (config or {}))}
    }
    out = b""
    for name, entry in header.items():
        if name.startswith("__"):
            continue
        start, end = entry["data_offsets"]
        array = np.frombuffer(data[start:end], DTYPES[entry["dtype"]]).reshape(entry["shape"])
        changed = (tensors or {}).get(name, lambda a: a)(array)
        if changed is None:
            continue
        if pad := -len(out) % 64:
            entries[f"__pad__{len(entries)}"] = described("U8", (pad,), len(out), pad)
            out += bytes(pad)
        dtype = next(key for key, kind in DTYPES.items() if kind == changed.dtype)
        entries[name] = described(dtype, changed.shape, len(out), changed.nbytes)
        out += changed.tobytes()
    path.write_bytes(repaired(join(entries, out)))


def described(dtype: str, shape: tuple[int, ...], start: int, nbytes: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, start + nbytes]}


def put(at: int, value: float) -> Callable[[Any], Any]:
    """The tensor with one entry changed."""

    def change(array: Any) -> Any:
        array = array.copy()
        array.reshape(-1)[at] = value
        return array

    return change


def assert_refused(path: Path, tensors: dict[str, Callable[[Any], Any]], config: dict[str, Any], message: str) -> None:
    """A file of 200 rows loads as it is, and once changed is refused by this message, mapped or not."""
    rewritten(path)
    assert len(ts.Index.load(path)) == 200
    rewritten(path, tensors, config)
    for mmap in (False, True):
        with pytest.raises(ts.FormatError) as caught:
            ts.Index.load(path, mmap=mmap)
        assert message in str(caught.value) and str(path) in str(caught.value)
