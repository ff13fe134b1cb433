"""Files of a `MultiVectorIndex`: whole ones, and such as contradict themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tessella as ts
from tests.index import damage
from tests.index.damage import put, rewritten
from tests.multivector.cases import DIM, Corpus, encoder, same_hits

FORMATS = Path(__file__).parents[1] / "data" / "formats"
KINDS = ("f32", "f16", "bf16", "int8", "n4")
damage.DTYPES.update({"F16": np.float16, "I8": np.int8})


def made(corpus: Corpus, **options: Any) -> ts.MultiVectorIndex:
    ix = ts.MultiVectorIndex(encoder(), **options)
    ix.add(corpus.documents, ids=np.arange(len(corpus.documents)) * 2)
    return ix


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("tokens", KINDS)
def test_a_file_brings_everything_back(rng: np.random.Generator, tmp_path: Path, tokens: str, mmap: bool) -> None:
    corpus = Corpus(rng, 120)
    ix, queries = made(corpus, tokens=tokens, pool_factor=2), corpus.queries(10)
    ix.remove([0, 40, 42, 238])
    ix.calibrate(queries, k=5, recall=0.9)
    ix.save(tmp_path / "index")
    other = ts.MultiVectorIndex.load(tmp_path / "index", mmap=mmap)
    assert (len(other), other.tokens, other.pool_factor, other.token_count) == (116, tokens, 2, ix.token_count)
    assert other.calibration == ix.calibration and repr(other) == repr(ix)
    assert same_hits(other.search(queries, k=5), ix.search(queries, k=5))
    assert other.search(queries, k=5).expected_recall == ix.search(queries, k=5).expected_recall
    assert same_hits(other.exact(queries, k=200), ix.exact(queries, k=200))
    for each in (ix, other):  # tokens in the file and in memory
        each.add(corpus.documents[:10])
        each.remove([2, 240])
    assert 248 in other and same_hits(other.exact(queries, k=20), ix.exact(queries, k=20))
    assert same_hits(other.search(queries, k=5, candidates=40), ix.search(queries, k=5, candidates=40))
    other.save(tmp_path / "index")  # over the file that is mapped
    again = ts.MultiVectorIndex.load(tmp_path / "index")
    assert same_hits(again.exact(queries, k=20), ix.exact(queries, k=20))
    for each in (other, again):
        each.remove(np.arange(80) * 2 + 50)
    assert same_hits(again.exact(queries, k=20), other.exact(queries, k=20))


def test_attributes_and_an_empty_index_go_round(rng: np.random.Generator, tmp_path: Path) -> None:
    corpus = Corpus(rng, 30)
    empty = ts.MultiVectorIndex(encoder(), tokens="int8")
    empty.save(tmp_path / "index")
    for mmap in (False, True):
        other = ts.MultiVectorIndex.load(tmp_path / "index", mmap=mmap)
        other.add(corpus.documents)
        assert len(empty) == 0 and len(other) == 30
    pytest.importorskip("polars", reason="filters are an extra")
    ix = ts.MultiVectorIndex(encoder())
    ix.add(corpus.documents, attributes={"year": list(range(30))})
    ix.save(tmp_path / "index")
    other = ts.MultiVectorIndex.load(tmp_path / "index")
    assert set(other.search(corpus.queries(3), k=4, where="year < 2").ids.ravel()) == {0, 1, -1}


def test_a_learned_encoder_travels_with_its_documents(rng: np.random.Generator, tmp_path: Path) -> None:
    corpus = Corpus(rng, 60)
    lemur = ts.LEMUR(DIM, output_dim=64)
    lemur.fit(corpus.documents, sample=512)
    ix, queries = ts.MultiVectorIndex(lemur, codes="B1+U8"), corpus.queries(5)
    ix.add(corpus.documents)
    assert ix.search(queries, k=5).candidates == 100
    ix.save(tmp_path / "index")
    other = ts.MultiVectorIndex.load(tmp_path / "index")
    assert same_hits(other.search(queries, k=5, candidates=20), ix.search(queries, k=5, candidates=20))


@pytest.mark.parametrize("kind", ["fde-b1-f16", "lemur-b1-u8-n4", "smve-int8"])
def test_files_of_every_released_format_load(kind: str) -> None:
    path = FORMATS / f"multivector-v1-{kind}.tessella"
    expected = json.loads(path.with_suffix(".json").read_text())
    for mmap in (False, True):
        ix = ts.MultiVectorIndex.load(path, mmap=mmap)
        hits = ix.search(np.array(expected["queries"], np.float32), 5, candidates=10)
        assert hits.ids.tolist() == expected["ids"] and repr(ix).endswith("9 documents)")
        np.testing.assert_allclose(hits.scores, np.array(expected["scores"], np.float32), rtol=1e-4)
        np.testing.assert_allclose(ix.document(5), np.array(expected["document"], np.float32), rtol=1e-5, atol=1e-6)
        assert ix.calibration is not None and (ix.calibration.k, ix.calibration.queries) == (3, 3)
        ix.add([np.ones((2, 20), np.float32)])
        assert 20 in ix


# ---- damaged ones

Change = Callable[[Any], Any]
ENCODER: dict[str, Any] = {"kind": "fde", "settings": {}}
DAMAGE: list[tuple[dict[str, Change], dict[str, Any], str]] = [
    ({"documents.offsets": put(3, 1 << 40)}, {}, "offsets do not rise"),
    ({"documents.offsets": put(3, -5)}, {}, "offsets do not rise"),
    ({"documents.offsets": put(-1, 1)}, {}, "offsets do not rise"),
    ({"documents.offsets": lambda a: a[:-1]}, {}, "documents.offsets"),
    ({"documents.ids": put(0, 2)}, {}, "tokens are not those of its documents"),
    ({"documents.ids": put(0, 1 << 40)}, {}, "tokens are not those of its documents"),
    ({"documents.ids": lambda a: a[:-1]}, {}, "documents.ids"),
    ({"documents.tokens": lambda a: a[:-1]}, {}, "documents.scales"),
    ({"documents.tokens": lambda a: a[:, :-1].copy()}, {}, "documents.tokens"),
    ({"documents.scales": lambda a: None}, {}, "documents.scales"),
    ({"encoder.hyperplanes": lambda a: a[:, :, :-1].copy()}, {}, "shape"),
    ({"encoder.hyperplanes": lambda a: None}, {}, "hyperplanes"),
    ({"encoder.index": put(0, 1 << 30)}, {}, "index of projection"),
    ({"index.centre": lambda a: a[:-1]}, {}, "centre"),
    ({}, {"tokens": "f16"}, "documents.tokens"),
    ({}, {"tokens": "f8"}, "tokens: expected one of"),
    ({}, {"tokens": 7}, "tokens"),
    ({}, {"pool_factor": 0}, "pool_factor"),
    ({}, {"pool_factor": 1 << 70}, "pool_factor"),
    ({}, {"seed": -1}, "seed"),
    ({}, {"next_id": 0}, "next id"),
    ({}, {"encoder": ENCODER | {"kind": "other"}}, "kind"),
    ({}, {"encoder": ENCODER}, "describe"),
    ({}, {"encoder": 5}, "describe"),
    ({}, {"index": 5}, ""),
    ({}, {"index": {}}, "describe"),
    ({}, {"calibration": {"k": 1}}, "describe"),
    ({}, {"calibration": {"k": 1, "queries": 1, "efforts": [1], "recalls": [0.5]}}, "describe"),  # for which recall?
]


@pytest.mark.parametrize("which", range(len(DAMAGE)))
def test_what_contradicts_itself_is_refused(rng: np.random.Generator, tmp_path: Path, which: int) -> None:
    tensors, config, message = DAMAGE[which]
    path = tmp_path / "index"
    made(Corpus(rng, 40), tokens="int8").save(path)
    rewritten(path)
    assert len(ts.MultiVectorIndex.load(path)) == 40
    rewritten(path, tensors, config)
    for mmap in (False, True):
        with pytest.raises(ts.FormatError) as caught:
            ts.MultiVectorIndex.load(path, mmap=mmap)
        assert message in str(caught.value) and str(path) in str(caught.value), str(caught.value)


def test_any_byte_changed_is_an_error_or_harmless(rng: np.random.Generator, tmp_path: Path) -> None:
    path = tmp_path / "index"
    made(Corpus(rng, 12), tokens="n4").save(path)
    whole = path.read_bytes()
    for at in rng.integers(0, len(whole), 60):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        with pytest.raises(ts.FormatError):
            ts.MultiVectorIndex.load(path)
    for size in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ts.FormatError):
            ts.MultiVectorIndex.load(path)
    path.write_bytes(whole)
    with pytest.raises(ts.FormatError, match="of the kind"):
        ts.Index.load(path)


def test_a_scale_that_is_no_number_crashes_nothing(rng: np.random.Generator, tmp_path: Path) -> None:
    path, corpus = tmp_path / "index", Corpus(rng, 20)
    made(corpus, tokens="int8").save(path)
    rewritten(path, {"documents.scales": put(0, np.nan)})
    assert len(ts.MultiVectorIndex.load(path).search(corpus.queries(2), k=20).ids) == 2
