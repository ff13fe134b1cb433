"""`MultiVectorIndex` over sparse anchors: an inverted file in the place of an index."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tessella as ts
from tests.index import damage
from tests.index.damage import put, rewritten
from tests.multivector.cases import DIM, Corpus, same_hits

damage.DTYPES.update({"F16": np.float16, "I8": np.int8, "U16": np.uint16})


def encoder() -> ts.SMVE:
    return ts.SMVE(DIM, rotations=8, kept=8)


def anchors_of(ix: ts.MultiVectorIndex) -> Any:
    assert not isinstance(ix.first_stage, ts.Index)
    return ix.first_stage


@pytest.fixture
def corpus(rng: np.random.Generator) -> Corpus:
    return Corpus(rng, 300)


def test_with_enough_candidates_the_order_is_maxsims(corpus: Corpus) -> None:
    ix, queries = ts.MultiVectorIndex(encoder(), tokens="f32"), corpus.queries(20)
    ix.add(corpus.documents)
    hits = ix.search(queries, k=5, candidates=300)
    assert same_hits(hits, ts.maxsim(queries, corpus.documents, k=5))
    assert same_hits(ix.search(queries, k=5, candidates=300, threads=2), hits)
    few = ix.search(queries, k=5, candidates=40)
    assert np.mean([np.isin(a, b).mean() for a, b in zip(hits.ids, few.ids, strict=True)]) > 0.9
    assert ix.search(queries, k=5).candidates == 200
    assert ix.nbytes > 3 * anchors_of(ix).postings > 0
    assert "'anchors', tokens='f32': 300 documents" in repr(ix) and "1024 anchors" in repr(ix.first_stage)
    curve = ix.calibrate(queries, k=5, recall=0.9)
    assert curve.recalls[-1] == 1.0 and ix.search(queries, k=5).candidates == curve.effort_for(0.9)


def test_ids_come_back_and_documents_go(corpus: Corpus) -> None:
    ix, queries = ts.MultiVectorIndex(encoder(), tokens="f32"), corpus.queries(15)
    ids = np.random.default_rng(0).permutation(1000)[:300] + 5
    for first in range(0, 300, 75):  # a block grows
        ix.add(corpus.documents[first : first + 75], ids=ids[first : first + 75])
    gone = np.arange(0, 300, 3)
    assert ix.remove(ids[gone]) == 100 and len(ix) == 200 and int(ids[0]) not in ix and int(ids[1]) in ix
    kept = np.setdiff1d(np.arange(300), gone)
    for left in (kept, kept[120:]):  # with holes, and moved together
        ix.remove(np.setdiff1d(ix.ids, ids[left]))
        wanted = ts.maxsim(queries, [corpus.documents[i] for i in left], k=3)
        assert np.array_equal(ix.search(queries, k=3, candidates=300).ids, ids[left][wanted.ids])
    assert len(anchors_of(ix)._postings.row_ids) == 80
    ix.add(corpus.documents[:1], ids=[ids[0]])  # an id may come back
    assert ix.search(corpus.documents[0], k=1, candidates=300).ids[0, 0] == ids[0]
    ix.update(ids[[0]], corpus.documents[1:2])
    assert ix.search(corpus.documents[1], k=1, candidates=300).ids[0, 0] == ids[0]


def test_more_rows_than_a_block_has(rng: np.random.Generator) -> None:
    documents = rng.standard_normal((8300, 1, DIM), dtype=np.float32)
    documents /= np.linalg.norm(documents, axis=2, keepdims=True)
    ix = ts.MultiVectorIndex(ts.SMVE(DIM, rotations=2, kept=4), tokens="f32")
    ix.add(documents[:5000])
    ix.add(documents[5000:])
    some = [0, 4999, 5000, 8191, 8192, 8299]
    assert ix.search(documents[some], k=1, candidates=20).ids.ravel().tolist() == some
    ix.remove(np.arange(0, 8192))
    assert ix.search(documents[some[4:]], k=1, candidates=20).ids.ravel().tolist() == some[4:]
    assert len(anchors_of(ix)._postings.blocks) == 1


def test_an_error_leaves_everything_as_it_was(corpus: Corpus) -> None:
    ix, queries = ts.MultiVectorIndex(encoder(), tokens="f32"), corpus.queries(5)
    ix.add(corpus.documents)
    before, first = ix.search(queries, k=5), corpus.documents[0]
    mistakes: list[tuple[Callable[[], object], str]] = [
        (lambda: ix.add([first, first], ids=[900, 4]), "add: expected new ids; 4 is already in the index"),
        (lambda: ix.add([first, first], ids=[900, 900]), "add: expected ids without repeats; 900 occurs twice"),
        (lambda: ix.add([first, np.full((2, DIM), 3e38, np.float32)]), "up to 1e+30"),
        (lambda: ix.remove([0, 4000]), "remove: id 4000 is not in the index"),
        (lambda: ix.remove([1, 1]), "remove: expected ids without repeats; 1 occurs twice"),
        (lambda: ts.MultiVectorIndex(encoder(), codes="B1"), "expected no codes with SMVE"),
    ]
    for mistake, message in mistakes:
        with pytest.raises(ts.TessellaError) as caught:
            mistake()
        assert message in str(caught.value), str(caught.value)
    assert len(ix) == 300 and same_hits(ix.search(queries, k=5), before)


def test_documents_without_tokens_are_never_found(corpus: Corpus) -> None:
    ix = ts.MultiVectorIndex(encoder())
    assert (ix.search(corpus.queries(2), k=2).ids == -1).all()
    ix.add([corpus.documents[0], corpus.documents[0][:0], [], corpus.documents[1]])
    assert set(ix.search(corpus.queries(3), k=4).ids.ravel()) == {0, 3, -1}
    assert ix.search(np.empty((1, 0, DIM), np.float32), k=1).ids.shape == (1, 1)


def test_only_what_a_filter_admits_is_found(corpus: Corpus) -> None:
    pytest.importorskip("polars", reason="filters are an extra")
    ix, queries = ts.MultiVectorIndex(encoder(), tokens="f32"), corpus.queries(10)
    ix.add(corpus.documents[:150], attributes={"year": list(range(150))})
    ix.add(corpus.documents[150:], attributes={"year": list(range(150, 300))})
    ix.remove([1, 2])
    some = [i for i in range(90) if i % 3 == 0]
    hits = ix.search(queries, k=4, where="year % 3 = 0 AND year < 90", with_attributes=["year"])
    wanted = ts.maxsim(queries, [corpus.documents[i] for i in some], k=4)
    assert np.array_equal(hits.ids, np.array(some)[wanted.ids]) and np.array_equal(hits.scores, wanted.scores)
    assert hits.attributes["year"].to_list() == hits.ids.ravel().tolist()
    own = ix.search(queries[:2], k=2, where=[f"year = {a}" for a in (7, 8)])
    assert own.ids.tolist() == [[7, -1], [8, -1]]
    ix.update([7], corpus.documents[20:21], attributes={"year": [8]})
    assert set(ix.search(queries[0], k=3, where="year = 8").ids[0]) == {7, 8, -1}


@pytest.mark.parametrize("mmap", [False, True])
def test_a_file_brings_everything_back(corpus: Corpus, tmp_path: Path, mmap: bool) -> None:
    pytest.importorskip("polars", reason="filters are an extra")
    ix, queries = ts.MultiVectorIndex(encoder(), tokens="int8"), corpus.queries(10)
    ix.save(tmp_path / "index")
    assert len(ts.MultiVectorIndex.load(tmp_path / "index", mmap=mmap)) == 0
    ix.add(corpus.documents[:200], attributes={"year": list(range(200))})
    ix.remove([0, 40, 199])
    ix.calibrate(queries, k=5, recall=0.9)
    ix.save(tmp_path / "index")
    other = ts.MultiVectorIndex.load(tmp_path / "index", mmap=mmap)
    assert repr(other) == repr(ix) and other.calibration == ix.calibration
    for each in (ix, other):
        each.add(corpus.documents[200:])
        each.remove([2, 205])
        each.update([7], corpus.documents[20:21])
    assert same_hits(other.search(queries, k=5), ix.search(queries, k=5))
    assert same_hits(other.search(queries, k=5, where="year < 50"), ix.search(queries, k=5, where="year < 50"))
    other.save(tmp_path / "index")  # over the file that is mapped
    again = ts.MultiVectorIndex.load(tmp_path / "index")
    assert same_hits(again.search(queries, k=5), ix.search(queries, k=5))


Change = Callable[[Any], Any]
DAMAGE: list[tuple[dict[str, Change], dict[str, Any], str]] = [
    ({"index.rows": put(0, 60_000)}, {}, "rows below 40"),
    ({"index.rows": lambda a: a[:-1]}, {}, "index.rows|rows"),
    ({"index.weights": lambda a: a[:-1]}, {}, "weights"),
    ({"index.starts": lambda a: a[:, :-1].copy()}, {}, "starts"),
    ({"index.starts": lambda a: np.where(np.arange(a.size).reshape(a.shape) == 3, 1 << 40, a)}, {}, "rise"),
    ({"index.starts": lambda a: np.where(np.arange(a.size).reshape(a.shape) == a.size - 1, -1, a)}, {}, "blocks"),
    ({"index.counts": put(0, 41)}, {}, "blocks"),
    ({"index.counts": put(0, -1)}, {}, "blocks"),
    ({"index.ids": put(0, -1)}, {}, "ids"),
    ({"index.ids": put(0, 1)}, {}, "ids"),
    ({"index.scales": put(0, np.nan)}, {}, "scales"),
    ({"index.scales": lambda a: a[:-1]}, {}, "scales"),
    ({}, {"index": {"anchors": 1024, "rows": 41}}, "index.ids|ids|blocks"),
    ({}, {"index": {"anchors": 1 << 70, "rows": 40}}, "anchors"),
    ({}, {"encoder": {"kind": "smve", "settings": {"dim": DIM, "rotations": 4, "kept": 8, "seed": 1}}}, "512"),
    ({}, {"encoder": {"kind": "smve", "settings": {"dim": DIM, "rotations": 8, "kept": 999, "seed": 1}}}, "kept"),
    ({}, {"encoder": {"kind": "smve", "settings": {}}}, "describe"),
]


@pytest.mark.parametrize("which", range(len(DAMAGE)))
def test_what_contradicts_itself_is_refused(rng: np.random.Generator, tmp_path: Path, which: int) -> None:
    tensors, config, message = DAMAGE[which]
    path = tmp_path / "index"
    ix = ts.MultiVectorIndex(encoder())
    ix.add(Corpus(rng, 40).documents)
    ix.save(path)
    rewritten(path)
    assert len(ts.MultiVectorIndex.load(path)) == 40
    rewritten(path, tensors, config)
    for mmap in (False, True):
        with pytest.raises(ts.FormatError, match=message) as caught:
            ts.MultiVectorIndex.load(path, mmap=mmap)
        assert str(path) in str(caught.value)
