"""Mined negatives against a brute-force miner, on real vectors; thresholds of the papers and their traps."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: the extra `train`")

import tessella as ts
from tessella.errors import InvalidArgument
from tessella.train.mining import MarginPos, PercPos, consistent, mine_hard_negatives

DATA = Path(os.environ.get("TESSELLA_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
SCIFACT = DATA / "text" / "scifact"


@pytest.fixture(scope="module")
def scifact() -> tuple[Any, Any, list[list[int]]]:
    """Queries of the training split, documents, and of each query its documents: MiniLM's vectors."""
    if not SCIFACT.is_dir():
        pytest.skip(f"{SCIFACT} is not here (TESSELLA_DATA)")
    names = json.loads((SCIFACT / "minilm_ids.json").read_text())
    documents = {name: i for i, name in enumerate(next(v for k, v in names.items() if k.startswith(("doc", "corpus"))))}
    queries = {name: i for i, name in enumerate(next(v for k, v in names.items() if k.startswith("quer")))}
    own: dict[int, list[int]] = {}
    with (SCIFACT / "qrels_train.tsv").open() as file:
        for query, document, score in list(csv.reader(file, delimiter="\t"))[1:]:
            if int(score) > 0:
                own.setdefault(queries[query], []).append(documents[document])
    rows = sorted(own)
    vectors = [np.load(SCIFACT / f"minilm_{name}.npy").astype(np.float32) for name in ("queries", "docs")]
    return vectors[0][rows], vectors[1], [own[row] for row in rows]


def scored(queries: Any, documents: Any, metric: str) -> Any:
    """Every score of every query, in float64; more is nearer."""
    q, d = queries.astype(np.float64), documents.astype(np.float64)
    if metric == "l2":
        return -((q[:, None] - d) ** 2).sum(axis=2)
    if metric == "cosine":
        q, d = (x / np.linalg.norm(x, axis=1)[:, None] for x in (q, d))
    return q @ d.T


def brute_force(every: Any, own: list[list[int]], keep: Any, take: int, skip: int, depth: int) -> list[list[int]]:
    """From all scores (nq, n)."""
    mined = []
    for scores, mine in zip(every, own, strict=True):
        lowest = min(scores[j] for j in mine)
        bound = np.inf
        if isinstance(keep, PercPos):
            bound = lowest - (1 - keep.share) * abs(lowest)
        elif isinstance(keep, MarginPos):
            bound = lowest - keep.margin
        ranks = [int(j) for j in np.argsort(-scores, kind="stable")[: depth + len(mine)] if j not in mine][skip:depth]
        mined.append([j for j in ranks if scores[j] <= bound][:take])
    return mined


@pytest.mark.parametrize(
    ("keep", "take", "skip"),
    [(None, 7, 0), (PercPos(0.95), 7, 0), (MarginPos(0.05), 3, 0), (PercPos(0.8), 5, 10), (MarginPos(0.3), 7, 0)],
    ids=str,
)
def test_scifact_as_by_brute_force(scifact: Any, keep: Any, take: int, skip: int) -> None:
    queries, documents, own = scifact
    found = mine_hard_negatives(queries, own, documents, keep=keep, take=take, skip=skip)
    every = scored(queries, documents, "cosine")
    expected = brute_force(every, own, keep, take, skip, skip + max(50, 10 * take))
    assert len(found.rows) == len(expected) == 809
    assert [[row for row in rows if row >= 0] for rows in found.rows.tolist()] == expected
    assert np.array_equal(found.rows < 0, np.isinf(found.scores))


@pytest.mark.parametrize("keep", [None, PercPos(0.95), PercPos(0.6), MarginPos(0.05), MarginPos(0.8)], ids=str)
@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_an_index_of_any_metric_as_by_brute_force(metric: str, keep: Any, rng: np.random.Generator) -> None:
    """Rows of many lengths: products are no cosines, and the nearest have the least distance."""
    documents = (rng.standard_normal((200, 8)) * rng.uniform(0.3, 3.0, (200, 1))).astype(np.float32)
    own = [[i, i + 100] if i % 3 == 0 else [i] for i in range(30)]
    queries = documents[:30] * 0.7 + rng.standard_normal((30, 8)).astype(np.float32)
    index = ts.Index("Flat,F32", dim=8, metric=metric)
    index.add(documents)
    found = mine_hard_negatives(queries, own, index=index, keep=keep, take=4)
    every = scored(queries, documents, metric)
    expected = brute_force(every, own, keep, 4, 0, 50)
    assert [[row for row in rows if row >= 0] for rows in found.rows.tolist()] == expected
    sign = -1 if metric == "l2" else 1
    for scores, rows, wanted in zip(found.scores, found.rows, sign * every, strict=True):
        assert np.allclose(scores[rows >= 0], wanted[rows[rows >= 0]], rtol=1e-4, atol=1e-5)
        assert (scores[rows < 0] == -sign * np.inf).all()


def test_scifact_consistency(scifact: Any) -> None:
    queries, documents, own = scifact
    scores = queries @ documents.T
    expected = [any((scores[i] > scores[i, j]).sum() < 10 for j in mine) for i, mine in enumerate(own)]
    kept = consistent(queries, own, documents, top=10)
    assert kept.tolist() == expected and 0.5 < kept.mean() < 1.0


def at(*angles: float) -> Any:
    """Unit vectors at angles of degrees, in the plane."""
    radians = np.radians(angles)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def test_several_documents_are_bound_by_the_lowest() -> None:
    """With the nearer of the two, cos 20 = 0.94, the document at 21 degrees would pass for a negative."""
    documents = at(10, 20, 21, 40)
    found = mine_hard_negatives(at(0), [[0, 1]], documents, keep=MarginPos(0.05), take=2)
    assert found.rows.tolist() == [[3, -1]]
    assert mine_hard_negatives(at(0), [[0]], documents, keep=MarginPos(0.05), take=2).rows.tolist() == [[2, 3]]


def test_the_bound_lies_below_negative_scores_too() -> None:
    """cos 120 = -0.5: at most -0.525, where 0.95 * -0.5 would let -0.49 in."""
    found = mine_hard_negatives(at(0), [[0]], at(120, 119, 121, 125), keep=PercPos(0.95), take=3)
    assert found.rows.tolist() == [[3, -1, -1]]


def test_ranks_sampling_and_too_few_documents() -> None:
    documents = at(*range(0, 60, 10))
    assert mine_hard_negatives(at(0), [0], documents, take=2, skip=1).rows.tolist() == [[2, 3]]
    drawn = {
        tuple(mine_hard_negatives(at(0), [0], documents, take=2, depth=4, sample=seed).rows[0]) for seed in range(30)
    }
    assert len(drawn) > 3 and {row for pair in drawn for row in pair} == {1, 2, 3, 4}
    assert all(a < b for a, b in drawn)  # nearest first, drawn or not
    found = mine_hard_negatives(at(0), [0], documents[:2], take=4)
    assert found.rows.tolist() == [[1, -1, -1, -1]] and not found.full.any()


def test_texts_indexes_and_streams() -> None:
    """Texts with an encoder, an index that is there already, documents batch by batch: the same negatives."""
    documents = at(*range(0, 60, 10))
    table = {f"d{i}": row for i, row in enumerate(documents)} | {"q": at(0)[0]}

    def encode(texts: Any) -> Any:
        return np.stack([table[text] for text in texts])

    expected = mine_hard_negatives(at(0), [0], documents, take=3).rows.tolist()
    texts = [f"d{i}" for i in range(6)]
    assert mine_hard_negatives(["q"], [0], texts, encode=encode, take=3).rows.tolist() == expected
    stream = (documents[i : i + 2] for i in (0, 2, 4))
    assert mine_hard_negatives(at(0), [0], stream, take=3).rows.tolist() == expected
    index = ts.Index("Flat,F32", dim=2, metric="cosine")
    index.add(documents)
    assert mine_hard_negatives(at(0), [0], index=index, take=3).rows.tolist() == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"take": 0}, "expected take of at least 1; got 0"),
        ({"depth": 2}, "expected a depth of skip \\+ take at least; got 2"),
        ({"documents": None}, "expected documents, or an index of them"),
        ({"documents": ["text"]}, "expected encode, since there are texts"),
        ({"positives": [0, 1]}, "expected as many queries as positives, 2; got 1"),
        ({"positives": [[]]}, "got an empty list"),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, Any], message: str) -> None:
    arguments = {"queries": at(0), "positives": [0], "documents": at(0, 10), **given}
    with pytest.raises(InvalidArgument, match=message):
        mine_hard_negatives(**arguments)
