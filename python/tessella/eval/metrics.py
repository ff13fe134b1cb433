"""The measures, each a few lines of NumPy over what was found, best first.

`gains` (nq, k) holds the relevance of what stands at each rank, 0 for what was not judged; `ideal` has for each query
the relevances of all its judged rows. As trec_eval and BEIR compute them: gains are linear, unjudged is not relevant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from tessella.errors import InvalidArgument

Floats = npt.NDArray[np.float64]
Measure = Callable[[Floats, Sequence[Floats], int], Floats]


def ndcg(gains: Floats, ideal: Sequence[Floats], k: int) -> Floats:
    """Discounted gain over that of the best possible order (Järvelin & Kekäläinen, TOIS 2002)."""
    discounts = 1 / np.log2(np.arange(2, k + 2))
    best = np.array([np.sort(each)[::-1][:k] @ discounts[: min(k, len(each))] for each in ideal])
    return _over(gains[:, :k] @ discounts[: gains[:, :k].shape[1]], best)


def recall(gains: Floats, ideal: Sequence[Floats], k: int) -> Floats:
    """The share of the relevant rows that are among the first k."""
    return _over((gains[:, :k] > 0).sum(axis=1), _relevant(ideal))


def precision(gains: Floats, ideal: Sequence[Floats], k: int) -> Floats:
    """The share of the first k that are relevant."""
    return np.asarray((gains[:, :k] > 0).sum(axis=1) / k, np.float64)


def mrr(gains: Floats, ideal: Sequence[Floats], k: int) -> Floats:
    """One over the rank of the first relevant row, 0 where none is among the first k."""
    hit = gains[:, :k] > 0
    return np.where(hit.any(axis=1), 1 / (hit.argmax(axis=1) + 1), 0.0)


def average_precision(gains: Floats, ideal: Sequence[Floats], k: int) -> Floats:
    """The mean of the precisions at the relevant rows, those that were not found counted as 0."""
    hit = gains[:, :k] > 0
    at = hit.cumsum(axis=1) / np.arange(1, hit.shape[1] + 1)
    return _over((at * hit).sum(axis=1), _relevant(ideal))


MEASURES: dict[str, Measure] = {
    "ndcg": ndcg,
    "recall": recall,
    "precision": precision,
    "mrr": mrr,
    "map": average_precision,
}


def parse(name: str) -> tuple[Measure, int]:
    """`ndcg@10` as a measure and a cut."""
    measure, _, cut = name.partition("@")
    if measure not in MEASURES or not cut.isdecimal() or int(cut) < 1:
        raise InvalidArgument(f"eval: expected a measure like ndcg@10, out of {', '.join(MEASURES)}; got {name!r}")
    return MEASURES[measure], int(cut)


def spearman(a: Floats, b: Floats) -> float:
    """The correlation of ranks, ties at the mean of theirs."""
    x, y = ranks(a), ranks(b)
    x, y = x - x.mean(), y - y.mean()
    length = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / length if length else 0.0


def ranks(values: Floats) -> Floats:
    """1 for the smallest; equal values share the mean of their ranks.

    >>> ranks(np.array([5.0, 1.0, 5.0])).tolist()
    [2.5, 1.0, 2.5]
    """
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = counts.cumsum()
    return np.asarray((ends - (counts - 1) / 2)[place], np.float64)


def binary_average_precision(scores: Floats, labels: npt.NDArray[np.bool_]) -> float:
    """The area under precision over recall, ties taken together."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)
    hits = labels[order].cumsum()
    precisions = (hits / np.arange(1, len(order) + 1))[last]
    return float(precisions @ np.diff(hits[last], prepend=0) / max(int(labels.sum()), 1))


def v_measure(truth: npt.NDArray[np.int64], found: npt.NDArray[np.int64]) -> float:
    """The harmonic mean of homogeneity and completeness (Rosenberg & Hirschberg, EMNLP 2007)."""
    table = np.zeros((truth.max() + 1, found.max() + 1))
    np.add.at(table, (truth, found), 1)
    shares = table / table.sum()
    mutual = _entropy(shares.sum(axis=1)) + _entropy(shares.sum(axis=0)) - _entropy(shares.ravel())
    both = _entropy(shares.sum(axis=1)) + _entropy(shares.sum(axis=0))
    return float(2 * mutual / both) if both else 1.0


def _entropy(shares: Floats) -> float:
    present = shares[shares > 0]
    return float(-(present * np.log(present)).sum())


def _relevant(ideal: Sequence[Floats]) -> Floats:
    return np.array([(each > 0).sum() for each in ideal], np.float64)


def _over(found: Floats | npt.NDArray[np.int64], best: Floats) -> Floats:
    """Their quotient; 0 where a query has nothing to find."""
    return np.divide(found, best, out=np.zeros(len(best)), where=best > 0)
