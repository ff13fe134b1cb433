"""tessella, through its public face as any user would."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import tessella as ts
from bench.compare.peers.adapter import Adapter, Floats, Ids, Knobs


class Peer(Adapter):
    """Spec: an index spec, such as `Flat`, `IVF1024+SOAR,B1+U8` or `Graph32,B1+U8`."""

    def __init__(self, spec: str, *, metric: str, threads: int) -> None:
        super().__init__(spec, metric=metric, threads=threads)
        ts.set_num_threads(threads)
        self.exact = spec == "Flat"
        self.arguments: Knobs = {}

    def build(self, x: Floats) -> None:
        # unit vectors: the inner product ranks as the cosine does, and peers are spared the division too
        self.index = ts.Index(self.spec, dim=x.shape[1], metric="l2" if self.metric == "l2" else "ip")
        self.index.add(x)

    def sweep(self) -> list[Knobs]:
        if self.spec.startswith("IVF"):
            return [{"nprobe": p} for p in (4, 6, 8, 10, 12, 14, 16, 20, 24, 32, 40, 48, 64, 96, 128)]
        if self.spec.startswith("Graph"):
            return [{"ef": ef} for ef in (10, 16, 24, 32, 40, 48, 64, 96, 128, 192, 256)]
        return [{"epsilon": e} for e in (1.0, 1.5, 1.9, 2.5)] if "B1" in self.spec else [{}]

    def tune(self, knobs: Knobs) -> None:
        self.arguments = {name: int(value) if name in ("nprobe", "ef") else value for name, value in knobs.items()}

    def search(self, q: Floats, k: int) -> Ids:
        self.last = q, k
        return np.asarray(self.index.search(q, k, threads=self.threads, **self.arguments).ids)

    def counts(self) -> dict[str, float]:
        q, k = self.last
        cost = self.index.explain(q, k, **self.arguments)
        return {"rows": cost.scanned / len(q), "refined": cost.refined / len(q)}

    def save(self, folder: Path) -> None:
        self.index.save(folder / "index.tsl")
