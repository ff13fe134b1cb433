"""Sparse anchors: sets of token vectors as sparse vectors, whose inner products approximate MaxSim.

    products of a token  = its coordinates under each rotation; a negative one is a product with the opposite anchor
    query                = at each anchor, the sum over the tokens that stay there of their products
    document             = the mean of them

SMVE (TopK, 2026) draws anchors at random and keeps, of each token, the few that it is nearest to. Here anchors are the
axes of random rotations and their opposites, which cost d log d instead of d² operations for D of them.

The order of the arithmetic is the kernels', so that tests ask for equal bits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tessella.reference.rotate import rotate_forward

Floats = npt.NDArray[np.float32]
Anchors = npt.NDArray[np.uint32]
Bytes = npt.NDArray[np.uint8]


class Posting(NamedTuple):
    """A row of an inverted file under one anchor."""

    row: int
    weight: int


def products(token: Floats, signs: npt.NDArray[np.uint64]) -> Floats:
    """(rotations * D,) coordinates of a token (d,) under rotations (rotations, 4, D / 64)."""
    return np.concatenate([rotate_forward(token[None], each)[0] for each in signs])


def nearest(rotated: Floats, kept: int) -> npt.NDArray[np.int64]:
    """The places of the largest magnitudes, of equal ones the first, without zeros."""
    order = np.argsort(-np.abs(rotated), kind="stable")[:kept]
    found: npt.NDArray[np.int64] = order[rotated[order] != 0]
    return found


def smve_encode(
    tokens: Floats, signs: npt.NDArray[np.uint64], kept: int, *, query: bool = False
) -> tuple[Anchors, Floats]:
    """Anchors, ascending, and weights of one query or document: tokens (t, d)."""
    sums: dict[int, np.float32] = {}
    counts: dict[int, int] = {}
    for token in tokens:
        rotated = products(token, signs)
        for place in nearest(rotated, kept):
            anchor = 2 * int(place) + int(rotated[place] < 0)
            sums[anchor] = np.float32(sums.get(anchor, np.float32(0)) + np.abs(rotated[place]))
            counts[anchor] = counts.get(anchor, 0) + 1
    anchors = sorted(sums)
    weights = [sums[a] if query else sums[a] / np.float32(counts[a]) for a in anchors]
    return np.array(anchors, np.uint32), np.array(weights, np.float32)


def inverted(rows: list[tuple[Anchors, Bytes]], anchors: int) -> list[list[Posting]]:
    """Under each anchor the rows that have a weight there, ascending."""
    lists: list[list[Posting]] = [[] for _ in range(anchors)]
    for number, (own, weights) in enumerate(rows):
        for anchor, weight in zip(own, weights, strict=True):
            lists[anchor].append(Posting(number, int(weight)))
    return lists


def scores(lists: list[list[Posting]], rows: int, anchors: Anchors, weights: Anchors) -> npt.NDArray[np.int64]:
    """(rows,) sums of products of whole weights, for a query."""
    sums = np.zeros(rows, np.int64)
    for anchor, weight in zip(anchors, weights, strict=True):
        for row, own in lists[anchor]:
            sums[row] += own * int(weight)
    return sums
