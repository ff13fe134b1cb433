"""Fixed-dimensional encodings of token sets (MUVERA: Dhulipala et al., NeurIPS 2024, arXiv 2405.19504).

    pattern of a token  = bits <g_b, x> > 0, hyperplane 0 first; its cell p has p ^ (p >> 1) = pattern
    query               = sum over the tokens of a cell of psi(x)
    document            = mean over the tokens of a cell of psi(x); empty cells as `fill` says

`fde_encode` is the definition: repetition after repetition, cell after cell, float32 in the order of the kernels, so
that tests ask for equal bits. A count-sketch psi adds coordinate j, with its sign, to output index[j].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tessella.reference.kmeans import products

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Sketch:
    """A count-sketch of the last axis: coordinate j goes to index[..., j] of `size` outputs, with signs[..., j]."""

    index: Indices
    signs: Floats
    size: int


def cell_of(pattern: int) -> int:
    """p with p ^ (p >> 1) = pattern: the place of a pattern in Gray order."""
    place = pattern
    while pattern := pattern >> 1:
        place ^= pattern
    return place


def token_patterns(tokens: Floats, hyperplanes: Floats) -> npt.NDArray[np.int64]:
    """Patterns (t,) of tokens (t, d) under the hyperplanes (k_sim, d) of one repetition."""
    k_sim = len(hyperplanes)
    bits = products(tokens, hyperplanes) > 0
    return bits.astype(np.int64) @ (1 << np.arange(k_sim - 1, -1, -1, dtype=np.int64))


def sketched(x: Floats, sketch: Sketch) -> Floats:
    """(t, size): coordinates added one after another."""
    out = np.zeros((len(x), sketch.size), np.float32)
    for j, (place, sign) in enumerate(zip(sketch.index, sketch.signs, strict=True)):
        out[:, place] += sign * x[:, j]
    return out


def project(tokens: Floats, projection: Floats | Sketch | None, repetition: int) -> Floats:
    """psi of tokens (t, d) in one repetition: dense (r, p, d), a sketch of (r, d), or None: the tokens themselves."""
    if projection is None:
        return tokens
    if isinstance(projection, Sketch):
        return sketched(tokens, Sketch(projection.index[repetition], projection.signs[repetition], projection.size))
    return products(tokens, projection[repetition])


def filled_from(pattern: int, patterns: npt.NDArray[np.int64]) -> tuple[int, int]:
    """The token that fills an empty cell, and its distance: the first of those at the smallest number of bits."""
    distances = np.array([int(each ^ pattern).bit_count() for each in patterns])
    return int(distances.argmin()), int(distances.min())


def encode_repetition(psi: Floats, patterns: npt.NDArray[np.int64], k_sim: int, query: bool, fill: str) -> Floats:
    """(2^k_sim, p) of one repetition, from projected tokens (t, p) and their patterns (t,)."""
    out = np.zeros((1 << k_sim, psi.shape[1]), np.float32)
    for pattern in range(1 << k_sim):
        own = psi[patterns == pattern]
        row = out[cell_of(pattern)]
        for token in own:
            row += token
        if query:
            continue
        if len(own):
            row /= np.float32(len(own))
        elif fill != "none":
            token, distance = filled_from(pattern, patterns)
            row[:] = psi[token] * np.float32(0.5**distance if fill == "decay" else 1.0)
    return out


def fde_encode(
    tokens: Floats,
    hyperplanes: Floats,
    projection: Floats | Sketch | None = None,
    final: Sketch | None = None,
    *,
    query: bool = False,
    fill: str = "none",
) -> Floats:
    """The encoding of one query or document: tokens (t, d) and hyperplanes (r, k_sim, d) -> (dim,)."""
    repetitions, k_sim, d = hyperplanes.shape
    p = d if projection is None else projection.size if isinstance(projection, Sketch) else projection.shape[1]
    out = np.zeros((repetitions, 1 << k_sim, p), np.float32)
    if len(tokens):
        for i in range(repetitions):
            psi, patterns = project(tokens, projection, i), token_patterns(tokens, hyperplanes[i])
            out[i] = encode_repetition(psi, patterns, k_sim, query, fill)
    flat = out.reshape(1, -1)
    return np.asarray((flat if final is None else sketched(flat, final))[0])
