"""Times a call: warm up, repeat, and report the median with its spread and the bytes moved a second."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of each repeat of one call, and the bytes and operations the call stands for."""

    seconds: tuple[float, ...]
    bytes_moved: float = 0.0
    operations: float = 0.0

    @property
    def median(self) -> float:
        """Median seconds."""
        return statistics.median(self.seconds)

    @property
    def low(self) -> float:
        """Seconds of the fastest repeat."""
        return min(self.seconds)

    @property
    def high(self) -> float:
        """Seconds of the slowest repeat."""
        return max(self.seconds)

    @property
    def spread(self) -> float:
        """Slowest less fastest, as a share of the median."""
        return (self.high - self.low) / self.median

    @property
    def best_gb_per_s(self) -> float:
        """10^9 bytes a second, in the fastest repeat: for roofs, which noise can only lower."""
        return self.bytes_moved / self.low / 1e9

    @property
    def best_gflop_per_s(self) -> float:
        """10^9 operations a second, in the fastest repeat."""
        return self.operations / self.low / 1e9

    @property
    def gb_per_s(self) -> float:
        """10^9 bytes a second, at the median."""
        return self.bytes_moved / self.median / 1e9

    @property
    def gflop_per_s(self) -> float:
        """10^9 operations a second, at the median."""
        return self.operations / self.median / 1e9

    def __str__(self) -> str:
        text = f"{_seconds(self.median)} ({_seconds(self.low)} to {_seconds(self.high)})"
        if self.bytes_moved:
            text += f", {self.gb_per_s:.1f} GB/s"
        if self.operations:
            text += f", {self.gflop_per_s:.1f} GFLOP/s"
        return text


def measure(
    call: Callable[[], object],
    *,
    repeats: int = 7,
    warmup: int = 1,
    min_seconds: float = 0.02,
    bytes_moved: float = 0.0,
    operations: float = 0.0,
) -> Timing:
    """Times `call`; a call shorter than `min_seconds` is repeated inside each measurement until it is not.

    >>> timing = measure(lambda: sum(range(1000)), repeats=3, min_seconds=0.001, bytes_moved=8000)
    >>> len(timing.seconds), timing.low <= timing.median <= timing.high
    (3, True)
    """
    for _ in range(warmup):
        call()
    loops = _loops(call, min_seconds)
    seconds = tuple(_once(call, loops) for _ in range(repeats))
    return Timing(seconds, bytes_moved, operations)


def _loops(call: Callable[[], object], min_seconds: float) -> int:
    taken = _once(call, 1)
    return 1 if taken >= min_seconds else math.ceil(min_seconds / max(taken, 1e-9))


def _once(call: Callable[[], object], loops: int) -> float:
    start = time.perf_counter()
    for _ in range(loops):
        call()
    return (time.perf_counter() - start) / loops


def _seconds(value: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value * 1e9:.3g} ns"
