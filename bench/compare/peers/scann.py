"""ScaNN: a tree of leaves, anisotropic 4-bit codes, reordering with full vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scann

from bench.compare.peers.adapter import Adapter, Floats, Ids, Knobs, options


class Peer(Adapter):
    """Spec: `leaves=496,dims=2,T=0.2,soar=1.5`; without `leaves`, twice the root of the rows."""

    def build(self, x: Floats) -> None:
        chosen = options(self.spec, leaves="0", dims="2", T="0.2", soar="0")
        product = self.metric != "l2"
        self.leaves = int(chosen["leaves"]) or int(2 * np.sqrt(len(x)))
        self.knobs: Knobs = {}
        tree = {"soar_lambda": float(chosen["soar"])} if product and float(chosen["soar"]) else {}
        builder = scann.scann_ops_pybind.builder(np.array(x), 10, "dot_product" if product else "squared_l2")
        builder = builder.set_n_training_threads(self.threads)
        builder = builder.tree(
            num_leaves=self.leaves,
            num_leaves_to_search=self.leaves,
            training_sample_size=min(len(x), 250_000),
            spherical=product,
            quantize_centroids=True,
            **tree,
        )
        threshold = float(chosen["T"]) if product else float("nan")
        builder = builder.score_ah(int(chosen["dims"]), anisotropic_quantization_threshold=threshold)
        self.index = builder.reorder(100).build()
        self.index.set_num_threads(self.threads)

    def sweep(self) -> list[Knobs]:
        wanted = [max(1, round(share * self.leaves)) for share in (0.03, 0.065, 0.1, 0.13, 0.2, 0.26, 0.4)]
        return [{"leaves": leaves, "reorder": reorder} for leaves in wanted for reorder in (100, 200)]

    def tune(self, knobs: Knobs) -> None:
        self.knobs = knobs

    def search(self, q: Floats, k: int) -> Ids:
        call = self.index.search_batched if self.threads == 1 else self.index.search_batched_parallel
        return np.asarray(call(q, **self._arguments(k))[0])

    def search_one(self, q: Floats, k: int) -> Ids:
        return np.asarray(self.index.search(q, **self._arguments(k))[0])

    def save(self, folder: Path) -> None:
        self.index.serialize(str(folder))

    def _arguments(self, k: int) -> dict[str, int]:
        return {
            "final_num_neighbors": k,
            "pre_reorder_num_neighbors": int(self.knobs["reorder"]),
            "leaves_to_search": int(self.knobs["leaves"]),
        }
