"""MaxSim of one query of 32 tokens on one core: ours for every type of tokens, beside maxsim-cpu, NumPy and torch.

Documents of 80 tokens and of ragged lengths, 128 dimensions, drawn unit vectors: for speed alone. Libraries take turns
within each round and the median is told. NumPy's is one product with all tokens and a maximum over each document's
columns; torch's an einsum over documents of equal length, or one product and a maximum a document over ragged ones.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.roofs import roofs

Floats = npt.NDArray[np.float32]
Score = Callable[[], object]

DIM, TOKENS, QUERY_TOKENS = 128, 80, 32
DOCUMENTS = 400  # 16 MB of float32: as a search meets them, beyond the second-level cache


def tessella(query: Floats, flat: Floats, offsets: npt.NDArray[np.int64]) -> Iterator[tuple[str, Score]]:
    import tessella as ts

    for name, kept in (("f32", flat), ("f16", flat.astype(np.float16))):
        yield f"tessella {name}", lambda kept=kept: ts.maxsim(query, (kept, offsets), threads=1)
    for name in ("int8", "n4"):  # rounded as an index rounds them
        index = ts.MultiVectorIndex(ts.FDE(DIM, k_sim=1, repetitions=1, projection_dim=8), tokens=name)
        index.add((flat, offsets))
        yield f"tessella {name}", lambda index=index: index.exact(query, threads=1)


def numpy(query: Floats, flat: Floats, offsets: npt.NDArray[np.int64]) -> Iterator[tuple[str, Score]]:
    starts = offsets[:-1]
    yield "numpy", lambda: np.maximum.reduceat(query @ flat.T, starts, axis=1).sum(axis=0)


def maxsim_cpu(query: Floats, flat: Floats, offsets: npt.NDArray[np.int64]) -> Iterator[tuple[str, Score]]:
    module = importlib.import_module("maxsim_cpu")
    documents = np.split(flat, offsets[1:-1])
    if len({len(each) for each in documents}) == 1:
        stacked = np.stack(documents)
        yield "maxsim-cpu", lambda: module.maxsim_scores(query, stacked)
    else:
        yield "maxsim-cpu", lambda: module.maxsim_scores_variable(query, documents)


def torch(query: Floats, flat: Floats, offsets: npt.NDArray[np.int64]) -> Iterator[tuple[str, Score]]:
    module = importlib.import_module("torch")
    module.set_num_threads(1)
    asked, tokens = module.from_numpy(query), module.from_numpy(flat)
    documents = module.split(tokens, np.diff(offsets).tolist())
    if len({len(each) for each in documents}) == 1:
        stacked = module.stack(documents)
        yield "torch", lambda: module.einsum("id,ntd->nit", asked, stacked).amax(2).sum(1)
    else:
        yield "torch", lambda: module.stack([(asked @ each.T).amax(1).sum() for each in documents])


def rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each kind of lengths and library."""
    gflops = roofs(1).product_gflops
    print(f"float32 product peak {gflops:.0f} GFLOP/s")
    draw = np.random.default_rng(0)
    ragged = draw.integers(20, 2 * TOKENS - 20, DOCUMENTS)
    for kind, lengths in (("equal", np.full(DOCUMENTS, TOKENS)), ("ragged", ragged)):
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        flat, query = unit(draw, int(offsets[-1])), unit(draw, QUERY_TOKENS)
        found: dict[str, Score] = {}
        for library in (tessella, numpy, maxsim_cpu, torch):
            try:
                found.update(library(query, flat, offsets))
            except ImportError as error:
                print(f"{library.__name__} is not here: {error}")
        operations = 2.0 * QUERY_TOKENS * DIM * float(offsets[-1]) / DOCUMENTS
        for name, seconds in interleaved(found, options.rounds).items():
            median = statistics.median(seconds)
            yield {
                "kind": kind, "library": name, "tokens": float(lengths.mean()), "dim": DIM, "documents": DOCUMENTS,
                "us": 1e6 * median, "us_low": 1e6 * min(seconds), "us_high": 1e6 * max(seconds),
                "gflop_per_s": operations / median / 1e9, "roof_us": operations / gflops / 1e3,
            }  # fmt: skip


def unit(draw: np.random.Generator, count: int) -> Floats:
    x = draw.standard_normal((count, DIM), dtype=np.float32)
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))


def interleaved(found: dict[str, Score], rounds: int) -> dict[str, list[float]]:
    """Seconds of one document, CPU time of this process, in each round."""
    taken: dict[str, list[float]] = {name: [] for name in found}
    for round_ in range(3 * rounds + 1):
        for name, score in found.items():
            start = time.process_time()
            score()
            if round_ > 0:  # the first warms up
                taken[name].append((time.process_time() - start) / DOCUMENTS)
    return taken


def line(row: dict[str, Any]) -> str:
    spread = f"({row['us_low']:.2f} to {row['us_high']:.2f})"
    return (
        f"{row['kind']:8}{row['library']:14}{row['us']:8.2f} us a document  {spread:20}"
        f"{row['gflop_per_s']:7.1f} GFLOP/s  roof {row['roof_us']:.2f} us"
    )
