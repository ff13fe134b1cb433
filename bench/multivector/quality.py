"""How many of MaxSim's exact ten best are among the best by encoding: on LoTTE-500 and SciFact, for every encoder.

Three seeds of each FDE and one of each LEMUR. LEMUR is fitted to documents alone, and to half of the queries as well;
then the other half asks. Codes of one bit and of PQ are of the last, largest encodings.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from bench.multivector.sets import Floats, Ids, TokenSet, candidates_for, lotte500, recall, scifact

FDES = ((20, 4, 8), (20, 5, 8), (20, 5, 16))
FILLS = ("none", "nearest", "decay")
SEEDS = (1, 2, 3)
LEMURS = (256, 512, 1024)  # of 2,048 features
KEPT = (10, 50, 100, 200)


def rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each set, encoder and code."""
    encoders = options.encoders or ["fde", "lemur"]
    yield from measured(lotte500(options.data), encoders)
    if options.tokens is None:
        print("SciFact needs --tokens")
    else:
        yield from measured(scifact(options.data, options.tokens), encoders)


def measured(data: TokenSet, encoders: list[str]) -> Iterator[dict[str, Any]]:
    """One set's rows."""
    if "fde" in encoders:
        yield from _fixed(data)
    if "lemur" in encoders:
        yield from _learned(data)


def _fixed(data: TokenSet) -> Iterator[dict[str, Any]]:
    import tessella as ts

    for r, k_sim, p in FDES:
        for fill in FILLS:
            made = [ts.FDE(128, k_sim, r, projection_dim=p, fill=fill, seed=seed) for seed in SEEDS]
            tables = [fde.encode_queries(data.queries) @ fde.encode_documents(data.documents).T for fde in made]
            yield quality_row(data, f"FDE({r},{k_sim},{p}) {fill}", made[0].output_dim, "float32", tables, data.truth)
    fde = ts.FDE(128, 5, 20, projection_dim=16, seed=SEEDS[0])
    yield from _coded(data, "FDE(20,5,16) none", fde.encode_queries(data.queries), fde.encode_documents(data.documents))


def _learned(data: TokenSet) -> Iterator[dict[str, Any]]:
    import tessella as ts

    half, (flat, offsets) = data.nq // 2, data.queries
    asked = flat[: offsets[half]], offsets[: half + 1]
    kept = flat[offsets[half] :], offsets[half:] - offsets[half]
    for outputs in LEMURS:
        for name, given in (("documents", None), ("and queries", asked)):
            lemur = ts.LEMUR(128, output_dim=outputs, seed=SEEDS[0])
            lemur.fit(data.documents, given)
            queries, documents = lemur.encode_queries(kept), lemur.encode_documents(data.documents)
            yield quality_row(data, f"LEMUR, {name}", outputs, "float32", [queries @ documents.T], data.truth[half:])
            if given is None:
                yield from _coded(data, f"LEMUR, {name}", queries, documents, data.truth[half:])


def _coded(
    data: TokenSet, name: str, queries: Floats, documents: Floats, truth: Ids | None = None
) -> Iterator[dict[str, Any]]:
    """The same encodings as codes of fewer bits."""
    import tessella as ts

    dim = documents.shape[1]
    codes: dict[str, Callable[[], Any]] = {
        "1 bit": lambda: ts.RaBitQuantizer(dim, 1),
        "4 bits": lambda: ts.RaBitQuantizer(dim, 4),
        "PQ-256-8": lambda: ts.ProductQuantizer(dim, dim // 8),
    }
    for code, make in codes.items():
        quantizer = make()
        quantizer.train(documents)
        scores = quantizer.inner_product(queries, quantizer.encode(documents))
        rows = [np.asarray(scores)]
        yield quality_row(data, name, dim, code, rows, data.truth if truth is None else truth) | {
            "document_bytes": quantizer.code_bytes
        }


def quality_row(data: TokenSet, encoder: str, dim: int, code: str, tables: list[Floats], truth: Ids) -> dict[str, Any]:
    shares = {f"recall_10_in_{kept}": [recall(scores, truth, 10, kept) for scores in tables] for kept in KEPT}
    return {
        "dataset": data.name, "encoder": encoder, "dim": dim, "code": code, "document_bytes": 4 * dim,
        "queries": len(truth), "seeds": len(tables),
        **{name: round(float(np.mean(each)), 4) for name, each in shares.items()},
        "recall_10_in_100_sd": round(float(np.std(shares["recall_10_in_100"])), 4),
        "kept_for_90": float(np.mean([candidates_for(scores, truth, 10, 0.9) for scores in tables])),
    }  # fmt: skip


def line(row: dict[str, Any]) -> str:
    shares = "".join(f"{row[f'recall_10_in_{kept}']:8.3f}" for kept in KEPT)
    return (
        f"{row['dataset']:10}{row['encoder']:24}{row['dim']:7}  {row['code']:10}{row['document_bytes']:8} B{shares}"
        f"{row['kept_for_90']:9.0f}"
    )
