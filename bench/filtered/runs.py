"""The stages of a run: what is found, which effort a peer needs, and what it takes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.filtered.peers import Entry
from bench.filtered.truth import Share, Truth, share_found
from bench.filtered.workloads import Floats, Workload
from bench.timing import measure

Say = Callable[[str], None]
SLOW_S = 0.1  # a batch that takes longer is timed three times in all, others seven after they were warm
VERY_SLOW_S = 0.3  # … and that one once


@dataclass(frozen=True)
class Case:
    """One workload and what is true of it."""

    workload: Workload
    truth: Truth


@dataclass
class Settings:
    """The least effort at which a peer finds the recall, by workload and peer; None where none does."""

    file: Path
    efforts: dict[str, dict[str, int | None]] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path) -> Settings:
        return cls(file, json.loads(file.read_text()) if file.is_file() else {})

    def write(self) -> None:
        """Beside what another run has written meanwhile."""
        for workload, known in Settings.read(self.file).efforts.items():
            self.efforts[workload] = known | self.efforts.get(workload, {})
        self.file.write_text(json.dumps(self.efforts, indent=1))


def found_by(x: Floats, entry: Entry, case: Case, effort: int) -> Share:
    return share_found(x, case.workload, case.truth, entry.prepare(case.workload)(effort))


def tune(
    x: Floats, entries: Iterable[Entry], cases: Sequence[Case], recall: float, limit_us: float, kept: Settings, say: Say
) -> None:
    """Fills the settings. A peer that takes longer than `limit_us` a query without finding it is given up."""
    for entry in entries:
        begun = time.perf_counter()
        for case in cases:
            known = kept.efforts.setdefault(case.workload.name, {})
            if entry.name not in known:
                known[entry.name] = least_effort(x, entry, case, recall, limit_us)
            known[entry.name] = between(x, entry, case, recall, known[entry.name])
        say(f"{entry.name}: settings found in {time.perf_counter() - begun:.0f} s")
        kept.write()


def least_effort(x: Floats, entry: Entry, case: Case, recall: float, limit_us: float) -> int | None:
    search = entry.prepare(case.workload)
    for effort in entry.efforts:
        begun = time.perf_counter()
        ids = search(effort)
        taken = (time.perf_counter() - begun) * 1e6 / len(ids)
        if share_found(x, case.workload, case.truth, ids).mean >= recall:
            return effort
        if taken > limit_us:
            break
    return None


def between(x: Floats, entry: Entry, case: Case, recall: float, effort: int | None) -> int | None:
    """Efforts are doubled until they are enough; perhaps three quarters of the last are, too."""
    less = 0 if effort is None else effort * 3 // 4
    if effort not in entry.efforts[1:] or found_by(x, entry, case, less).mean < recall:
        return effort
    return less


def microseconds(entry: Entry, workload: Workload, effort: int) -> float:
    """Of a query, the median of several batches."""
    search = entry.prepare(workload)

    def seconds() -> float:
        begun = time.perf_counter()
        search(effort)
        return time.perf_counter() - begun

    first = seconds()
    if first <= SLOW_S:
        median = measure(lambda: search(effort)).median
    else:
        more = [] if first > VERY_SLOW_S else [seconds(), seconds()]
        median = float(np.median([first, *more]))
    return median * 1e6 / len(workload.queries)


Times = dict[str, dict[str, float | None]]


def timed(
    entries: Iterable[Entry],
    cases: Sequence[Case],
    settings: Settings | None,
    out: Times,
    kept: Callable[[], None],
    say: Say,
) -> None:
    """Microseconds a query, by workload and entry -> out; at the settings, or at an entry's only effort.

    An entry that was timed before is left out: a run that was cut short goes on where it stopped.
    """
    for entry in entries:
        if all(entry.name in out.get(case.workload.name, {}) for case in cases):
            continue
        begun = time.perf_counter()
        for case in cases:
            name = case.workload.name
            effort = entry.efforts[0] if settings is None else settings.efforts[name].get(entry.name)
            taken = None if effort is None else round(microseconds(entry, case.workload, effort), 2)
            out.setdefault(name, {})[entry.name] = taken
        kept()
        say(f"{entry.name}: timed in {time.perf_counter() - begun:.0f} s")


def regrets(
    x: Floats, entries: list[Entry], cases: Sequence[Case], recall: float
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """The planner's time over that of the best fixed plan that finds the recall; and all times."""
    planner, *plans = entries
    ratios, times = {}, {}
    for case in cases:
        if case.workload.free or case.workload.counts.max() == 0:
            continue
        each = {plan.name: microseconds(plan, case.workload, 0) for plan in plans}
        each["planner"] = microseconds(planner, case.workload, 0)
        good = [plan.name for plan in plans if found_by(x, plan, case, 0).mean >= recall]
        ratios[case.workload.name] = each["planner"] / min(each[name] for name in good or [plans[0].name])
        times[case.workload.name] = each
    return ratios, times


def summary(values: Iterable[float]) -> dict[str, Any]:
    numbers = np.array(list(values))
    return {"mean": float(numbers.mean()), "p95": float(np.percentile(numbers, 95)), "worst": float(numbers.max())}
