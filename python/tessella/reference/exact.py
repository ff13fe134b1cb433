"""Exact search: the k best rows for each query, by float64 sums over the stored values.

A similarity is larger-is-better: the inner product, or minus the squared distance. Cosine is the inner
product of unit vectors; a zero vector stays zero and scores 0 with everything. Equal similarities are ordered
by the smaller id. Missing slots hold id -1 and similarity -inf.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[Any]


def unit_rows(x: FloatArray) -> npt.NDArray[np.float64]:
    """Rows of length one, (n, d) -> (n, d); zero rows stay zero."""
    x = np.asarray(x, dtype=np.float64)
    largest = np.abs(x).max(axis=1, initial=0.0, keepdims=True)
    x = x / np.where(largest > 0, largest, 1.0)  # so that the squares of tiny rows do not vanish
    length = np.sqrt((x * x).sum(axis=1, keepdims=True))
    return x / np.where(length > 0, length, 1.0)


def similarities(queries: FloatArray, rows: FloatArray, metric: str) -> npt.NDArray[np.float64]:
    """Similarity of every query (nq, d) with every row (n, d) -> (nq, n).

    Each pair is summed by itself, in an order that depends on d alone, so equal rows have equal scores.
    """
    queries, rows = np.asarray(queries, dtype=np.float64), np.asarray(rows, dtype=np.float64)
    if metric == "cosine":
        queries, rows = unit_rows(queries), unit_rows(rows)
    if metric == "l2":
        pairs = [-((rows - query) ** 2).sum(axis=1) for query in queries]
    else:
        pairs = [(rows * query).sum(axis=1) for query in queries]
    return np.array(pairs).reshape(len(queries), len(rows))


def exact_topk(
    queries: FloatArray, rows: FloatArray, k: int, metric: str, ids: npt.NDArray[np.int64] | None = None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """The k most similar rows of each query, best first: (scores (nq, k), ids (nq, k))."""
    score = similarities(queries, rows, metric)
    ids = np.arange(len(rows), dtype=np.int64) if ids is None else np.asarray(ids, dtype=np.int64)
    order = np.lexsort((np.broadcast_to(ids, score.shape), -score))[:, :k]
    found = order.shape[1]
    scores_out = np.full((len(queries), k), -np.inf)
    ids_out = np.full((len(queries), k), -1, dtype=np.int64)
    scores_out[:, :found] = np.take_along_axis(score, order, axis=1)
    ids_out[:, :found] = ids[order]
    return scores_out, ids_out
