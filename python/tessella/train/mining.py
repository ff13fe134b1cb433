"""Hard negatives out of an index: near a query, and still no nearer than its documents allow.

NV-Retriever (Moreira et al., arXiv:2407.15831): of the documents nearest to a query those are negatives whose score
lies far enough under that of the query's own document; what scores higher is more likely an answer that nobody marked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

import tessella as ts
from tessella.errors import InvalidArgument

Floats: TypeAlias = npt.NDArray[np.float32]
Rows: TypeAlias = npt.NDArray[np.int64]
Encode: TypeAlias = Callable[[Sequence[str]], Any]
_BATCH = 1024


@dataclass(frozen=True)
class PercPos:
    """Negatives score at most `share` of the positive's score: TopK-PercPos, 95 % in the paper.

    Of a negative score s the share is s - (1 - share) * abs(s), so that the bound lies below it, too. A distance d
    counts as the score -d: negatives are (2 - share) * d away at least.

    >>> PercPos(0.75).bound(np.array([1.0, -1.0]))
    array([ 0.75, -1.25])
    """

    share: float = 0.95

    def bound(self, positive: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The highest score of a negative."""
        return np.asarray(positive - (1 - self.share) * np.abs(positive))


@dataclass(frozen=True)
class MarginPos:
    """Negatives score at least `margin` less than the positive: TopK-MarginPos, 0.05 in the paper, of cosines.

    A distance d counts as the score -d: negatives are d + margin away at least.

    >>> MarginPos(0.25).bound(np.array([1.0, -1.0]))
    array([ 0.75, -1.25])
    """

    margin: float = 0.05

    def bound(self, positive: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The highest score of a negative."""
        return positive - self.margin


class Mined(NamedTuple):
    """Documents (n, take) by number and their scores, nearest first; -1 and -inf where there were not enough.

    Scores are those of the index: of metric `l2` squared distances, and inf where there were not enough.
    """

    rows: Rows
    scores: Floats

    @property
    def full(self) -> npt.NDArray[np.bool_]:
        """(n,): queries with as many negatives as were asked for."""
        return np.asarray((self.rows >= 0).all(axis=1))


def mine_hard_negatives(
    queries: Any,
    positives: Sequence[Any] | Rows,
    documents: Any = None,
    *,
    encode: Encode | None = None,
    index: ts.Index | None = None,
    keep: PercPos | MarginPos | None = None,
    take: int = 7,
    skip: int = 0,
    depth: int | None = None,
    sample: int | None = None,
) -> Mined:
    """The nearest documents of each query that are not its own and score low enough to be wrong.

    Args:
        queries: (n, d) embeddings, or n texts with `encode`.
        positives: of each query the number of its document, or a list of them.
        documents: (N, d) embeddings, or texts with `encode`; batch by batch if an iterator of such. None with `index`.
        encode: texts to (n, d), as `Encoder.encode`; called with 1,024 at a time.
        index: where the documents lie under their numbers, of any metric: `keep` compares by it. By default an exact
            one is made, `Flat,F32` by cosine.
        keep: `PercPos(0.95)`, `MarginPos(0.05)`, or None for the nearest whatever they score. Of several documents the
            one with the lowest score sets the bound.
        take: negatives of a query.
        skip: nearest ranks that are passed over, the query's own documents not counted (KaLM-V2: 50).
        depth: ranks looked at, `skip` included; by default skip + 10 * take, 50 at least.
        sample: a seed, to draw among those looked at instead of taking the nearest.

    Scores are those of the index: cosines by default. Cost: the search, and the documents of the queries by
    `reconstruct`. Memory: the index and the result; queries pass in batches.

    >>> import numpy as np
    >>> documents = np.array([[1, 0], [0.99, 0.14], [0.8, 0.6], [0, 1]], dtype=np.float32)
    >>> mine_hard_negatives(documents[:1], [0], documents, keep=PercPos(0.95), take=1).rows
    array([[2]])
    """
    count = len(positives)
    _check_counts(take=(take, 1), skip=(skip, 0))
    depth = depth if depth is not None else skip + max(50, 10 * take)
    if depth < skip + take:
        raise InvalidArgument(f"mine_hard_negatives: expected a depth of skip + take at least; got {depth}")
    if index is None:
        index = indexed(documents, encode)
    found = _nothing(count, take, index)
    draw = None if sample is None else np.random.default_rng(sample)
    start = 0
    for vectors in _embedded(queries, encode):
        own = [_numbers(each) for each in positives[start : start + len(vectors)]]
        if len(own) != len(vectors):
            raise InvalidArgument(f"mine_hard_negatives: expected as many queries as positives, {count}; got more")
        rows = slice(start, start + len(own))
        found.rows[rows], found.scores[rows] = _mined(index, vectors, own, keep, take, skip, depth, draw)
        start += len(own)
    if start != count:
        raise InvalidArgument(f"mine_hard_negatives: expected as many queries as positives, {count}; got {start}")
    return found


def consistent(
    queries: Any,
    positives: Sequence[Any] | Rows,
    documents: Any = None,
    *,
    encode: Encode | None = None,
    index: ts.Index | None = None,
    top: int = 20,
) -> npt.NDArray[np.bool_]:
    """(n,): pairs to keep, those with one of their documents among the `top` nearest (KaLM, arXiv:2501.01028).

    A pair whose document is farther than that is more likely wrong than hard. Arguments as of `mine_hard_negatives`.
    """
    if index is None:
        index = indexed(documents, encode)
    kept: list[bool] = []
    for vectors in _embedded(queries, encode):
        ids = np.asarray(index.search(vectors, min(top, len(index))).ids)
        own = positives[len(kept) : len(kept) + len(vectors)]
        kept += [bool(np.isin(near, _numbers(each)).any()) for near, each in zip(ids, own, strict=True)]
    return np.array(kept, bool)


def indexed(documents: Any, encode: Encode | None = None) -> ts.Index:
    """An exact index by cosine with the documents under their numbers."""
    if documents is None:
        raise InvalidArgument("mine_hard_negatives: expected documents, or an index of them; got neither")
    index: ts.Index | None = None
    for vectors in _embedded(documents, encode):
        index = index or ts.Index("Flat,F32", dim=vectors.shape[1], metric="cosine")
        index.add(vectors)
    if index is None:
        raise InvalidArgument("mine_hard_negatives: expected one document at least; got none")
    return index


def _mined(
    index: ts.Index,
    vectors: Floats,
    own: list[Rows],
    keep: PercPos | MarginPos | None,
    take: int,
    skip: int,
    depth: int,
    draw: np.random.Generator | None,
) -> Mined:
    """Negatives of a batch of queries."""
    most = max(len(each) for each in own)
    ids, scores = (np.asarray(each) for each in index.search(vectors, min(depth + most, len(index))))
    wrong = (ids >= 0) & ~_among(ids, own, most)
    rank = wrong.cumsum(axis=1)  # among those that are not the query's own, from 1
    wrong &= (rank > skip) & (rank <= depth)
    if keep is not None:
        wrong &= _sign(index) * scores <= keep.bound(_lowest(index, vectors, own))[:, None]
    if draw is not None:
        luck = np.where(wrong, draw.random(ids.shape), np.inf)
        wrong &= luck <= np.partition(luck, min(take, luck.shape[1]) - 1, axis=1)[:, [min(take, luck.shape[1]) - 1]]
    place = wrong.cumsum(axis=1) - 1
    query, column = np.nonzero(wrong & (place < take))
    found = _nothing(len(own), take, index)
    found.rows[query, place[query, column]] = ids[query, column]
    found.scores[query, place[query, column]] = scores[query, column]
    return found


def _among(ids: Rows, own: list[Rows], most: int) -> npt.NDArray[np.bool_]:
    """(n, k): ids that are among the query's own."""
    filled = np.full((len(own), most), -2, np.int64)
    filled[np.arange(most) < np.array([len(each) for each in own])[:, None]] = np.concatenate(own)
    return np.asarray((ids[:, :, None] == filled[:, None]).any(axis=2))


def _lowest(index: ts.Index, vectors: Floats, own: list[Rows]) -> Floats:
    """Of each query's documents the lowest score by the index's metric, a distance taken negatively."""
    lengths = [len(each) for each in own]
    documents = index.reconstruct(np.concatenate(own))
    queries = np.repeat(vectors, lengths, axis=0)
    if index.metric == "l2":
        scores = -np.square(queries - documents).sum(axis=1)
    elif index.metric == "ip":
        scores = np.einsum("ij,ij->i", queries, documents)
    else:
        scores = np.einsum("ij,ij->i", unit(queries), unit(documents))
    starts = np.cumsum([0, *lengths[:-1]])
    return np.asarray(np.minimum.reduceat(scores, starts), np.float32)


def _sign(index: ts.Index) -> float:
    """Of the index's scores, so that more is nearer."""
    return -1.0 if index.metric == "l2" else 1.0


def _nothing(n: int, take: int, index: ts.Index) -> Mined:
    """Room for negatives, with none in it."""
    return Mined(np.full((n, take), -1, np.int64), np.full((n, take), -np.inf * _sign(index), np.float32))


def unit(x: npt.NDArray[Any]) -> Floats:
    """Rows of length one; zeros stay."""
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-30), np.float32)


def _embedded(given: Any, encode: Encode | None) -> Iterator[Floats]:
    """Embeddings of texts or rows, some at a time."""
    whole = hasattr(given, "shape") or isinstance(given, Sequence)
    for part in _slices(given) if whole else _checked_iterable(given):
        texts = len(part) > 0 and isinstance(part[0], str)
        if texts and encode is None:
            raise InvalidArgument("mine_hard_negatives: expected encode, since there are texts; got none")
        yield np.asarray(encode(list(part)) if texts and encode is not None else part, np.float32)


def _slices(given: Any) -> Iterator[Any]:
    for start in range(0, len(given), _BATCH):
        yield given[start : start + _BATCH]


def _checked_iterable(given: Any) -> Iterable[Any]:
    if not isinstance(given, Iterable):
        raise InvalidArgument(f"mine_hard_negatives: expected embeddings or texts; got {type(given).__name__}")
    return given


def _numbers(own: Any) -> Rows:
    numbers = np.atleast_1d(np.asarray(own, np.int64))
    if not len(numbers):
        raise InvalidArgument("mine_hard_negatives: expected a document of each query at least; got an empty list")
    return numbers


def _check_counts(**counts: tuple[int, int]) -> None:
    for name, (value, least) in counts.items():
        if value < least:
            raise InvalidArgument(f"mine_hard_negatives: expected {name} of at least {least}; got {value}")
