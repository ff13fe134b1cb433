"""Small models for tests: random weights, words hashed to rows of a table, no files."""

from __future__ import annotations

import zlib
from typing import Any

import torch
from torch import Tensor, nn

WORDS = 64


class Bag(nn.Module):
    """The mean of word vectors, a layer, dropout, another: texts to (n, d)."""

    def __init__(self, d: int = 16, dropout: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.table = nn.Embedding(WORDS, d)
            self.layers = nn.Sequential(nn.Linear(d, d), nn.GELU(), nn.Dropout(dropout), nn.Linear(d, d))

    def forward(self, texts: list[str]) -> Tensor:
        rows = [torch.tensor([zlib.crc32(word.encode()) % WORDS for word in text.split()]) for text in texts]
        out: Tensor = self.layers(torch.stack([self.table(each).mean(0) for each in rows]))
        return out


def pairs(n: int, negatives: int = 0) -> dict[str, list[Any]]:
    """Queries of two words and documents of those and more, n of each, and lists of other documents."""
    data: dict[str, list[Any]] = {
        "query": [f"w{i} v{i}" for i in range(n)],
        "positive": [f"w{i} v{i} x{i % 7} y" for i in range(n)],
    }
    if negatives:
        data["negative"] = [[f"w{(i + j) % n} y z{j}" for j in range(1, negatives + 1)] for i in range(n)]
    return data
