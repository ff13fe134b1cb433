"""mteb's protocols: the calls that it makes, and, where it is installed, its own evaluation of small tasks."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest

import tessella as ts
from tessella.compat.mteb import Model

CORPUS = [
    {"id": "d0", "title": "", "text": "tiles are cut with pliers"},
    {"id": "d1", "title": "Cats", "text": "the cat sleeps on a mat"},
    {"id": "d2", "title": "", "text": "mortar sets within an hour"},
    {"id": "d3", "title": "", "text": "a mosaic is laid of small tiles"},
]
QUERIES = [{"id": "q0", "text": "cut tiles"}, {"id": "q1", "text": "cats sleeps"}, {"id": "q2", "text": "mortar sets"}]
NOTHING: dict[str, Any] = {"encode_kwargs": {}, "task_metadata": None, "hf_split": "test", "hf_subset": "default"}


class Words:
    """Texts as the sum of their words' vectors; prompts are kept, so that a test sees which was taken."""

    dim, max_tokens = 24, 100

    def __init__(self, similarity: str = "cosine") -> None:
        self.similarity = similarity
        self.asked: list[tuple[str, list[str]]] = []

    def encode(self, texts: list[str], *, kind: str = "none", dim: int | None = None, progress: bool = False) -> Any:
        self.asked.append((kind, texts))
        rows = np.zeros((len(texts), self.dim), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in text.lower().split():
                row += np.random.default_rng(zlib.crc32(word.encode())).standard_normal(self.dim)
        return rows[:, :dim]

    def encode_queries(self, texts: list[str], **options: Any) -> Any:
        return self.encode(texts, kind="query", **options)

    def encode_documents(self, texts: list[str], **options: Any) -> Any:
        return self.encode(texts, kind="document", **options)


class Kind:
    """As mteb's PromptType."""

    def __init__(self, value: str) -> None:
        self.value = value


def test_batches_become_vectors_behind_the_right_prompt() -> None:
    words = Words()
    model = Model(words, dim=8)
    batches = [{"text": ["one", "two"], "title": ["", ""]}, {"text": ["three"]}]
    for kind, prompt in (("none", None), ("query", Kind("query")), ("document", Kind("document"))):
        x = model.encode(batches, task_metadata=None, hf_split="test", hf_subset="en", prompt_type=prompt, batch_size=2)
        assert words.asked.pop() == (kind, ["one", "two", "three"])
        assert x.dtype == np.float32 and x.shape == (3, 8)
    with pytest.raises(ts.UnsupportedType, match="expected batches with text; got image"):
        model.encode([{"image": [0]}])


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean"])
def test_similarities_of_all_pairs_and_of_each(similarity: str, rng: np.random.Generator) -> None:
    model = Model(Words(similarity))
    a, b = rng.standard_normal((5, 7)), rng.standard_normal((5, 7))
    every = model.similarity(a, b)
    wanted = a @ b.T
    if similarity == "cosine":
        wanted = wanted / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)
    if similarity == "euclidean":
        wanted = -np.linalg.norm(a[:, None] - b, axis=2)
    np.testing.assert_allclose(every, wanted, atol=1e-6)
    np.testing.assert_allclose(model.similarity_pairwise(a, b), np.diag(every), atol=1e-6)
    assert model.similarity(a[0], b).shape == (1, 5)


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("spec", ["Flat", "Flat,U8"])
def test_a_search_ranks_by_similarity(similarity: str, spec: str) -> None:
    words = Words(similarity)
    model = Model(words, spec)
    model.index(CORPUS, num_proc=None, **NOTHING)
    assert words.asked.pop() == (
        "document",
        [CORPUS[0]["text"], "Cats the cat sleeps on a mat", *(CORPUS[i]["text"] for i in (2, 3))],
    )
    found = model.search(QUERIES, top_k=1000, num_proc=None, **NOTHING)
    assert words.asked.pop()[0] == "query"
    assert list(found) == ["q0", "q1", "q2"] and all(len(each) == 4 for each in found.values())
    q = words.encode([each["text"] for each in QUERIES])
    x = words.encode(["Cats " + each["text"] if each["title"] else each["text"] for each in CORPUS])
    for row, scores in zip(model.similarity(q, x), found.values(), strict=True):
        assert sorted(scores, key=lambda name: -scores[name]) == [f"d{i}" for i in np.argsort(-row)]
    assert list(model.search(QUERIES[:1], top_k=2, **NOTHING)["q0"]) == list(found["q0"])[:2]


def test_reranking_keeps_to_what_was_ranked() -> None:
    model = Model(Words())
    model.index(CORPUS, **NOTHING)
    ranked = {"q0": ["d2", "d1"], "q1": ["d0"]}
    found = model.search(QUERIES, top_k=3, top_ranked=ranked, **NOTHING)
    assert [set(found[name]) for name in ("q0", "q1", "q2")] == [{"d1", "d2"}, {"d0"}, set()]


def test_instructions_stand_behind_queries() -> None:
    words = Words()
    model = Model(words)
    model.index(CORPUS[:1], **NOTHING)
    model.search([{"id": "q", "text": "a", "instruction": "find"}], top_k=1, **NOTHING)
    assert words.asked.pop() == ("query", ["a find"])


def test_what_is_wrong_is_a_sentence() -> None:
    with pytest.raises(ts.InvalidArgument, match="similarity cosine, dot, euclidean; got 'manhattan'"):
        Model(Words("manhattan"))
    model = Model(Words())
    with pytest.raises(ts.InvalidArgument, match=r"expected index\(corpus\) before search; there was none"):
        model.search(QUERIES, top_k=1, **NOTHING)
    model.index(CORPUS, **NOTHING)
    with pytest.raises(ts.UnsupportedType, match="expected queries as strings; got list"):
        model.search([{"id": "q", "text": [{"role": "user"}]}], top_k=1, **NOTHING)
    model.index([], **NOTHING)
    assert model.search(QUERIES, top_k=1, **NOTHING) == {"q0": {}, "q1": {}, "q2": {}}


def metadata(name: str, kind: str, score: str) -> Any:
    from mteb.abstasks.task_metadata import TaskMetadata

    return TaskMetadata(
        name=name, dataset={"path": "local/none", "revision": "1"}, description="made here", reference=None, type=kind,
        category="t2t", modalities=["text"], eval_splits=["test"], eval_langs=["eng-Latn"], main_score=score,
        date=("2026-01-01", "2026-01-02"), domains=["Written"], task_subtypes=[], license="cc0-1.0",
        annotations_creators="derived", dialect=[], sample_creation="created", bibtex_citation="",
    )  # fmt: skip


def tasks() -> tuple[Any, Any]:
    """A retrieval and a similarity task over texts of this file, which load nothing."""
    import datasets
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.sts import AbsTaskSTS

    class Tiles(AbsTaskRetrieval):
        metadata = metadata("Tiles", "Retrieval", "ndcg_at_10")

        def load_data(self, *given: Any, **named: Any) -> None:
            split = {
                "corpus": datasets.Dataset.from_list(CORPUS), "queries": datasets.Dataset.from_list(QUERIES),
                "relevant_docs": {"q0": {"d0": 1}, "q1": {"d1": 1}, "q2": {"d2": 1}}, "top_ranked": None,
            }  # fmt: skip
            self.dataset = {"default": {"test": split}}
            self.data_loaded = True

    class Alike(AbsTaskSTS):
        metadata = metadata("Alike", "STS", "cosine_spearman")
        min_score, max_score = 0, 5

        def load_data(self, *given: Any, **named: Any) -> None:
            rows = {
                "sentence1": ["tiles are cut", "the cat sleeps", "mortar sets", "one two three"],
                "sentence2": ["tiles are cut", "the cat plays", "cats sleep", "four five six"],
                "score": [5.0, 3.0, 0.5, 0.0],
            }
            self.dataset = datasets.DatasetDict({"test": datasets.Dataset.from_dict(rows)})
            self.data_loaded = True

    return Tiles(), Alike()


@pytest.mark.filterwarnings("ignore")  # what mteb and datasets warn of is not ours
@pytest.mark.parametrize("spec", ["Flat", "Flat,B1+U8"])
def test_mteb_evaluates(spec: str) -> None:
    mteb = pytest.importorskip("mteb", reason="mteb is not installed: the extra `mteb`")
    from mteb.models import EncoderProtocol, SearchProtocol

    model = Model(Words(), spec, name="tessella/words")
    assert isinstance(model, EncoderProtocol) and isinstance(model, SearchProtocol)
    assert (model.mteb_model_meta.name, model.mteb_model_meta.embed_dim) == ("tessella/words", 24)
    result = mteb.evaluate(model, list(tasks()), cache=None, show_progress_bar=False)
    scores = {each.task_name: each.get_score() for each in result.task_results}
    found = ts.eval.retrieval(
        {"words": Words()},
        ts.eval.Retrieval(
            {each["id"]: f"{each['title']} {each['text']}".strip() for each in CORPUS},
            {each["id"]: each["text"] for each in QUERIES},
            {f"q{i}": {f"d{i}": 1} for i in range(3)},
        ),
        measures=["ndcg@10"],
    )
    assert scores["Tiles"] == pytest.approx(found.mean("words", "ndcg@10"), abs=1e-4 if spec == "Flat" else 0.2)
    assert scores["Alike"] > 0.7
