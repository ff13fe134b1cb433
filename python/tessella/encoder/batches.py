"""Which texts go through the model together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


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
