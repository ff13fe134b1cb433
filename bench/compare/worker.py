"""The process of one index: pinned first, it then imports the library, builds, and times what it is asked to.

Requests and answers are pickled tuples on a pipe. What the library prints goes to a log file.
"""

from __future__ import annotations

import importlib.metadata
import os
import resource
import sys
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from bench import machine

_MIN_SECONDS = 0.2  # of one timed batch: shorter ones are repeated


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker needs to know before it starts."""

    peer: str
    spec: str
    metric: str
    threads: int
    base: str  # .npy files
    queries: str
    log: str


@dataclass(frozen=True, slots=True)
class Built:
    """The index as it was built."""

    version: str
    build_s: float
    build_cpu_s: float
    nbytes: int | None
    peak_mb: float
    exact: bool
    note: str
    sweep: list[dict[str, float]]


@dataclass(frozen=True, slots=True)
class Timed:
    """One timed round of one setting."""

    qps: float
    p50_us: float | None = None  # single-query mode only
    p99_us: float | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What an untimed first search returned; it also warms the caches."""

    ids: Any  # (nq, k)
    counts: dict[str, float] = field(default_factory=dict)


def work(job: Job, pipe: Connection) -> None:
    """Answers requests until the pipe closes; the first answer is `Built`, or what prevented it."""
    _log_to(job.log)
    try:
        machine.pin_cores(job.threads)
        worker = _Worker(job)
        pipe.send(worker.built)
        while True:
            name, arguments = pipe.recv()
            pipe.send(getattr(worker, name)(*arguments))
    except EOFError:
        return
    except Exception as error:
        pipe.send(error if _travels(error) else RuntimeError(f"{type(error).__name__}: {error}"))


class _Worker:
    def __init__(self, job: Job) -> None:
        import numpy as np

        from bench.compare.peers import PACKAGES, adapter_of

        self.np = np
        self.peer = adapter_of(job.peer)(job.spec, metric=job.metric, threads=job.threads)
        base = np.load(job.base)
        start, cpu = time.perf_counter(), time.process_time()
        self.peer.build(base)
        build_s, build_cpu_s = time.perf_counter() - start, time.process_time() - cpu
        self.q = np.load(job.queries)
        self.built = Built(
            version=_version(PACKAGES[job.peer]),
            build_s=build_s,
            build_cpu_s=build_cpu_s,
            nbytes=self.peer.nbytes(),
            peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            exact=self.peer.exact,
            note=self.peer.note,
            sweep=self.peer.sweep(),
        )

    def find(self, knobs: dict[str, float], mode: str, count: int, k: int) -> Found:
        """Ids, untimed."""
        self.peer.tune(knobs)
        q = self.q[:count]
        if mode == "batch":
            return Found(self.np.asarray(self.peer.search(q, k)), self.peer.counts())
        return Found(self.np.stack([self.peer.search_one(each, k) for each in q]))

    def time(self, knobs: dict[str, float], mode: str, count: int, k: int) -> Timed:
        """One round: a batch (repeated while short), or queries one by one."""
        self.peer.tune(knobs)
        q = self.q[:count]
        return self._batch(q, k) if mode == "batch" else self._single(q, k)

    def _batch(self, q: Any, k: int) -> Timed:
        start, done = time.perf_counter(), 0
        while (taken := time.perf_counter() - start) < _MIN_SECONDS:
            self.peer.search(q, k)
            done += len(q)
        return Timed(done / taken)

    def _single(self, q: Any, k: int) -> Timed:
        seconds = []
        for each in q:
            start = time.perf_counter()
            self.peer.search_one(each, k)
            seconds.append(time.perf_counter() - start)
        p50, p99 = self.np.percentile(seconds, [50, 99]) * 1e6
        return Timed(len(q) / sum(seconds), float(p50), float(p99))


def _log_to(path: str) -> None:
    """Sends both outputs of this process, those of compiled code included, to a file."""
    sys.stdout.flush()
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def _travels(error: Exception) -> bool:
    """Whether the other side knows this class."""
    return type(error).__module__ == "builtins"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        module = sys.modules.get(package)
        return str(getattr(module, "__version__", "unknown"))
