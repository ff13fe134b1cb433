"""tessella, through its public face as any user would."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import tessella as ts
from bench.compare.peers.adapter import Adapter, Floats, Ids, Knobs


class Peer(Adapter):
    """Spec: an index spec, such as `Flat` or `Flat,B1+U8`."""

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
        return [{"epsilon": e} for e in (1.0, 1.5, 1.9, 2.5)] if "B1" in self.spec else [{}]

    def tune(self, knobs: Knobs) -> None:
        self.arguments = knobs

    def search(self, q: Floats, k: int) -> Ids:
        return np.asarray(self.index.search(q, k, threads=self.threads, **self.arguments).ids)

    def save(self, folder: Path) -> None:
        self.index.save(folder / "index.tsl")
