"""Searches from end to end on one core: the first stage and the exact MaxSim over what it finds.

Real ColBERTv2 tokens, spliced to as many documents as are asked for: each of 80 tokens, in windows of 18 to 40 of the
500 passages' with 3 % of noise, scaled back to unit length. The truth is the exact MaxSim over the float16 tokens. Of
the real queries every third is shown to an encoder that learns, the next one calibrates the number of candidates, and
the one after that is timed, and its recall told. Few queries make calibration cautious, so a few numbers of candidates
follow, with all queries that the encoder has not seen.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.multivector.sets import TokenSet, lotte500

TOKENS, NOISE, RECALL, K = 80, 0.03, 0.95, 10
SIZES = (10_000, 100_000)
SETTINGS = (  # encoder, codes, tokens
    ("fde", "B1", "f16"),
    ("fde", "B1", "int8"),
    ("lemur", "B1+U8", "f16"),
    ("lemur", "B1+U8", "int8"),
    ("smve", "", "f16"),
    ("smve", "", "int8"),
)
PIECE = 10_000  # documents made, and added, at a time
FIXED = (256, 512, 1024, 2048, 4096)  # numbers of candidates
BATCHES = 3  # times that the timed queries are asked
TAUGHT, CALIBRATING, TIMED = (slice(i, None, 3) for i in range(3))  # of the real queries


def spliced(found: TokenSet, n: int, seed: int) -> npt.NDArray[np.float16]:
    """Documents (n, 80, d)."""
    tokens, offsets = found.documents
    draw = np.random.default_rng(seed)
    lengths = np.diff(offsets)
    which = np.empty((n, TOKENS), np.int64)
    filled = np.zeros(n, np.int64)
    while (filled < TOKENS).any():
        passages, sizes = draw.integers(0, found.n, n), draw.integers(18, 41, n)
        sizes = np.minimum(sizes, lengths[passages])
        starts = offsets[passages] + (draw.random(n) * (lengths[passages] - sizes + 1)).astype(np.int64)
        for j in range(40):
            there = (j < sizes) & (filled + j < TOKENS)
            which[there, filled[there] + j] = starts[there] + j
        filled = np.minimum(TOKENS, filled + sizes)
    x = tokens[which].astype(np.float32)
    x += NOISE * draw.standard_normal(x.shape, dtype=np.float32)
    x /= np.linalg.norm(x, axis=2, keepdims=True)
    return x.astype(np.float16)


def rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each size and setting."""
    found = lotte500(options.data)
    asked = found.queries[0].reshape(found.nq, -1, found.queries[0].shape[1])
    for n in options.sizes or SIZES:
        truth: npt.NDArray[np.int64] | None = None
        for setting in SETTINGS:
            if options.encoders and setting[0] not in options.encoders:
                continue
            index = stored(found, asked[TAUGHT], setting, n, options.store)
            if truth is None:  # of float16 tokens
                truth, exact_ms = exact_best(index, asked, options.store and options.store / f"{n}-truth.npz")
            names = dict(zip(("encoder", "codes", "tokens"), setting, strict=True))
            for row in measured(index, asked, truth):
                yield row | names | {"n": n, "exact_ms": exact_ms}
            del index


def exact_best(index: Any, asked: npt.NDArray[np.float16], path: Path | None) -> tuple[npt.NDArray[np.int64], float]:
    """The true best documents, and CPU milliseconds a query; from the file, where it is there."""
    if path is not None and path.exists():
        with np.load(path) as file:
            return file["ids"], float(file["ms"])
    start = time.process_time()
    ids = np.concatenate([np.asarray(index.exact(query, K, threads=1).ids) for query in asked])
    taken = 1e3 * (time.process_time() - start) / len(asked)
    if path is not None:
        np.savez(path, ids=ids, ms=taken)
    return ids, taken


def stored(
    found: TokenSet, taught: npt.NDArray[np.float16], setting: tuple[str, str, str], n: int, store: Path | None
) -> Any:
    """The index of the folder, built first where it is not there yet."""
    import tessella as ts

    path = None if store is None else store / f"{n}-{'-'.join(setting)}.tessella"
    if path is not None and path.exists():
        return ts.MultiVectorIndex.load(path)
    index = built(found, taught, *setting, n)
    if path is not None:
        index.save(path)
    return index


def built(found: TokenSet, taught: npt.NDArray[np.float16], encoder: str, codes: str, tokens: str, n: int) -> Any:
    """An index over so many spliced documents; a learned encoder sees some of them, and the queries `taught`.

    Those that calibrate must not be among what it has learnt: it would know them far better than others.
    """
    import tessella as ts

    first = spliced(found, min(PIECE, n), 0)
    made: Any = ts.FDE(first.shape[2])
    if encoder == "lemur":
        made = ts.LEMUR(first.shape[2])
        made.fit(first[:2000], taught)
    if encoder == "smve":
        made = ts.SMVE(first.shape[2])
    index = ts.MultiVectorIndex(made, codes=codes or None, tokens=tokens)
    for piece in range(-(-n // PIECE)):
        index.add(first if piece == 0 else spliced(found, min(PIECE, n - piece * PIECE), piece))
    return index


def measured(index: Any, asked: npt.NDArray[np.float16], truth: npt.NDArray[np.int64]) -> Iterator[dict[str, Any]]:
    """As calibrated for the recall, and at fixed numbers of candidates."""
    index.calibrate(asked[CALIBRATING], K, recall=RECALL, truth=truth[CALIBRATING], threads=1)
    yield timed(index, asked[TIMED], truth[TIMED], "auto")
    unseen = np.arange(len(asked)) % 3 != 0
    for candidates in FIXED:
        yield timed(index, asked[unseen], truth[unseen], candidates)


def timed(
    index: Any, asked: npt.NDArray[np.float16], truth: npt.NDArray[np.int64], candidates: int | str
) -> dict[str, Any]:
    hits = index.search(asked, K, candidates=candidates, threads=1)
    recall = np.mean([np.isin(a, b).mean() for a, b in zip(truth, np.asarray(hits.ids), strict=True)])
    taken = []
    for _ in range(BATCHES):
        for query in asked:
            start = time.process_time()
            index.search(query, K, candidates=candidates, threads=1)
            taken.append(1e3 * (time.process_time() - start))
    return {
        "k": K, "calibrated": candidates == "auto", "candidates": hits.candidates, "queries": len(asked),
        "expected_recall": hits.expected_recall, "recall": float(recall), "ms": statistics.median(taken),
        "ms_p90": sorted(taken)[int(0.9 * len(taken))], "bytes_a_document": index.nbytes / len(index),
    }  # fmt: skip


def line(row: dict[str, Any]) -> str:
    return (
        f"{row['n']:8,} {row['encoder']:6}{row['codes']:7}{row['tokens']:5} {row['ms']:7.2f} ms a query (p90"
        f" {row['ms_p90']:.2f})  {row['candidates']} candidates, recall@10 {row['recall']:.3f} (expected"
        f" {row['expected_recall']:.3f})  exact {row['exact_ms']:.1f} ms,"
        f" {row['bytes_a_document']:,.0f} bytes a document"
    )
