"""FAISS: any index its factory can make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss

from bench.compare.peers.adapter import Adapter, Floats, Ids, Knobs

_EF_CONSTRUCTION = 200


class Peer(Adapter):
    """Spec: a factory string, such as `Flat`, `HNSW32,SQ8` or `IVF1024,PQ192x4fsr,RFlat`."""

    def __init__(self, spec: str, *, metric: str, threads: int) -> None:
        super().__init__(spec, metric=metric, threads=threads)
        faiss.omp_set_num_threads(threads)
        self.exact = spec == "Flat"

    def build(self, x: Floats) -> None:
        l2_only = "HNSW" in self.spec and "RaBitQ" in self.spec
        metric = faiss.METRIC_L2 if self.metric == "l2" or l2_only else faiss.METRIC_INNER_PRODUCT
        self.index = faiss.index_factory(x.shape[1], self.spec, metric)
        graph = self._inner("IndexHNSW")
        if graph is not None:
            graph.hnsw.efConstruction = _EF_CONSTRUCTION
        self.index.train(x)
        self.index.add(x)

    def sweep(self) -> list[Knobs]:
        refined = self.spec.split(",")[-1].startswith(("RFlat", "Refine"))
        refine: list[Knobs] = [{"k_factor_rf": 4}, {"k_factor_rf": 10}] if refined else [{}]
        if "IVF" in self.spec:
            return [{"nprobe": p, **r} for r in refine for p in (8, 16, 24, 32, 48, 64, 96, 128, 192)]
        if "HNSW" in self.spec or "NSG" in self.spec:
            return [{"efSearch": e, **r} for r in refine for e in (10, 16, 24, 32, 48, 64, 96, 128, 192, 256)]
        return refine

    def tune(self, knobs: Knobs) -> None:
        for name, value in knobs.items():
            faiss.ParameterSpace().set_index_parameter(self.index, name, value)

    def search(self, q: Floats, k: int) -> Ids:
        for stats in (faiss.cvar.indexIVF_stats, faiss.cvar.hnsw_stats):
            stats.reset()
        self.queries = len(q)
        ids: Ids = self.index.search(q, k)[1]
        return ids

    def save(self, folder: Path) -> None:
        faiss.write_index(self.index, str(folder / "index.faiss"))

    def counts(self) -> dict[str, float]:
        seen = {"rows": faiss.cvar.indexIVF_stats.ndis, "graph_distances": faiss.cvar.hnsw_stats.ndis}
        return {name: count / self.queries for name, count in seen.items() if count}

    def _inner(self, kind: str) -> Any:
        """The index of that kind inside transforms and refinement, if there is one."""
        index = self.index
        while True:
            index = faiss.downcast_index(index)
            if isinstance(index, getattr(faiss, kind)):
                return index
            if isinstance(index, faiss.IndexPreTransform):
                index = index.index
            elif isinstance(index, faiss.IndexRefine):
                index = index.base_index
            else:
                return None
