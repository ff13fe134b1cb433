"""`MultiVectorIndex`: MaxSim's order comes out, whatever tokens are stored in and whatever changes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tessella as ts
from tests.multivector.cases import DIM, Corpus, encoder, same_hits

KINDS = ("f32", "f16", "bf16", "int8", "n4")


@pytest.fixture
def corpus(rng: np.random.Generator) -> Corpus:
    return Corpus(rng, 300)


def made(corpus: Corpus, **options: Any) -> ts.MultiVectorIndex:
    ix = ts.MultiVectorIndex(encoder(), **options)
    ix.add(corpus.documents)
    return ix


@pytest.mark.parametrize("tokens", ["f32", "f16"])
def test_with_enough_candidates_the_order_is_maxsims(corpus: Corpus, tokens: str) -> None:
    ix, queries = made(corpus, tokens=tokens), corpus.queries(20)
    stored = [x.astype({"f32": np.float32, "f16": np.float16}[tokens]) for x in corpus.documents]
    wanted = ts.maxsim(queries, stored, k=5)
    hits = ix.search(queries, k=5, candidates=300)
    assert same_hits(hits, wanted) and same_hits(ix.exact(queries, k=5), wanted)
    assert hits.candidates == 300 and hits.expected_recall is None
    assert same_hits(ix.search(queries, k=5, candidates=300, threads=2), hits)
    few = ix.search(queries, k=5, candidates=60)
    assert np.mean([len(np.intersect1d(a, b)) for a, b in zip(few.ids, wanted.ids, strict=True)]) > 4


@pytest.mark.parametrize("tokens", KINDS)
def test_scores_are_as_close_as_tokens_are_stored(corpus: Corpus, tokens: str) -> None:
    ix, queries = made(corpus, tokens=tokens), corpus.queries(10)
    exact = ts.maxsim(queries, corpus.documents)
    hits = ix.exact(queries, k=300)
    got = np.empty_like(exact)
    np.put_along_axis(got, hits.ids, hits.scores, axis=1)
    allowed = {"f32": 0.0, "f16": 3e-3, "bf16": 2e-2, "int8": 3e-2, "n4": 0.25}[tokens]
    off = np.abs(got - exact) / 8  # of a query token
    assert off.max() <= allowed
    bytes_a_token = {"f32": 4 * DIM, "f16": 2 * DIM, "bf16": 2 * DIM, "int8": DIM + 4, "n4": 32 + 4}[tokens]
    assert ix._store.codec.bytes == bytes_a_token
    np.testing.assert_allclose(ix.document(7), corpus.documents[7], atol=max(allowed, 1e-9))


@pytest.mark.parametrize("codes", ["B1", "B1+U8", "U8", "Flat", "PQ64", "IVF8,B1", "Graph32,B1+U8"])
def test_any_index_can_be_the_first_stage(corpus: Corpus, codes: str) -> None:
    ix, queries = made(corpus, codes=codes), corpus.queries(20)
    assert ix.first_stage.spec.endswith(codes)
    wanted = ix.exact(queries, k=1)
    hits = ix.search(queries, k=1, candidates=100)
    assert (hits.ids == wanted.ids).mean() > 0.8


def test_ids_come_back_and_documents_go(corpus: Corpus) -> None:
    ix, queries = ts.MultiVectorIndex(encoder(), tokens="f32"), corpus.queries(15)
    ids = np.random.default_rng(0).permutation(1000)[:300] + 5
    ix.add(corpus.documents[:200], ids=ids[:200])
    ix.add(corpus.documents[200:], ids=ids[200:])
    wanted = ts.maxsim(queries, corpus.documents, k=300)
    assert np.array_equal(ix.search(queries, k=3, candidates=300).ids, ids[wanted.ids[:, :3]])
    gone = np.arange(0, 300, 3)
    assert ix.remove(ids[gone]) == 100 and len(ix) == 200 and int(ids[0]) not in ix and int(ids[1]) in ix
    kept = np.setdiff1d(np.arange(300), gone)
    left = [corpus.documents[i] for i in kept]
    hits = ix.search(queries, k=3, candidates=300)
    again = ts.maxsim(queries, left, k=3)
    assert np.array_equal(hits.ids, ids[kept][again.ids]) and np.array_equal(hits.scores, again.scores)
    assert np.array_equal(ix.exact(queries, k=3).ids, hits.ids)
    ix.remove(ids[kept[:120]])  # more holes than tokens: copied together
    assert ix.token_count == sum(len(corpus.documents[i]) for i in kept[120:])
    ix.add(corpus.documents[:1], ids=[ids[0]])  # an id may come back
    assert ix.search(corpus.documents[0], k=1, candidates=300).ids[0, 0] == ids[0]
    ix.add([corpus.documents[1]])
    assert int(ids.max()) + 1 in ix  # the next free number


@pytest.mark.parametrize("codes", ["B1", "IVF8,B1", "Graph32,B1+U8"])
def test_an_update_is_a_new_document_of_the_same_id(corpus: Corpus, codes: str) -> None:
    ix, queries = ts.MultiVectorIndex(encoder(), codes=codes, tokens="f32", pool_factor=2), corpus.queries(10)
    ix.add(corpus.documents)
    which, new = np.arange(40, 100), Corpus(corpus.rng, 60).documents
    ix.update(which, new)
    changed = [*corpus.documents[:40], *new, *corpus.documents[100:]]
    other = ts.MultiVectorIndex(encoder(), codes=codes, tokens="f32", pool_factor=2)
    other.add(changed)
    assert len(ix) == 300 and ix.token_count == other.token_count and np.array_equal(np.sort(ix.ids), np.arange(300))
    assert same_hits(ix.exact(queries, k=20), other.exact(queries, k=20))
    hits = ix.search(queries, k=3, candidates=300)
    assert (hits.ids == ix.exact(queries, k=3).ids).mean() > (0.9 if codes == "B1" else 0.6)
    np.testing.assert_array_equal(ix.document(40), other.document(40))


def test_an_update_of_attributes_or_of_what_is_not_there(corpus: Corpus) -> None:
    pytest.importorskip("polars", reason="filters are an extra")
    ix = ts.MultiVectorIndex(encoder())
    ix.add(corpus.documents[:20], attributes={"year": list(range(20))})
    query = corpus.documents[3]
    ix.update([3], attributes={"year": [1900]})
    assert ix.search(query, k=2, where="year = 1900").ids.tolist() == [[3, -1]]
    before = ix.search(query, k=5)
    huge = np.full((2, DIM), 1e30, np.float32)
    mistakes: list[tuple[Callable[[], object], str]] = [
        (lambda: ix.update([3]), "update: expected documents, attributes, or both; got neither"),
        (lambda: ix.update([3, 77], corpus.documents[:2]), "update: id 77 is not in the index"),
        (lambda: ix.update([3, 3], corpus.documents[:2]), "update: expected ids without repeats; 3 occurs twice"),
        (lambda: ix.update([3], corpus.documents[:2]), "expected ids of shape (2,); got (1,)"),
        (lambda: ix.update([3, 4], [corpus.documents[9], huge]), "tokens that float16 can store"),
        (lambda: ix.update([3], corpus.documents[:1], attributes={"year": ["late"]}), "year"),
    ]
    for mistake, message in mistakes:
        with pytest.raises(ts.TessellaError) as caught:
            mistake()
        assert message in str(caught.value), str(caught.value)
    assert same_hits(ix.search(query, k=5), before)
    ix.update([3], corpus.documents[19:20], attributes={"year": [5]})
    assert set(ix.search(corpus.documents[19], k=2).ids[0]) == {3, 19}
    assert ix.search(query, k=3, where="year = 5").ids.tolist() in ([[3, 5, -1]], [[5, 3, -1]])


def test_an_error_leaves_everything_as_it_was(corpus: Corpus) -> None:
    ix, queries = made(corpus), corpus.queries(5)
    before = ix.search(queries, k=5)
    nan = corpus.documents[0].copy()
    nan[1, 2] = np.nan
    huge = np.full((2, DIM), 1e30, np.float32)
    first, index = corpus.documents[0], ts.MultiVectorIndex
    mistakes: list[tuple[Callable[[], object], str]] = [
        (lambda: ix.add([first, nan]), "add: expected finite documents; token 1 of number 1 has a NaN"),
        (lambda: ix.add([first[:, :5]]), "add: expected documents of 32 numbers each; got 5"),
        (lambda: ix.add([first, first], ids=[900, 4]), "add: expected new ids; 4 is already in the index"),
        (lambda: ix.add([first, first], ids=[900]), "add: expected ids of shape (2,); got (1,)"),
        (lambda: ix.add([first, huge]), "add: expected tokens that float16 can store"),
        (lambda: ix.remove([0, 4000]), "4000"),
        (lambda: ix.search(queries, k=0), "search: expected k >= 1; got 0"),
        (lambda: ix.search(queries, candidates=0), "search: expected candidates >= 1; got 0"),
        (lambda: ix.search(queries, candidates="x"), "search: expected candidates as 'auto' or a number; got 'x'"),
        (lambda: ix.search(queries, recall=0.9), "search: expected a calibrated index for recall=0.9"),
        (lambda: ix.search(queries, candidates=9, recall=0.9), "search: expected candidates or recall; got both"),
        (lambda: ix.search([nan]), "search: expected finite queries; token 1 of number 0 has a NaN"),
        (lambda: ix.calibrate(queries[:0]), "got 0 and 300 of them"),
        (lambda: ix.calibrate(queries, truth=np.zeros((2, 2))), "expected truth of shape (5, 10); got (2, 2)"),
        (lambda: ix.document(4000), "document: id 4000 is not in the index"),
        (lambda: index(encoder(), tokens="f8"), "tokens: expected one of f32, f16, bf16, int8, n4; got 'f8'"),
        (lambda: index(encoder(), pool_factor=0), "MultiVectorIndex: expected pool_factor >= 1; got 0"),
        (lambda: index("fde"), "expected an encoder such as FDE; got str"),  # type: ignore[arg-type]
    ]
    for mistake, message in mistakes:
        with pytest.raises(ts.TessellaError) as caught:
            mistake()
        assert message in str(caught.value), str(caught.value)
    assert len(ix) == 300 and ix.token_count == sum(map(len, corpus.documents))
    assert same_hits(ix.search(queries, k=5), before)
    ix.add(corpus.documents[:1])
    assert 300 in ix


def test_what_was_added_before_an_error_is_taken_back(rng: np.random.Generator) -> None:
    """Encodings are made and added some thousand documents at a time; here the last of many is too long."""
    pytest.importorskip("polars", reason="filters are an extra")
    ix = ts.MultiVectorIndex(encoder(), tokens="f32")
    some = [rng.standard_normal((1, DIM), dtype=np.float32) for _ in range(2100)]
    ix.add(some[:3], attributes={"year": [1, 2, 3]})
    before = ix.search(some[:5], k=3)
    with pytest.raises(ts.InvalidArgument, match="finite"):
        ix.add([*some, 1e30 * some[0]], attributes={"year": list(range(2101))})
    assert len(ix) == 3 and ix.token_count == 3 and same_hits(ix.search(some[:5], k=3), before)
    assert ix.search(some[1], k=2, where="year = 2").ids.tolist() == [[1, -1]]
    ix.add(some[:2])
    assert ix.ids.tolist() == [0, 1, 2, 3, 4]


def test_documents_without_tokens_are_never_found(corpus: Corpus) -> None:
    ix = ts.MultiVectorIndex(encoder())
    ix.add([corpus.documents[0], corpus.documents[0][:0], [], corpus.documents[1]])
    hits = ix.search(corpus.queries(3), k=4)
    assert set(hits.ids.ravel()) == {0, 3, -1} and (hits.scores[hits.ids < 0] == -np.inf).all()
    assert ix.document(1).shape == (0, DIM)
    ix.remove([0, 3])
    assert (ix.search(corpus.queries(2), k=1).ids == -1).all()
    nothing = ts.MultiVectorIndex(encoder())
    assert (nothing.search(corpus.queries(2), k=2).ids == -1).all()
    assert (nothing.exact(corpus.queries(2), 2).ids == -1).all()
    nothing.add([np.empty((0, DIM), np.float32)])
    assert (nothing.search(corpus.queries(2), k=2).ids == -1).all() and len(nothing) == 1
    assert ix.search(np.empty((1, 0, DIM), np.float32), k=1).ids.shape == (1, 1)  # a query without tokens


def test_only_what_a_filter_admits_is_found(corpus: Corpus) -> None:
    pytest.importorskip("polars", reason="filters are an extra")
    ix, queries = ts.MultiVectorIndex(encoder(), tokens="f32"), corpus.queries(10)
    ix.add(corpus.documents[:150], attributes={"year": list(range(150))})
    ix.add(corpus.documents[150:], attributes={"year": list(range(150, 300))})
    hits = ix.search(queries, k=4, where="year % 3 = 0 AND year < 90", with_attributes=["year"])
    some = [i for i in range(90) if i % 3 == 0]
    wanted = ts.maxsim(queries, [corpus.documents[i] for i in some], k=4)
    assert np.array_equal(hits.ids, np.array(some)[wanted.ids]) and np.array_equal(hits.scores, wanted.scores)
    assert hits.attributes["year"].to_list() == hits.ids.ravel().tolist()
    ix.remove(some[:10])
    left = ix.search(queries, k=30, where="year % 3 = 0 AND year < 90")
    assert set(left.ids.ravel()) == {-1, *some[10:]}
    with pytest.raises(ts.InvalidArgument):
        ix.add(corpus.documents[:1], attributes={"year": ["late"]})
    assert len(ix) == 290


def test_calibration_says_how_many_candidates_a_recall_takes(corpus: Corpus) -> None:
    ix = made(corpus)
    auto = ix.search(corpus.queries(2), k=10)
    assert auto.candidates == 200 and auto.expected_recall is None
    curve = ix.calibrate(corpus.queries(100), k=10, recall=0.9)
    assert curve.recalls[-1] == 1.0 and (np.diff(curve.recalls) >= 0).all()
    queries = corpus.queries(100)
    hits = ix.search(queries, k=10)
    assert 10 <= hits.candidates == curve.effort_for(0.9) < 300
    assert hits.expected_recall is not None and hits.expected_recall >= 0.9
    truth = ix.exact(queries, k=10).ids
    found = np.mean([np.isin(a, b).mean() for a, b in zip(truth, hits.ids, strict=True)])
    assert abs(found - hits.expected_recall) < 0.06
    better = ix.search(queries, k=10, recall=0.99)
    assert better.candidates > hits.candidates
    counted = ix.search(queries, k=10, candidates=50)
    assert counted.expected_recall == pytest.approx(curve.recall_at(50))
    assert ix.search(queries, k=20).candidates == 2 * hits.candidates  # for more, more
    given = ix.calibrate(queries, k=10, truth=truth)
    assert given.recalls == ix.calibrate(queries, k=10).recalls
    assert (given.truth, curve.truth) == ("exact", "exact")  # tokens of 16 bits
    coarse = made(corpus, tokens="n4").calibrate(queries, k=10)
    assert coarse.truth == "own best"
    ix._calibration = ts.Calibration(10, 100, (10, 50), (0.5, 0.8))
    with pytest.warns(ts.RecallWarning, match=r"search: recall 0.9 was not reached .* its best is 0.8000"):
        assert ix.search(queries, recall=0.9).candidates == 50


@pytest.mark.parametrize("tokens", ["f32", "int8", "n4"])
def test_calibration_against_a_truth_counts_what_tokens_rank_amiss(corpus: Corpus, tokens: str) -> None:
    ix, queries = made(corpus, tokens=tokens), corpus.queries(60)
    truth = ts.maxsim(queries, corpus.documents, k=10).ids
    truth[3, 7:] = -1  # fewer were wanted
    curve = ix.calibrate(queries, k=10, truth=truth)
    for candidates, recall in zip(curve.efforts, curve.recalls, strict=True):
        found = ix.search(queries, k=10, candidates=candidates).ids
        shared = sum(len(np.intersect1d(a[a >= 0], b)) for a, b in zip(truth, found, strict=True))
        assert recall == pytest.approx(shared / 597)
    assert (curve.recalls[-1] < 1) == (tokens != "f32")  # 8 bits are enough to swap a pair


def test_carving_screens_and_the_last_are_scored_exactly(corpus: Corpus) -> None:
    ix, queries = made(corpus, tokens="f32"), corpus.queries(20, tokens=24)
    exact, carved = ix.search(queries, k=5, candidates=300), ix.search(queries, k=5, candidates=300, carve=0.7)
    shared = np.array([np.isin(a, b).mean() for a, b in zip(exact.ids, carved.ids, strict=True)])
    assert shared.mean() > 0.9
    same = exact.ids == carved.ids
    assert np.array_equal(exact.scores[same], carved.scores[same])


@pytest.mark.parametrize("factor", [2, 3])
def test_pooled_tokens_take_a_share_of_the_room(corpus: Corpus, factor: int) -> None:
    ix, queries = made(corpus, tokens="f32", pool_factor=factor), corpus.queries(40)
    assert ix.token_count == sum(-(-len(x) // factor) for x in corpus.documents)
    truth = ts.maxsim(queries, corpus.documents, k=1).ids
    assert (ix.search(queries, k=3, candidates=300).ids == truth).any(axis=1).mean() > 0.85
    assert "pool_factor" in repr(ix)


def test_wards_clusters_are_scipys(rng: np.random.Generator) -> None:
    hierarchy = pytest.importorskip("scipy.cluster.hierarchy", reason="scipy is an extra")
    documents = [Corpus(rng, 1).some(t, np.arange(5)) for t in (1, 2, 9, 0, 33, 80)]
    ix = ts.MultiVectorIndex(encoder(), tokens="f32", pool_factor=3)
    ix.add(documents)
    for i, x in enumerate(documents):
        own = ix.document(i)
        assert len(own) == -(-len(x) // 3)
        if len(x) > 1:
            labels = hierarchy.fcluster(hierarchy.linkage(x, "ward"), len(own), "maxclust")
            first = list(dict.fromkeys(labels))
            means = np.stack([x[labels == each].mean(0) for each in first])
            np.testing.assert_allclose(own, means, atol=1e-5)


def test_tokens_come_in_any_kind(corpus: Corpus) -> None:
    torch = pytest.importorskip("torch", reason="torch is an extra")
    plain = made(corpus)
    ix = ts.MultiVectorIndex(encoder())
    ix.add([torch.from_numpy(x) for x in corpus.documents])
    queries = corpus.queries(4)
    hits = ix.search([torch.from_numpy(q) for q in queries], k=3)
    assert isinstance(hits.ids, torch.Tensor) and isinstance(hits.scores, torch.Tensor)
    wanted = plain.search(queries, k=3)
    assert np.array_equal(hits.ids.numpy(), wanted.ids) and np.array_equal(hits.scores.numpy(), wanted.scores)
    lengths = [len(x) for x in corpus.documents]
    mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
    padded = np.zeros((300, max(lengths), DIM), np.float32)
    padded[mask] = np.concatenate(corpus.documents)
    other = ts.MultiVectorIndex(encoder())
    other.add(padded, mask=mask)
    assert same_hits(other.search(queries, k=3), wanted)


def test_bytes_are_kept_as_they_are(rng: np.random.Generator) -> None:
    documents = [rng.integers(-128, 128, (t, DIM)).astype(np.int8) for t in (5, 9)]
    ix = ts.MultiVectorIndex(encoder(), tokens="int8")
    ix.add(documents)
    query = rng.integers(-100, 100, (3, DIM)).astype(np.int8)
    assert np.array_equal(ix.search(query, k=2).scores, ts.maxsim(query, documents, k=2).scores)


def test_many_search_beside_one_writer(corpus: Corpus) -> None:
    ix, queries = ts.MultiVectorIndex(encoder(), tokens="f32"), corpus.queries(3)
    ix.add(corpus.documents[:100])
    done, wrong = threading.Event(), list[str]()
    scores = ts.maxsim(queries, corpus.documents)

    def search() -> None:
        while not done.is_set():
            hits = ix.search(queries, k=5, candidates=300, threads=1)
            for row, (ids, own) in enumerate(zip(hits.ids, hits.scores, strict=True)):
                if not np.array_equal(own[ids >= 0], scores[row, ids[ids >= 0] % 300]):
                    wrong.append(str(ids))

    readers = [threading.Thread(target=search) for _ in range(2)]
    for each in readers:
        each.start()
    for turn in range(5):
        ix.add(corpus.documents[100:], ids=np.arange(100, 300) + 300 * turn)
        ix.remove(np.arange(100, 300) + 300 * turn)
    done.set()
    for each in readers:
        each.join()
    assert not wrong and len(ix) == 100


def test_it_describes_itself(corpus: Corpus) -> None:
    ix = made(corpus, tokens="int8")
    assert repr(ix).endswith("'Flat,B1', tokens='int8': 300 documents)")
    assert (ix.dim, ix.tokens, ix.pool_factor, len(ix.ids)) == (DIM, "int8", 1, 300)
    assert ix.nbytes >= ix.token_count * ix._store.codec.bytes
