"""Encoding texts beside sentence-transformers: `python -m bench.encoder`, by a Python that has it.

The same model, the same texts, CPU-seconds of the whole process: what a text costs, whoever else is on the machine.
Both libraries take turns within each round, each number of threads in a process of its own that is confined to as many
cores; medians are compared, and every vector has to be the other's (cosine at least 0.99999).
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench import machine, record
from bench.datasets import data_folder

SEED = 7
BATCH = 32  # of sentence-transformers: its default
Texts = list[str]
Floats = npt.NDArray[np.float32]


def questions(folder: Path, count: int) -> Texts:
    """What customers ask a bank: 16 tokens on average."""
    with gzip.open(folder / "text" / "banking77" / "train.jsonl.gz", "rt") as lines:
        return random.Random(SEED).sample([json.loads(line)["text"] for line in lines], count)


def synopses(folder: Path, count: int) -> Texts:
    """One line about a Debian package: 12 tokens."""
    return [short for short, _ in descriptions(folder, count)]


def mixed(folder: Path, count: int) -> Texts:
    """The line alone and, for every other package, with its description: 48 tokens, very uneven."""
    pairs = descriptions(folder, count)
    return [short if i % 2 else f"{short}\n{long}" for i, (short, long) in enumerate(pairs)]


def paragraphs(folder: Path, count: int) -> Texts:
    """Abstracts of papers, cut at 256 tokens."""
    with gzip.open(folder / "text" / "scifact" / "corpus.jsonl.gz", "rt") as lines:
        documents = [json.loads(line) for line in lines]
    return [f"{each['title']} {each['text']}" for each in random.Random(SEED).sample(documents, count)]


def descriptions(folder: Path, count: int) -> list[tuple[str, str]]:
    from pyarrow import parquet

    table = parquet.read_table(folder / "debian" / "packages.parquet", columns=["short", "long"]).to_pydict()
    pairs = list(zip(table["short"], table["long"], strict=True))
    return random.Random(SEED).sample(pairs, count)


SETS: dict[str, tuple[Callable[[Path, int], Texts], int]] = {  # and how many texts take a second or so
    "questions": (questions, 1024),
    "synopses": (synopses, 1024),
    "mixed": (mixed, 512),
    "paragraphs": (paragraphs, 64),
}


def compared(name: str, folder: Path, rounds: int, scale: float, systems: dict[str, Any]) -> dict[str, Any]:
    """Texts a CPU-second, and a second, of each system, over one set of texts."""
    draw, count = SETS[name]
    texts = draw(folder, max(8, int(count * scale)))
    cpu: dict[str, list[float]] = {system: [] for system in systems}
    wall: dict[str, list[float]] = {system: [] for system in systems}
    vectors: dict[str, Floats] = {}
    for encode in systems.values():
        encode(texts[:64])
    for turn in range(rounds):
        for system in list(systems)[:: 1 if turn % 2 else -1]:
            started, began = time.process_time(), time.perf_counter()
            vectors[system] = systems[system](texts)
            cpu[system].append(len(texts) / (time.process_time() - started))
            wall[system].append(len(texts) / (time.perf_counter() - began))
    mine, other = vectors.values()
    row: dict[str, Any] = {"set": name, "texts": len(texts), "min_cosine": float((mine * other).sum(axis=1).min())}
    for system in systems:
        row[f"{system}_per_cpu_s"] = round(statistics.median(cpu[system]), 1)
        row[f"{system}_low"], row[f"{system}_high"] = round(min(cpu[system]), 1), round(max(cpu[system]), 1)
        row[f"{system}_per_s"] = round(statistics.median(wall[system]), 1)
    row["ratio"] = round(row["tessella_per_cpu_s"] / row["sentence_transformers_per_cpu_s"], 3)
    return row


def child(chosen: argparse.Namespace) -> None:
    """The measurements at one number of threads."""
    machine.pin_cores(chosen.child)
    import torch
    from sentence_transformers import SentenceTransformer

    from tessella.encoder import Encoder
    from tessella.encoder.finding import find

    torch.set_num_threads(chosen.child)
    encoder = Encoder.load("minilm")
    theirs = SentenceTransformer(str(find("minilm", download=False)), device="cpu")
    systems = {
        "tessella": encoder.encode,
        "sentence_transformers": lambda texts: theirs.encode(texts, batch_size=BATCH),
    }
    for name in chosen.sets:
        row = compared(name, data_folder(chosen.data), chosen.rounds, chosen.scale, systems)
        tokens = sum(map(len, encoder.backbone.tokens(SETS[name][0](data_folder(chosen.data), row["texts"]))))
        row |= {"threads": chosen.child, "tokens_per_text": round(tokens / row["texts"], 1)}
        print(json.dumps(row), flush=True)


def run(threads: int, arguments: list[str]) -> list[dict[str, Any]]:
    """The rows of a process of its own, whose thread variables are set before it imports anything."""
    variables = machine.pinned_environment(threads) | {"RAYON_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "bench.encoder", "--child", str(threads), *arguments]
    done = subprocess.run(command, env=os.environ | variables, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.encoder", description=__doc__.partition("\n")[0])
    parser.add_argument("sets", nargs="*", default=list(SETS), help=f"out of {', '.join(SETS)}")
    parser.add_argument("--data", help="folder of the real sets")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="times as many texts")
    parser.add_argument("--save", action="store_true", help="append the results to bench/history")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        child(chosen)
        return
    passed = [*chosen.sets, "--rounds", str(chosen.rounds), "--scale", str(chosen.scale)]
    passed += ["--data", chosen.data] if chosen.data else []
    common = {
        **machine.stamp(),
        "level": machine.cpu_level(),
        "model": "all-MiniLM-L6-v2",
        "seed": SEED,
        **versions(),
    }
    print(f"{common['cpu']}; texts a CPU-second (and a second), ours / sentence-transformers, batches of {BATCH}")
    for threads in chosen.threads:
        for row in run(threads, passed):
            print(line(row), flush=True)
            if chosen.save:
                record.append("encoder", [common | {"load_average": machine.load_average()} | row])


def versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "transformers", "sentence-transformers")}


def line(row: dict[str, Any]) -> str:
    text = f"{row['set']:12}threads {row['threads']}{row['tokens_per_text']:7.1f} tokens"
    for system in ("tessella", "sentence_transformers"):
        text += f"{row[f'{system}_per_cpu_s']:9.1f} ({row[f'{system}_per_s']:.1f})"
    return text + f"   ×{row['ratio']:.2f}   cosine ≥ {row['min_cosine']:.7f}"


if __name__ == "__main__":
    main()
