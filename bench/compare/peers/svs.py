"""Intel SVS: Vamana graphs over float16, LVQ or LeanVec rows, and IVF.

LVQ and LeanVec end the process on CPUs that are not Intel's; the table then says that the process ended.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import svs

from bench.compare.peers.adapter import Adapter, Floats, Ids, Knobs, options


class Peer(Adapter):
    """Spec: `vamana` or `ivf`, `data=f16|f32|lvq8|lvq4x8|leanvec`, `R=`, `W=` (window), `nl=` (lists).

    Squared distance throughout: on unit vectors it ranks as inner products do, and its graphs are better.
    """

    def build(self, x: Floats) -> None:
        chosen = options(self.spec, **{"": "vamana", "data": "f16", "R": "64", "W": "128", "nl": "0"})
        self.graph = chosen[""] == "vamana"
        if self.graph:
            self._build_graph(x, chosen)
        else:
            self._build_ivf(x, chosen)

    def sweep(self) -> list[Knobs]:
        if self.graph:
            return [{"window": w} for w in (10, 14, 20, 28, 40, 56, 80, 120, 200)]
        return [{"nprobe": p} for p in (8, 16, 32, 48, 64, 96, 128)]

    def tune(self, knobs: Knobs) -> None:
        parameters = self.index.search_parameters
        if self.graph:
            window = int(knobs["window"])
            parameters.buffer_config = svs.SearchBufferConfig(window, window)
            parameters.prefetch_lookahead, parameters.prefetch_step = 4, 1
        else:
            parameters.n_probes = int(knobs["nprobe"])
        self.index.search_parameters = parameters

    def search(self, q: Floats, k: int) -> Ids:
        ids: Ids = self.index.search(q, k)[0].astype(np.int64)
        return ids

    def save(self, folder: Path) -> None:
        if not self.graph:
            raise NotImplementedError
        self.index.save(*(str(folder / part) for part in ("config", "graph", "data")))

    def _build_graph(self, x: Floats, chosen: dict[str, str]) -> None:
        plan = svs.VamanaBuildParameters(alpha=1.2, graph_max_degree=int(chosen["R"]), window_size=int(chosen["W"]))
        with tempfile.TemporaryDirectory() as folder:
            rows = _rows(x, chosen["data"], folder)
            self.index = svs.Vamana.build(plan, rows, svs.DistanceType.L2, num_threads=self.threads)
        self.index.num_threads = self.threads

    def _build_ivf(self, x: Floats, chosen: dict[str, str]) -> None:
        lists = int(chosen["nl"]) or int(4 * np.sqrt(len(x)))
        plan = svs.IVFBuildParameters(num_centroids=lists, training_fraction=min(1.0, 100 * lists / len(x)))
        clusters = svs.Clustering.build(plan, x, svs.DistanceType.L2, num_threads=self.threads)
        self.index = svs.IVF.assemble_from_clustering(
            clustering=clusters,
            py_data=x.astype(np.float16),
            distance=svs.DistanceType.L2,
            num_threads=self.threads,
        )


def _rows(x: Floats, kind: str, folder: str) -> Any:
    """The rows as an array, or a loader that compresses them from a file."""
    if kind in ("f16", "f32"):
        return x.astype(np.float16) if kind == "f16" else x
    file = str(Path(folder) / "rows.fvecs")
    svs.write_vecs(x, file)
    rows = svs.VectorDataLoader(file, svs.DataType.float32, dims=x.shape[1])
    if kind == "leanvec":  # a quarter of the dimensions first, all of them for the rerank
        return svs.LeanVecLoader(rows, x.shape[1] // 4, svs.LeanVecKind.lvq8, svs.LeanVecKind.lvq8)
    bits = [int(part) for part in kind.removeprefix("lvq").split("x")]
    return svs.LVQLoader(rows, primary=bits[0], residual=bits[1] if len(bits) > 1 else 0)
