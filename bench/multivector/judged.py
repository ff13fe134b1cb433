"""nDCG@10 on SciFact by its relevance judgements: the exact MaxSim, candidates of each encoder ranked by MaxSim, BM25.

The 300 test claims ask; LEMUR has seen documents alone. MiniLM was not trained for token vectors, so the level says
nothing of late interaction; what is looked at is what each first stage loses of the exact MaxSim.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.multivector.scifact import corpus
from bench.multivector.sets import Ids, TokenSet, scifact

TEST, K = 300, 10
CANDIDATES = (50, 100, 200)


def rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each way of finding."""
    if options.tokens is None:
        print("SciFact needs --tokens")
        return
    data = scifact(options.data, options.tokens)
    judgements = judged(options.data)
    flat, offsets = data.queries
    asked = flat[: offsets[TEST]], offsets[: TEST + 1]
    encoders = list(indexes(data))
    exact = np.asarray(encoders[0][2].exact(asked, K).ids)
    yield row("exact MaxSim", exact, judgements, exact)
    for name, size, index in encoders:
        for candidates in CANDIDATES:
            found = np.asarray(index.search(asked, K, candidates=candidates).ids)
            extra = {"candidates": candidates, "first_stage_bytes": size}
            yield row(f"{name} + MaxSim", found, judgements, exact) | extra
    yield row("BM25", bm25(options.data), judgements, exact)


def indexes(data: TokenSet) -> Iterator[tuple[str, float, Any]]:
    """Names, bytes of the first stage a document, and indexes over all documents."""
    import tessella as ts

    lemur = ts.LEMUR(128)
    lemur.fit(data.documents)
    settings: list[tuple[str, Any, dict[str, str]]] = [
        ("FDE", ts.FDE(128), {"codes": "B1"}),
        ("LEMUR", lemur, {"codes": "B1"}),
        ("LEMUR, B1+U8", lemur, {"codes": "B1+U8"}),
        ("SMVE", ts.SMVE(128), {}),
    ]
    for name, encoder, options in settings:
        index = ts.MultiVectorIndex(encoder, **options)
        index.add(data.documents)
        yield name, index.first_stage.nbytes / data.n, index


def judged(data: Path) -> list[dict[int, int]]:
    """Of each test claim the judged abstracts, as row numbers, and their grades."""
    ids = json.loads((data / "multivector" / "scifact_ids.json").read_text())
    numbers = {each: i for i, each in enumerate(ids["doc_ids"])}
    claims = {each: i for i, each in enumerate(ids["query_ids"][:TEST])}
    found: list[dict[int, int]] = [{} for _ in range(TEST)]
    for text in (data / "text" / "scifact" / "qrels_test.tsv").read_text().splitlines()[1:]:
        claim, document, grade = text.split("\t")
        found[claims[claim]][numbers[document]] = int(grade)
    return found


def bm25(data: Path) -> Ids:
    import gzip

    from tessella.eval.baselines import BM25

    with gzip.open(data / "text" / "scifact" / "queries.jsonl.gz", "rt") as file:
        texts = {each["_id"]: each["text"] for each in map(json.loads, file)}
    asked = json.loads((data / "multivector" / "scifact_ids.json").read_text())["query_ids"][:TEST]
    return BM25(corpus(data)).search([texts[each] for each in asked], K)


def row(name: str, found: Ids, judgements: list[dict[int, int]], exact: Ids) -> dict[str, Any]:
    from tessella.eval.metrics import ndcg

    gains = np.array(
        [[own.get(int(i), 0) for i in ids[:K]] for ids, own in zip(found, judgements, strict=True)], np.float64
    )
    ideal = [np.array(sorted(own.values(), reverse=True), np.float64) for own in judgements]
    recall = np.mean([np.isin(a[:K], b[:K]).mean() for a, b in zip(exact, found, strict=True)])
    return {
        "dataset": "scifact", "ways": name, "queries": len(found),
        "ndcg_10": round(float(ndcg(gains, ideal, K).mean()), 4), "recall_10_of_exact": round(float(recall), 4),
    }  # fmt: skip


def line(row: dict[str, Any]) -> str:
    size = f"{row['first_stage_bytes']:8,.0f} B, {row['candidates']:4} candidates" if "candidates" in row else ""
    return f"{row['ways']:24} nDCG@10 {row['ndcg_10']:.4f}  of the exact ten {row['recall_10_of_exact']:.3f}  {size}"
