"""Which rows make which step: drawn from the seed and the number of the step alone, so that any run can be resumed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from tessella.errors import InvalidArgument

Rows = npt.NDArray[np.int64]


class Part(NamedTuple):
    """Rows of one task."""

    task: str
    rows: Rows


class Batches:
    """The rows of each step.

    Args:
        sizes: rows of each task.
        batch: rows of a step.
        tasks: "same": all rows of a step are of one task, and an epoch goes once through all tasks, its batches in
            random order; "balanced": each step has as many rows of each task (Conan's balance, arXiv:2408.15710),
            and small tasks come round more often.

    A last batch that would not be full is left out; which rows that are differs from epoch to epoch.

    >>> batches = Batches({"a": 4, "b": 2}, 2)
    >>> sorted(batches.at(step)[0].task for step in range(3)), batches.epoch
    (['a', 'a', 'b'], 3)
    """

    def __init__(
        self, sizes: Mapping[str, int], batch: int, *, tasks: Literal["same", "balanced"] = "same", seed: int = 0
    ) -> None:
        if tasks not in ("same", "balanced"):
            raise InvalidArgument(f"batches: expected tasks to be 'same' or 'balanced'; got {tasks!r}")
        self.each = batch if tasks == "same" else batch // len(sizes)
        if self.each < 1 or (tasks == "balanced" and batch % len(sizes)):
            raise InvalidArgument(f"batches: expected a multiple of {len(sizes)}, the number of tasks; got {batch}")
        if small := {task: n for task, n in sizes.items() if n < self.each}:
            raise InvalidArgument(f"batches: expected {self.each} rows at least of each task; got {small}")
        self.sizes, self.tasks, self.seed = dict(sizes), tasks, seed
        self.whole = {task: n // self.each for task, n in sizes.items()}
        self._known: tuple[int, list[Part]] = (-1, [])

    @property
    def epoch(self) -> int:
        """Steps that go once through all rows, or through those of the largest task."""
        return sum(self.whole.values()) if self.tasks == "same" else max(self.whole.values())

    def at(self, step: int) -> list[Part]:
        """What step number `step` is made of."""
        if self.tasks == "balanced":
            return [self._part(task, *divmod(step, self.whole[task])) for task in self.sizes]
        epoch, place = divmod(step, self.epoch)
        if self._known[0] != epoch:
            parts = [self._part(task, epoch, i) for task in self.sizes for i in range(self.whole[task])]
            order = np.random.default_rng([self.seed, epoch]).permutation(len(parts))
            self._known = (epoch, [parts[i] for i in order])
        return [self._known[1][place]]

    def _part(self, task: str, epoch: int, place: int) -> Part:
        number = list(self.sizes).index(task)
        order = np.random.default_rng([self.seed, epoch, number + 1]).permutation(self.sizes[task])
        return Part(task, order[place * self.each : (place + 1) * self.each])
