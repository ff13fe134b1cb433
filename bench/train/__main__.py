"""Losses side by side: `python -m bench.train`, some CPU-minutes on one thread; `--dataset scifact`.

A cut of MiniLM, of two layers unless told otherwise, learns to find answers by questions (MedQuAD) or abstracts by
claims (SciFact), with every loss from the same start, on the same rows, in the same order, over several seeds. nDCG@10
on held-out subjects or SciFact's test claims: in full, at 64 dimensions, as sign bits, and at 64 dimensions after half
of the layers. p values are those of a paired permutation test: signs of the per-query differences (means over the
seeds) are flipped 10,000 times.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bench import machine, record
from bench.datasets import data_folder
from bench.train.model import DATASETS, Cut, Data, Guide
from tessella.train import Config, PercPos, Trainer, mine_hard_negatives
from tessella.train.losses import InfoNCE, Loss, Matryoshka, Matryoshka2D, QuantizationAware, Starbucks

SETTINGS = ("layers", "steps", "batch", "rows", "rate", "queries", "documents")  # that a run depends on
Scores = npt.NDArray[np.float64]
FIGURES = {
    "full": "nDCG@10",
    "64": "first 64 dimensions",
    "bits": "sign bits",
    "cut": "first 64 after half of the layers",
}


@dataclass(frozen=True)
class Way:
    """A loss, made for a model of so many layers, and what it is given beside the pairs."""

    loss: Callable[[int], Loss]
    mined: bool = False  # a mined negative a row
    guided: bool = False  # embeddings of a guide
    each_layer: bool = False  # a vector for each layer


LOSSES: dict[str, Way] = {
    "InfoNCE": Way(lambda layers: InfoNCE()),
    "mined negatives": Way(lambda layers: InfoNCE(), mined=True),
    "hardness 9": Way(lambda layers: InfoNCE(hardness=9.0)),
    "focal 0.5": Way(lambda layers: InfoNCE(focal=0.5)),
    "GIST": Way(lambda layers: InfoNCE(), guided=True),
    "Matryoshka 384, 64": Way(lambda layers: Matryoshka(InfoNCE(), (384, 64))),
    "2D Matryoshka": Way(lambda layers: Matryoshka2D(InfoNCE(), (64,)), each_layer=True),
    "Starbucks": Way(lambda layers: Starbucks(InfoNCE(), ((max(1, layers // 2), 64), (layers, 384))), each_layer=True),
    "binary-aware": Way(lambda layers: InfoNCE() + QuantizationAware(InfoNCE(), "binary")),
}
# figure, the row it belongs to, the row and figure it is compared with
COMPARED = (
    ("full", "InfoNCE", ("start", "full")),
    ("full", "mined negatives", ("InfoNCE", "full")),
    ("full", "hardness 9", ("InfoNCE", "full")),
    ("full", "focal 0.5", ("InfoNCE", "full")),
    ("full", "GIST", ("InfoNCE", "full")),
    ("full", "Matryoshka 384, 64", ("InfoNCE", "full")),
    ("64", "Matryoshka 384, 64", ("InfoNCE", "64")),
    ("cut", "2D Matryoshka", ("InfoNCE", "cut")),
    ("full", "2D Matryoshka", ("InfoNCE", "full")),
    ("cut", "Starbucks", ("InfoNCE", "cut")),
    ("full", "Starbucks", ("InfoNCE", "full")),
    ("bits", "binary-aware", ("InfoNCE", "bits")),
    ("full", "binary-aware", ("InfoNCE", "full")),
)


def ndcg(queries: npt.NDArray[Any], documents: npt.NDArray[Any], relevant: list[set[int]]) -> Scores:
    """nDCG@10 of each query."""
    order = np.argsort(-(queries @ documents.T), axis=1, kind="stable")[:, :10]
    discounts = 1 / np.log2(np.arange(2, 12))
    gains = [[float(doc in mine) for doc in row] for row, mine in zip(order.tolist(), relevant, strict=True)]
    ideal = np.array([discounts[: min(10, len(mine))].sum() for mine in relevant])
    return np.asarray(np.array(gains) @ discounts / ideal)


def figures(model: Cut, data: Data) -> dict[str, Scores]:
    """nDCG@10 of each query, by name as in FIGURES."""
    layers = [model.encode_layers(texts) for texts in (data.queries, data.documents)]
    half = max(1, layers[0].shape[1] // 2)
    whole = [x[:, -1] for x in layers]
    return {
        "full": ndcg(*whole, data.relevant),
        "64": ndcg(*(first_64(x) for x in whole), data.relevant),
        "bits": ndcg(*(np.where(x >= 0, 1.0, -1.0) for x in whole), data.relevant),
        "cut": ndcg(*(first_64(x[:, half - 1]) for x in layers), data.relevant),
    }


def first_64(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Unit prefixes."""
    return np.asarray(x[:, :64] / np.linalg.norm(x[:, :64], axis=1, keepdims=True))


def p_value(one: Scores, other: Scores, draws: int = 10_000) -> float:
    """Two-sided, of a paired permutation test."""
    differences = one - other
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (draws, len(differences)))
    hits = int((np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12).sum())
    return (1 + hits) / (1 + draws)  # what was seen is one of the draws


def rows_of(name: str, seed: int, data: Data, settings: argparse.Namespace, start: Cut) -> dict[str, list[Any]]:
    """Training rows of a seed, the same for every loss; with a negative each where they are mined."""
    chosen = np.random.default_rng(seed).permutation(len(data.train))[: settings.rows]
    query, positive = (list(column) for column in zip(*(data.train[i] for i in chosen), strict=True))
    columns: dict[str, list[Any]] = {"query": query, "positive": positive}
    if LOSSES[name].mined:
        documents = list(dict.fromkeys(positive))
        number = {text: i for i, text in enumerate(documents)}
        answers: dict[str, list[int]] = {}
        for question, answer in zip(query, positive, strict=True):
            answers.setdefault(question, []).append(number[answer])
        own = [answers[question] for question in query]
        mined = mine_hard_negatives(query, own, documents, encode=start.encode, keep=PercPos(0.95), take=1)
        # a question without one keeps its own answer there, whose equal id leaves it out
        columns["negative"] = [
            [documents[row]] if row >= 0 else [mine] for (row,), mine in zip(mined.rows.tolist(), positive, strict=True)
        ]
    return columns


def trained(name: str, seed: int, data: Data, settings: argparse.Namespace, start: Cut) -> tuple[Cut, float]:
    """A model after its run, and the CPU seconds that the run took."""
    way = LOSSES[name]
    model = Cut(settings.layers, each_layer=way.each_layer)
    model.known = start.known
    columns = rows_of(name, seed, data, settings, start)
    config = Config(steps=settings.steps, batch=settings.batch, learning_rate=settings.rate, seed=seed)
    began = time.process_time()
    Trainer(model, way.loss(settings.layers), columns, config, guide=guide() if way.guided else None).fit()
    return model, time.process_time() - began


@cache
def guide() -> Guide:
    """One for all runs."""
    return Guide()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="folder of the real sets (or TESSELLA_DATA)")
    parser.add_argument("--dataset", choices=DATASETS, default="medquad")
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=list(LOSSES))
    parser.add_argument("--layers", type=int, default=2, help="of MiniLM's six")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--documents", type=int, default=1200)
    parser.add_argument("--runs", default="out/train", help="where results of single runs are kept, and taken from")
    parser.add_argument(
        "--most", type=int, default=-1, help="new runs of this call, for a machine that others wait for"
    )
    parser.add_argument("--save", action="store_true", help="append the results to bench/history")
    settings = parser.parse_args()
    torch.set_num_threads(1)
    data = DATASETS[settings.dataset](
        data_folder(settings.data), queries=settings.queries, documents=settings.documents
    )
    start = Cut(settings.layers)
    found: dict[str, list[dict[str, Scores]]] = {"start": [figures(start, data)]}
    report: list[dict[str, Any]] = [{"loss": "start", "seed": None, "cpu_s": 0.0, **means(found["start"][0])}]
    left = settings.most
    for name in settings.losses:
        for seed in range(settings.seeds):
            path = Path(settings.runs) / of_settings(settings) / f"{name}-{seed}.npz"
            if not path.exists():
                if left == 0:
                    return print(f"{path} is next")
                left -= 1
                run(path, name, seed, data, settings, start)
            with np.load(path) as kept:
                scores = {each: kept[each] for each in FIGURES}
                cpu_s = round(float(kept["cpu_s"]), 1)
            found.setdefault(name, []).append(scores)
            report.append({"loss": name, "seed": seed, "cpu_s": cpu_s, **means(scores)})
    lines = compared(found)
    print("\n".join(table(found, lines)))
    if settings.save:
        write(report, lines, settings)


def of_settings(settings: argparse.Namespace) -> str:
    """A folder for runs of these settings alone."""
    return "-".join([settings.dataset, *(f"{name}={getattr(settings, name)}" for name in SETTINGS)])


def run(path: Path, name: str, seed: int, data: Data, settings: argparse.Namespace, start: Cut) -> None:
    """Trains, and keeps each query's figures."""
    model, cpu_s = trained(name, seed, data, settings, start)
    scores = figures(model, data)
    print(name, seed, f"{cpu_s:.1f} CPU-s", means(scores), flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, cpu_s=cpu_s, **scores)


def means(scores: dict[str, Scores]) -> dict[str, float]:
    return {f"ndcg_at_10_{name}": round(float(each.mean()), 4) for name, each in scores.items()}


def by_query(found: dict[str, list[dict[str, Scores]]], name: str, figure: str) -> Scores:
    """Each query's mean over the seeds."""
    return np.asarray(np.mean([each[figure] for each in found[name]], axis=0))


def compared(found: dict[str, list[dict[str, Scores]]]) -> list[dict[str, Any]]:
    lines = []
    for figure, name, (other, its) in COMPARED:
        if name not in found or other not in found:
            continue
        ours, theirs = by_query(found, name, figure), by_query(found, other, its)
        seeds = [float(each[figure].mean()) for each in found[name]]
        lines.append(
            {
                "compared": f"{name}, {figure}", "with": f"{other}, {its}", "ndcg_at_10": float(ours.mean()),
                "against": float(theirs.mean()), "lowest_seed": min(seeds), "highest_seed": max(seeds),
                "p": p_value(ours, theirs),
            }
        )  # fmt: skip
    return lines


def table(found: dict[str, list[dict[str, Scores]]], lines: list[dict[str, Any]]) -> list[str]:
    head = [f"| loss | {' | '.join(FIGURES.values())} |", "| --- " * (1 + len(FIGURES)) + "|"]
    rows = [
        f"| {name} | " + " | ".join(f"{by_query(found, name, each).mean():.3f}" for each in FIGURES) + " |"
        for name in found
    ]
    tests = ["", "| row | nDCG@10 (seeds) | compared with | nDCG@10 | p |", "| --- | --- | --- | --- | --- |"]
    tests += [
        f"| {x['compared']} | {x['ndcg_at_10']:.3f} ({x['lowest_seed']:.3f}–{x['highest_seed']:.3f}) | {x['with']} |"
        f" {x['against']:.3f} | {x['p']:.4f} |"
        for x in lines
    ]
    return [*head, *rows, *tests]


def write(report: list[dict[str, Any]], lines: list[dict[str, Any]], settings: argparse.Namespace) -> None:
    facts = {
        **machine.stamp(),
        "level": machine.cpu_level(), "threads": 1, "dataset": settings.dataset,
        "seeds": settings.seeds, **{name: getattr(settings, name) for name in SETTINGS},
    }  # fmt: skip
    # rounded here and no sooner, or the tables would round a second time
    tests = [{name: round(x, 4) if isinstance(x, float) else x for name, x in row.items()} for row in lines]
    record.append("train", [facts | row for row in [*report, *tests]])


if __name__ == "__main__":
    main()
