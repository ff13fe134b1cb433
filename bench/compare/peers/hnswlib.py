"""hnswlib: the reference HNSW."""

from __future__ import annotations

from pathlib import Path

import hnswlib

from bench.compare.peers.adapter import Adapter, Floats, Ids, Knobs, options


class Peer(Adapter):
    """Spec: `M=32,efc=200`."""

    def build(self, x: Floats) -> None:
        chosen = options(self.spec, M="32", efc="200")
        self.index = hnswlib.Index("l2" if self.metric == "l2" else "ip", x.shape[1])
        self.index.init_index(len(x), M=int(chosen["M"]), ef_construction=int(chosen["efc"]))
        self.index.add_items(x, num_threads=self.threads)

    def sweep(self) -> list[Knobs]:
        return [{"ef": ef} for ef in (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 400)]

    def tune(self, knobs: Knobs) -> None:
        self.index.set_ef(int(knobs["ef"]))

    def search(self, q: Floats, k: int) -> Ids:
        ids: Ids = self.index.knn_query(q, k, num_threads=self.threads)[0].astype("int64")
        return ids

    def save(self, folder: Path) -> None:
        self.index.save_index(str(folder / "index.hnswlib"))
