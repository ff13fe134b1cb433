"""The roofs of this machine: its measured float32 product peak and its bandwidth, for each number of threads.

    python -m bench.roofs --threads 1 2

The product peak is the best rate of a square float32 matrix product in any library that is here
(NumPy's BLAS; PyTorch's, where it is installed). Each number of threads gets a process of its own, pinned
before import.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from bench import machine

_SIDES = (1024, 2048, 3072)
_FLOATS = 1 << 26  # 256 MiB: beyond the private caches; a shared last-level cache may still hold some of it


@dataclass(frozen=True, slots=True)
class Roofs:
    """What the machine did at best with this many threads."""

    threads: int
    product_gflops: float
    product_by: str
    copy_gb_per_s: float  # bytes read and bytes written
    read_gb_per_s: float
    products: dict[str, float] = field(default_factory=dict)  # every library's best

    def __str__(self) -> str:
        others = ", ".join(f"{name} {rate:,.0f}" for name, rate in self.products.items())
        plural = "s" if self.threads > 1 else ""
        return (
            f"{self.threads} thread{plural}: "
            f"float32 product peak {self.product_gflops:,.0f} GFLOP/s ({self.product_by}; all: {others}), "
            f"copy {self.copy_gb_per_s:.1f} GB/s, read {self.read_gb_per_s:.1f} GB/s"
        )


def higher(a: Roofs, b: Roofs) -> Roofs:
    """The higher of each roof of two measurements: other work on the machine can only lower them."""
    products = {name: max(a.products[name], b.products[name]) for name in a.products}
    best = max(products, key=lambda name: products[name])
    copy, read = max(a.copy_gb_per_s, b.copy_gb_per_s), max(a.read_gb_per_s, b.read_gb_per_s)
    return Roofs(a.threads, products[best], best, copy, read, products)


def roofs(threads: int) -> Roofs:
    """Measures in a fresh process with that many threads."""
    context = multiprocessing.get_context("spawn")
    with machine.environment(machine.pinned_environment(threads)), context.Pool(1) as pool:
        return pool.apply(_measure, (threads,))


def _measure(threads: int) -> Roofs:
    machine.pin_cores(threads)
    products = {"numpy": _numpy_product()}
    if importlib.util.find_spec("torch"):
        products["torch"] = _torch_product(threads)
    best = max(products, key=lambda name: products[name])
    copy, read = _bandwidth(threads)
    return Roofs(threads, products[best], best, copy, read, products)


def _numpy_product() -> float:
    import numpy as np

    draw = np.random.default_rng(0)

    def pair(side: int) -> tuple[Any, Any, Any]:
        a, b = (draw.standard_normal((side, side), dtype=np.float32) for _ in range(2))
        return a, b, np.empty((side, side), dtype=np.float32)

    return _best_product(pair, lambda a, b, out: np.matmul(a, b, out=out))


def _torch_product(threads: int) -> float:
    import torch

    torch.set_num_threads(threads)

    def pair(side: int) -> tuple[Any, Any, Any]:
        return torch.randn(side, side), torch.randn(side, side), torch.empty(side, side)

    return _best_product(pair, lambda a, b, out: torch.mm(a, b, out=out))


def _best_product(pair: Any, product: Any) -> float:
    """The best of the sizes."""
    from bench.timing import measure

    rates = []
    for side in _SIDES:
        call = functools.partial(product, *pair(side))
        timing = measure(call, operations=2 * side**3, min_seconds=0.1)
        rates.append(timing.best_gflop_per_s)
    return max(rates)


def _bandwidth(threads: int) -> tuple[float, float]:
    """Copy and read rates; every thread works on its own slice."""
    import numpy as np

    from bench.timing import measure

    source, target = np.ones(_FLOATS, dtype=np.float32), np.zeros(_FLOATS, dtype=np.float32)
    parts = list(zip(np.array_split(source, threads), np.array_split(target, threads), strict=True))
    with ThreadPoolExecutor(threads) as pool:

        def copy_all() -> None:
            list(pool.map(lambda part: np.copyto(part[1], part[0]), parts))

        def read_all() -> None:
            list(pool.map(lambda part: part[0].max(), parts))

        copy = measure(copy_all, bytes_moved=2 * source.nbytes)
        read = measure(read_all, bytes_moved=source.nbytes)
    return copy.best_gb_per_s, read.best_gb_per_s


def main() -> None:
    """Prints the roofs."""
    parser = argparse.ArgumentParser(prog="python -m bench.roofs", description="Measures the machine's roofs.")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    chosen = parser.parse_args()
    print(f"{machine.cpu_model()}, {machine.cpu_level()}")
    for threads in chosen.threads:
        print(roofs(threads))


if __name__ == "__main__":
    main()
