"""Damages index and quantizer files and loads them: each loads, or raises FormatError; none crashes.

    python -m tests.fuzz.fuzz_files --count 20000

Under the address sanitizer, with a build of the `asan` preset on PYTHONPATH:

    LD_PRELOAD=$(g++ -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=... \
        python -m tests.fuzz.fuzz_files --count 20000

What loads is also searched, read back, added to and saved. A failure names its case: `--start` runs it again.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import tessella as ts
from tests.fuzz.mutations import mutate

SEED = 20_240_607
SPECS = [
    "Flat",
    "Flat,F16",
    "Flat,UINT8",
    "Flat,B1",
    "Flat,U8",
    "Flat,R3",
    "Flat,B1+U8",
    "Flat,B1+N4",
    "Flat,B1+U8+F16",
    "IVF4,F32",
    "IVF4,B1",
    "IVF4+SOAR,B1+U8",
    "Graph32,B1+U8",
    "Graph64,B1+N4+F16",
    "Graph32,F32",
]
METRICS = ["cosine", "ip", "l2"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--start", type=int, default=0)
    arguments = parser.parse_args()
    faulthandler.enable()
    with tempfile.TemporaryDirectory() as folder:
        tally = run(Path(folder), range(arguments.start, arguments.start + arguments.count))
    print(f"{arguments.count} damaged files:", ", ".join(f"{n} {what}" for what, n in tally.most_common()))


def run(folder: Path, cases: range) -> collections.Counter[str]:
    whole = make_files(folder)
    names = sorted(whole)
    tally: collections.Counter[str] = collections.Counter()
    for case in cases:
        rng = np.random.default_rng([SEED, case])
        name = names[case % len(names)]
        path = folder / "damaged"
        path.write_bytes(mutate(whole[name], rng))
        try:
            tally[load_and_use(name, path, rng)] += 1
        except BaseException as error:
            raise SystemExit(f"case {case} ({name}): {type(error).__name__}: {error}") from error
    return tally


def load_and_use(name: str, path: Path, rng: np.random.Generator) -> str:
    try:
        if name in SPECS:
            mmap, verify = bool(rng.integers(2)), [None, True, False][rng.integers(3)]
            loaded: Any = ts.Index.load(path, mmap=mmap, verify=verify)
        else:
            loaded = QUANTIZERS[name].load(path)
    except ts.FormatError as error:
        if str(path) not in str(error):
            raise AssertionError(f"the error does not name the file: {error}") from error
        return "refused"
    use = use_index if isinstance(loaded, ts.Index) else use_quantizer
    use(loaded, path.with_name("again"))
    return "loaded"


def use_index(index: ts.Index, path: Path) -> None:
    """Everything that walks over what was loaded. Damaged numbers may give odd results, never a crash."""
    q = np.ones((3, index.dim), np.float32)
    ids, scores = index.search(q, k=5)
    assert ids.shape == scores.shape == (3, 5)
    assert np.isin(ids[ids >= 0], index.ids).all()
    index.range_search(q, 0.5)
    assert index.list_sizes.sum() >= (len(index) if index.config.structure == "IVF" else 0)
    for some, rows in index.batches(7):
        assert rows.shape == (len(some), index.dim)
    index.save(path)
    index.remove(index.ids[:2])  # first, so that it meets the memory that came from the file
    index.add(q)
    index.update(index.ids[-2:], q[:2])
    index.reconstruct(index.ids)
    index.compact()
    index.search(q, k=2)


def use_quantizer(quantizer: Any, path: Path) -> None:
    codes = quantizer.encode(np.ones((3, quantizer.dim), np.float32)) if may_encode(quantizer) else None
    if isinstance(quantizer, ts.ProductQuantizer) and codes is not None:
        assert quantizer.decode(codes).shape == (3, quantizer.dim)
        assert quantizer.squared_distance(np.ones((2, quantizer.dim), np.float32), codes).shape == (2, 3)
    quantizer.save(path)


def may_encode(quantizer: Any) -> bool:
    """A product quantizer without codebooks says so instead."""
    return not isinstance(quantizer, ts.ProductQuantizer) or quantizer.is_trained


def make_files(folder: Path) -> dict[str, bytes]:
    """Small whole files, one for each spec and each kind of quantizer, to be damaged."""
    rng = np.random.default_rng(SEED)
    files = {}
    for number, spec in enumerate(SPECS):
        dim = [24, 64, 70][number % 3]
        index = ts.Index(spec, dim=dim, metric=METRICS[number % 3])
        rows = rng.integers(0, 256, size=(45, dim)).astype(np.uint8) if "UINT8" in spec else rng.random((45, dim))
        index.add(rows, ids=np.arange(45) * 3 if number % 2 else None)
        files[spec] = saved(index.save, folder)
    for name, kind in QUANTIZERS.items():
        quantizer = kind(40, **SETTINGS.get(name, {}))
        quantizer.train(rng.random((50, 40), dtype=np.float32))
        files[name] = saved(quantizer.save, folder)
    return files


def saved(save: Callable[[Path], None], folder: Path) -> bytes:
    save(folder / "whole")
    return (folder / "whole").read_bytes()


QUANTIZERS: dict[str, Any] = {
    "binary": ts.BinaryQuantizer,
    "pq": ts.ProductQuantizer,
    "pq of levels": ts.ProductQuantizer,
    "rabitq": ts.RaBitQuantizer,
    "scalar": ts.ScalarQuantizer,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "pq": {"m": 20, "bits": 4, "opq": True},
    "pq of levels": {"m": 8, "bits": 4, "residual_levels": 2},
}

if __name__ == "__main__":
    main()
