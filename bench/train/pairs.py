"""Losses over pairs in order beside their plain forms: `python -m bench.train.pairs`.

CoSENT of n pairs of texts, RankNet of a few long lists, each with its gradient: medians of rounds in turns, the peak by
which memory grows in a process of its own, and how far value and gradient are off those of float64.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench import machine, record
from bench.contrast import peak_bytes
from tessella.train import pairwise, plain

Form = Callable[[Tensor, Tensor], Tensor]
FORMS: dict[str, tuple[Form, Form]] = {
    "CoSENT": (plain.cosent, pairwise.cosent),
    "RankNet": (plain.rank_net, pairwise.rank_net),
}


def given(name: str, n: int, lists: int) -> tuple[Tensor, Tensor]:
    """Scaled cosines, and grades of six values."""
    torch.manual_seed(0)
    shape = (n,) if name == "CoSENT" else (lists, n // lists)
    return 20 * torch.rand(shape) - 10, torch.randint(6, shape).float()


def differentiated(form: Form, scores: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    leaf = scores.clone().requires_grad_()
    value = form(leaf, labels)
    value.backward()
    assert leaf.grad is not None
    return value.item(), leaf.grad


def grown_mb(name: str, which: int, n: int, lists: int) -> float:
    torch.set_num_threads(1)
    differentiated(FORMS[name][which], *given(name, 256, 2))
    scores, labels = given(name, n, lists)
    before = peak_bytes()
    differentiated(FORMS[name][which], scores, labels)
    return (peak_bytes() - before) / 1e6


def compared(name: str, n: int, lists: int, rounds: int) -> dict[str, Any]:
    scores, labels = given(name, n, lists)
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for form, times in zip(FORMS[name], seconds, strict=True):
            start = time.perf_counter()
            differentiated(form, scores, labels)
            times.append(time.perf_counter() - start)
    wanted = differentiated(FORMS[name][0], scores.double(), labels.double())
    off = [
        float((differentiated(form, scores, labels)[1] - wanted[1]).abs().max() / wanted[1].abs().max())
        for form in FORMS[name]
    ]
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        grown = [pool.apply(grown_mb, (name, which, n, lists)) for which in range(2)]
    row: dict[str, Any] = {"loss": name, "n": n, "lists": lists if name == "RankNet" else 1}
    for i, way in enumerate(("plain", "ours")):
        row |= {
            f"{way}_s": round(statistics.median(seconds[i]), 4), f"{way}_mb": round(grown[i], 1),
            f"{way}_gradient_off": off[i],
        }  # fmt: skip
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=4096, help="pairs of CoSENT, documents of RankNet's lists together")
    parser.add_argument("--lists", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--save", action="store_true", help="append the results to bench/history")
    settings = parser.parse_args()
    machine.pin_cores(1)
    torch.set_num_threads(1)
    for name in FORMS:
        row = compared(name, settings.n, settings.lists, settings.rounds)
        print(json.dumps(row), flush=True)
        facts = {
            **machine.stamp(),
            "level": machine.cpu_level(), "threads": 1, "load_average": machine.load_average(),
        }  # fmt: skip
        if settings.save:
            record.append("pairs", [facts | row])


if __name__ == "__main__":
    main()
