"""Vectors to measure with: the real sets of a data folder, any `.npy` file, and made ones from a seed.

The data folder is `--data`, or `TESSELLA_DATA`, or `../shared/data` beside the repository.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from bench.machine import ROOT

Floats: TypeAlias = npt.NDArray[np.float32]
SEED = 7
_EIGEN_SHIFT, _EIGEN_POWER = 10.0, 1.0
_ROWS_A_TOPIC, _TOPIC_POWER, _TOPIC_SHARE, _MEAN = 20, 0.8, 0.9, 0.42


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows and held-out queries, float32 and contiguous; under `cosine` both have unit length."""

    name: str
    metric: str  # cosine | ip | l2
    base: Floats  # (n, d)
    queries: Floats  # (nq, d)
    seed: int | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and dimensions."""
        return self.base.shape[0], self.base.shape[1]


def data_folder(data: str | os.PathLike[str] | None = None) -> Path:
    """The folder of the real sets."""
    return Path(data or os.environ.get("TESSELLA_DATA") or ROOT.parent / "shared" / "data")


def load(
    name: str,
    *,
    data: str | os.PathLike[str] | None = None,
    queries: str | None = None,
    metric: str = "cosine",
    count: int | None = None,
    seed: int = SEED,
) -> Dataset:
    """A set by its name (`debian`, `sift10k`, …), a `.npy` file, or `synthetic:n=…,d=…`.

    A `.npy` file may come with a file of `queries`; without one, `count` rows (1,000, or a tenth of a small
    set) are drawn with the seed and held out. `count` also limits the queries of the other sets. `metric`
    is for `.npy` files; the others have their own.
    """
    if name.startswith("synthetic"):
        return synthetic(**_parameters(name), seed=seed, nq=count or 1000)
    if name.endswith(".npy"):
        base = np.load(name)
        if queries is None:
            base, held_out = _held_out(base, count, seed)
        else:
            held_out = np.load(queries)[:count]
        return _dataset(Path(name).stem, metric, base, held_out, None if queries else seed)
    if name not in REAL:
        known = ", ".join(REAL)
        raise ValueError(f"datasets: expected {known}, a .npy file or synthetic:n=…,d=…; got {name!r}")
    own_metric, read = REAL[name]
    folder = data_folder(data)
    if not folder.is_dir():
        raise FileNotFoundError(f"datasets: expected a data folder at {folder} (--data or TESSELLA_DATA)")
    base, held_out = read(folder)
    return _dataset(name, own_metric, base, held_out[:count], seed if name == "glove4k" else None)


def synthetic(*, n: int = 100_000, d: int = 384, nq: int = 1000, seed: int = SEED) -> Dataset:
    """Unit vectors with the statistics of real sentence embeddings; the same seed gives the same vectors.

    Every row is a mean direction, plus a topic, plus its own part. Topics and own parts are Gaussian with
    eigenvalues proportional to 1 / (j + 10), j = 0 … d-1: a power law with a flat head. There is one topic
    for 20 rows, of Zipf size (power 0.8); a topic is between 0.18 and 0.9 of its row's variance. At 61,436 x
    384 this gives 114 effective dimensions (trace² / trace of squares), a mean vector of length 0.39 and a
    best neighbour at cosine 0.74; MiniLM embeddings of Debian's descriptions have 112, 0.40 and 0.72.
    """
    draw = np.random.default_rng(seed)
    rows = n + nq
    eigenvalues = (np.arange(d) + _EIGEN_SHIFT) ** -_EIGEN_POWER
    deviation = np.sqrt(eigenvalues / eigenvalues.sum()).astype(np.float32)
    topics = max(1, rows // _ROWS_A_TOPIC)
    weight = np.arange(1, topics + 1) ** -_TOPIC_POWER
    topic = draw.choice(topics, rows, p=weight / weight.sum())
    centres = draw.standard_normal((topics, d), dtype=np.float32) * deviation
    mean = draw.standard_normal(d, dtype=np.float32)
    mean *= _MEAN / np.linalg.norm(mean)
    x = np.empty((rows, d), dtype=np.float32)
    for start in range(0, rows, 65_536):  # by slices: at ten million rows no second copy is alive
        part = topic[start : start + 65_536]
        share = draw.uniform(0.2 * _TOPIC_SHARE, _TOPIC_SHARE, (len(part), 1)).astype(np.float32)
        own = draw.standard_normal((len(part), d), dtype=np.float32) * deviation
        x[start : start + len(part)] = unit(mean + np.sqrt(share) * centres[part] + np.sqrt(1 - share) * own)
    return Dataset(f"synthetic-{n}x{d}", "cosine", x[:n], x[n:], seed)


def unit(x: npt.NDArray[Any]) -> Floats:
    """Rows of length one; zero rows stay zero."""
    x = np.asarray(x, dtype=np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", x, x, dtype=np.float64))[:, None]
    return np.ascontiguousarray(x / np.where(lengths == 0, 1, lengths), dtype=np.float32)


def _dataset(name: str, metric: str, base: npt.NDArray[Any], queries: npt.NDArray[Any], seed: int | None) -> Dataset:
    if base.ndim != 2 or queries.ndim != 2 or base.shape[1] != queries.shape[1]:
        got = f"{base.shape} and {queries.shape}"
        raise ValueError(f"datasets: expected rows and queries of one width; got {got}")
    ready = unit if metric == "cosine" else lambda x: np.ascontiguousarray(x, dtype=np.float32)
    return Dataset(name, metric, ready(base), ready(queries), seed)


def _held_out(x: npt.NDArray[Any], count: int | None, seed: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Rows that stay and rows that become queries."""
    count = count or min(1000, len(x) // 10)
    if not 0 < count < len(x):
        raise ValueError(f"datasets: expected fewer held-out queries than the {len(x)} rows; got {count}")
    order = np.random.default_rng(seed).permutation(len(x))
    return x[np.sort(order[count:])], x[order[:count]]


def _parameters(name: str) -> dict[str, int]:
    """`synthetic:n=100000,d=768` as a dictionary."""
    text = name.partition(":")[2]
    pairs = dict(part.split("=", 1) for part in text.split(",")) if text else {}
    if not pairs.keys() <= {"n", "d"}:
        raise ValueError(f"datasets: expected synthetic:n=…,d=…; got {name!r}")
    return {key: int(value.replace("_", "")) for key, value in pairs.items()}


_Pair: TypeAlias = tuple[npt.NDArray[Any], npt.NDArray[Any]]


def _debian(folder: Path) -> _Pair:
    return np.load(folder / "debian/embeddings.npy"), np.load(folder / "debian/query_embeddings.npy")


def _deep10k(folder: Path) -> _Pair:
    return np.load(folder / "vectors/deep10k_base.npy"), np.load(folder / "vectors/deep10k_queries.npy")


def _bytes(name: str) -> Callable[[Path], _Pair]:
    def read(folder: Path) -> _Pair:
        with np.load(folder / f"vectors/{name}_u8.npz") as parts:
            return parts["base"], parts["queries"]

    return read


def _glove4k(folder: Path) -> _Pair:
    return _held_out(np.load(folder / "vectors/glove4k_50d.npy"), 400, SEED)


REAL: dict[str, tuple[str, Callable[[Path], _Pair]]] = {
    "debian": ("cosine", _debian),
    "sift10k": ("l2", _bytes("sift10k")),
    "deep10k": ("l2", _deep10k),
    "mnist10k": ("l2", _bytes("mnist10k")),
    "glove4k": ("cosine", _glove4k),
}
