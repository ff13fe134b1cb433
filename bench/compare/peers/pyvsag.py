"""VSAG: HGraph over 8-bit codes, reordered with full vectors."""

from __future__ import annotations

import json

import numpy as np
import pyvsag

from bench.compare.peers.adapter import Adapter, Floats, Ids, Knobs, options


class Peer(Adapter):
    """Spec: codes (`sq8_uniform`, `sq4_uniform`, `rabitq`, `fp16`, `fp32`), `R=`, `efc=`."""

    note = "one query for a call, batch too; its file holds whole 128 MiB blocks, so no size"

    def build(self, x: Floats) -> None:
        chosen = options(self.spec, **{"": "sq8_uniform", "R": "32", "efc": "400"})
        plan: dict[str, object] = {
            "base_quantization_type": chosen[""],
            "max_degree": int(chosen["R"]),
            "ef_construction": int(chosen["efc"]),
            "build_thread_count": self.threads,
        }
        if chosen[""] not in ("fp16", "fp32"):
            plan |= {"use_reorder": True, "precise_quantization_type": "fp32"}
        metric = "l2" if self.metric == "l2" else "ip"
        config = {"dtype": "float32", "metric_type": metric, "dim": x.shape[1], "index_param": plan}
        pyvsag.set_logger_off()
        self.index = pyvsag.Index("hgraph", json.dumps(config))
        self.index.build(x.ravel(), np.arange(len(x), dtype=np.int64), *x.shape)

    def sweep(self) -> list[Knobs]:
        return [{"ef_search": ef} for ef in (10, 16, 24, 32, 48, 64, 96, 128, 192, 256)]

    def tune(self, knobs: Knobs) -> None:
        self.parameters = json.dumps({"hgraph": {"ef_search": int(knobs["ef_search"])}})

    def search(self, q: Floats, k: int) -> Ids:
        return np.stack([self.search_one(each, k) for each in q])

    def search_one(self, q: Floats, k: int) -> Ids:
        ids = np.full(k, -1, dtype=np.int64)
        found = self.index.knn_search(q, k, self.parameters)[0]
        ids[: len(found)] = found
        return ids
