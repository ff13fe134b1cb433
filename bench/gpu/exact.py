"""The exact scan beside torch's `matmul` + `topk`, on rows that do not fit the cache."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from bench.gpu.machine import Machine
from bench.gpu.timing import Stopwatch, Timing

CACHES = 4  # the rows of a measurement fill the second-level cache this many times over
TORCH_SCORES = 1 << 30  # elements of a score matrix that torch is given at once


@dataclass(frozen=True)
class Setting:
    type: str  # torch's name
    n: int
    d: int
    nq: int
    k: int
    metric: str = "ip"
    share: float = 1.0  # of the rows that a query may find; below 1, each query has a bitmap of its own

    @property
    def row_bytes(self) -> int:
        return self.d * (4 if self.type == "float32" else 2)


def settings() -> Iterator[Setting]:
    """Most telling first: what comes last is left out when time runs short."""
    types = ("bfloat16", "float32", "float16")
    for nq, type_ in itertools.product((1024, 1), types):
        yield Setting(type_, 1_000_000, 768, nq, 10)
    for nq, type_ in itertools.product((8, 64, 4096), types):
        yield Setting(type_, 1_000_000, 768, nq, 10)
    for type_ in types:
        yield Setting(type_, 1_000_000, 768, 1024, 10, "l2")
        yield Setting(type_, 1_000_000, 768, 1024, 100)
        yield Setting(type_, 100_000, 384, 1, 10)
        yield Setting(type_, 100_000, 384, 1024, 10)
        yield Setting(type_, 1_000_000, 128, 1024, 10)
    for share in (0.001, 0.1):
        yield Setting("bfloat16", 1_000_000, 384, 1024, 10, share=share)
    yield Setting("bfloat16", 1_000_000, 768, 1024, 2048)


class Workload:
    """Random unit rows and queries of one setting; copies of the rows where one set would stay in the cache."""

    def __init__(self, torch: Any, setting: Setting, machine: Machine) -> None:
        self.torch, self.setting = torch, setting
        dtype = getattr(torch, setting.type)
        copies = max(1, -(-CACHES * machine.l2_bytes // (setting.n * setting.row_bytes)))
        self.rows = [self._unit(setting.n).to(dtype) for _ in range(copies)]
        self.queries = self._unit(setting.nq).to(dtype)
        self.half_norms = [(0.5 * x.float().square().sum(1)).to(dtype) for x in self.rows]
        self._turn = itertools.cycle(range(copies))
        self.allowed = None
        if setting.share < 1:
            self.allowed = torch.rand(setting.nq, setting.n, device="cuda") < setting.share

    def _unit(self, n: int) -> Any:
        x = self.torch.randn(n, self.setting.d, device="cuda")
        return self.torch.nn.functional.normalize(x, out=x)

    def ours(self, exact_topk: Callable[..., Any]) -> Callable[[], Any]:
        asked = self.setting.k, self.setting.metric
        return lambda: exact_topk(self.queries, self.rows[next(self._turn)], *asked, allowed=self.allowed)

    def torchs(self) -> Callable[[], Any]:
        """What a torch user writes: scores in memory, then topk; queries in parts where the scores grow large.

        L2 orders by <q, x> - |x|^2 / 2 and has the norms for nothing.
        """

        def run() -> Any:
            turn = next(self._turn)
            rows, part = self.rows[turn], max(1, TORCH_SCORES // self.setting.n)
            masks = [None] * self.setting.nq if self.allowed is None else self.allowed.split(part)
            for queries, mask in zip(self.queries.split(part), masks, strict=False):
                if self.setting.metric == "ip":
                    scores = queries @ rows.T
                else:
                    scores = self.torch.addmm(self.half_norms[turn], queries, rows.T, beta=-1)
                if mask is not None:
                    scores.masked_fill_(~mask, -float("inf"))
                self.torch.topk(scores, self.setting.k, dim=1)

        return run


def measure(torch: Any, machine: Machine, exact_topk: Callable[..., Any], setting: Setting) -> dict[str, Any]:
    """One row of the history: both times, their ratio, and how near the roofs ours is."""
    workload, watch = Workload(torch, setting, machine), Stopwatch(torch)
    ours, torchs = watch.time(workload.ours(exact_topk)), watch.time(workload.torchs())
    again = watch.time(workload.ours(exact_topk))  # the same work once more: how much of a difference is noise
    return {
        **asdict(setting),
        "ours": asdict(ours),
        "ours_again_median_ms": again.median_ms,
        "torch": asdict(torchs),
        "times_torch": torchs.median_ms / ours.median_ms,
        "queries_s": 1e3 * setting.nq / ours.median_ms,
        "row_gb_s": setting.n * setting.row_bytes / ours.median_ms / 1e6,
        "tflop_s": 2 * setting.n * setting.d * setting.nq / ours.median_ms / 1e9,
    }


def line(row: dict[str, Any], roofs: dict[str, float]) -> str:
    ours, torchs = Timing(**row["ours"]), Timing(**row["torch"])
    bandwidth = 100 * row["row_gb_s"] / roofs["copy_gb_s"]
    arithmetic = 100 * row["tflop_s"] / roofs[f"matmul_{row['type']}_tflop_s"]
    return (
        f"{row['type']:9} n={row['n']:<9,} d={row['d']:<5} nq={row['nq']:<5} k={row['k']:<5} {row['metric']:3}"
        f" {ours.median_ms:9.3f} ms ({ours.p10_ms:.3f}–{ours.p90_ms:.3f})"
        f"  torch {torchs.median_ms:9.3f} ms  ×{row['times_torch']:<5.2f} {row['queries_s']:>12,.0f} q/s"
        f"  {bandwidth:3.0f} % of copy  {arithmetic:3.0f} % of matmul"
    )
