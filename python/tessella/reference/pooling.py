"""Pooling: one vector for each segment of tokens, then projection, truncation, unit length, and a cast.

    mean        sum of x / number of tokens         mean_sqrt      sum of x / sqrt(number)
    weighted_mean   sum of w x / sum of w           max            the largest, dimension by dimension
    cls         the first token's x                 last           the last token's x

w is a token's place in its segment, from 1. Tokens of an instruction have no part, but places count them and cls is
one of them. A segment without tokens gives zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]
Segment = tuple[int, int, int]  # first, begin and end token: begin lies behind the instruction


def pooling_forward(hidden: Array, mask: Array, segments: Sequence[Segment], modes: Sequence[str]) -> Doubles:
    """hidden (tokens, d), mask (tokens) -> pooled (n, modes * d) in float64."""
    x = hidden.astype(np.float64)
    rows = [np.concatenate([_pooled(mode, x, mask, segment) for mode in modes]) for segment in segments]
    return np.array(rows).reshape(len(segments), len(modes) * x.shape[1])


def pooling_backward(
    hidden: Array, mask: Array, segments: Sequence[Segment], modes: Sequence[str], pooled_gradient: Array
) -> Doubles:
    """Gradient of hidden (tokens, d), given that of the pooled numbers; segments may overlap."""
    x = hidden.astype(np.float64)
    gradient = np.zeros_like(x)
    for segment, row in zip(segments, pooled_gradient.astype(np.float64), strict=True):
        for mode, part in zip(modes, row.reshape(len(modes), -1), strict=True):
            weights = _weights(mode, x, mask, segment)
            gradient[segment[0] : segment[2]] += weights * part
    return gradient


def finish(
    pooled: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    dim: int | None = None,
    normalize: bool = True,
) -> Doubles:
    """pooled (n, k) -> projected by weight (out, k) and bias (out), cut to dim numbers, scaled to unit length."""
    y = pooled.astype(np.float64)
    if weight is not None:
        y = y @ weight.T.astype(np.float64) + (0.0 if bias is None else bias.astype(np.float64))
    y = y[:, :dim]
    return y / np.maximum(np.linalg.norm(y, axis=1, keepdims=True), 1e-12) if normalize else y


def cast(y: Array, dtype: str, scale: Array | float = 127.0) -> Array:
    """float32, float16, int8 (round(scale * y), at most 127 in size) or binary (bit j = y_j > 0, little-endian)."""
    if dtype == "int8":
        return np.clip(np.rint(y * scale), -127, 127).astype(np.int8)
    if dtype == "binary":
        return np.packbits(y > 0, axis=1, bitorder="little")
    return y.astype(dtype)


def _pooled(mode: str, x: Doubles, mask: Array, segment: Segment) -> Doubles:
    """A weighted sum of the segment's states, whatever the mode."""
    return np.asarray((_weights(mode, x, mask, segment) * x[segment[0] : segment[2]]).sum(axis=0))


def _weights(mode: str, x: Doubles, mask: Array, segment: Segment) -> Doubles:
    """(tokens of the segment, d), or 1 for d where all dimensions share them."""
    first, begin, end = segment
    counts = mask[first:end].astype(np.bool_)
    tokens = np.arange(end - first)
    inside = counts & (tokens >= begin - first)
    weights = np.zeros((end - first, x.shape[1]))
    own = counts if mode == "cls" else inside
    if not own.any():
        return weights
    if mode == "max":
        top = np.where(inside[:, None], x[first:end], -np.inf).argmax(axis=0)  # the first of equals
        weights[top, np.arange(x.shape[1])] = 1.0
    elif mode in ("cls", "last"):
        weights[np.flatnonzero(own)[0 if mode == "cls" else -1]] = 1.0
    else:
        share = np.where(inside, tokens + 1.0 if mode == "weighted_mean" else 1.0, 0.0)
        weights += (share / (np.sqrt(share.sum()) if mode == "mean_sqrt" else share.sum()))[:, None]
    return weights
