"""The RaBitQ library: SymphonyQG graphs, and its IVF and HNSW."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rabitqlib

from bench.compare.peers.adapter import Adapter, Floats, Ids, Knobs, options

_HNSW_CENTRES = 16


class Peer(Adapter):
    """Spec: `symqg,degree=32,efc=400,bits=0` · `ivf,nl=1024,bits=5` · `hnsw,M=32,efc=200,bits=5`.

    Squared distance on unit vectors. `symqg` keeps float32 rows with bits=0, else codes of 4 or 8 bits.
    """

    def build(self, x: Floats) -> None:
        defaults = {"": "symqg", "degree": "32", "efc": "400", "bits": "0", "nl": "0", "M": "32"}
        chosen = options(self.spec, **defaults)
        self.kind = chosen[""]
        {"symqg": self._symqg, "ivf": self._ivf, "hnsw": self._hnsw}[self.kind](x, chosen)

    def sweep(self) -> list[Knobs]:
        if self.kind == "ivf":
            return [{"nprobe": p} for p in (8, 16, 32, 48, 64, 96, 128, 192)]
        return [{"ef": ef} for ef in (10, 16, 24, 32, 48, 64, 96, 128, 192, 256)]

    def tune(self, knobs: Knobs) -> None:
        self.knobs = {name: int(value) for name, value in knobs.items()}

    def search(self, q: Floats, k: int) -> Ids:
        call = self.index.search_batch if self.kind == "symqg" and len(q) > 1 else self.index.search
        ids = np.asarray(call(q, k, num_threads=self.threads, **self.knobs)[0])
        return ids.astype(np.int64).reshape(len(q), -1)

    def save(self, folder: Path) -> None:
        self.index.save(str(folder / "index.rabitq"))

    def _symqg(self, x: Floats, chosen: dict[str, str]) -> None:
        self.index: Any = rabitqlib.SymqgIndex(
            x.shape[1], int(chosen["degree"]), metric="l2", quantization_bits=int(chosen["bits"])
        )
        self.index.build(x, int(chosen["efc"]), num_threads=self.threads, init="pipnn")

    def _ivf(self, x: Floats, chosen: dict[str, str]) -> None:
        lists = int(chosen["nl"]) or 1 << round(np.log2(4 * np.sqrt(len(x))))
        self.index = rabitqlib.IvfIndex(x.shape[1], len(x), lists, int(chosen["bits"]) or 5, metric="l2")
        self._build_on_centres(x, lists)

    def _hnsw(self, x: Floats, chosen: dict[str, str]) -> None:
        self.index = rabitqlib.HnswIndex(
            x.shape[1],
            len(x),
            M=int(chosen["M"]),
            ef_construction=int(chosen["efc"]),
            nbits=int(chosen["bits"]) or 5,
            metric="l2",
        )
        self._build_on_centres(x, _HNSW_CENTRES)

    def _build_on_centres(self, x: Floats, centres: int) -> None:
        means = rabitqlib.RaBitQKMeans(x.shape[1], centres, num_threads=self.threads)
        means.train(x)
        self.index.build(x, means.centroids, means.assignments, num_threads=self.threads)
