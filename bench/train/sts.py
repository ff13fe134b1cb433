"""Graded pairs: `python -m bench.train.sts`, a few CPU-minutes on one thread.

A two-layer cut of MiniLM learns the STS benchmark's grades by CoSENT, and its best pairs by InfoNCE, from one start,
over several seeds; Spearman's correlation of cosines with the grades of the test pairs. p values are those of a paired
permutation test: which of two models a pair's rank belongs to (the mean over seeds) is drawn anew, 2,000 times.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bench import machine, record
from bench.datasets import data_folder
from bench.train.model import Cut
from tessella.eval.metrics import ranks, spearman
from tessella.train import Config, Trainer
from tessella.train.losses import CoSENT, InfoNCE, Loss

GOOD = 4.0  # of 5: a pair whose texts mean the same
Pairs = dict[str, list[Any]]
Floats = npt.NDArray[np.float64]


def pairs(folder: Path, split: str) -> Pairs:
    with gzip.open(folder / "text" / "stsb" / f"{split}.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    names = {"query": "a", "positive": "b", "score": "score"}
    return {name: [row[of] for row in rows] for name, of in names.items()}


def chosen(data: Pairs, rows: list[int]) -> Pairs:
    return {name: [each[row] for row in rows] for name, each in data.items()}


def training(name: str, data: Pairs, seed: int, count: int) -> tuple[Loss, Pairs]:
    """Loss and rows of a seed: any pairs for CoSENT, good ones for InfoNCE."""
    order = np.random.default_rng(seed).permutation(len(data["score"])).tolist()
    if name == "CoSENT":
        return CoSENT(), chosen(data, order[:count])
    good = chosen(data, [row for row in order if data["score"][row] >= GOOD][:count])
    return InfoNCE(), {side: good[side] for side in ("query", "positive")}


def cosines(model: Cut, test: Pairs) -> Floats:
    a, b = (model.encode(test[side]) for side in ("query", "positive"))
    return np.asarray((a * b).sum(axis=1), np.float64)


def p_value(one: Floats, other: Floats, grades: Floats, draws: int = 2000) -> float:
    """Two-sided, of the difference of two correlations with the grades."""
    seen = abs(spearman(one, grades) - spearman(other, grades))
    draw = np.random.default_rng(0)
    hits = 0
    for _ in range(draws):
        swap = draw.random(len(one)) < 0.5
        a, b = np.where(swap, other, one), np.where(swap, one, other)
        hits += abs(spearman(a, grades) - spearman(b, grades)) >= seen - 1e-12
    return (1 + hits) / (1 + draws)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="folder of the real sets (or TESSELLA_DATA)")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rows", type=int, default=768)
    parser.add_argument("--rate", type=float, default=3e-4)
    settings = parser.parse_args()
    torch.set_num_threads(1)
    folder = data_folder(settings.data)
    train, test = pairs(folder, "train"), pairs(folder, "test")
    grades = np.array(test["score"])
    start = Cut()
    found = {"start": [cosines(start, test)]}
    report: list[dict[str, Any]] = [{"loss": "start", "seed": None, "spearman": spearman(found["start"][0], grades)}]
    for seed in range(settings.seeds):
        for name in ("CoSENT", "InfoNCE"):
            model = Cut()
            model.known = start.known
            loss, rows = training(name, train, seed, settings.rows)
            config = Config(steps=settings.steps, batch=settings.batch, learning_rate=settings.rate, seed=seed)
            began = time.process_time()
            Trainer(model, loss, rows, config).fit()
            cpu_s = round(time.process_time() - began, 1)
            found.setdefault(name, []).append(cosines(model, test))
            report.append({"loss": name, "seed": seed, "cpu_s": cpu_s, "spearman": spearman(found[name][-1], grades)})
            print(report[-1], flush=True)
    mean = {name: np.mean([ranks(each) for each in runs], axis=0) for name, runs in found.items()}
    for name, other in (("CoSENT", "start"), ("InfoNCE", "start"), ("CoSENT", "InfoNCE")):
        row = {"compared": name, "with": other, "p": p_value(mean[name], mean[other], grades)}
        report.append(row)
    for name, runs in found.items():
        each = [spearman(run, grades) for run in runs]
        print(f"{name:10} {np.mean(each):.4f} ({min(each):.4f} to {max(each):.4f})")
    print(*report[-3:], sep="\n")
    write(report, settings)


def write(report: list[dict[str, Any]], settings: argparse.Namespace) -> None:
    facts = {
        **machine.stamp(),
        "level": machine.cpu_level(), "threads": 1, "dataset": "stsb",
        **{name: getattr(settings, name) for name in ("seeds", "steps", "batch", "rows", "rate")},
    }  # fmt: skip
    record.append("train", [facts | row for row in report])


if __name__ == "__main__":
    main()
