"""Time on the device, by CUDA events: warm up, repeat, median and spread."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Timing:
    median_ms: float
    p10_ms: float
    p90_ms: float
    repeats: int


class Stopwatch:
    """Times work on torch's current stream. Each repetition has its own pair of events; one wait at the end."""

    def __init__(self, torch: Any, repeats: int = 20, warm_up: int = 3, limit_s: float = 3.0) -> None:
        self._torch = torch
        self._repeats, self._warm_up, self._limit_s = repeats, warm_up, limit_s

    def time(self, work: Callable[[], object]) -> Timing:
        first_ms = self._times(work, self._warm_up)[-1]
        # Slow work is repeated less often, but often enough for a median.
        repeats = max(5, min(self._repeats, int(self._limit_s * 1e3 / max(first_ms, 1e-3))))
        times = sorted(self._times(work, repeats))
        return Timing(
            median_ms=statistics.median(times),
            p10_ms=times[int(0.1 * (repeats - 1))],
            p90_ms=times[round(0.9 * (repeats - 1))],
            repeats=repeats,
        )

    def median_ms(self, work: Callable[[], object]) -> float:
        return self.time(work).median_ms

    def _times(self, work: Callable[[], object], repeats: int) -> list[float]:
        event = self._torch.cuda.Event
        pairs = [(event(enable_timing=True), event(enable_timing=True)) for _ in range(repeats)]
        for start, end in pairs:
            start.record()
            work()
            end.record()
        self._torch.cuda.synchronize()
        return [start.elapsed_time(end) for start, end in pairs]
