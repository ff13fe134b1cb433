"""Documents of many vectors that have structure, for the tests of what searches them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

import tessella as ts

Floats = npt.NDArray[np.float32]
DIM = 32


class Corpus:
    """Tokens about 40 words, of which each document has a few; queries repeat some tokens of a document."""

    def __init__(self, rng: np.random.Generator, n: int, dim: int = DIM) -> None:
        self.rng, self.words = rng, rng.standard_normal((40, dim))
        self.documents = [self.some(int(t), rng.choice(40, 6, replace=False)) for t in rng.integers(3, 30, n)]

    def some(self, tokens: int, words: Any) -> Floats:
        x = self.words[self.rng.choice(words, tokens)] + 0.5 * self.rng.standard_normal((tokens, self.words.shape[1]))
        return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)

    def queries(self, count: int, tokens: int = 8) -> list[Floats]:
        made = []
        for i in self.rng.integers(0, len(self.documents), count):
            x = self.documents[i][self.rng.integers(0, len(self.documents[i]), tokens)]
            x = x + 0.3 * self.rng.standard_normal(x.shape) / np.sqrt(x.shape[1])
            made.append((x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32))
        return made


def encoder(dim: int = DIM) -> ts.FDE:
    return ts.FDE(dim, k_sim=3, repetitions=8, projection_dim=8)


def same_hits(a: Any, b: Any) -> bool:
    return np.array_equal(a.ids, b.ids) and np.array_equal(a.scores, b.scores)
