"""USearch: HNSW over float32, float16 or 8-bit rows, and its exact scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from usearch.index import Index

from bench.compare.peers.adapter import Adapter, Floats, Ids, Knobs, options, rescored


class Peer(Adapter):
    """Spec: `f32`, `f16`, `bf16`, `i8` or `exact`, `M=`, `efc=`; `rerank=1` rescores with float32 rows."""

    def build(self, x: Floats) -> None:
        chosen = options(self.spec, **{"": "f16", "M": "16", "efc": "128", "rerank": "0"})
        self.exact = chosen[""] == "exact"
        self.rows = np.array(x) if chosen["rerank"] == "1" else None
        self.candidates = 0
        self.index = Index(
            ndim=x.shape[1],
            metric="l2sq" if self.metric == "l2" else "ip",
            dtype="f32" if self.exact else chosen[""],
            connectivity=int(chosen["M"]),
            expansion_add=int(chosen["efc"]),
        )
        self.index.add(np.arange(len(x)), x, threads=self.threads)

    def sweep(self) -> list[Knobs]:
        if self.exact:
            return [{}]
        if self.rows is not None:
            return [{"expansion": e, "candidates": min(e, 40)} for e in (16, 32, 48, 64, 96, 128, 192, 256)]
        return [{"expansion": e} for e in (16, 24, 32, 48, 64, 96, 128, 192, 256, 400)]

    def tune(self, knobs: Knobs) -> None:
        self.index.expansion_search = int(knobs.get("expansion", 64))
        self.candidates = int(knobs.get("candidates", 0))

    def search(self, q: Floats, k: int) -> Ids:
        wanted = k if self.rows is None else max(k, self.candidates)
        found = self.index.search(q, wanted, threads=self.threads, exact=self.exact)
        ids = np.asarray(found.keys).astype(np.int64).reshape(len(q), -1)
        return ids if self.rows is None else rescored(self.rows, q, ids, k, self.metric)

    def save(self, folder: Path) -> None:
        self.index.save(str(folder / "index.usearch"))
        if self.rows is not None:
            np.save(folder / "rows.npy", self.rows)
