"""Retrieval: rankings of one corpus by several systems, against judgements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tessella import Index
from tessella.errors import InvalidArgument
from tessella.eval import metrics
from tessella.eval.baselines import BM25, TfIdf
from tessella.eval.data import Retrieval
from tessella.eval.report import Report

Ids: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
DEFAULT = ("ndcg@10", "recall@100", "mrr@10", "map@100")


def retrieval(
    systems: Mapping[str, Any],
    task: Retrieval,
    *,
    measures: Sequence[str] = DEFAULT,
    metric: str = "cosine",
    baselines: bool = True,
) -> Report:
    """Measures systems on a task, beside BM25 and TF-IDF.

    Args:
        systems: by name, each one of: an encoder (whatever has `encode_queries` and `encode_documents`); a pair of
            arrays, vectors of the queries and of the documents in the task's order; or an array (nq, k) of rows of the
            corpus, best first, as any search returns them, -1 for none.
        task: see `read`; queries without a judgement are left out.
        measures: `ndcg@k`, `recall@k`, `precision@k`, `mrr@k`, `map@k`.
        metric: of vectors: cosine, ip or l2. The search is exact.
        baselines: whether to add BM25 and TF-IDF. BM25, where it is there, is what others are compared with, else the
            first system.

    Returns a Report: means, differences, intervals, p-values.

    >>> import numpy as np, tessella as ts
    >>> task = ts.eval.Retrieval({"a": "red fox", "b": "blue whale"}, {"q": "blue"}, {"q": {"b": 1}})
    >>> report = ts.eval.retrieval({"mine": np.array([[0, 1]])}, task, measures=["mrr@10"])
    >>> report.mean("mine", "mrr@10"), report.mean("BM25", "mrr@10")
    (0.5, 1.0)
    """
    parsed = {name: metrics.parse(name) for name in measures}
    if not parsed:
        raise InvalidArgument("eval: expected at least one measure; got none")
    k = max(cut for _, cut in parsed.values())
    judged = [query for query in task.queries if any(score > 0 for score in task.qrels.get(query, {}).values())]
    if not judged or not task.corpus:
        raise InvalidArgument("eval: expected queries with relevant documents, and a corpus; got none")
    place = {query: i for i, query in enumerate(task.queries)}
    chosen = np.array([place[query] for query in judged])
    documents, texts = list(task.corpus.values()), [task.queries[query] for query in judged]
    rankings: dict[str, Ids] = {}
    if baselines:
        rankings = {"BM25": BM25(documents).search(texts, k), "TF-IDF": TfIdf(documents).search(texts, k)}
    for name, system in systems.items():
        rankings[name] = _ranked(name, system, texts, documents, chosen, len(task.queries), k, metric)
    if not rankings:
        raise InvalidArgument("eval: expected systems; got none")
    values = {name: ranked_metrics(ids, task, judged, measures) for name, ids in rankings.items()}
    return Report(values, next(iter(rankings)), task.name)


def ranked_metrics(
    ids: Ids, task: Retrieval, queries: Sequence[str], measures: Sequence[str] = DEFAULT
) -> dict[str, Floats]:
    """Each measure for each query: rows of the corpus (nq, k), best first, -1 for none, -> (nq,)."""
    row = {document: i for i, document in enumerate(task.corpus)}
    gains = np.zeros(ids.shape)
    ideal = []
    for i, query in enumerate(queries):
        relevance = task.qrels[query]
        scores = {row[document]: score for document, score in relevance.items() if document in row}
        gains[i] = [scores.get(int(each), 0.0) for each in ids[i]]
        ideal.append(np.array(list(relevance.values()), np.float64))
    parsed = {name: metrics.parse(name) for name in measures}
    return {name: measure(gains, ideal, cut) for name, (measure, cut) in parsed.items()}


def _ranked(
    name: str, system: Any, texts: list[str], documents: list[str], chosen: Ids, queries: int, k: int, metric: str
) -> Ids:
    if hasattr(system, "encode_documents"):
        vectors = system.encode_queries(texts), system.encode_documents(documents)
        return _nearest(*vectors, k, metric)
    if isinstance(system, tuple) and len(system) == 2:
        q, x = (np.asarray(each) for each in system)
        if len(x) != len(documents) or len(q) != queries:
            raise InvalidArgument(
                f"eval: expected {queries} and {len(documents)} vectors of {name}; got {len(q)} and {len(x)}"
            )
        return _nearest(q[chosen], x, k, metric)
    ids = np.asarray(system)
    if ids.ndim != 2 or len(ids) != queries or ids.dtype.kind not in "iu":
        raise InvalidArgument(
            f"eval: expected {name} as an encoder, a pair of arrays of vectors, or rows of shape ({queries}, k);"
            f" got {type(system).__name__}{ids.shape if ids.ndim else ''}"
        )
    if ids.max(initial=-1) >= len(documents):
        raise InvalidArgument(f"eval: expected rows below {len(documents)} of {name}; got {ids.max()}")
    return ids[chosen].astype(np.int64)


def _nearest(q: Any, x: Any, k: int, metric: str) -> Ids:
    index = Index("Flat", dim=x.shape[1], metric=metric)
    index.add(x)
    return np.asarray(index.search(q, k).ids)
