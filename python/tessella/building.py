"""`Index.build`: tries specs on a sample, builds the fastest that reaches the recall, and says what it did."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from tessella._arrays import Input, as_float32, as_ids, as_rows
from tessella._backend import resolve_threads, whole_number
from tessella._progress import Progress, Step, part, shown
from tessella._quantizer import float_rows, float_slices
from tessella._structures import knob_of
from tessella.calibration import Calibration, Span, check_recall, measure
from tessella.config import IndexConfig
from tessella.errors import InvalidArgument, RecallWarning
from tessella.index import Index

Floats: TypeAlias = npt.NDArray[np.float32]
Ids: TypeAlias = npt.NDArray[np.int64]
Scores: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = dict[int, int] | None  # rows by id
Shares: TypeAlias = npt.NDArray[np.float64]  # recall of each query (nq,)

_SAMPLE_ROWS = 50_000  # rows that candidates are tried on
_QUERIES = 2_000  # rows that stand in for queries where there are none
_FEW_ROWS = 20_000  # below, looking at every row is fast enough
_FINE_RECALL = 0.98  # from here on 8-bit codes may not do
_TIMED_ROUNDS = 3
_NEAR = 0.01  # of the target: what falls short by more is said
_LONG_S = 0.5  # a round that took so long is not told from its like by a few ms, and not repeated
_QUERIES_AT_ONCE = 256  # scored in float64
_TOLERANCE = 1e-6  # of a score: rows that tie with the last true one count
_ID_BYTES = 24  # an id of one's own and its place in the lookup table, at most
_TRIED, _BUILT = 0.4, 0.9  # shares of the bar at which specs have been tried, and one has been built
_MOST_K = 2_047  # one less than a search may ask for: a row that stands in for a query finds itself, too


@dataclass(frozen=True)
class Trial:
    """A spec as it did on the sample; `queries_per_s` at the recall that was asked for, None where it fell short.

    `best_recall` is that of the efforts tried: rising ones, until one reaches what was asked for.
    Over more rows than the sample has all are slower, and those that look at every row the most; the choice counts
    with that.
    """

    spec: str
    bytes_per_row: float
    best_recall: float
    effort: int
    queries_per_s: float | None


@dataclass(frozen=True)
class BuildReport:
    """What `Index.build` chose and why. `recall` is what to expect of the whole index at `effort`: nprobe, ef.

    It is what queries saw at an effort that they did not choose: each half of them at the one that the other half asks
    for. `queries` says how many they were, `stand_ins` whether they were rows of the index for want of real ones.
    """

    spec: str
    effort: int
    recall: float
    target: float
    k: int
    trials: tuple[Trial, ...]
    queries: int = 0
    stand_ins: bool = False

    @property
    def knob(self) -> str:
        """What the chosen spec calls its effort: `nprobe`, `ef`, or nothing."""
        return knob_of(IndexConfig.parse(self.spec))

    def __str__(self) -> str:
        effort = f", {self.knob} {self.effort}" if self.knob else ""
        head = f"{self.spec}{effort}: recall@{self.k} {self.recall:.4f} (asked for {self.target})"
        lines = [
            f"  {trial.spec:<24} {trial.bytes_per_row:7.0f} bytes a row, best recall {trial.best_recall:.4f}, "
            + ("below the target" if trial.queries_per_s is None else f"{trial.queries_per_s:,.0f} queries/s")
            for trial in self.trials
        ]
        if self.stand_ins:
            lines.append(f"  measured with {self.queries:,} rows in place of queries; real ones are often harder")
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
    most_bytes = None if memory is None else whole_number(memory, 1, "memory", "build")
    own = {} if seed is None else {"seed": whole_number(seed, 0, "seed", "build")}
    if wanted > _MOST_K:
        raise InvalidArgument(f"build: expected k in 1..{_MOST_K}; got {wanted}")
    if rows.n <= wanted:
        raise InvalidArgument(f"build: expected more rows than k={wanted}, to measure recall with; got {rows.n}")
    row_ids = _checked_ids(ids, rows.n)
    asked = None if queries is None else float_rows(as_rows(queries, "queries", "build", rows.d), "queries", "build")
    for _ in float_slices(rows, "x", "build"):  # what is not finite is told before the work, and by its own number
        pass
    with shown(progress, "building") as report:
        step: Step = report or (lambda share: None)
        sample = _drawn(rows, _SAMPLE_ROWS, own.get("seed", 0))
        exam = _Exam.over(sample, asked, metric, wanted, count)
        trials: list[Trial] = []
        specs = _candidates(rows.n, target, bounded=most_bytes is not None, graphs=asked is not None)
        for place, spec in enumerate(specs):
            done, then = _TRIED * place / len(specs), _TRIED * (place + 1) / len(specs)
            trials.append(_try(spec, exam, target, own, count, part(step, done, (done + then) / 2)))
            step(then)
        left, done = list(trials), _TRIED
        while True:
            chosen = choose(left, Room(rows.n, most_bytes, row_ids is not None), sample.n)
            index = Index(chosen.spec, dim=rows.d, metric=metric, **own)
            then = (done + _BUILT) / 2  # another spec may have to be built, and the bar does not go back
            index.train(x, threads=count, progress=part(step, done, (done + then) / 2))
            index.add(x, ids=row_ids, threads=count, progress=part(step, (done + then) / 2, then))
            if fits(index, most_bytes, count):
                break
            left.remove(chosen)
            done = then
        step(_BUILT)
        whole = exam if sample is rows else _Exam.over(rows, asked, metric, wanted, count)
        calibration, expected = whole.judge(index, index.ids if row_ids is None else row_ids, target, count)
        index.adopt(calibration, target)
        step(1.0)
    if expected < target - _NEAR:
        fault = "is out of reach within what was allowed; {!r} reaches {:.4f}"
        if calibration.reaches(target):
            fault = "is not sure: of {!r}, queries that no effort was chosen by saw {:.4f}; more of them tell better"
        warnings.warn(f"build: recall {target} {fault.format(chosen.spec, expected)}", RecallWarning, stacklevel=3)
    if whole.own is not None:
        warnings.warn(
            f"build: {len(whole.q):,} rows stood in for queries; real ones are often harder, and then recall is less"
            f" than the {expected:.4f} of the report; queries= measures with yours",
            RecallWarning,
            stacklevel=3,
        )
    index.report = BuildReport(
        chosen.spec, index.effort, expected, target, wanted, tuple(trials), len(whole.q), whole.own is not None
    )
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

    def calibrate(self, index: Index, ids: Ids, threads: int, enough: float) -> Calibration:
        """Recall by effort, up to where it is enough, of an index whose ids are those of the rows, in their order.

        A graph only by walks: to look at all of its rows is no way to use one.
        """
        span = index._structure.span(self.k + (self.own is not None))
        return self._measure(index, span._replace(most=min(span.stepped, span.most)), _places(ids), threads, enough)[0]

    def judge(self, index: Index, ids: Ids, target: float, threads: int) -> tuple[Calibration, float]:
        """Recall by effort, and the recall to expect of queries by which no effort was chosen.

        Each half of the queries is judged at the effort that the other half asks for, with the room for error that all
        of them leave.
        """
        places = _places(ids)
        curve, shares = self._measure(index, index._structure.span(self.k + (self.own is not None)), places, threads)
        half = first_half(len(self.q))
        if not half.any() or half.all():
            return curve, curve.recall_at(curve.effort_for(target))
        seen = np.empty(len(self.q))
        for mine, other in ((half, ~half), (~half, half)):
            recalls = tuple(float(shares[effort][other].mean()) for effort in curve.efforts)
            effort = replace(curve, recalls=recalls).effort_for(target)
            if effort not in shares:
                shares[effort] = self._shares(index, effort, places, threads)
            seen[mine] = shares[effort][mine]
        return curve, float(seen.mean())

    def _measure(
        self, index: Index, span: Span, places: Places, threads: int, enough: float = np.inf
    ) -> tuple[Calibration, dict[int, Shares]]:
        """Recall by effort, and that of each query."""
        shares: dict[int, Shares] = {}

        def recall_at(effort: int) -> float:
            shares[effort] = self._shares(index, effort, places, threads)
            return float(shares[effort].mean())

        return measure(recall_at, span, k=self.k, queries=len(self.q), truth="exact", enough=enough), shares

    def _shares(self, index: Index, effort: int, places: Places, threads: int) -> Shares:
        """Of each query, the rows found that score at least as well as the last true one, as a share of k."""
        more = self.k + (self.own is not None)
        knob: dict[str, Any] = {index.knob: effort} if index.knob else {}
        found = index.search(self.q, more, threads=threads, **knob).ids
        if places is not None:
            found = np.array([[places.get(int(id), -1) for id in row] for row in found])
        hits = np.empty(len(found))
        for start in range(0, len(found), _QUERIES_AT_ONCE):
            some = slice(start, start + _QUERIES_AT_ONCE)
            part, floors = found[some], self.floors[some, None]
            other = np.ones_like(part, bool) if self.own is None else part != self.own[some, None]
            counts = other & (part >= 0) & (other.cumsum(axis=1) <= self.k)
            scores = _scores(_take(self.rows, np.maximum(part, 0)), self.q[some], self.metric)
            hits[some] = (counts & (scores >= floors - _TOLERANCE * np.abs(floors))).sum(axis=1)
        return hits / self.k

    def _others(self, ids: Ids, values: Any, i: int) -> tuple[Ids, Any]:
        if self.own is None:
            return ids, values
        other = ids != self.own[i]
        return ids[other], values[other]


def first_half(n: int) -> npt.NDArray[np.bool_]:
    """Which of n queries belong to the first half, drawn at random: they may come in an order."""
    return np.asarray(np.random.default_rng(2).permutation(n) % 2 == 0)


def _candidates(n: int, target: float, *, bounded: bool, graphs: bool) -> list[str]:
    """Specs worth a try, for so many rows.

    Graphs only where there are real queries: a row that stands in for one walks to itself and finds its neighbours
    linked there, which flatters a graph by some three points of recall.
    """
    flat = ["Flat,B1+U8"]
    lists = [] if n < _FEW_ROWS else ["IVF+SOAR,B1+U8", "IVF,B1+U8"]
    graph = [] if n < _FEW_ROWS or not graphs else ["Graph32,B1+U8"]
    specs = graph + lists + flat
    if target >= _FINE_RECALL:
        specs += ["Graph32,B1+F16"] if graph else []  # few rows are scored: 8-bit codes before it save little
        specs += [f"{spec}+F16" for spec in (lists[:1] + flat)]
    if bounded:
        specs += ["IVF,B1+R6", "IVF,B1+N4"] if lists else ["Flat,B1+R6"]
        specs += ["Flat,B1+N4"]
    return [*specs, "Flat"]


def _try(spec: str, exam: _Exam, target: float, own: dict[str, int], threads: int, step: Step) -> Trial:
    """What the spec does on the exam's rows; `step` hears of its building."""
    index = Index(spec, dim=exam.rows.d, metric=exam.metric, **own)
    index.add(_take(exam.rows, slice(None)), threads=threads, progress=step)
    calibration = exam.calibrate(index, index.ids, threads, enough=target)
    index.adopt(calibration, target)
    speed = None
    if calibration.reaches(target):
        seconds = []
        for _ in range(_TIMED_ROUNDS):
            start = time.perf_counter()
            index.search(exam.q, exam.k, threads=threads)
            seconds.append(time.perf_counter() - start)
            if seconds[-1] > _LONG_S:
                break
        speed = len(exam.q) / min(seconds)
    return Trial(spec, index.nbytes / len(index), max(calibration.recalls), index.effort, speed)


class Room(NamedTuple):
    """What the index may take: `most_bytes` for n rows, None for as much as it likes."""

    n: int
    most_bytes: int | None
    own_ids: bool

    def takes(self, trial: Trial) -> float:
        """Bytes to expect of all rows."""
        return self.n * (trial.bytes_per_row + _ID_BYTES * self.own_ids)

    def holds(self, trial: Trial) -> bool:
        return self.most_bytes is None or self.takes(trial) <= self.most_bytes


def choose(trials: list[Trial], room: Room, sampled: int) -> Trial:
    """The fastest that reaches the target in the memory there is; else the one that comes nearest."""
    fitting = [trial for trial in trials if room.holds(trial)]
    if not fitting:
        least = f" at least {min(map(room.takes, trials)):,.0f} bytes" if trials else " more"
        raise InvalidArgument(f"build: expected memory of{least} for {room.n:,} rows; got {room.most_bytes:,}")

    def speed(trial: Trial) -> float:
        """Queries a second to expect over all rows: the work grows with n, its square root, or its logarithm."""
        growth = room.n / sampled
        structure = IndexConfig.parse(trial.spec).structure
        slower = {"Flat": growth, "IVF": growth**0.5, "Graph": np.log(room.n) / np.log(sampled)}[structure]
        return (trial.queries_per_s or 0.0) / float(slower)

    able = [trial for trial in fitting if trial.queries_per_s is not None]
    return max(able, key=speed) if able else max(fitting, key=lambda trial: trial.best_recall)


def fits(index: Index, most_bytes: int | None, threads: int) -> bool:
    """Whether the index takes no more than that, if need be without the room that it has to spare."""
    if most_bytes is not None and index.nbytes > most_bytes:
        index.compact(threads=threads)
    return most_bytes is None or index.nbytes <= most_bytes


def _exact(rows: Input, q: Floats, metric: str, k: int, threads: int) -> tuple[Ids, Scores]:
    """Row numbers and scores (higher is better) of the k best rows, a slice of the rows at a time."""
    ids: Ids = np.empty((len(q), 0), np.int64)
    scores: Scores = np.empty((len(q), 0), np.float64)
    for start, piece in _slices(rows):
        flat = Index("Flat", dim=rows.d, metric=metric)
        flat.add(piece, ids=np.arange(start, start + len(piece)))
        found = flat.search(q, min(k, len(piece)), threads=threads)
        # scored as `_scores` does, so that ties are ties
        parts = [slice(at, at + _QUERIES_AT_ONCE) for at in range(0, len(q), _QUERIES_AT_ONCE)]
        exact = np.concatenate([_scores(piece[found.ids[part] - start], q[part], metric) for part in parts])
        ids = np.concatenate([ids, found.ids], axis=1)
        scores = np.concatenate([scores, exact], axis=1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        ids, scores = np.take_along_axis(ids, best, axis=1), np.take_along_axis(scores, best, axis=1)
    return ids, scores


def _scores(x: Floats, q: Floats, metric: str) -> Scores:
    """Similarities (nq, k) of each query (nq, d) to rows of its own (nq, k, d), higher is better, in float64."""
    rows, queries = x.astype(np.float64), q.astype(np.float64)[:, None, :]
    if metric == "l2":
        return np.asarray(-np.square(rows - queries).sum(axis=2))
    products = (rows * queries).sum(axis=2)
    if metric == "cosine":
        lengths = np.linalg.norm(rows, axis=2) * np.linalg.norm(queries, axis=2)
        products /= np.where(lengths == 0, 1, lengths)
    return np.asarray(products)


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


def _checked_ids(ids: object | None, n: int) -> Ids | None:
    if ids is None:
        return None
    array = as_ids(ids, n, "build")
    values, counts = np.unique(array, return_counts=True)
    if len(values) < n:
        raise InvalidArgument(f"build: expected ids without repeats; {values[counts > 1][0]} occurs more than once")
    return array


def _take(rows: Input, which: npt.NDArray[Any] | slice) -> Floats:
    """Rows by number, as float32."""
    return np.ascontiguousarray(as_float32(rows.source[which], rows.kind), dtype=np.float32)


def _places(ids: Ids) -> Places:
    """The row of each id; None where they are the same."""
    same = len(ids) == 0 or bool((ids == np.arange(len(ids))).all())
    return None if same else {int(id): row for row, id in enumerate(ids)}
