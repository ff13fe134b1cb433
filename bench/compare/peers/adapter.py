"""What every peer answers: build, settings to sweep, search, size. One instance has one pinned process."""

from __future__ import annotations

import abc
import tempfile
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float32]
Ids: TypeAlias = npt.NDArray[Any]
Knobs: TypeAlias = dict[str, float]


class Adapter(abc.ABC):
    """One index of one library. `spec` is the library's own way to say which index.

    Under `cosine` rows and queries have unit length, so inner product and squared distance rank alike and an
    adapter takes whichever its library does best.
    """

    exact = False  # every row is scored with full vectors: rates of arithmetic and of memory have a meaning
    note = ""  # what a reader of the table has to know

    def __init__(self, spec: str, *, metric: str, threads: int) -> None:
        self.spec, self.metric, self.threads = spec, metric, threads

    @abc.abstractmethod
    def build(self, x: Floats) -> None:
        """Builds from rows (n, d); keeps its own copy of what it needs."""

    @abc.abstractmethod
    def search(self, q: Floats, k: int) -> Ids:
        """Ids (nq, k) of a batch, -1 where there are fewer."""

    def search_one(self, q: Floats, k: int) -> Ids:
        """Ids (k,) of one query (d,)."""
        found: Ids = self.search(q[None], k)[0]
        return found

    def sweep(self) -> list[Knobs]:
        """Settings from fast to accurate."""
        return [{}]

    def tune(self, knobs: Knobs) -> None:
        """Takes one setting."""
        if knobs:
            raise ValueError(f"{type(self).__module__}: expected no knobs for {self.spec!r}; got {knobs}")

    def save(self, folder: Path) -> None:
        """Writes the index into an empty folder; the files' sizes are its size."""
        raise NotImplementedError

    def nbytes(self) -> int | None:
        """Serialized size in bytes, or None where the library cannot say."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                self.save(Path(folder))
            except NotImplementedError:
                return None
            return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())

    def counts(self) -> dict[str, float]:
        """Work done by the last search, for a query, where the library counts it."""
        return {}


def options(spec: str, **defaults: str) -> dict[str, str]:
    """`"f16,M=32"` as {"": "f16", "M": "32"} over the defaults; a word without `=` stands under ""."""
    chosen = dict(defaults)
    for part in filter(None, spec.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            key, value = "", part
        if key not in defaults:
            raise ValueError(f"spec: expected {', '.join(defaults)}; got {part!r} in {spec!r}")
        chosen[key] = value
    return chosen


def rescored(x: Floats, q: Floats, ids: Ids, k: int, metric: str) -> Ids:
    """The best k of each query's candidates (nq, c) by full float32 scores."""
    rows = x[ids.astype(np.int64)]
    left, right = (rows - q[:, None],) * 2 if metric == "l2" else (rows, q[:, None])
    scores = np.einsum("qcd,qcd->qc", left, np.broadcast_to(right, left.shape))
    if metric == "l2":
        scores = -scores
    best = np.argpartition(scores, -k, axis=1)[:, -k:]
    return np.take_along_axis(ids, best, axis=1)
