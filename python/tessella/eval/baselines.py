"""What words alone achieve: BM25 and TF-IDF, so that no table is without them."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
_WORD = re.compile(r"\w\w+")
STOP = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be but by for if in into is it no not of on or such that the their then there these they"
        " this to was will with",
    )
)


def words(text: str) -> list[str]:
    """Words of two characters and more, written small, without those that say nothing."""
    return [word for word in _WORD.findall(text.lower()) if word not in STOP]


class _Bags(ABC):
    """Documents as bags of words, by word: which documents have it, and with what weight."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.n = len(texts)
        postings: dict[str, list[tuple[int, int]]] = {}
        lengths = np.zeros(self.n)
        for row, text in enumerate(texts):
            bag = Counter(words(text))
            lengths[row] = bag.total()
            for word, count in bag.items():
                postings.setdefault(word, []).append((row, count))
        self.rows = {word: np.array([row for row, _ in found], np.int64) for word, found in postings.items()}
        counts = {word: np.array([count for _, count in found], np.float64) for word, found in postings.items()}
        self.weights = {word: self._weights(counts[word], self.rows[word], lengths) for word in counts}

    @abstractmethod
    def _weights(
        self, counts: npt.NDArray[np.float64], rows: Ids, lengths: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        """Weights of one word in the documents `rows` that have it so many times."""

    def search(self, queries: Sequence[str], k: int) -> Ids:
        """Rows of the k best documents for each query, (nq, k), -1 where there are fewer; ties to the smaller row."""
        found = np.full((len(queries), k), -1, np.int64)
        for place, query in enumerate(queries):
            scores = self.scores(query)
            best = np.argsort(-scores, kind="stable")[:k]
            best = best[scores[best] > 0]
            found[place, : len(best)] = best
        return found

    def scores(self, query: str) -> npt.NDArray[np.float64]:
        """The score of every document, (n,)."""
        scores = np.zeros(self.n)
        for word, count in Counter(words(query)).items():
            if word in self.rows:
                scores[self.rows[word]] += count * self.weights[word]
        return scores


class BM25(_Bags):
    """Okapi BM25 (Robertson & Zaragoza, 2009) as Lucene has it: k1 = 0.9, b = 0.4, idf log(1 + (n - f + ½)/(f + ½)).

    >>> BM25(["a blue whale", "a red fox", "whales sing"]).search(["blue fox", "nothing"], k=2).tolist()
    [[0, 1], [-1, -1]]
    """

    K1, B = 0.9, 0.4

    def _weights(
        self, counts: npt.NDArray[np.float64], rows: Ids, lengths: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        rarity = np.log1p((self.n - len(rows) + 0.5) / (len(rows) + 0.5))
        long = 1 - self.B + self.B * lengths[rows] / lengths.mean()
        return np.asarray(rarity * counts / (counts + self.K1 * long), np.float64)


class TfIdf(_Bags):
    """Cosines of (1 + log count) · log(n / frequency), Salton's ltc weights.

    >>> TfIdf(["a blue whale", "a red fox", "whales sing"]).search(["red foxes"], k=1).tolist()
    [[1]]
    """

    def __init__(self, texts: Sequence[str]) -> None:
        super().__init__(texts)
        squares = np.zeros(self.n)
        for word, rows in self.rows.items():
            squares[rows] += self.weights[word] ** 2
        lengths = np.sqrt(np.maximum(squares, 1e-12))
        rarity = {word: np.log(self.n / len(rows)) for word, rows in self.rows.items()}
        self.weights = {word: rarity[word] * self.weights[word] / lengths[rows] for word, rows in self.rows.items()}

    def _weights(
        self, counts: npt.NDArray[np.float64], rows: Ids, lengths: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        return np.asarray((1 + np.log(counts)) * np.log(self.n / len(rows)), np.float64)
