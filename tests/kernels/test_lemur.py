"""LEMUR: the closed form, against a plain solution of it, and the face that it shares with other encoders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tessella as ts
from tests.kernels.cases import Floats, rows, same_bits


def topics(rng: np.random.Generator, lengths: Any, count: int = 30, d: int = 24) -> list[Floats]:
    """Documents whose tokens lie about a few of many centres."""
    centres = np.random.default_rng(5).standard_normal((count, d))
    made = []
    for t in lengths:
        x = centres[rng.integers(count, size=4)[rng.integers(4, size=t)]] + 0.4 * rng.standard_normal((t, d))
        made.append((x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32))
    return made


def fitted(rng: np.random.Generator, outputs: int = 60, **options: Any) -> tuple[ts.LEMUR, list[Floats]]:
    documents = topics(rng, rng.integers(1, 40, 150))
    lemur = ts.LEMUR(24, output_dim=outputs, features=200)
    lemur.fit(documents, sample=1000, **options)
    return lemur, documents


def centred(scores: Floats) -> Floats:
    """Less what all documents of a query share."""
    return np.asarray(scores - scores.mean(axis=1, keepdims=True))


def test_scores_are_the_predictions_of_the_regression(rng: np.random.Generator) -> None:
    """With all directions kept: the plain solution, less a number for each query."""
    lemur, documents = fitted(rng, outputs=200)
    arrays = lemur.state()[1]
    queries = topics(rng, [8] * 20)
    psi = np.maximum(arrays["samples"].astype(np.float64) @ arrays["features"].T, 0)
    best = np.stack([(arrays["samples"].astype(np.float64) @ x.T).max(axis=1) for x in documents])
    gram = psi.T @ psi
    gram[np.diag_indices(200)] += 1e-3 * np.trace(gram) / 200
    weights = np.linalg.solve(gram, psi.T @ best.T)
    wanted = np.stack([np.maximum(x @ arrays["features"].T, 0).sum(axis=0) for x in queries]) @ weights
    scores = lemur.encode_queries(queries) @ lemur.encode_documents(documents).T
    np.testing.assert_allclose(centred(scores), centred(wanted), rtol=0, atol=2e-3 * np.abs(wanted).max())
    exact = np.array([[(q @ x.T).max(axis=1).sum() for x in documents] for q in queries])
    assert np.corrcoef(centred(scores).reshape(-1), centred(exact).reshape(-1))[0, 1] > 0.85


def test_queries_are_sums(rng: np.random.Generator) -> None:
    lemur, _ = fitted(rng)
    a, b, nothing = topics(rng, (3, 9, 0))
    both = lemur.encode_queries([np.concatenate([a, b]), a, b, nothing])
    np.testing.assert_allclose(both[0], both[1] + both[2], rtol=0, atol=1e-4 * np.abs(both).max())
    assert not both[3].any()


def test_the_basis_suits_codes_of_one_bit(rng: np.random.Generator) -> None:
    """Queries and documents spread alike in every direction, and documents about zero."""
    lemur, documents = fitted(rng)
    rows32 = lemur.encode_documents(documents)
    assert np.abs(rows32.mean(axis=0)).max() < 0.1 * rows32.std(axis=0).max()
    products = rows32.T @ rows32 / len(rows32)
    off = products - np.diag(np.diag(products))
    assert np.abs(off).max() < 0.1 * np.diag(products).max()
    first, last = np.diag(products)[:15].mean(), np.diag(products)[-15:].mean()
    assert first > 5 * last


def test_a_document_without_tokens_comes_last(rng: np.random.Generator) -> None:
    lemur, documents = fitted(rng)
    found = lemur.encode_documents([*documents, np.empty((0, 24), np.float32)])
    scores = lemur.encode_queries(topics(rng, [8] * 30)) @ found.T
    assert ((scores[:, :-1] > scores[:, -1:]).mean(axis=1) > 0.9).all()


def test_candidates_are_found_with_fewer_numbers(rng: np.random.Generator) -> None:
    """At a tenth of an FDE's numbers, as many of MaxSim's ten best among the first twenty."""
    lemur, documents = fitted(rng)
    queries = topics(rng, [8] * 60)
    exact = np.array([[(q @ x.T).max(axis=1).sum() for x in documents] for q in queries])
    best = np.argsort(-exact, axis=1)[:, :10]

    def share(encoder: Any) -> float:
        scores = encoder.encode_queries(queries) @ encoder.encode_documents(documents).T
        kept = np.argsort(-scores, axis=1)[:, :20]
        return float(np.mean([np.isin(true, mine).mean() for true, mine in zip(best, kept, strict=True)]))

    fde = ts.FDE(24, 3, 10, projection_dim=8)
    assert fde.output_dim > 10 * lemur.output_dim
    assert share(lemur) >= share(fde) - 0.02 and share(lemur) > 0.75


def test_queries_of_the_kind_to_come_help(rng: np.random.Generator) -> None:
    lemur, documents = fitted(rng)
    queries = topics(rng, [8] * 100)
    other = ts.LEMUR(24, output_dim=60, features=200)
    other.fit(documents, queries[:50], sample=1000)
    samples = other.state()[1]["samples"]
    flat = np.concatenate(queries[:50])
    assert sum(bool((flat == x).all(axis=1).any()) for x in samples) == 200
    assert not same_bits(other.encode_documents(documents), lemur.encode_documents(documents))


@pytest.mark.parametrize("threads", [1, 3])
def test_batches_change_nothing_but_rounding(rng: np.random.Generator, threads: int) -> None:
    lemur, _ = fitted(rng)
    documents = topics(rng, [*rng.integers(0, 60, 400), 0, 0])
    whole = lemur.encode_documents(documents, threads=threads)
    alone = np.concatenate([lemur.encode_documents([x]) for x in documents[:30]])
    np.testing.assert_allclose(whole[:30], alone, rtol=0, atol=1e-4 * np.abs(alone).max())
    np.testing.assert_array_equal(whole[-1], -lemur.state()[1]["mean"])


def test_forms_types_and_codes(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch", reason="torch is an extra")
    lemur, documents = fitted(rng)
    wanted = lemur.encode_documents(documents)
    tensors = lemur.encode_documents([torch.from_numpy(x) for x in documents])
    assert isinstance(tensors, torch.Tensor) and same_bits(tensors.numpy(), wanted)
    assert same_bits(lemur.encode_documents(documents, dtype="float16"), wanted.astype(np.float16))
    codes = lemur.encode_documents(documents, dtype="binary")
    assert same_bits(codes, lemur.binary_quantizer.encode(wanted))
    halves = lemur.encode_documents([x.astype(np.float16) for x in documents])
    assert np.abs(halves - wanted).max() < 0.05 * np.abs(wanted).max()


def test_files_hold_what_was_learned(rng: np.random.Generator, tmp_path: Path) -> None:
    lemur, documents = fitted(rng)
    lemur.save(tmp_path / "lemur")
    other = ts.LEMUR.load(tmp_path / "lemur")
    assert repr(other) == repr(lemur) == "LEMUR(24, output_dim=60, features=200: fitted to 1,000 tokens)"
    assert same_bits(other.encode_queries(documents), lemur.encode_queries(documents))
    assert same_bits(other.encode_documents(documents), lemur.encode_documents(documents))
    ts.LEMUR(24, output_dim=8).save(tmp_path / "new")
    assert not ts.LEMUR.load(tmp_path / "new").is_fitted


def test_damaged_states_are_refused(rng: np.random.Generator) -> None:
    settings, arrays = fitted(rng)[0].state()
    damage: list[Callable[[dict[str, Any], dict[str, Any]], Any]] = [
        lambda s, a: s.pop("seed"),
        lambda s, a: s.update(seed="x"),
        lambda s, a: s.update(output_dim=59),
        lambda s, a: a.pop("mean"),
        lambda s, a: a.update(to_queries=a["to_queries"][:-1]),
        lambda s, a: a.update(to_documents=a["to_documents"][:-1]),
        lambda s, a: a.pop("features"),
        lambda s, a: a.update(features=a["features"].astype(np.float64)),
        lambda s, a: a.update(features=a["features"][:, :3]),
        lambda s, a: a.update(samples=a["samples"] * np.float32(np.inf)),
        lambda s, a: a.update(samples=a["samples"][:0]),
    ]
    for spoil in damage:
        own, spoilt = dict(settings), dict(arrays)
        spoil(own, spoilt)
        with pytest.raises((KeyError, TypeError, ValueError)):
            ts.LEMUR.from_state(own, spoilt)


def test_progress_is_told(rng: np.random.Generator) -> None:
    told: list[float] = []
    fitted(rng, progress=told.append)
    assert told == sorted(told) and told[-1] == 1.0


def test_mistakes_get_a_sentence(rng: np.random.Generator) -> None:
    lemur, documents = fitted(rng)
    before = lemur.encode_documents(documents)
    nan = [x.copy() for x in documents]
    nan[3][0, 0] = np.nan
    mistakes: list[tuple[Callable[[], object], str]] = [
        (lambda: ts.LEMUR(0), "lemur: expected dim >= 1; got 0"),
        (lambda: ts.LEMUR(8, output_dim=0), "lemur: expected output_dim >= 1; got 0"),
        (
            lambda: ts.LEMUR(24).encode_documents(documents),
            r"encode_documents: expected a fitted encoder; fit\(documents\)",
        ),
        (lambda: lemur.fit([np.empty((0, 24), np.float32)]), "fit: expected documents with tokens; got none"),
        (lambda: lemur.fit(nan, sample=10), "fit: expected finite documents; token 0 of number 3"),
        (lambda: lemur.fit(documents, sample=0), "fit: expected sample >= 1; got 0"),
        (lambda: lemur.fit(documents, rows(rng, 4, 23)), "fit: expected queries of 24 numbers each; got 23"),
        (lambda: lemur.encode_documents(nan), "encode_documents: expected finite tokens; token 0 of number 3"),
    ]
    for mistake, sentence in mistakes:
        with pytest.raises(ts.InvalidArgument, match=sentence):
            mistake()
    assert same_bits(lemur.encode_documents(documents), before)
