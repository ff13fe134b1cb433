"""Runs a comparison: one pinned process for each index, all alive together, timed in interleaved rounds."""

from __future__ import annotations

import multiprocessing
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import numpy as np

from bench import machine
from bench.compare.entries import Entry
from bench.compare.peers import PACKAGES
from bench.compare.recall import Doubles, Point, recall
from bench.compare.worker import Built, Job, Timed, work
from bench.datasets import Dataset


@dataclass(frozen=True, slots=True)
class Plan:
    """What is the same for every index of a run."""

    threads: int
    modes: tuple[str, ...] = ("batch",)
    rounds: int = 5
    k: int = 10
    batch: int = 2000  # queries of a batch
    single: int = 500  # queries asked one by one
    max_settings: int | None = None
    huge_pages: bool = False
    limit_s: float = 3600.0  # for one answer, the build included

    def count(self, mode: str) -> int:
        """Queries of one round."""
        return self.batch if mode == "batch" else self.single


@dataclass(slots=True)
class Measured:
    """One setting of one index in one mode."""

    mode: str
    knobs: dict[str, float]
    recall: float
    counts: dict[str, float]
    rounds: list[Timed] = field(default_factory=list)

    @property
    def qps(self) -> float:
        """Median over the rounds."""
        return self.median("qps")

    def median(self, name: str) -> float:
        """Median of a field of `Timed` over the rounds."""
        return float(np.median([getattr(timed, name) for timed in self.rounds]))


@dataclass(slots=True)
class Result:
    """One index: how it was built and what it did; or why it is missing."""

    entry: Entry
    threads: int
    built: Built | None = None
    failure: str | None = None
    measured: list[Measured] = field(default_factory=list)

    def curves(self) -> dict[str, list[Point]]:
        """Points by mode."""
        curves: dict[str, list[Point]] = {}
        for m in self.measured:
            curves.setdefault(m.mode, []).append(Point(m.recall, m.qps))
        return curves


class Failure(Exception):
    """A worker that cannot go on, in a sentence."""


def run(data: Dataset, entries: Iterable[Entry], plan: Plan, floors: Doubles) -> list[Result]:
    """Builds one index after another, then times all of them in turn, setting by setting, round by round."""
    with tempfile.TemporaryDirectory() as folder:
        paths = str(Path(folder) / "base.npy"), str(Path(folder) / "queries.npy")
        np.save(paths[0], data.base)
        np.save(paths[1], data.queries[: max(plan.batch, plan.single)])
        indexes = [_Index(entry, plan, data, paths, folder) for entry in entries]
        try:
            for index in indexes:
                index.attempt(index.first_search, data, floors)
            for number in range(plan.rounds):
                say(f"round {number + 1} of {plan.rounds}, {plan.threads} thread{'s' * (plan.threads > 1)}")
                for index, measured in _interleaved(indexes, number):
                    index.attempt(index.time, measured)
        finally:
            for index in indexes:
                index.stop()
        return [index.result for index in indexes]


def say(text: str) -> None:
    """Progress goes to standard error; the table alone goes to standard output."""
    print(f"compare: {text}", file=sys.stderr, flush=True)


def _interleaved(indexes: list[_Index], number: int) -> Iterator[tuple[_Index, Measured]]:
    """First settings of all, second settings of all, …; another index leads in every round."""
    start = number % len(indexes)
    order = indexes[start:] + indexes[:start]
    for turn in range(max(len(index.result.measured) for index in indexes)):
        for index in order:
            if turn < len(index.result.measured):
                yield index, index.result.measured[turn]


class _Index:
    """The near end of a worker."""

    def __init__(self, entry: Entry, plan: Plan, data: Dataset, paths: tuple[str, str], folder: str) -> None:
        self.entry, self.plan = entry, plan
        self.result = Result(entry, plan.threads)
        self.log = Path(folder) / f"{id(self)}.log"
        self.process: SpawnProcess | None = None
        self.attempt(self._start, data, paths)

    def attempt(self, step: Callable[..., None], *arguments: Any) -> None:
        """Runs a step; a failure ends this index and no other."""
        if self.result.failure is None:
            try:
                step(*arguments)
            except Failure as failure:
                self.result.failure = str(failure)
                self.result.measured.clear()
                say(f"{self.entry.name}: {failure}")
                self.stop()

    def first_search(self, data: Dataset, floors: Doubles) -> None:
        """Finds the recall of every setting, and warms up."""
        assert self.result.built is not None
        for mode in self.plan.modes:
            for knobs in self._settings(self.result.built.sweep):
                found = self._ask("find", knobs, mode, self.plan.count(mode), self.plan.k)
                share = recall(data, found.ids, floors)
                self.result.measured.append(Measured(mode, knobs, share, found.counts))

    def time(self, measured: Measured) -> None:
        """One round of one setting."""
        mode = measured.mode
        measured.rounds.append(self._ask("time", measured.knobs, mode, self.plan.count(mode), self.plan.k))

    def stop(self) -> None:
        """Ends the process."""
        if self.process is not None:
            self.pipe.close()
            self.process.join(timeout=5)
            if self.process.is_alive():
                self.process.kill()
                self.process.join()
            self.process = None

    def _start(self, data: Dataset, paths: tuple[str, str]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe: Connection
        self.pipe, far = context.Pipe()
        job = Job(self.entry.peer, self.entry.spec, data.metric, self.plan.threads, *paths, str(self.log))
        variables = machine.pinned_environment(self.plan.threads, huge_pages=self.plan.huge_pages)
        with machine.environment(variables):
            self.process = context.Process(target=work, args=(job, far), daemon=True)
            self.process.start()
        far.close()
        self.result.built = self._answer()
        say(f"{self.entry.name}: built in {self.result.built.build_s:.1f} s")

    def _settings(self, sweep: list[dict[str, float]]) -> list[dict[str, float]]:
        sweep = self.entry.knobs or sweep
        most = self.plan.max_settings or len(sweep)
        if len(sweep) <= most:
            return sweep
        return [sweep[i] for i in np.linspace(0, len(sweep) - 1, most).round().astype(int)]

    def _ask(self, name: str, *arguments: Any) -> Any:
        with suppress(OSError):  # the process is gone; `_answer` says how
            self.pipe.send((name, arguments))
        return self._answer()

    def _answer(self) -> Any:
        assert self.process is not None
        if not self.pipe.poll(self.plan.limit_s):
            self.process.kill()
            raise Failure(f"no answer within {self.plan.limit_s:.0f} s")
        try:
            answer = self.pipe.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            code = self.process.exitcode
            raise Failure(f"its process ended with code {code}: {self._last_words()}") from None
        if isinstance(answer, ModuleNotFoundError):
            package = PACKAGES[self.entry.peer]
            missing = answer.name == self.entry.peer
            raise Failure(f"not installed (pip install {package})" if missing else f"not usable: {answer}")
        if isinstance(answer, Exception):
            raise Failure(f"{type(answer).__name__}: {str(answer).splitlines()[0][:200]}")
        return answer

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").split("\n") if self.log.exists() else []
        written = [re.sub(r"\s+", " ", line).strip() for line in lines if line.strip()]
        return written[-1][:200] if written else "it printed nothing"
