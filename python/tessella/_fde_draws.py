"""How the matrices of an encoding are drawn from a seed.

`google_*` draw what google/graph-mining draws: std::mt19937 under the distributions of libstdc++, which the standard
leaves to each library and which are therefore spelled out here. `seeded_*` draw from counters, the same numbers on
every machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.uint32]
Words = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Sketch:
    """A count-sketch: a coordinate is added, with its sign, to one of `size` outputs."""

    index: Indices
    signs: Floats
    size: int


# ---- google/graph-mining


def _raw(seed: int, count: int) -> Words:
    """The first outputs of std::mt19937(seed), widened; NumPy's frozen legacy generator is that engine."""
    engine = np.random.RandomState(seed & 0xFFFFFFFF)
    return engine.randint(0, 1 << 32, size=count, dtype=np.uint32).astype(np.uint64)


def google_normals(seed: int, count: int) -> Floats:
    """std::normal_distribution<float> of libstdc++: the polar method, whose second number comes out first."""
    drawn = 2 * count + 64
    while True:
        uniform = np.minimum(_raw(seed, drawn).astype(np.float32) * np.float32(2.0**-32), np.float32(1 - 2.0**-24))
        x, y = (2 * uniform - 1).reshape(-1, 2).T
        square = x * x + y * y
        kept = (square <= 1) & (square != 0)
        if 2 * int(kept.sum()) >= count:
            break
        drawn *= 2
    x, y, square = x[kept], y[kept], square[kept]
    log = np.log(square.astype(np.float64)).astype(np.float32)
    factor = np.sqrt(np.float32(-2) * log / square)
    return np.stack([y * factor, x * factor], axis=1).reshape(-1)[:count]


def google_hyperplanes(seed: int, repetitions: int, k_sim: int, d: int) -> Floats:
    """(r, k_sim, d): repetition i has the seed's engine of seed + i, hyperplane after hyperplane."""
    drawn = [google_normals(seed + i, k_sim * d).reshape(k_sim, d) for i in range(repetitions)]
    return np.stack(drawn) if drawn else np.zeros((0, k_sim, d), np.float32)


def google_sketch(seed: int, count: int, size: int) -> Sketch:
    """An output and a sign for each of `count` coordinates, in turn.

    An output is Lemire's bounded integer, raw * size >> 32, drawn again while its low half falls below 2^32 mod size. A
    sign takes two numbers: +1 where (low + high 2^32) / 2^64 in float64 is below one half.
    """
    index, signs = np.empty(count, np.uint32), np.empty(count, np.float32)
    raw = _raw(seed, 3 * count + 64)
    done, at, least = 0, 0, (1 << 32) % size
    while done < count:
        if len(raw) - at < 3 * (count - done):
            raw = _raw(seed, 2 * len(raw))
        triples = raw[at : at + 3 * (count - done)].reshape(-1, 3)
        product = triples[:, 0] * np.uint64(size)
        refused = (product & np.uint64(0xFFFFFFFF)) < least
        taken = int(refused.argmax()) if refused.any() else len(triples)
        here = slice(done, done + taken)
        index[here] = product[:taken] >> np.uint64(32)
        low, high = triples[:taken, 1].astype(np.float64), triples[:taken, 2].astype(np.float64)
        signs[here] = np.where((low + high * 2.0**32) / 2.0**64 < 0.5, 1, -1)
        done, at = done + taken, at + 3 * taken + 1  # the refused number is gone
    return Sketch(index, signs, size)


def google_projection(seed: int, repetitions: int, d: int, p: int) -> Sketch:
    """The inner sketches: each starts again where its repetition's hyperplanes started."""
    drawn = [google_sketch(seed + i, d, p) for i in range(repetitions)]
    return Sketch(np.stack([each.index for each in drawn]), np.stack([each.signs for each in drawn]), p)


# ---- our own


def seeded_words(seed: int, stream: int, shape: tuple[int, ...]) -> Words:
    """Random words of a counter: those of one stream of one seed never depend on how many are asked for."""
    start = _splitmix64(np.array([(seed ^ stream << 56) & 0xFFFFFFFFFFFFFFFF], np.uint64))
    counters = np.arange(math.prod(shape), dtype=np.uint64)
    counters += start
    return _splitmix64(counters).reshape(shape)


def seeded_normals(seed: int, stream: int, shape: tuple[int, ...]) -> Floats:
    """Gaussian numbers by Box and Muller's cosine, computed in float64."""
    words = seeded_words(seed, stream, (2, *shape))
    u = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return np.asarray(np.sqrt(-2 * np.log(u[0])) * np.cos(2 * np.pi * u[1]), dtype=np.float32)


def seeded_signs(seed: int, stream: int, shape: tuple[int, ...]) -> Floats:
    """+1 and -1 with equal chances."""
    return (1 - 2 * (seeded_words(seed, stream, shape) >> np.uint64(63)).astype(np.float32)).astype(np.float32)


def seeded_sketch(seed: int, stream: int, shape: tuple[int, ...], size: int) -> Sketch:
    """Outputs and signs of coordinates."""
    words = seeded_words(seed, stream, shape)
    index = ((words >> np.uint64(32)) * np.uint64(size) >> np.uint64(32)).astype(np.uint32)
    signs = (1 - 2 * (words & np.uint64(1)).astype(np.float32)).astype(np.float32)
    return Sketch(index, signs, size)


def seeded_dense(seed: int, stream: int, shape: tuple[int, int, int]) -> Floats:
    """(r, p, d) of +1 and -1 over sqrt(p), the paper's projection."""
    return np.asarray(seeded_signs(seed, stream, shape) / np.float32(np.sqrt(shape[1])), dtype=np.float32)


def _splitmix64(counter: Words) -> Words:
    """A random word for each counter (Steele, Lea & Flood, OOPSLA 2014)."""
    z = counter + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
