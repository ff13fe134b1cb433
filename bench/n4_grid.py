"""Which 16 levels should a 4-bit code have? The experiment behind docs/decisions/0010-n4-grid.md.

    python -m bench.n4_grid --data ../shared/data

Exhaustive search by codes alone, on real vectors, in plain NumPy from `tessella.reference`; queries are
rounded to +-127 as the kernels round them. "sweep" is the uniform grid with the best of 33 steps for every
row, which is how RaBitQ itself encodes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tessella.reference import rotate, scalar

K = 10


class Dataset(NamedTuple):
    name: str
    rows: np.ndarray  # (n, d) float32
    queries: np.ndarray  # (nq, d) float32
    metric: str


def load(folder: Path) -> Iterator[Dataset]:
    debian, vectors = folder / "debian", folder / "vectors"
    texts = np.load(debian / "query_embeddings.npy").astype(np.float32)
    rows = np.load(debian / "embeddings.npy").astype(np.float32)
    yield Dataset("debian, synopsis", rows, texts[:1000], "ip")
    yield Dataset("debian, jargon", rows, texts[2000:], "ip")
    sift = np.load(vectors / "sift10k_u8.npz")
    yield Dataset("sift10k", sift["base"].astype(np.float32), sift["queries"].astype(np.float32), "l2")
    deep = np.load(vectors / "deep10k_base.npy")
    yield Dataset("deep10k", deep, np.load(vectors / "deep10k_queries.npy"), "l2")


def similarities(data: Dataset) -> np.ndarray:
    products = data.queries.astype(np.float64) @ data.rows.astype(np.float64).T
    return products if data.metric == "ip" else 2 * products - (data.rows.astype(np.float64) ** 2).sum(axis=1)


def quantize(r: np.ndarray, grid: str) -> tuple[np.ndarray, np.ndarray]:
    """Values v (n, D) and scales (n,) of rotated residuals."""
    if grid != "sweep":
        codes = scalar.scalar_encode(r, 4, grid)
        return scalar.scalar_decode(codes.codes, r.shape[1], 4, grid), codes.scales
    sigma = np.linalg.norm(r, axis=1) / np.sqrt(r.shape[1])
    best_v, best_cosine = np.zeros_like(r), np.zeros(len(r))
    for step in scalar.KAPPA[4] * np.linspace(0.7, 1.3, 33):
        v = scalar.code_values(scalar.quantize_uniform(r, step * sigma, 4), 4, "uniform")
        cosine = (v * r).sum(axis=1) / np.linalg.norm(v, axis=1)
        better = cosine > best_cosine
        best_v[better], best_cosine[better] = v[better], cosine[better]
    return best_v, (r * r).sum(axis=1) / np.maximum((best_v * r).sum(axis=1), 1e-30)


def estimates(data: Dataset, grid: str, centre: np.ndarray, seed: int) -> tuple[np.ndarray, float]:
    """Estimated similarities (nq, n) up to a constant per query, and the mean error coefficient."""
    signs = rotate.rotate_signs(rotate.padded_dim(data.rows.shape[1]), seed)
    r = rotate.rotate_forward(data.rows, signs, centre)
    v, scales = quantize(r, grid)
    q = rotate.rotate_forward(data.queries, signs, centre if data.metric == "l2" else None)
    step = np.abs(q).max(axis=1, keepdims=True) / 127
    products = ((np.rint(q / step) * step) @ v.T) * scales
    norms2 = (r * r).sum(axis=1)
    cosine = (v * r).sum(axis=1) / np.maximum(np.linalg.norm(v, axis=1) * np.sqrt(norms2), 1e-30)
    coefficient = np.sqrt(1 / cosine[norms2 > 0] ** 2 - 1).mean()
    if data.metric == "l2":
        return 2 * products - norms2, coefficient
    return products, coefficient


def recall(truth: np.ndarray, guess: np.ndarray, shortlist: int) -> float:
    """Share of the true top 10 in the shortlist; a row counts when it scores as the true 10th does."""
    floor = np.partition(truth, -K, axis=1)[:, -K]
    listed = np.argpartition(-guess, shortlist, axis=1)[:, :shortlist]
    reached = np.take_along_axis(truth, listed, axis=1) >= floor[:, None] - 1e-9
    return float(np.minimum(reached.sum(axis=1), K).mean() / K)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with debian/ and vectors/")
    parser.add_argument("--seeds", type=int, default=3, help="rotations to average over")
    options = parser.parse_args()
    print(f"{'data':18}{'centre':8}{'grid':10}{'error':>8}{'recall@10':>12}{'in top 20':>12}")
    for data in load(options.data):
        truth = similarities(data)
        for centre_name in ("none", "mean"):
            centre = data.rows.mean(axis=0) * (centre_name == "mean")
            for grid in ("uniform", "sweep", "lloyd"):
                runs = []
                for seed in range(1, options.seeds + 1):
                    guess, error = estimates(data, grid, centre, seed)
                    runs.append((error, recall(truth, guess, K), recall(truth, guess, 2 * K)))
                error, at10, at20 = np.mean(runs, axis=0)
                print(f"{data.name:18}{centre_name:8}{grid:10}{error:8.4f}{at10:12.4f}{at20:12.4f}", flush=True)


if __name__ == "__main__":
    main()
