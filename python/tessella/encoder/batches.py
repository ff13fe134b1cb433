"""Which texts go through the model together, and which of them through one product of attention."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

Run: TypeAlias = tuple[int, int]  # so many texts of such a length, one after another


def by_tokens(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Places of the texts, longest first, in batches of at most `budget` tokens; a longer text goes alone.

    Longest first, so that the batch that needs the most memory comes first; equal lengths stand together, so that
    attention takes them as one product. Texts without a token are left out.

    >>> list(by_tokens([3, 9, 0, 3, 4], budget=8))
    [[1], [4, 0], [3]]
    """
    batch: list[int] = []
    tokens = 0
    for place in sorted((i for i, length in enumerate(lengths) if length), key=lambda i: -lengths[i]):
        if batch and tokens + lengths[place] > budget:
            yield batch
            batch, tokens = [], 0
        batch.append(place)
        tokens += lengths[place]
    if batch:
        yield batch


def runs_of(lengths: Sequence[int]) -> list[Run]:
    """Lengths of neighbouring texts, equal ones counted together.

    >>> runs_of([5, 5, 3])
    [(2, 5), (1, 3)]
    """
    runs: list[Run] = []
    for length in lengths:
        if runs and runs[-1][1] == length:
            runs[-1] = (runs[-1][0] + 1, length)
        else:
            runs.append((1, length))
    return runs
