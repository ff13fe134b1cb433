"""Fewer tokens a document: those that lie close together become their mean.

Clavié, Chaffin and Adams (arXiv 2409.14683): hierarchical clustering by Ward's criterion, cut where a document has a
`factor`-th of its tokens. Documents of about equal length are clustered side by side.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tessella._arrays import as_float32
from tessella._ragged import Ragged

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

_TOGETHER = 64  # documents


def pooled(documents: Ragged, factor: int) -> Ragged:
    """ceil(t / factor) float32 tokens for each document of t, in the order of their first members."""
    flat, lengths = as_float32(documents.flat, documents.kind), documents.lengths
    targets = -(-lengths // factor)
    offsets = np.concatenate([[0], np.cumsum(targets)]).astype(np.int64)
    out = np.empty((offsets[-1], documents.d), np.float32)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    for start in range(0, len(order), _TOGETHER):
        some = order[start : start + _TOGETHER]
        labels = _ward([flat[documents.offsets[i] : documents.offsets[i + 1]] for i in some], targets[some])
        for i, own in zip(some, labels, strict=True):
            tokens = flat[documents.offsets[i] : documents.offsets[i + 1]]
            _, members = np.unique(own[: len(tokens)], return_inverse=True)
            sums = np.zeros((targets[i], documents.d))
            np.add.at(sums, members, tokens)
            out[offsets[i] : offsets[i + 1]] = sums / np.bincount(members)[:, None]
    return documents._replace(flat=out, offsets=offsets, kind="f32")


def _ward(documents: list[Floats], targets: Indices) -> Indices:
    """The cluster of each token, named by its first member, (documents, longest)."""
    count, longest = len(documents), max(map(len, documents))
    left = np.array([len(each) for each in documents])
    distances = np.full((count, longest, longest), np.inf, np.float32)
    for own, tokens in zip(distances, documents, strict=True):
        lengths = np.linalg.norm(tokens, axis=1, keepdims=True)
        unit = tokens / np.where(lengths > 0, lengths, 1)
        norms = np.square(unit).sum(axis=1)
        own[: len(tokens), : len(tokens)] = np.maximum(norms[:, None] + norms - 2 * unit @ unit.T, 0)
    distances[:, np.arange(longest), np.arange(longest)] = np.inf
    sizes = np.ones((count, longest), np.float32)
    labels = np.tile(np.arange(longest), (count, 1))
    while True:
        busy = np.flatnonzero(left > targets)
        if not len(busy):
            return labels
        nearest = distances[busy].reshape(len(busy), -1).argmin(axis=1)
        _merge(distances, sizes, labels, busy, *np.divmod(nearest, longest))
        left[busy] -= 1


def _merge(distances: Floats, sizes: Floats, labels: Indices, which: Indices, first: Indices, second: Indices) -> None:
    """In each document of `which` its two nearest clusters become one, under the smaller name (Lance and Williams)."""
    i, j = np.minimum(first, second), np.maximum(first, second)
    between = distances[which, i, j][:, None]
    own, a, b = sizes[which], sizes[which, i][:, None], sizes[which, j][:, None]
    merged = ((own + a) * distances[which, i] + (own + b) * distances[which, j] - own * between) / (own + a + b)
    merged[np.arange(len(which)), j] = np.inf
    distances[which, i] = distances[which, :, i] = merged
    distances[which, j] = distances[which, :, j] = np.inf
    sizes[which, i] += sizes[which, j]
    labels[which] = np.where(labels[which] == j[:, None], i[:, None], labels[which])
