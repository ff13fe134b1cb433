"""What an index's structures have in common, and where they differ: the engine, its effort, its tensors in a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from tessella import _container, _core
from tessella.config import IndexConfig

Floats: TypeAlias = npt.NDArray[np.float32]
Ids: TypeAlias = npt.NDArray[np.int64]
Counts: TypeAlias = tuple[int, int, int, int]  # rows scanned, refined, re-scored; lists looked into
State: TypeAlias = dict[str, Any]
Progress: TypeAlias = Callable[[float], None] | None


class Structure(Protocol):
    """An engine behind one face. `effort` is the structure's own knob; 0 where it has none."""

    engine: Any
    default_effort: int

    @property
    def most_effort(self) -> int:
        """Effort at which a search looks at everything; 0 where it always does."""

    def train(self, x: Floats, threads: int, progress: Progress) -> None: ...

    def search(self, q: Floats, k: int, epsilon: float, effort: int, threads: int) -> tuple[Ids, Floats, Counts]: ...

    def range_search(
        self, q: Floats, threshold: float, epsilon: float, effort: int, threads: int
    ) -> tuple[Ids, Ids, Floats]: ...

    def tensors(self, state: State) -> list[_container.Tensor]:
        """What a file holds beside the config, the centre and the ids."""

    def read(self, file: _container.Container) -> State:
        """The same, out of a file."""

    def joined(self, state: State) -> State:
        """A snapshot whose parts are single arrays, as `restore` takes them."""


class Flat:
    """Every row is looked at."""

    def __init__(self, config: IndexConfig, *, dim: int, metric: str, seed: int) -> None:
        self.engine: Any = _core.FlatIndex(dim=dim, metric=metric, codecs=list(config.codecs), seed=seed)
        self.default_effort = 0

    @property
    def most_effort(self) -> int:
        return 0

    def train(self, x: Floats, threads: int, progress: Progress) -> None:
        self.engine.train(x)

    def search(self, q: Floats, k: int, epsilon: float, effort: int, threads: int) -> tuple[Ids, Floats, Counts]:
        found: tuple[Ids, Floats, Counts] = self.engine.search(q, k, epsilon, threads)
        return found

    def range_search(
        self, q: Floats, threshold: float, epsilon: float, effort: int, threads: int
    ) -> tuple[Ids, Ids, Floats]:
        found: tuple[Ids, Ids, Floats] = self.engine.range_search(q, threshold, epsilon, threads)
        return found

    def tensors(self, state: State) -> list[_container.Tensor]:
        return _column_tensors("column", state["columns"], self.engine.block_bytes)

    def read(self, file: _container.Container) -> State:
        return {"columns": _read_columns(file, "column")}

    def joined(self, state: State) -> State:
        return state | {"columns": _joined_columns(state["columns"], self.engine.block_bytes)}


class Ivf:
    """Rows in lists by nearest centroid; effort is nprobe, the lists a search looks into."""

    def __init__(self, config: IndexConfig, *, dim: int, metric: str, seed: int) -> None:
        self.engine: Any = _core.IvfIndex(
            dim=dim, metric=metric, codecs=list(config.codecs), seed=seed, lists=config.lists, spill=config.soar
        )
        self.default_effort = 16

    @property
    def most_effort(self) -> int:
        return max(1, int(self.engine.lists()))

    def train(self, x: Floats, threads: int, progress: Progress) -> None:
        self.engine.train(x, threads, progress)

    def search(self, q: Floats, k: int, epsilon: float, effort: int, threads: int) -> tuple[Ids, Floats, Counts]:
        found: tuple[Ids, Floats, Counts] = self.engine.search(q, k, epsilon, effort, threads)
        return found

    def range_search(
        self, q: Floats, threshold: float, epsilon: float, effort: int, threads: int
    ) -> tuple[Ids, Ids, Floats]:
        found: tuple[Ids, Ids, Floats] = self.engine.range_search(q, threshold, epsilon, effort, threads)
        return found

    def tensors(self, state: State) -> list[_container.Tensor]:
        entries = sum(state["list_sizes"])
        blocks = sum(map(len, state["list_blocks"]))
        sizes = np.array(state["list_sizes"], dtype=np.uint32)
        return [
            *_column_tensors("column", state["columns"], self.engine.block_bytes),
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


def make_structure(config: IndexConfig, *, dim: int, metric: str, seed: int) -> Structure:
    """The structure that a config names."""
    made = Flat if config.structure == "Flat" else Ivf
    return made(config, dim=dim, metric=metric, seed=seed)


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
