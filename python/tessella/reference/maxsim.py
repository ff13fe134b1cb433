"""MaxSim, the score of late interaction: every query token takes the document token that suits it best.

    score(Q, X) = sum over i of max over t of <q_i, x_t>

Khattab and Zaharia, ColBERT (arXiv 2004.12832). Inner products are summed dimension after dimension, each by one fused
multiply-add (or are exact integers, times a scale for each token), their maxima in float64 token after token, so every
level and device has the same bits.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tessella.reference.kmeans import products

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.int8]
Indices = npt.NDArray[np.int64]

# scalar.h's levels of 4-bit codes, about the middle and doubled: odd numbers
N4_VALUES = (2 * np.array([0, 7, 12, 16, 19, 22, 25, 28, 31, 34, 37, 40, 43, 47, 52, 59]) - 59).astype(np.int8)


def n4_values(codes: npt.NDArray[np.uint8]) -> Bytes:
    """The values (T, D) of 4-bit codes (T, D / 2): byte i of 32 holds dims i (low) and i + 32 (high) of 64."""
    groups = codes.reshape(len(codes), -1, 32)
    nibbles = np.concatenate([groups & 15, groups >> 4], axis=2)
    values: Bytes = N4_VALUES[nibbles].reshape(len(codes), 2 * codes.shape[1])
    return values


def whole_products(query: Bytes, tokens: Bytes, scales: Floats | None = None) -> Floats:
    """Inner products (q, t) of bytes, exact before they become float32; times the tokens' scales (t,)."""
    exact = (query.astype(np.int64) @ tokens.T.astype(np.int64)).astype(np.float32)
    return exact if scales is None else exact * scales


def score(similarity: Floats, query_scales: Floats | None = None) -> np.float32:
    """MaxSim of a query and a document whose tokens have these inner products (q, t); NaN is never the best."""
    if similarity.shape[1] == 0:
        return np.float32(-np.inf)
    best = np.where(np.isnan(similarity), np.float32(-np.inf), similarity).max(axis=1).astype(np.float64)
    total = 0.0
    for i, each in enumerate(best):  # in order
        total += each if query_scales is None else np.float64(query_scales[i]) * each
    return np.float32(total)


def maxsim(query: Floats, tokens: Floats, offsets: Indices) -> Floats:
    """Scores (n,) of the documents whose tokens are tokens[offsets[i]:offsets[i + 1]], for query (q, d)."""
    similarity = products(query, tokens)
    return np.array([score(similarity[:, a:b]) for a, b in pairwise(offsets)], np.float32)


def whole_maxsim(
    query: Bytes, tokens: Bytes, offsets: Indices, query_scales: Floats | None = None, scales: Floats | None = None
) -> Floats:
    """The same of bytes, each token times a scale."""
    similarity = whole_products(query, tokens, scales)
    return np.array([score(similarity[:, a:b], query_scales) for a, b in pairwise(offsets)], np.float32)


def quantized(tokens: Floats) -> tuple[Bytes, Floats]:
    """Bytes (T, d) and scales (T,): the largest magnitude of a token becomes 127."""
    largest = np.abs(tokens).max(axis=1).astype(np.float32)
    inverse = np.divide(np.float32(127), largest, out=np.zeros_like(largest), where=largest > 1e-30)
    return np.rint(tokens * inverse[:, None]).astype(np.int8), largest / np.float32(127)


def carve(query: Floats, threshold: float) -> Floats:
    """Greedy ball carving (MUVERA, arXiv 2405.19504, appendix): fewer query vectors, each the sum of a ball's tokens.

    The first token that is left draws a ball: itself and every token left whose cosine with it is the threshold or
    more. Tokens of a ball mostly agree on their best document token, and then the score does not change.
    """
    lengths = np.sqrt(np.square(query, dtype=np.float64).sum(axis=1))
    directions = query / np.where(lengths > 0, lengths, 1.0)[:, None]
    left, centres = np.ones(len(query), dtype=bool), []
    for i in range(len(query)):
        if left[i]:
            ball = left & (directions @ directions[i] >= threshold)
            ball[i] = True
            left &= ~ball
            centres.append(query[ball].sum(axis=0, dtype=np.float64))
    return np.array(centres, dtype=np.float32).reshape(len(centres), query.shape[1])
