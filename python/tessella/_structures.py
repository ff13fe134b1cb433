"""What an index's structures have in common, and where they differ: the engine, its effort, its tensors in a file."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from tessella import _container, _core
from tessella._progress import Report, part
from tessella.calibration import Span
from tessella.config import IndexConfig
from tessella.pq import ProductQuantizer

Floats: TypeAlias = npt.NDArray[np.float32]
Ids: TypeAlias = npt.NDArray[np.int64]
Counts: TypeAlias = tuple[int, int, int, int]  # rows scanned, refined, re-scored; lists looked into
# How each query was filtered, as a number of `WAYS` (nq,), and estimated nanoseconds of every way (nq, ways).
Plans: TypeAlias = tuple[Ids, npt.NDArray[np.float64]]
Found: TypeAlias = tuple[Ids, Floats, Counts, Plans | None]
State: TypeAlias = dict[str, Any]

WAYS = ("gather", "scan", "lists", "walk", "copies")  # of a filtered search

_PQ_ROWS = 65_536  # that codebooks are learnt from
_ANISOTROPIC = 0.2  # threshold of an APQ codec, which the engine encodes by
_BOOKS_SHARE = 0.5  # of training an inverted file: what codebooks take of it
_ERROR_ROWS = 4096  # that their error is measured on
_SHORT_WALK = 256  # efforts of a graph that are always measured
_LONG_WALK = 32  # … and those up to one in so many rows
RAW = ("F32", "F16", "BF16", "UINT8")


class Structure(Protocol):
    """An engine behind one face. `effort` is the structure's own knob; 0 where it has none."""

    engine: Any
    default_effort: int
    knob: str  # what users call the effort; empty where there is none
    built_at_once: bool  # the first rows come all together, and bring the centre with them

    @property
    def most_effort(self) -> int:
        """Effort at which a search looks at everything; 0 where it always does."""

    def span(self, k: int) -> Span:
        """Efforts that are worth measuring for the k best."""

    def train(self, x: Floats, threads: int, progress: Report) -> None: ...

    def add(self, x: Floats, ids: Ids | None, threads: int, progress: Report) -> None: ...

    def tensors(self, state: State) -> list[_container.Tensor]:
        """What a file holds beside the config, the centre and the ids."""

    def read(self, file: _container.Container) -> State:
        """The same, out of a file."""

    def joined(self, state: State) -> State:
        """A snapshot whose parts are single arrays, as `restore` takes them."""


class Flat:
    """Every row is looked at."""

    knob = ""
    built_at_once = False

    def __init__(self, config: IndexConfig, *, dim: int, metric: str, seed: int) -> None:
        self.engine: Any = _core.FlatIndex(dim=dim, metric=metric, codecs=list(config.codecs), seed=seed)
        self.codebooks = Codebooks.of(config, dim, metric, seed)
        self.default_effort = 0

    @property
    def most_effort(self) -> int:
        return 0

    def span(self, k: int) -> Span:
        return Span(0, 0, 0)

    def train(self, x: Floats, threads: int, progress: Report) -> None:
        self.engine.train(x)
        if self.codebooks is not None:
            self.engine.set_pq(self.codebooks.learn(x, threads, progress))

    def add(self, x: Floats, ids: Ids | None, threads: int, progress: Report) -> None:
        self.engine.add(x, ids, threads)

    def tensors(self, state: State) -> list[_container.Tensor]:
        return _column_tensors("column", state["columns"], self.engine.block_bytes) + _pq_tensors(state)

    def read(self, file: _container.Container) -> State:
        return {"columns": _read_columns(file, "column"), "pq": _read_pq(file)}

    def joined(self, state: State) -> State:
        return state | {"columns": _joined_columns(state["columns"], self.engine.block_bytes)}


class Ivf:
    """Rows in lists by nearest centroid; effort is nprobe, the lists a search looks into."""

    knob = "nprobe"
    built_at_once = False

    def __init__(self, config: IndexConfig, *, dim: int, metric: str, seed: int) -> None:
        self.engine: Any = _core.IvfIndex(
            dim=dim, metric=metric, codecs=list(config.codecs), seed=seed, lists=config.lists, spill=config.soar
        )
        self.default_effort = 16
        self._lists = config.lists
        self.codebooks = Codebooks.of(config, dim, metric, seed)

    @property
    def most_effort(self) -> int:
        return max(1, int(self.engine.lists()))

    def span(self, k: int) -> Span:
        return Span(1, self.most_effort, self.most_effort)

    def train(self, x: Floats, threads: int, progress: Report) -> None:
        if self.codebooks is None or self._refuses(x):
            self.engine.train(x, threads, progress)
            return
        # The codebooks first: whoever stops them leaves no lists behind.
        learned = self.codebooks.learn(x, threads, progress and part(progress, 0, _BOOKS_SHARE))
        self.engine.train(x, threads, progress and part(progress, _BOOKS_SHARE, 1))
        self.engine.set_pq(learned)

    def _refuses(self, x: Floats) -> bool:
        """Whether training cannot be; the engine says why."""
        return len(self.engine) > 0 or len(x) < max(1, self._lists) or not np.isfinite(x).all()

    def add(self, x: Floats, ids: Ids | None, threads: int, progress: Report) -> None:
        self.engine.add(x, ids, threads)

    def tensors(self, state: State) -> list[_container.Tensor]:
        entries = sum(state["list_sizes"])
        blocks = sum(map(len, state["list_blocks"]))
        sizes = np.array(state["list_sizes"], dtype=np.uint32)
        return [
            *_column_tensors("column", state["columns"], self.engine.block_bytes),
            *_pq_tensors(state),
            *_column_tensors("centroid", state["centroids"], self.engine.centroid_block_bytes),
            ("list.shrinks", "F32", (len(sizes),), [state["shrinks"]]),
            ("list.sizes", "U32", (len(sizes),), [sizes]),
            ("list.rows", "U32", (entries,), state["list_rows"]),
            ("list.blocks", "U8", (blocks, self.engine.list_block_bytes()), state["list_blocks"]),
        ]

    def read(self, file: _container.Container) -> State:
        sizes = file.take("list.sizes", "U32", (None,))
        return {
            "lists": len(sizes),
            "pq": _read_pq(file),
            "columns": _read_columns(file, "column"),
            "centroids": _read_columns(file, "centroid"),
            "shrinks": file.take("list.shrinks", "F32", (None,)),
            "list_sizes": sizes,
            "list_rows": file.take("list.rows", "U32", (None,)),
            "list_blocks": file.take("list.blocks", "U8", (None, None)),
        }

    def joined(self, state: State) -> State:
        return state | {
            "columns": _joined_columns(state["columns"], self.engine.block_bytes),
            "centroids": _joined_columns(state["centroids"], self.engine.centroid_block_bytes),
            "list_sizes": np.array(state["list_sizes"], dtype=np.uint32),
            "list_rows": np.concatenate([np.empty(0, np.uint32), *state["list_rows"]]),
            "list_blocks": np.concatenate(
                [np.empty((0, self.engine.list_block_bytes()), np.uint8), *state["list_blocks"]]
            ),
        }


class Graph:
    """Rows linked to their neighbours; effort is ef, the candidates that a walk keeps."""

    knob = "ef"
    built_at_once = True

    def __init__(self, config: IndexConfig, *, dim: int, metric: str, seed: int) -> None:
        self.engine: Any = _core.GraphIndex(
            dim=dim, metric=metric, codecs=list(config.codecs), seed=seed, degree=config.degree
        )
        self.codecs = config.codecs
        self.default_effort = 64

    @property
    def most_effort(self) -> int:
        return max(1, len(self.engine))

    def span(self, k: int) -> Span:
        # A walk keeps k candidates at least, four times as many where a raw codec re-scores them. Each visit looks at
        # 32 edges or more, so a long walk costs more than all rows do long before it has been everywhere.
        most = self.most_effort
        rescored = len(self.codecs) > 1 + ("B1" in self.codecs) and self.codecs[-1] in RAW
        least = min(most, 4 * k if rescored else k)
        return Span(least, max(least + 1, _SHORT_WALK, most // _LONG_WALK), most)

    def train(self, x: Floats, threads: int, progress: Report) -> None:
        self.engine.train(x)

    def add(self, x: Floats, ids: Ids | None, threads: int, progress: Report) -> None:
        self.engine.add(x, ids, threads, progress)

    def tensors(self, state: State) -> list[_container.Tensor]:
        return _column_tensors("column", state["columns"], self.engine.block_bytes)

    def read(self, file: _container.Container) -> State:
        return {"columns": _read_columns(file, "column")}

    def joined(self, state: State) -> State:
        return state | {"columns": _joined_columns(state["columns"], self.engine.block_bytes)}


_MADE: dict[str, type[Flat] | type[Ivf] | type[Graph]] = {"Flat": Flat, "IVF": Ivf, "Graph": Graph}


class Codebooks:
    """The product quantizer behind a PQ codec: learns the codebooks that the engine encodes with."""

    def __init__(self, quantizer: ProductQuantizer, normalize: bool) -> None:
        self.quantizer, self.normalize = quantizer, normalize

    @classmethod
    def of(cls, config: IndexConfig, dim: int, metric: str, seed: int) -> Codebooks | None:
        """None where the spec has no PQ codec; what there is, the engine has accepted."""
        match = re.fullmatch(r"([OA]?)P(R?)Q(\d+)(?:x(\d+))??(?:x([48]))?", config.codecs[0])
        if match is None:
            return None
        kind, residual, m, levels, bits = match.groups()
        quantizer = ProductQuantizer(
            dim, int(m), int(bits or 8), opq=kind == "O", residual_levels=int(levels or 1) if residual else 1,
            anisotropic=_ANISOTROPIC if kind == "A" else None, seed=seed,
        )  # fmt: skip
        return cls(quantizer, metric == "cosine")

    def learn(self, x: Floats, threads: int, progress: Report) -> State:
        """Codebooks, rotation and error, as `set_pq` takes them."""
        if len(x) > _PQ_ROWS:
            x = x[np.sort(np.random.default_rng(0).permutation(len(x))[:_PQ_ROWS])]
        if self.normalize:
            lengths = np.linalg.norm(x, axis=1, keepdims=True)
            x = (x / np.where(lengths == 0, 1, lengths)).astype(np.float32)
        self.quantizer.train(x, progress=progress or False, threads=threads)
        some = x[:_ERROR_ROWS]
        decoded = self.quantizer.decode(self.quantizer.encode(some, threads=threads), threads=threads)
        error = np.mean((decoded - some) ** 2, dtype=np.float64)
        whole, kept = (float(np.mean(some * each, dtype=np.float64)) for each in (some, decoded))
        bias = max(whole - kept, 0) / max(kept, 1e-30)
        codebooks = np.ascontiguousarray(np.concatenate(self.quantizer.codebooks).swapaxes(1, 2))
        rotation = self.quantizer.rotation
        turned = np.empty((0, 0), np.float32) if rotation is None else rotation
        return {"codebooks": codebooks, "rotation": turned, "error": float(np.sqrt(error)), "bias": bias}


def summed_up(plans: Sequence[Plans | None]) -> tuple[dict[str, int], dict[str, float]]:
    """How many queries were answered in which way, and the estimated microseconds a query of each way there was."""
    some = [each for each in plans if each is not None]
    if not some:
        return {}, {}
    counts = np.bincount(np.concatenate([ways for ways, _ in some]), minlength=len(WAYS))
    means = np.concatenate([costs for _, costs in some]).mean(axis=0) / 1000
    return (
        {way: int(count) for way, count in zip(WAYS, counts, strict=True) if count},
        {way: round(float(mean), 1) for way, mean in zip(WAYS, means, strict=True) if np.isfinite(mean)},
    )


def make_structure(config: IndexConfig, *, dim: int, metric: str, seed: int) -> Structure:
    """The structure that a config names."""
    made: Callable[..., Structure] = _MADE[config.structure]
    return made(config, dim=dim, metric=metric, seed=seed)


def knob_of(config: IndexConfig) -> str:
    """What users of such a structure call its effort; empty where there is none."""
    return _MADE[config.structure].knob


def _pq_tensors(state: State) -> list[_container.Tensor]:
    model = state["pq"]
    if model is None:
        return []
    return [
        ("pq.codebooks", "F32", model["codebooks"].shape, [model["codebooks"]]),
        ("pq.rotation", "F32", model["rotation"].shape, [model["rotation"]]),
        ("pq.error", "F32", (2,), [np.array([model["error"], model["bias"]], np.float32)]),
    ]


def _read_pq(file: _container.Container) -> State | None:
    if "pq.codebooks" not in file.tensors:
        return None
    error, bias = map(float, file.take("pq.error", "F32", (2,)))
    if not (0 <= error < np.inf and 0 <= bias < np.inf):
        raise ValueError(f"its PQ error is {error}, {bias}")
    return {
        "codebooks": file.take("pq.codebooks", "F32", (None, None, None)),
        "rotation": file.take("pq.rotation", "F32", (None, None)),
        "error": error,
        "bias": bias,
    }


def _column_tensors(kind: str, columns: dict[str, Any], block_bytes: Callable[[str], int]) -> list[_container.Tensor]:
    return [
        (f"{kind}.{name}", "U8", (sum(map(len, chunks)), block_bytes(name)), chunks) for name, chunks in columns.items()
    ]


def _read_columns(file: _container.Container, kind: str) -> dict[str, Any]:
    prefix = f"{kind}."
    return {
        name.removeprefix(prefix): file.take(name, "U8", (None, None))
        for name in file.tensors
        if name.startswith(prefix)
    }


def _joined_columns(columns: dict[str, Any], block_bytes: Callable[[str], int]) -> dict[str, Any]:
    return {
        name: np.concatenate(chunks) if chunks else np.empty((0, block_bytes(name)), np.uint8)
        for name, chunks in columns.items()
    }
