"""`maxsim`, the score of late interaction: of all documents, of some, or the best of them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from tessella import _core, _cuda_maxsim
from tessella._arrays import Array, as_float32, host_array
from tessella._backend import resolve_threads, whole_number
from tessella._cuda_maxsim import on_cuda
from tessella._ragged import Ragged, as_ragged, check_finite
from tessella.errors import InvalidArgument, UnsupportedType
from tessella.hits import Hits

__all__ = ["carve", "maxsim"]

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


@overload
def maxsim(
    queries: object, documents: object, *, k: None = None, candidates: object | None = None,
    carve: float | None = None, mask: object | None = None, query_mask: object | None = None,
    threads: int | None = None,
) -> Any: ...  # fmt: skip


@overload
def maxsim(
    queries: object, documents: object, *, k: int, candidates: object | None = None, carve: float | None = None,
    mask: object | None = None, query_mask: object | None = None, threads: int | None = None,
) -> Hits: ...  # fmt: skip


def maxsim(
    queries: object,
    documents: object,
    *,
    k: int | None = None,
    candidates: object | None = None,
    carve: float | None = None,
    mask: object | None = None,
    query_mask: object | None = None,
    threads: int | None = None,
) -> Any:
    """MaxSim (nq, n) float32: each token of a query takes its best inner product with a document, and these add up.

    Khattab and Zaharia, ColBERT (arXiv 2004.12832). What is computed is exact; no matrix of products exists, and no
    document is padded.

    Args:
        queries, documents: token vectors, float32, float16, bfloat16 or int8, as a list of (t, d) arrays, a pair
            (flat (T, d), offsets (n + 1)), a padded (n, t, d) array, or one (t, d) array, which is one query or
            document; NumPy, torch or anything with `__dlpack__`. A list is copied together at each call: for many
            documents and few queries pass flat ones. Queries for int8 documents that are not int8 themselves are
            rounded to 8 bits, token by token.
        mask, query_mask: (n, t), which tokens of padded documents and queries count.
        k: return the `k` best as `Hits(ids, scores)`, ids being the documents' numbers, -1 where there are fewer. Equal
            scores are in the order of numbers; documents without tokens are no hits.
        candidates: (nq, c) or (c,), numbers of the documents to score, -1 for none. Without `k`, scores come in
            this order, (nq, c).
        carve: score with the fewer query vectors that `tessella.maxsim.carve` makes at this cosine: cheaper, not exact.
        threads: default `ts.get_num_threads()`; results do not depend on it.
    Returns:
        Scores or hits in the kind of the queries (NumPy or torch). A document without tokens scores -inf; for a query
        without tokens the others score 0.

    Cost: d multiply-adds for each pair of tokens, at about the speed of a matrix product.

    >>> import numpy as np, tessella as ts
    >>> query = np.array([[1, 0], [0, 1]], np.float32)
    >>> documents = [np.array([[1, 0], [0.6, 0.8]], np.float32), np.array([[0, -1]], np.float32)]
    >>> ts.maxsim(query, documents)
    array([[ 1.8, -1. ]], dtype=float32)
    >>> ts.maxsim(query, documents, k=1).ids
    array([[0]])

    See also: MultiVectorIndex, which finds the candidates, too; docs/concepts/maxsim.md.
    """
    count = resolve_threads(threads, "maxsim")
    wanted = None if k is None else whole_number(k, 1, "k", "maxsim")
    if on_cuda(documents) or on_cuda(queries):
        if carve is not None:
            raise UnsupportedType("maxsim: expected carve with queries in CPU memory; carve them there first")
        found = _cuda_maxsim.maxsim(
            queries, documents, k=wanted, candidates=candidates, mask=mask, query_mask=query_mask
        )
        return found if wanted is None else Hits(*found)
    stored = as_ragged("maxsim", documents, mask=mask, name="documents")
    asked = as_ragged("maxsim", queries, dim=stored.d, mask=query_mask, name="queries")
    check_finite("maxsim", asked, "queries")
    if carve is not None:
        asked = carved(asked, check_cosine(carve, "maxsim"))
    which = None if candidates is None else _candidates(candidates, asked.n, stored.n)
    tokens, (begins, ends) = Tokens(stored.flat, stored.kind), (stored.offsets[:-1], stored.offsets[1:])
    scores = scores_of(prepared(asked, stored.kind), asked.offsets, tokens, begins, ends, which, count)
    if wanted is None:
        return asked.like(scores)
    ids, best = ranked(scores, which, wanted)
    return Hits(asked.like(ids), asked.like(best))


def carve(query: object, threshold: float) -> Any:
    """Greedy ball carving: fewer query vectors (c, d) for tokens (t, d), each the sum of the tokens of a ball.

    Dhulipala et al., MUVERA (arXiv 2405.19504), appendix. The first token that is left draws a ball, itself and every
    token left whose cosine with it is at least `threshold`. Tokens of a ball mostly agree on their best document token,
    and where they do the score does not change. ColBERT's 32 tokens make 6 balls at 0.7 and 10 at 0.9.

    >>> import numpy as np
    >>> from tessella.maxsim import carve
    >>> carve(np.array([[1, 0], [0.8, 0.6], [0, 1]], np.float32), 0.7)
    array([[1.8, 0.6],
           [0. , 1. ]], dtype=float32)
    """
    rows = as_ragged("carve", query, name="query")
    if rows.n != 1:
        raise InvalidArgument(f"carve: expected one query of shape (t, d); got {rows.n}")
    check_finite("carve", rows, "query")
    return rows.like(carved(rows, check_cosine(threshold, "carve")).flat)


# ---- behind the door


class Tokens(NamedTuple):
    """What the kernel reads: token vectors as they are stored, and a scale for each where they are whole numbers."""

    values: Array
    kind: str  # f32, f16, bf16, i8, n4
    scales: Floats | None = None


def prepared(queries: Ragged, kind: str) -> Tokens:
    """Query tokens in the type that documents of this kind are multiplied with."""
    if kind not in ("i8", "n4"):
        return Tokens(as_float32(queries.flat, queries.kind), "f32")
    if queries.kind == "i8":
        return Tokens(queries.flat, "i8")
    values, scales = quantized(as_float32(queries.flat, queries.kind))
    return Tokens(values, "i8", scales)


def quantized(tokens: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """Bytes (T, d) and scales (T,): the largest magnitude of a token becomes 127."""
    largest = np.abs(tokens).max(axis=1, initial=0.0)
    inverse = np.divide(np.float32(127), largest, out=np.zeros_like(largest), where=largest > 1e-30)
    return np.rint(tokens * inverse[:, None]).astype(np.int8), largest / np.float32(127)


def scores_of(
    queries: Tokens, query_offsets: Indices, documents: Tokens, begins: Indices, ends: Indices, which: Indices | None,
    threads: int,
) -> Floats:  # fmt: skip
    """Scores (nq, n), or (nq, c) of the documents `which` (nq, c)."""
    scores: Floats = _core.maxsim_score(
        queries.values, queries.scales, query_offsets, documents.values, documents.kind, documents.scales, begins, ends,
        which, threads=threads,
    )  # fmt: skip
    return scores


def ranked(scores: Floats, which: Indices | None, k: int) -> tuple[Indices, Floats]:
    """Numbers and scores (nq, k) of the best, equal ones by number; -1 and -inf where there are fewer."""
    ids, best = np.full((len(scores), k), -1, np.int64), np.full((len(scores), k), -np.inf, np.float32)
    for row, own in enumerate(scores):
        numbers = np.arange(len(own)) if which is None else which[row]
        if len(own) > 4 * k:  # the k best and what equals the last of them
            some = own >= np.partition(own, len(own) - k)[len(own) - k]
            own, numbers = own[some], numbers[some]
        order = np.lexsort((numbers, -own))[:k]
        order = order[own[order] > -np.inf]
        ids[row, : len(order)], best[row, : len(order)] = numbers[order], own[order]
    return ids, best


def carved(queries: Ragged, threshold: float) -> Ragged:
    """Each query by the sums of its balls."""
    flat = as_float32(queries.flat, queries.kind)
    pieces = [_balls(flat[a:b], threshold) for a, b in pairwise(queries.offsets)]
    offsets = np.cumsum([0, *map(len, pieces)], dtype=np.int64)
    return queries._replace(flat=np.concatenate(pieces) if pieces else flat, offsets=offsets, kind="f32")


def check_cosine(value: float, operation: str) -> float:
    """A cosine that balls are carved at."""
    if not isinstance(value, (int, float)) or not -1.0 <= value <= 1.0:
        raise InvalidArgument(f"{operation}: expected carve as a cosine from -1 to 1; got {value}")
    return float(value)


def _balls(query: Floats, threshold: float) -> Floats:
    lengths = np.sqrt(np.square(query, dtype=np.float64).sum(axis=1))
    directions = query / np.where(lengths > 0, lengths, 1.0)[:, None]
    near = directions @ directions.T >= threshold
    left, balls = np.ones(len(query), dtype=bool), []
    for i in range(len(query)):
        if left[i]:
            ball = left & near[i]
            ball[i] = True
            left &= ~ball
            balls.append(query[ball].sum(axis=0, dtype=np.float64))
    return np.array(balls, dtype=np.float32).reshape(len(balls), query.shape[1])


def _candidates(candidates: object, nq: int, n: int) -> Indices:
    array, _ = host_array(candidates, "candidates", "maxsim")
    if array.size == 0 and isinstance(candidates, (list, tuple)):
        array = array.astype(np.int64)  # NumPy takes an empty list for float64
    if array.dtype.kind not in "iu":
        raise UnsupportedType(f"maxsim: expected candidates of an integer type; got {array.dtype}")
    if array.ndim not in (1, 2) or (array.ndim == 2 and len(array) != nq):
        raise InvalidArgument(f"maxsim: expected candidates of shape ({nq}, c) or (c,); got {array.shape}")
    wrong = (array < -1) | (array >= n)
    if wrong.any():
        raise InvalidArgument(f"maxsim: expected candidates below {n}, or -1; got {array[wrong][0]}")
    return np.ascontiguousarray(np.broadcast_to(array, (nq, array.shape[-1])), dtype=np.int64)
