"""What a measurement of a kernel is: time for one more row, start-up taken off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from bench.timing import measure

CACHE_BYTES = 256 << 10  # fits the second-level cache of every CPU we care for, with room for tables


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `prior` is an earlier figure for the same work, on another machine."""

    kernel: str
    d: int
    where: str  # "cache" or "memory"
    bytes_per_row: float
    ns: float
    ns_low: float
    ns_high: float
    prior: float | None = None
    flop_per_row: float | None = None

    @property
    def gb_per_s(self) -> float:
        """Bytes a row takes, over the median time: one byte a nanosecond is 1 GB/s."""
        return self.bytes_per_row / self.ns

    @property
    def best_gb_per_s(self) -> float:
        return self.bytes_per_row / self.ns_low

    def as_json(self) -> dict[str, Any]:
        numbers = {key: round(value, 3) if isinstance(value, float) else value for key, value in asdict(self).items()}
        if self.flop_per_row:
            numbers["gflop_per_s"] = round(self.flop_per_row / self.ns, 2)
        return numbers | {"gb_per_s": round(self.gb_per_s, 2), "best_gb_per_s": round(self.best_gb_per_s, 2)}

    def __str__(self) -> str:
        prior = f"{self.prior:8.1f}" if self.prior else f"{'–':>8}"
        spread = f"({self.ns_low:.2f} to {self.ns_high:.2f})"
        return (
            f"{self.kernel:24}{self.d:6}  {self.where:8}{self.ns:9.2f}  {spread:22}{prior}"
            f"{self.bytes_per_row:9.0f}{self.gb_per_s:8.1f}{self.best_gb_per_s:8.1f}"
            + (f"  {1e9 / self.ns:,.0f} rows/s, {self.flop_per_row / self.ns:.1f} GFLOP/s" if self.flop_per_row else "")
        )


def pieces(n: int) -> Iterator[slice]:
    """Slices of up to 65,536 rows, so that results stay in cache however many rows there are."""
    for start in range(0, n, 65_536):
        yield slice(start, min(start + 65_536, n))


HEADER = (
    f"{'kernel':24}{'d':>6}  {'from':8}{'ns/row':>9}  {'(fastest to slowest)':22}{'prior':>8}"
    f"{'bytes':>9}{'GB/s':>8}{'best':>8}"
)


def per_row(
    kernel: str,
    d: int,
    where: str,
    call: Callable[[int], object],
    n: int,
    bytes_per_row: float,
    prior: float | None = None,
    work: int = 1,
    flop_per_row: float | None = None,
) -> Row:
    """Times call(n) less call(1), for each of n - 1 rows and, where a call does it `work` times, each time."""
    start = measure(lambda: call(1), repeats=15, min_seconds=0.005)
    whole = measure(lambda: call(n), repeats=25 if where == "cache" else 7, min_seconds=0.01)
    scale = 1e9 / (n - 1) / work
    ns = [(seconds - start.median) * scale for seconds in (whole.median, whole.low, whole.high)]
    return Row(kernel, d, where, bytes_per_row, *ns, prior, flop_per_row)
