"""InfoNCE beside torch: `python -m bench.contrast`, by a Python that has torch.

Forward and backward of the mean InfoNCE of n unit queries and documents at temperature 0.05: torch's product and
cross-entropy, and our kernels as `tessella.train` calls them, plain, with a mask of documents' ids, and with five
Matryoshka prefixes. Then the loss that users call, `losses.InfoNCE`, value and gradient with its normalisation, in the
same three ways, beside torch's with torch's. Each way of doing it takes turns within a round, and medians are compared.
Memory is what the process grows by at its peak, a process for each. The gradients' largest difference from those of
float64, of their largest entry, stands beside them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench import machine, record

TEMPERATURE = 0.05
Floats = npt.NDArray[np.float32]
Work = Callable[[], tuple[Any, Any]]


def pairs(n: int, d: int) -> tuple[Floats, Floats]:
    """Unit queries and their documents."""
    draw = np.random.default_rng(0)
    x = draw.standard_normal((n, d), dtype=np.float32)
    y = x + draw.standard_normal((n, d), dtype=np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True), y / np.linalg.norm(y, axis=1, keepdims=True)


def theirs(x: Floats, y: Floats, threads: int, cosine: bool = False) -> Work:
    import torch
    from torch.nn.functional import cross_entropy, normalize

    labels = torch.arange(len(x))

    def loss(q: Any, k: Any) -> Any:
        rows, columns = (normalize(q, dim=1), normalize(k, dim=1)) if cosine else (q, k)
        return cross_entropy(rows @ columns.T / TEMPERATURE, labels)

    return differentiated(loss, x, y, threads)


def shipped(x: Floats, y: Floats, threads: int, dims: tuple[int, ...] = (), masked: bool = False) -> Work:
    """The loss as a training step calls it: lengths, checks and the positive's own logit are part of the time."""
    import torch

    from tessella.train.losses import InfoNCE, Matryoshka

    loss = Matryoshka(InfoNCE(TEMPERATURE), dims) if dims else InfoNCE(TEMPERATURE)
    ids = {"positive_id": torch.arange(len(x)) // 2} if masked else {}
    return differentiated(lambda q, k: loss(query=q, positive=k, **ids), x, y, threads)


def differentiated(loss: Callable[[Any, Any], Any], x: Floats, y: Floats, threads: int) -> Work:
    """Value and gradients of a loss of torch tensors."""
    import torch

    import tessella

    torch.set_num_threads(threads)
    tessella.set_num_threads(threads)

    def work() -> tuple[Any, Any]:
        q, k = (torch.from_numpy(each).requires_grad_() for each in (x, y))
        loss(q, k).backward()
        assert q.grad is not None and k.grad is not None
        return q.grad.numpy(), k.grad.numpy()

    return work


def ours(x: Floats, y: Floats, threads: int, dims: tuple[int, ...] | None = None, masked: bool = False) -> Work:
    """Documents of the others are summed, log(1 + e^(sum - positive)) is the loss, its slope the positive's share."""
    from tessella.contrast import contrast_backward, contrast_forward

    lengths = dims or (x.shape[1],)
    n, scale = len(x), np.full((len(lengths), len(x)), 1 / TEMPERATURE, np.float32)
    numbers = np.arange(n)
    masks = [(numbers, numbers), *([(numbers // 2, numbers // 2)] if masked else [])]
    rules: dict[str, Any] = {"dims": dims, "threads": threads, "ids": masks}

    def work() -> tuple[Any, Any]:
        out = contrast_forward(x, y, scale, **rules)
        positive = np.stack([np.einsum("nd,nd->n", x[:, :m], y[:, :m]) for m in lengths]) * scale
        share = 1 / (1 + np.exp(positive - out)) / np.float32(n)
        found = contrast_backward(x, y, scale, out=out, out_gradient=share, **rules)
        for m, pull in zip(lengths, share / np.float32(TEMPERATURE), strict=True):
            found.rows[:, :m] -= pull[:, None] * y[:, :m]
            found.columns[:, :m] -= pull[:, None] * x[:, :m]
        return found.rows, found.columns

    return work


def exact(x: Floats, y: Floats) -> tuple[Any, Any]:
    """The gradients in float64, some rows at a time."""
    a, b = x.astype(np.float64), y.astype(np.float64)
    of_rows, of_columns = np.zeros_like(a), np.zeros_like(b)
    for start in range(0, len(a), 1024):
        rows = a[start : start + 1024]
        logits = rows @ b.T / TEMPERATURE
        logits -= logits.max(axis=1, keepdims=True)
        share = np.exp(logits)
        share /= share.sum(axis=1, keepdims=True)
        own = np.arange(len(rows))
        share[own, start + own] = 0
        share[own, start + own] = -share.sum(axis=1)  # not 1 less than what it was, which would cancel
        of_rows[start : start + 1024] = share @ b
        of_columns += share.T @ rows
    return of_rows / (TEMPERATURE * len(a)), of_columns / (TEMPERATURE * len(a))


def through_length(gradient: Any, x: Floats) -> Any:
    """The gradient of unit rows that are normalised first: what lies along a row is gone."""
    rows = x.astype(np.float64)
    return gradient - (gradient * rows).sum(axis=1, keepdims=True) * rows


def ways(x: Floats, y: Floats, threads: int) -> dict[str, Work]:
    d = x.shape[1]
    fifths = (d // 12, d // 6, d // 3, d // 2, d)
    return {
        "torch": theirs(x, y, threads),
        "tessella": ours(x, y, threads),
        "tessella, ids": ours(x, y, threads, masked=True),
        "tessella, 5 dims": ours(x, y, threads, dims=fifths),
        "torch, cosine": theirs(x, y, threads, cosine=True),
        "InfoNCE": shipped(x, y, threads),
        "InfoNCE, ids": shipped(x, y, threads, masked=True),
        "InfoNCE, 5 dims": shipped(x, y, threads, dims=fifths),
    }


def beside(way: str) -> tuple[str, str]:
    """What a way is compared with: torch's of the same normalisation, and our own without masks and prefixes."""
    own = way.partition(",")[0]
    return ("torch, cosine" if own == "InfoNCE" or way == "torch, cosine" else "torch"), way if own == "torch" else own


def grown_mb(way: str, n: int, d: int, threads: int) -> float:
    """10^6 bytes by which the peak grows in the call itself, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_grown, (way, n, d, threads))


def _grown(way: str, n: int, d: int, threads: int) -> float:
    small = pairs(64, d)
    ways(*small, threads)[way]()  # libraries and their pools of threads
    work = ways(*pairs(n, d), threads)[way]
    before = peak_bytes()
    work()
    return (peak_bytes() - before) / 1e6


def peak_bytes() -> int:
    """Of this program's memory alone: ru_maxrss would begin with what its parent had when it was forked off."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def off(got: tuple[Any, Any], wanted: tuple[Any, Any]) -> float:
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(got, wanted, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.contrast", description="InfoNCE beside torch.")
    parser.add_argument("--n", type=int, default=8192)
    parser.add_argument("--d", type=int, default=384)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--isa", help="level to pin (default: the best)")
    parser.add_argument("--save", action="store_true", help="append the results to bench/history")
    chosen = parser.parse_args()
    machine.pin_cores(chosen.threads)
    from tessella.testing import available_isas, pinned_isa

    level = chosen.isa or available_isas()[0]
    work = ways(*pairs(chosen.n, chosen.d), chosen.threads)
    seconds: dict[str, list[float]] = {way: [] for way in work}
    with pinned_isa(level):
        found = {way: work[way]() for way in ("torch", "tessella", "torch, cosine", "InfoNCE")}  # and warm
        for _ in range(chosen.rounds):
            for way, call in work.items():
                start = time.perf_counter()
                call()
                seconds[way].append(time.perf_counter() - start)
    x, y = pairs(chosen.n, chosen.d)
    of_rows, of_columns = exact(x, y)
    cosine = through_length(of_rows, x), through_length(of_columns, y)
    print(f"{machine.cpu_model()}, level {level}; {chosen.n} x {chosen.d}, {chosen.threads} threads")
    for way, times in seconds.items():
        torch_way, plain_way = beside(way)
        wanted = cosine if torch_way == "torch, cosine" else (of_rows, of_columns)
        difference = off(found[way], wanted) if way in found else None
        median = statistics.median(times)
        row = {
            **machine.stamp(),
            "level": level,
            "threads": chosen.threads,
            "load_average": machine.load_average(),
            "seed": 0,
            "n": chosen.n,
            "d": chosen.d,
            "way": way,
            "seconds": round(median, 4),
            "seconds_low": round(min(times), 4),
            "seconds_high": round(max(times), 4),
            "beside": torch_way,
            "of_torch": round(median / statistics.median(seconds[torch_way]), 3),
            "of_plain": round(median / statistics.median(seconds[plain_way]), 3),
            "grown_mb": round(grown_mb(way, chosen.n, chosen.d, chosen.threads), 1),
            "gradient_off": difference,
        }
        print(
            f"{way:18}{row['seconds']:8.3f} s ({row['seconds_low']:.3f} to {row['seconds_high']:.3f})"
            f"  x{row['of_torch']:.2f} of {torch_way}, x{row['of_plain']:.2f} of {plain_way}"
            f"  +{row['grown_mb']:.0f} MB" + ("" if difference is None else f"  gradients within {difference:.1e}"),
            flush=True,
        )
        if chosen.save:
            record.append("contrast", [row])


if __name__ == "__main__":
    main()
