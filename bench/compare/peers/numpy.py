"""NumPy as most people would write it: one product, then `argpartition`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.compare.peers.adapter import Adapter, Floats, Ids

_QUERIES_AT_ONCE = 256


class Peer(Adapter):
    """Spec: `exact`."""

    exact = True

    def build(self, x: Floats) -> None:
        self.x = np.array(x)
        self.squares = np.einsum("ij,ij->i", x, x)

    def search(self, q: Floats, k: int) -> Ids:
        parts = [self._best(q[i : i + _QUERIES_AT_ONCE], k) for i in range(0, len(q), _QUERIES_AT_ONCE)]
        return np.concatenate(parts)

    def save(self, folder: Path) -> None:
        np.save(folder / "rows.npy", self.x)

    def _best(self, q: Floats, k: int) -> Ids:
        scores = q @ self.x.T
        if self.metric == "l2":
            scores = 2 * scores - self.squares
        best = np.argpartition(scores, -k, axis=1)[:, -k:]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        return np.take_along_axis(best, order, axis=1)
