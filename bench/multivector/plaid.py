"""PLAID, as PyLate has it, over the documents and queries of the searches: by a Python that has pylate.

PyLate's own index in Python (`use_fast=False`): its wheel in Rust is built for one version of PyTorch. Settings are
PyLate's defaults, and more cells and documents. PLAID scores by what so many bits keep of tokens, so its recall of the
exact best has a ceiling below one; CPU milliseconds a query, as beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.multivector.search import PIECE, TAUGHT, TIMED, K, exact_best, spliced, stored
from bench.multivector.sets import lotte500

SIZES = (10_000,)
BITS = (2, 4)  # PyLate's default, and the paper's larger one
SETTINGS = ((8, 8192), (32, 32_768))  # cells of a token, documents that are looked at closely


def rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each size, number of bits and setting."""
    found = lotte500(options.data)
    asked = found.queries[0].reshape(found.nq, -1, found.queries[0].shape[1])
    for n in options.sizes or SIZES:
        ours = stored(found, asked[TAUGHT], ("fde", "B1", "f16"), n, options.store)
        truth, _ = exact_best(ours, asked, options.store and options.store / f"{n}-truth.npz")
        del ours
        documents = [spliced(found, min(PIECE, n - at), at // PIECE) for at in range(0, n, PIECE)]
        for bits in BITS:
            with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
                start = time.process_time()
                index = _built([each for piece in documents for each in piece.astype(np.float32)], bits, folder)
                built = time.process_time() - start
                made = [_timed(index, asked[TIMED], truth[TIMED], *setting) for setting in SETTINGS]
            for (cells, candidates), row in zip(SETTINGS, made, strict=True):
                yield row | {"n": n, "bits": bits, "cells": cells, "candidates": candidates, "build_cpu_s": built}


def _built(documents: list[Any], bits: int, folder: str) -> Any:
    from pylate import indexes

    index = indexes.PLAID(index_folder=folder, index_name="bench", override=True, use_fast=False, nbits=bits)
    index.add_documents(documents_ids=[str(i) for i in range(len(documents))], documents_embeddings=documents)
    return index


def _timed(index: Any, asked: Any, truth: Any, cells: int, candidates: int) -> dict[str, Any]:
    """CPU milliseconds of a query by itself, and the share of the true best."""
    index._index.searcher.configure(ncells=cells, ndocs=candidates)  # PyLate leaves no other way, once it is built
    taken, shares = [], []
    for query, true in zip(asked.astype(np.float32), truth, strict=True):
        start = time.process_time()
        hits = index(queries_embeddings=query[None], k=K)[0]
        taken.append(1e3 * (time.process_time() - start))
        shares.append(np.isin(true, [int(hit["id"]) for hit in hits]).mean())
    return {"ms": statistics.median(taken), "ms_p90": sorted(taken)[int(0.9 * len(taken))], "recall": np.mean(shares)}


def line(row: dict[str, Any]) -> str:
    return (
        f"{row['n']:8,} PLAID, {row['bits']} bits, {row['cells']} cells, {row['candidates']:,} documents"
        f" {row['ms']:7.1f} ms a query (p90 {row['ms_p90']:.1f})  recall@10 {row['recall']:.3f},"
        f" built in {row['build_cpu_s']:.0f} CPU-s"
    )
