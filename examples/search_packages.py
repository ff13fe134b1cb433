"""Finds the Debian packages whose descriptions are closest to that of one package.

python examples/search_packages.py emacs-nox
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

import tessella as ts

DATA = Path(__file__).parent / "data"


def main(name: str) -> None:
    packages = pq.read_table(DATA / "packages.parquet", columns=["name", "short"]).to_pydict()
    if name not in packages["name"]:
        raise SystemExit(f"{name} is not among the {len(packages['name']):,} packages of the sample")
    x = np.load(DATA / "embeddings.npy")

    ix = ts.Index("Flat,B1+U8", dim=x.shape[1], metric="cosine")
    ix.add(x)
    hits = ix.search(x[packages["name"].index(name)], k=8)

    for row, score in zip(hits.ids[0], hits.scores[0], strict=True):
        print(f"{score:.3f}  {packages['name'][row]:32} {packages['short'][row]}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "tuxpaint-data")
