"""Texts as vectors of their words: the baselines of tasks that compare vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tessella.eval.baselines import words

Floats = npt.NDArray[np.float64]
MOST_WORDS = 4096  # of a matrix of texts: the most frequent ones
_BLOCK = 256  # pairs of texts whose vectors are held at once


class Bags:
    """Unit vectors of texts by their words: counts, or (1 + log count) · log((1 + n) / (1 + frequency)) with `rare`.

    >>> Bags(["a red fox", "a blue fox"], rare=False).vectors(["red red fox"]).round(3).tolist()
    [[0.447, 0.0, 0.894]]
    """

    def __init__(self, texts: Sequence[str], *, rare: bool, most: int | None = None) -> None:
        frequency = Counter(word for text in texts for word in set(words(text)))
        known = sorted(frequency, key=lambda word: (-frequency[word], word))[:most]
        self.place = {word: i for i, word in enumerate(known)}
        counts = np.array([frequency[word] for word in known] or [0], np.float64)
        self.rarity = np.log((1 + len(texts)) / (1 + counts)) if rare else None

    def vectors(self, texts: Sequence[str]) -> Floats:
        """(n, words), float64; a text without any known word is zeros."""
        found = np.zeros((len(texts), max(len(self.place), 1)))  # a column of zeros where there are no words at all
        for row, text in enumerate(texts):
            for word, count in Counter(words(text)).items():
                if word in self.place:
                    found[row, self.place[word]] = count
        if self.rarity is not None:
            found = np.where(found > 0, 1 + np.log(np.maximum(found, 1)), 0) * self.rarity
        return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12), np.float64)

    def cosines(self, a: Sequence[str], b: Sequence[str]) -> Floats:
        """Of pairs of texts, (n,), to twelve digits: those that are equal have to be equal to a ranking, too."""
        parts = [
            (self.vectors(a[start : start + _BLOCK]) * self.vectors(b[start : start + _BLOCK])).sum(axis=1)
            for start in range(0, len(a), _BLOCK)
        ]
        return np.concatenate(parts).round(12)


def baselines(texts: Sequence[str], most: int | None = None) -> dict[str, Bags]:
    """Both kinds, by the names that they have in tables."""
    return {"TF-IDF": Bags(texts, rare=True, most=most), "bag of words": Bags(texts, rare=False, most=most)}
