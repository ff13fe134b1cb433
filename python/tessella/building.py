"""`Index.build`: tries specs on a sample, keeps the fastest that reaches the recall, builds it, and says what it did."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tessella._arrays import Input, as_rows
from tessella._backend import resolve_threads, whole_number
from tessella._progress import Progress, shown
from tessella._quantizer import float_rows, float_slices
from tessella.calibration import Calibration, check_recall, measure
from tessella.errors import InvalidArgument, RecallWarning
from tessella.index import Index

Floats: TypeAlias = npt.NDArray[np.float32]
Ids: TypeAlias = npt.NDArray[np.int64]

_SAMPLE_ROWS = 50_000  # rows that candidates are tried on
_QUERIES = 2_000  # rows that stand in for queries where there are none
_FEW_ROWS = 20_000  # below, looking at every row is fast enough
_FINE_RECALL = 0.98  # from here on 8-bit codes may not do
_TIMED_ROUNDS = 3
_TOLERANCE = 1e-6  # of a score: rows that tie with the last true one count


@dataclass(frozen=True)
class Trial:
    """A spec as it did on the sample; `queries_per_s` at the recall that was asked for, None where it fell short."""

    spec: str
    bytes_per_row: float
    best_recall: float
    nprobe: int
    queries_per_s: float | None


@dataclass(frozen=True)
class BuildReport:
    """What `Index.build` chose and why. `recall` is what held-out queries saw on the whole index at `nprobe`."""

    spec: str
    nprobe: int
    recall: float
    target: float
    k: int
    trials: tuple[Trial, ...]

    def __str__(self) -> str:
        head = f"{self.spec}, nprobe {self.nprobe}: recall@{self.k} {self.recall:.4f} (asked for {self.target})"
        lines = [
            f"  {trial.spec:<24} {trial.bytes_per_row:7.0f} bytes a row, best recall {trial.best_recall:.4f}, "
            + ("below the target" if trial.queries_per_s is None else f"{trial.queries_per_s:,.0f} queries/s")
            for trial in self.trials
        ]
        return "\n".join([head, *lines])


def build(
    x: object,
    *,
    metric: str = "cosine",
    recall: float = 0.95,
    memory: int | None = None,
    queries: object | None = None,
    ids: object | None = None,
    k: int = 10,
    seed: int | None = None,
    progress: Progress = False,
    threads: int | None = None,
) -> Index:
    """See `Index.build`."""
    rows = as_rows(x, "x", "build")
    count = resolve_threads(threads, "build")
    target = check_recall(recall, "build")
    wanted = whole_number(k, 1, "k", "build")
    budget = None if memory is None else whole_number(memory, 1, "memory", "build") / max(1, rows.n)
    if rows.n <= wanted:
        raise InvalidArgument(f"build: expected more rows than k={wanted}, to measure recall with; got {rows.n}")
    asked = None if queries is None else float_rows(as_rows(queries, "queries", "build", rows.d), "queries", "build")
    own = {} if seed is None else {"seed": seed}
    with shown(progress, "building") as report:
        step = report or (lambda share: None)
        sample = _drawn(rows, _SAMPLE_ROWS, own.get("seed", 0))
        exam = _Exam.over(sample, asked, metric, wanted, count)
        trials: list[Trial] = []
        specs = _candidates(rows.n, target, budget is not None)
        for spec in specs:
            trials.append(_try(spec, exam, target, own, count))
            step(0.4 * len(trials) / len(specs))
        chosen = _choose(trials, target, budget, rows.n)
        index = Index(chosen.spec, dim=rows.d, metric=metric, **own)
        index.train(x, threads=count)
        step(0.7)
        index.add(x, ids=ids, threads=count)
        step(0.9)
        whole = _Exam.over(rows, asked, metric, wanted, count)
        calibration = whole.calibrate(index, index.ids if ids is None else np.asarray(ids, np.int64), count)
        index.adopt(calibration, target)
    expected = calibration.recall_at(index.nprobe)
    if expected < target - 0.01:
        warnings.warn(
            f"build: recall {target} is out of reach within what was allowed; {chosen.spec!r} reaches {expected:.4f}",
            RecallWarning,
            stacklevel=3,
        )
    index.report = BuildReport(chosen.spec, index.nprobe, expected, target, wanted, tuple(trials))
    return index


class _Exam:
    """Queries with their true neighbours among some rows. Rows that are queries themselves do not find themselves."""

    def __init__(self, rows: Input, q: Floats, own: Ids | None, metric: str, k: int, threads: int) -> None:
        self.rows, self.q, self.own, self.metric, self.k = rows, q, own, metric, k
        found = _exact(rows, q, metric, k + (own is not None), threads)
        scores = [self._others(ids, values, i)[1][: self.k] for i, (ids, values) in enumerate(zip(*found, strict=True))]
        self.floors = np.array([each[-1] for each in scores])

    @classmethod
    def over(cls, rows: Input, asked: Floats | None, metric: str, k: int, threads: int) -> _Exam:
        """With the queries there are, else with some of the rows."""
        if asked is not None and len(asked):
            return cls(rows, asked[:_QUERIES], None, metric, k, threads)
        which = np.sort(np.random.default_rng(1).permutation(rows.n)[: min(_QUERIES, max(1, rows.n // 10))])
        return cls(rows, _take(rows, which), which.astype(np.int64), metric, k, threads)

    def calibrate(self, index: Index, ids: Ids, threads: int) -> Calibration:
        """Recall by effort of an index whose ids are those of the rows, in their order."""
        place = {int(id): row for row, id in enumerate(ids)} if not _counts_up(ids) else None
        return measure(
            lambda effort: self.recall(index, effort, place, threads),
            index.most_effort,
            k=self.k,
            queries=len(self.q),
        )

    def recall(self, index: Index, effort: int, place: dict[int, int] | None, threads: int) -> float:
        """The share of rows found that score at least as well as the last true one."""
        more = self.k + (self.own is not None)
        nprobe = {"nprobe": effort} if effort else {}
        found = index.search(self.q, more, threads=threads, **nprobe).ids
        if place is not None:
            found = np.array([[place.get(int(id), -1) for id in row] for row in found])
        hits = 0
        for i, row in enumerate(found):
            row = self._others(row, row, i)[0][: self.k]
            row = row[row >= 0]
            scores = _scores(_take(self.rows, row), self.q[i], self.metric)
            hits += int((scores >= self.floors[i] - _TOLERANCE * abs(self.floors[i])).sum())
        return hits / (len(found) * self.k)

    def _others(self, ids: Ids, values: Any, i: int) -> tuple[Ids, Any]:
        if self.own is None:
            return ids, values
        other = ids != self.own[i]
        return ids[other], values[other]


def _candidates(n: int, target: float, bounded: bool) -> list[str]:
    """Specs worth a try, for so many rows."""
    flat = ["Flat,B1+U8"]
    lists = [] if n < _FEW_ROWS else ["IVF+SOAR,B1+U8", "IVF,B1+U8"]
    specs = lists + flat
    if target >= _FINE_RECALL:
        specs += [f"{spec}+F16" for spec in (lists[:1] + flat)]
    if bounded:
        specs += ["IVF,B1+R6", "IVF,B1+N4"] if lists else ["Flat,B1+R6", "Flat,B1+N4"]
    return [*specs, "Flat"]


def _try(spec: str, exam: _Exam, target: float, own: dict[str, int], threads: int) -> Trial:
    index = Index(spec, dim=exam.rows.d, metric=exam.metric, **own)
    index.add(exam.rows.source, threads=threads)
    calibration = exam.calibrate(index, index.ids, threads)
    index.adopt(calibration, target)
    speed = None
    if calibration.reaches(target):
        seconds = []
        for _ in range(_TIMED_ROUNDS):
            start = time.perf_counter()
            index.search(exam.q, exam.k, threads=threads)
            seconds.append(time.perf_counter() - start)
        speed = len(exam.q) / min(seconds)
    return Trial(spec, index.nbytes / len(index), max(calibration.recalls), index.nprobe, speed)


def _choose(trials: list[Trial], target: float, budget: float | None, n: int) -> Trial:
    """The fastest that reaches the target in the memory there is; else the one that comes nearest."""
    fitting = [trial for trial in trials if budget is None or trial.bytes_per_row <= budget]
    if not fitting:
        least = min(trial.bytes_per_row for trial in trials)
        raise InvalidArgument(
            f"build: expected memory for at least {least:.0f} bytes a row, {least * n:,.0f} in all; got {budget * n:,.0f}"
            if budget is not None
            else "build: no spec could be tried"
        )
    able = [trial for trial in fitting if trial.queries_per_s is not None]
    if able:
        return max(able, key=lambda trial: trial.queries_per_s or 0.0)
    return max(fitting, key=lambda trial: trial.best_recall)


def _exact(rows: Input, q: Floats, metric: str, k: int, threads: int) -> tuple[Ids, Floats]:
    """Row numbers and scores (higher is better) of the k best rows, a slice of the rows at a time."""
    ids = np.empty((len(q), 0), np.int64)
    scores = np.empty((len(q), 0), np.float64)
    for start, piece in _slices(rows):
        flat = Index("Flat", dim=rows.d, metric=metric)
        flat.add(piece, ids=np.arange(start, start + len(piece)))
        found = flat.search(q, min(k, len(piece)), threads=threads)
        # scored as `_scores` does, so that ties are ties
        exact = np.stack([_scores(piece[row - start], each, metric) for row, each in zip(found.ids, q, strict=True)])
        ids = np.concatenate([ids, found.ids], axis=1)
        scores = np.concatenate([scores, exact], axis=1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        ids, scores = (np.take_along_axis(each, best, axis=1) for each in (ids, scores))
    return ids, scores


def _scores(x: Floats, q: Floats, metric: str) -> npt.NDArray[np.float64]:
    """Similarities of rows (n, d) to one query, higher is better, in double precision."""
    rows, query = x.astype(np.float64), q.astype(np.float64)
    if metric == "l2":
        return -((rows - query) ** 2).sum(axis=1)
    if metric == "cosine":
        lengths = np.linalg.norm(rows, axis=1)
        rows = rows / np.where(lengths == 0, 1, lengths)[:, None]
        query = query / (np.linalg.norm(query) or 1)
    return np.asarray(rows @ query)


def _slices(rows: Input) -> Iterator[tuple[int, Floats]]:
    start = 0
    for piece in float_slices(rows, "x", "build"):
        yield start, piece
        start += len(piece)


def _drawn(rows: Input, most: int, seed: int) -> Input:
    if rows.n <= most:
        return rows
    which = np.sort(np.random.default_rng(seed).permutation(rows.n)[:most])
    return as_rows(_take(rows, which), "x", "build")


def _take(rows: Input, which: npt.NDArray[Any]) -> Floats:
    """Rows by number, as float32."""
    piece = rows.source[which]
    if rows.kind == "bf16":
        return (piece.astype(np.uint32) << 16).view(np.float32)
    return np.ascontiguousarray(piece, dtype=np.float32)


def _counts_up(ids: Ids) -> bool:
    return len(ids) == 0 or bool((ids == np.arange(len(ids))).all())
