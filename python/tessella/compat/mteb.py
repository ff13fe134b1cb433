"""mteb's encoder and search protocols over an `Encoder` and an `Index`: `mteb.evaluate(Model(encoder), tasks)`.

mteb asks a model for vectors, batch by batch, and for similarities of them; where a task is retrieval it asks, of
whoever can, for the search itself. Prompts are the model folder's own, by mteb's names `query` and `document`; mteb's
instructions for tasks are left out. mteb itself is imported where it asks for a model's card.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tessella.errors import InvalidArgument, UnsupportedType
from tessella.index import Index

__all__ = ["Model"]

Array: TypeAlias = npt.NDArray[Any]
Floats: TypeAlias = npt.NDArray[np.float32]
_METRICS = {"cosine": "cosine", "dot": "ip", "euclidean": "l2"}  # of vectors: what an Index calls it
_BLOCK = 8192  # documents held at a time


class Model:
    """What mteb evaluates: both protocols, `encode` with `similarity` and `index` with `search`.

    Args:
        encoder: an `Encoder`, or whatever has `encode`, `encode_queries`, `encode_documents`, `dim` and `similarity`.
        spec: of the index that retrieval tasks search; `Flat` is exact.
        name: for mteb's tables, `organisation/model`.
        dim: leading coordinates that are kept (Matryoshka); None: all.
        search: how the index is searched, `{"recall": 0.99}` or `{"nprobe": 8}` for example.

    Scores of a retrieval task are those of the index, larger for what is nearer.

    See also: docs/howto/evaluate.md.
    """

    def __init__(
        self,
        encoder: Any,
        spec: str = "Flat",
        *,
        name: str = "tessella/encoder",
        dim: int | None = None,
        search: Mapping[str, Any] | None = None,
    ) -> None:
        if encoder.similarity not in _METRICS:
            known = ", ".join(_METRICS)
            raise InvalidArgument(f"mteb: expected an encoder of similarity {known}; got {encoder.similarity!r}")
        self.encoder, self.spec, self.name, self.dim = encoder, spec, name, dim
        self._search = dict(search or {})
        self._index: Index | None = None
        self._ids: list[str] = []

    # ---- the encoder's protocol

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any = None,
        hf_split: str = "",
        hf_subset: str = "",
        prompt_type: Any = None,
        **options: Any,
    ) -> Floats:
        """Vectors of the texts of all batches, (n, dim) float32; of `options` only `show_progress_bar` matters."""
        texts = [text for batch in inputs for text in _texts(batch)]
        return self._encoded(texts, prompt_type, bool(options.get("show_progress_bar", False)))

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Floats:
        """(n, m): of each of the first with each of the second."""
        a, b = _rows(embeddings1), _rows(embeddings2)
        if self.encoder.similarity == "euclidean":
            squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
            return np.asarray(-np.sqrt(np.maximum(squares, 0)), np.float32)
        if self.encoder.similarity == "cosine":
            a, b = _unit(a), _unit(b)
        return np.asarray(a @ b.T, np.float32)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Floats:
        """(n): of each of the first with that of the second in its place."""
        a, b = _rows(embeddings1), _rows(embeddings2)
        if self.encoder.similarity == "euclidean":
            return np.asarray(-np.linalg.norm(a - b, axis=1), np.float32)
        if self.encoder.similarity == "cosine":
            a, b = _unit(a), _unit(b)
        return np.asarray(np.einsum("nd,nd->n", a, b), np.float32)

    # ---- the search's protocol

    def index(self, corpus: Iterable[Mapping[str, Any]], *, encode_kwargs: Mapping[str, Any], **task: Any) -> None:
        """Encodes and adds the documents, rows with `id`, `text` and perhaps `title`; a former corpus is forgotten."""
        shown = bool(encode_kwargs.get("show_progress_bar", False))
        metric = _METRICS[self.encoder.similarity]
        made = Index(self.spec, dim=self.dim or self.encoder.dim, metric=metric)
        ids: list[str] = []
        rows = iter(corpus)
        while block := list(islice(rows, _BLOCK)):
            made.add(self._encoded([_document(row) for row in block], "document", shown))
            ids += [str(row["id"]) for row in block]
        self._index, self._ids = made, ids

    def search(
        self,
        queries: Iterable[Mapping[str, Any]],
        *,
        top_k: int,
        encode_kwargs: Mapping[str, Any],
        top_ranked: Mapping[str, list[str]] | None = None,
        **task: Any,
    ) -> dict[str, dict[str, float]]:
        """For each query's id the best documents' ids and scores; only those of `top_ranked`, where it is given."""
        if self._index is None:
            raise InvalidArgument("mteb: expected index(corpus) before search; there was none")
        rows = list(queries)
        names = [str(row["id"]) for row in rows]
        shown = bool(encode_kwargs.get("show_progress_bar", False))
        vectors = self._encoded([_query(row) for row in rows], "query", shown)
        options = dict(self._search)
        if top_ranked is not None:
            place = {name: i for i, name in enumerate(self._ids)}
            options["where"] = [np.array([place[each] for each in top_ranked.get(name, ())], int) for name in names]
        if not rows or not self._ids:
            return {name: {} for name in names}
        hits = self._index.search(vectors, min(top_k, len(self._ids)), **options)
        sign = -1.0 if self._index.metric == "l2" else 1.0
        return {
            name: {self._ids[i]: sign * float(score) for i, score in zip(found, scores, strict=True) if i >= 0}
            for name, found, scores in zip(names, hits.ids, hits.scores, strict=True)
        }

    @property
    def mteb_model_meta(self) -> Any:
        """The model's card: its name, dimensions and similarity."""
        from mteb.models.model_meta import ModelMeta, ScoringFunction

        facts = {
            "name": self.name, "revision": "local", "embed_dim": self.dim or self.encoder.dim,
            "max_tokens": self.encoder.max_tokens, "framework": ["PyTorch"],
            "similarity_fn_name": ScoringFunction(self.encoder.similarity),
        }  # fmt: skip
        return ModelMeta.create_empty(overwrites=facts)

    def _encoded(self, texts: list[str], prompt_type: Any, shown: bool) -> Floats:
        kind = getattr(prompt_type, "value", prompt_type)
        encoder = self.encoder
        by_kind = {"query": encoder.encode_queries, "document": encoder.encode_documents, None: encoder.encode}
        options: dict[str, Any] = {} if self.dim is None else {"dim": self.dim}
        return np.asarray(by_kind[kind](texts, progress=shown, **options), np.float32)


def _texts(batch: Mapping[str, Any]) -> list[str]:
    if "text" not in batch:
        raise UnsupportedType(f"mteb: expected batches with text; got {', '.join(batch)}")
    return list(batch["text"])


def _document(row: Mapping[str, Any]) -> str:
    """Title and text, as mteb joins them."""
    title = row.get("title")
    return (f"{title} {row['text']}" if title else str(row["text"])).strip()


def _query(row: Mapping[str, Any]) -> str:
    """Text and instruction, as mteb joins them."""
    if not isinstance(row["text"], str):
        raise UnsupportedType(f"mteb: expected queries as strings; got {type(row['text']).__name__}")
    instruction = row.get("instruction")
    return row["text"] if instruction is None else f"{row['text']} {instruction}"


def _rows(x: Any) -> npt.NDArray[np.float64]:
    """(n, d), of one vector or many."""
    return np.atleast_2d(np.asarray(x, np.float64))


def _unit(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))
