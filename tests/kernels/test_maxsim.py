"""MaxSim: every level, bit for bit as the reference has it; and scores, the best documents and carving through
`ts.maxsim`."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import tessella as ts
from tessella import _core
from tessella.maxsim import carve
from tessella.reference import maxsim as reference
from tessella.testing import available_isas, pinned_isa
from tests.kernels.cases import Array, Floats, rows, same_bits

DIMS = (1, 31, 64, 70)
QUERIES = (3, 0, 1, 33)
DOCUMENTS = (5, 0, 1, 13, 31, 0)  # one tile, tiles of unequal heights, none


def starts(lengths: tuple[int, ...]) -> Array:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def scored(
    queries: Array, tokens: Array, kind: str, *, query_lengths: tuple[int, ...] = QUERIES,
    lengths: tuple[int, ...] = DOCUMENTS, query_scales: Floats | None = None, scales: Floats | None = None,
    which: Array | None = None, threads: int = 1,
) -> Floats:  # fmt: skip
    offsets = starts(lengths)
    found: Floats = _core.maxsim_score(
        queries, query_scales, starts(query_lengths), tokens, kind, scales, offsets[:-1].copy(), offsets[1:].copy(),
        which, threads=threads,
    )  # fmt: skip
    return found


def expected(queries: Floats, tokens: Floats) -> Floats:
    at, offsets = starts(QUERIES), starts(DOCUMENTS)
    return np.stack([reference.maxsim(queries[a:b], tokens, offsets) for a, b in pairwise(at)])


def stored(tokens: Floats, kind: str) -> tuple[Array, Floats]:
    """Tokens as the kind stores them, and their values."""
    if kind == "bf16":
        bits = (tokens.view(np.uint32) >> 16).astype(np.uint16)
        return bits, (bits.astype(np.uint32) << 16).view(np.float32)
    kept = tokens.astype({"f32": np.float32, "f16": np.float16}[kind])
    return kept, kept.astype(np.float32)


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("d", DIMS)
def test_scores_are_the_reference_bit_for_bit(level: str, rng: np.random.Generator, d: int, kind: str) -> None:
    queries = rows(rng, sum(QUERIES), d)
    tokens, values = stored(rows(rng, sum(DOCUMENTS), d), kind)
    assert same_bits(scored(queries, tokens, kind), expected(queries, values))


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("d", DIMS)
def test_bytes_are_exact(level: str, rng: np.random.Generator, d: int, scaled: bool) -> None:
    queries = rng.integers(-128, 128, (sum(QUERIES), d)).astype(np.int8)
    tokens = rng.integers(-128, 128, (sum(DOCUMENTS), d)).astype(np.int8)
    queries[0], tokens[:3] = -128, -128  # the largest product there is
    query_scales = rng.random(len(queries), dtype=np.float32) if scaled else None
    scales = rng.random(len(tokens), dtype=np.float32) if scaled else None
    at, offsets = starts(QUERIES), starts(DOCUMENTS)
    wanted = [
        reference.whole_maxsim(
            queries[a:b], tokens, offsets, None if query_scales is None else query_scales[a:b], scales
        )
        for a, b in pairwise(at)
    ]
    assert same_bits(scored(queries, tokens, "i8", query_scales=query_scales, scales=scales), np.stack(wanted))


@pytest.mark.parametrize("d", [64, 192])
def test_codes_of_four_bits_are_exact(level: str, rng: np.random.Generator, d: int) -> None:
    queries = rng.integers(-127, 128, (33, d)).astype(np.int8)
    codes = rng.integers(0, 256, (sum(DOCUMENTS), d // 2)).astype(np.uint8)
    scales = rng.random(len(codes), dtype=np.float32)
    wanted = reference.whole_maxsim(queries, reference.n4_values(codes), starts(DOCUMENTS), None, scales)
    assert same_bits(scored(queries, codes, "n4", query_lengths=(33,), scales=scales), wanted[None])


def test_codes_of_four_bits_are_those_that_the_scalar_family_writes(rng: np.random.Generator) -> None:
    codes, _, _ = _core.scalar_encode(rows(rng, 20, 128), 4, "lloyd")
    assert np.array_equal(reference.n4_values(codes), 2 * _core.scalar_decode(codes, 4, "lloyd"))


@pytest.mark.parametrize("values", ["huge", "tiny", "zeros", "spiky"])
def test_values(level: str, rng: np.random.Generator, values: str) -> None:
    queries, tokens = rows(rng, sum(QUERIES), 40, values), rows(rng, sum(DOCUMENTS), 40, values)
    assert same_bits(scored(queries, tokens, "f32"), expected(queries, tokens))


def test_a_nan_is_never_the_best(level: str, rng: np.random.Generator) -> None:
    queries, tokens = rows(rng, sum(QUERIES), 8), rows(rng, sum(DOCUMENTS), 8)
    tokens[2, 3] = tokens[5] = np.nan  # one of five tokens, the only one
    got = scored(queries, tokens, "f32")
    assert same_bits(got, expected(queries, tokens))
    assert np.isfinite(got[0, 0]) and got[0, 2] == -np.inf


def test_of_chosen_documents_each_query_has_its_own(level: str, rng: np.random.Generator) -> None:
    queries, tokens = rows(rng, sum(QUERIES), 20), rows(rng, sum(DOCUMENTS), 20)
    which = rng.integers(-1, len(DOCUMENTS), (len(QUERIES), 40)).astype(np.int64)
    wanted = np.where(which < 0, -np.inf, np.take_along_axis(expected(queries, tokens), np.maximum(which, 0), axis=1))
    for threads in (1, 3):
        assert same_bits(scored(queries, tokens, "f32", which=which, threads=threads), wanted.astype(np.float32))


def test_levels_and_threads_agree_bit_for_bit(rng: np.random.Generator) -> None:
    lengths = tuple(rng.integers(0, 30, 300))
    queries, tokens = rows(rng, sum(QUERIES), 24), rows(rng, sum(lengths), 24)
    results = []
    for isa in available_isas():
        with pinned_isa(isa):
            results += [scored(queries, tokens, "f32", lengths=lengths, threads=threads) for threads in (1, 2)]
    assert all(same_bits(each, results[0]) for each in results[1:])


def test_the_reference_is_the_sum_of_maxima(rng: np.random.Generator) -> None:
    queries, tokens = rows(rng, sum(QUERIES), 24), rows(rng, sum(DOCUMENTS), 24)
    got, at, offsets = expected(queries, tokens), starts(QUERIES), starts(DOCUMENTS)
    for q in range(len(QUERIES)):
        for i in range(len(DOCUMENTS)):
            exact = queries[at[q] : at[q + 1]].astype(np.float64) @ tokens[offsets[i] : offsets[i + 1]].T
            wanted = exact.max(axis=1).sum() if DOCUMENTS[i] else -np.inf
            assert got[q, i] == pytest.approx(wanted, rel=1e-5, abs=1e-5)


# ---- the public face


def listed(rng: np.random.Generator, lengths: tuple[int, ...], d: int = 16) -> list[Floats]:
    return [rows(rng, t, d) for t in lengths]


def exact(queries: list[Floats], documents: list[Any]) -> Array:
    return np.array([
        [(q.astype(np.float64) @ np.asarray(x, np.float64).T).max(1).sum() if len(x) else -np.inf for x in documents]
        for q in queries
    ])  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_scores(rng: np.random.Generator, dtype: type) -> None:
    queries, documents = listed(rng, (32, 5)), [x.astype(dtype) for x in listed(rng, (9, 0, 30, 2))]
    scores = ts.maxsim(queries, documents)
    assert scores.shape == (2, 4) and scores.dtype == np.float32
    np.testing.assert_allclose(scores, exact(queries, documents), rtol=1e-5, atol=1e-4)
    flat = np.concatenate(documents), np.cumsum([0, 9, 0, 30, 2])
    assert same_bits(ts.maxsim(queries, flat, threads=2), scores)
    assert same_bits(ts.maxsim(queries[0], flat), scores[:1])  # one query
    padded = np.zeros((4, 30, 16), dtype)
    mask = np.arange(30) < np.array([9, 0, 30, 2])[:, None]
    padded[mask] = flat[0]
    assert same_bits(ts.maxsim(queries, padded, mask=mask), scores)


def test_bytes_by_themselves_are_numbers(rng: np.random.Generator) -> None:
    documents = [rng.integers(-128, 128, (t, 16)).astype(np.int8) for t in (9, 0, 30)]
    queries = [rng.integers(-128, 128, (t, 16)).astype(np.int8) for t in (4, 8)]
    wanted = exact([each.astype(np.float32) for each in queries], documents)
    assert np.array_equal(ts.maxsim(queries, documents), wanted)
    # float queries of bytes are rounded to 8 bits, token by token
    floats = listed(rng, (32, 5))
    got = ts.maxsim(floats, documents)
    np.testing.assert_allclose(got[:, 0], exact(floats, documents)[:, 0], rtol=0.02)


def test_the_best_documents(rng: np.random.Generator) -> None:
    queries, documents = listed(rng, (32, 5)), listed(rng, (9, 0, 30, 2, 7))
    scores = ts.maxsim(queries, documents)
    hits = ts.maxsim(queries, documents, k=3)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :3]
    assert np.array_equal(hits.ids, order)
    assert same_bits(hits.scores, np.take_along_axis(scores, order, axis=1))
    more = ts.maxsim(queries, documents, k=6)
    assert (more.ids[:, 4:] == -1).all() and (more.scores[:, 4:] == -np.inf).all()  # what is empty is no hit
    tied = ts.maxsim(queries[0], [documents[0]] * 4, k=3)
    assert list(tied.ids[0]) == [0, 1, 2]


def test_candidates_are_scored_and_ranked(rng: np.random.Generator) -> None:
    queries, documents = listed(rng, (32, 5)), listed(rng, (9, 4, 30, 2, 7))
    scores = ts.maxsim(queries, documents)
    candidates = np.array([[4, 0, -1], [1, 3, 2]])
    got = ts.maxsim(queries, documents, candidates=candidates)
    assert got.shape == (2, 3)
    assert got[0, 0] == scores[0, 4] and got[0, 2] == -np.inf and got[1, 1] == scores[1, 3]
    hits = ts.maxsim(queries, documents, candidates=candidates, k=2)
    assert set(hits.ids[0]) == {0, 4} and (np.diff(hits.scores) <= 0).all()
    shared = ts.maxsim(queries, documents, candidates=[3, 1])  # the same for every query
    assert same_bits(shared, scores[:, [3, 1]])


def test_results_come_in_the_kind_of_the_queries(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch", reason="torch is an extra")
    queries, documents = listed(rng, (3, 5)), listed(rng, (9, 2))
    scores = ts.maxsim(queries, documents)
    got = ts.maxsim([torch.from_numpy(q) for q in queries], documents)
    assert isinstance(got, torch.Tensor) and same_bits(got.numpy(), scores)
    hits = ts.maxsim([torch.from_numpy(q) for q in queries], documents, k=1)
    assert isinstance(hits.ids, torch.Tensor) and isinstance(hits.scores, torch.Tensor)
    half = ts.maxsim([torch.from_numpy(q).to(torch.bfloat16) for q in queries], documents)
    np.testing.assert_allclose(half.numpy(), scores, rtol=0.05, atol=0.5)


def test_carving_makes_fewer_query_vectors_and_keeps_most_of_the_order(rng: np.random.Generator) -> None:
    """Queries of five words said six times each, a little differently."""
    words = rng.standard_normal((5, 32))
    query = (np.repeat(words, 6, axis=0) + 0.1 * rng.standard_normal((30, 32))).astype(np.float32)
    documents = [(rng.standard_normal((20, 32)) + words[i % 5]).astype(np.float32) for i in range(40)]
    carved = carve(query, 0.7)
    assert carved.shape == (5, 32)
    np.testing.assert_allclose(carved, reference.carve(query, 0.7), rtol=1e-6, atol=1e-6)
    exact_scores, scores = ts.maxsim(query, documents), ts.maxsim(query, documents, carve=0.7)
    assert same_bits(scores, ts.maxsim(carved, documents))
    np.testing.assert_allclose(scores, exact_scores, rtol=0.05)
    assert carve(query, 1.0).shape == (30, 32)
    same = np.repeat(query[:1], 4, axis=0)
    np.testing.assert_allclose(ts.maxsim(same, documents, carve=0.999), ts.maxsim(same, documents), rtol=1e-6)
    assert carve(np.zeros((3, 4), np.float32), 0.5).shape == (3, 4)  # without a direction, a ball each
    assert carve(query[:0], 0.5).shape == (0, 32)


def test_nothing_is_scored_without_crashing() -> None:
    one = np.ones((1, 4), np.float32)
    assert ts.maxsim([], [one]).shape == (0, 1)
    assert ts.maxsim([one], np.empty((0, 3, 4), np.float32)).shape == (1, 0)
    assert ts.maxsim([one[:0]], [one, one[:0]]).tolist() == [[0.0, -np.inf]]
    hits = ts.maxsim([one], np.empty((0, 3, 4), np.float32), k=2)
    assert hits.ids.tolist() == [[-1, -1]]


def test_mistakes_get_a_sentence(rng: np.random.Generator) -> None:
    queries, documents = listed(rng, (3, 5)), listed(rng, (9, 2))
    nan = queries[1].copy()
    nan[2, 3] = np.nan
    cut = [x[:, :4] for x in documents]
    none = starts(())

    def straight(kind: str = "f32", **options: Any) -> Floats:
        return scored(queries[0], documents[0], kind, **({"query_lengths": (3,), "lengths": (9,)} | options))

    mistakes: list[tuple[Callable[[], object], str]] = [
        (lambda: ts.maxsim(queries, cut), "maxsim: expected queries of 4 numbers each; got 16"),
        (lambda: ts.maxsim([queries[0], nan], documents), "maxsim: expected finite queries; token 2 of number 1"),
        (lambda: ts.maxsim(queries, documents, k=0), "maxsim: expected k >= 1; got 0"),
        (lambda: ts.maxsim(queries, documents, candidates=[2]), "maxsim: expected candidates below 2, or -1; got 2"),
        (lambda: ts.maxsim(queries, documents, candidates=[-2]), "maxsim: expected candidates below 2, or -1; got -2"),
        (lambda: ts.maxsim(queries, documents, candidates=[[0]]), "candidates of shape (2, c) or (c,); got (1, 1)"),
        (lambda: ts.maxsim(queries, documents, candidates=[0.5]), "candidates of an integer type; got float64"),
        (lambda: ts.maxsim(queries, documents, carve=1.5), "maxsim: expected carve as a cosine from -1 to 1; got 1.5"),
        (lambda: ts.maxsim(queries, documents, threads=0), "maxsim: expected threads >= 1; got 0"),
        (lambda: ts.maxsim("text", documents), "maxsim: expected queries of type"),
        (lambda: carve(queries, 0.5), "carve: expected one query of shape (t, d); got 2"),
        (lambda: straight(query_lengths=(2,)), "query_offsets that rise from 0 to 3"),
        (lambda: straight("f64"), "expected tokens of type f32, f16, bf16, i8 or n4; got 'f64'"),
        (lambda: straight("f16"), "expected tokens of the stored type"),
        (lambda: straight("i8"), "expected queries of the stored type"),
        (lambda: straight(lengths=(9, 1)), "tokens of document 1 within the 9 there are; got 9 to 10"),
        (lambda: straight(which=np.ones((1, 1), np.int64)), "documents below 1, or -1; got 1"),
        (lambda: straight(which=np.ones((2, 1), np.int64)), "which of shape (nq, count); got (2, 1)"),
        (lambda: _core.maxsim_score(queries[0], None, none, cut[0], "f32", None, none, none, None, threads=1),
         "query_offsets that rise from 0 to 3"),
    ]  # fmt: skip
    for mistake, message in mistakes:
        with pytest.raises(ts.TessellaError) as caught:
            mistake()
        assert message in str(caught.value), str(caught.value)
