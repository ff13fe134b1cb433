"""Use an installed tessella once, from end to end: `python -I tools/smoke.py`. Needs NumPy alone."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import tessella as ts


def smoke() -> str:
    """Build, search, save and load one compressed index; return what was seen."""
    rng = np.random.default_rng(7)
    centres = rng.standard_normal((40, 96))
    rows = (centres[np.arange(2000) % 40] + 0.3 * rng.standard_normal((2000, 96))).astype(np.float32)
    exact = ts.Index("Flat", dim=96)
    exact.add(rows)
    truth = exact.search(rows[:50], k=10).ids

    index = ts.Index("Flat,B1+U8", dim=96)
    index.add(rows)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "smoke.tessella"
        index.save(path)
        found = ts.Index.load(path).search(rows[:50], k=10).ids

    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(truth, found, strict=True)])
    if recall < 0.9:
        raise SystemExit(f"smoke: expected recall@10 of at least 0.9; got {recall:.3f}")
    bytes_each = index.nbytes / len(index)
    return f"tessella {ts.__version__}: 2,000 rows, {bytes_each:.0f} bytes each, recall@10 {recall:.3f}"


if __name__ == "__main__":
    print(smoke())
