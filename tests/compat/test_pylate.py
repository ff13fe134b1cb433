"""PyLate's calls: the shapes that its retriever passes and expects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tessella as ts
from tessella.compat.pylate import Index
from tests.multivector.cases import DIM, Corpus, encoder


@pytest.fixture
def corpus(rng: np.random.Generator) -> Corpus:
    return Corpus(rng, 80)


def made(corpus: Corpus, folder: Path, **options: Any) -> Index:
    index = Index(str(folder), "colbert", override=True, encoder=encoder(), **options)
    assert index.add_documents([f"document {i}" for i in range(80)], corpus.documents) is index
    return index


def test_results_are_lists_of_names_and_scores(corpus: Corpus, tmp_path: Path) -> None:
    index, queries = made(corpus, tmp_path, tokens="f32"), corpus.queries(6)
    found = index(queries_embeddings=queries, k=3)
    wanted = ts.maxsim(queries, corpus.documents, k=3)
    assert [[each["id"] for each in row] for row in found] == [[f"document {i}" for i in row] for row in wanted.ids]
    assert [[each["score"] for each in row] for row in found] == wanted.scores.tolist()
    assert all(isinstance(each["score"], float) for row in found for each in row)
    assert len(index(np.stack(queries), k=500)[0]) == 80
    torch = pytest.importorskip("torch", reason="torch is an extra")
    assert index([torch.from_numpy(q) for q in queries], k=3) == found
    assert index(torch.from_numpy(np.stack(queries)), k=3) == found
    assert index([q.tolist() for q in queries], k=3) == found


def test_a_subset_is_all_that_counts(corpus: Corpus, tmp_path: Path) -> None:
    index, queries = made(corpus, tmp_path), corpus.queries(2)
    some = ["document 7", "document 9", "unknown"]
    assert {each["id"] for row in index(queries, k=5, subset=some) for each in row} == set(some[:2])
    own = index(queries, k=5, subset=[["document 1"], ["document 2", "document 3"]])
    assert [{each["id"] for each in row} for row in own] == [{"document 1"}, {"document 2", "document 3"}]
    assert index(queries, k=5, subset=[]) == [[], []]
    with pytest.raises(ts.InvalidArgument, match="expected a subset for each of 2 queries; got 1"):
        index(queries, subset=[["document 1"]])


def test_an_index_lives_in_its_folder(corpus: Corpus, tmp_path: Path) -> None:
    index, queries = made(corpus, tmp_path), corpus.queries(4)
    assert index.remove_documents(["document 3", "document 79"]) is index
    index.add_documents("another", corpus.documents[3:4])
    again = Index(str(tmp_path), "colbert")
    assert len(again) == 79 and again(queries, k=10) == index(queries, k=10)
    again.add_documents(["document 3"], [corpus.documents[3]])  # a name may come back
    assert len(Index(str(tmp_path), "colbert")) == 80
    assert len(Index(str(tmp_path), "colbert", override=True, encoder=encoder())) == 0
    (tokens,) = again.get_documents_embeddings([["another", "document 5"]])
    np.testing.assert_allclose(tokens[1], corpus.documents[5], atol=1e-3)


def test_mistakes_leave_everything_as_it_was(corpus: Corpus, tmp_path: Path) -> None:
    index = made(corpus, tmp_path)
    for names, documents, message in [
        (["document 5"], corpus.documents[:1], "'document 5' is in the index already"),
        (["a", "a"], corpus.documents[:2], "an id occurs twice"),
        (["a", "b"], corpus.documents[:1], "expected 2 documents, one for each id; got 1"),
        (["a"], [corpus.documents[0][:, :4]], f"expected embeddings of {DIM} numbers each; got 4"),
    ]:
        with pytest.raises(ts.InvalidArgument, match=message):
            index.add_documents(names, documents)
    with pytest.raises(ts.InvalidArgument, match="remove_documents: 'x' is not in the index"):
        index.remove_documents(["document 1", "x"])
    assert len(index) == 80
    index.add_documents(["a"], corpus.documents[:1])
    assert len(index) == 81


@pytest.mark.parametrize("names", ["[]", "{", "[1, 2]", '["same", "same"]', "null"])
def test_names_that_do_not_fit_are_refused(corpus: Corpus, tmp_path: Path, names: str) -> None:
    made(corpus, tmp_path)
    (tmp_path / "colbert" / "documents.json").write_text(names)
    with pytest.raises(ts.FormatError, match=r"documents\.json"):
        Index(str(tmp_path), "colbert")
