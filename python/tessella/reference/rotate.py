"""Fast Hadamard–Kac rotation: a random orthonormal map in O(d log d).

d is padded with zeros to D, a multiple of 64 and not a power of two. Each of four rounds flips signs, applies
a normalised Walsh–Hadamard transform to the first (even rounds) or last (odd rounds) h = 2^floor(log2 D)
coordinates, and turns the two halves by 45 degrees where h < D, so that the windows mix. The rotation of
RaBitQ's library (Gao & Long, arXiv 2405.12497); fast Kac walks: Jain, Pillai, Sah, Sawhney and Smith, 2022.

The arithmetic is that of the input's type, in the order of the kernels: float32 in, the kernels' bits out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

ROUNDS = 4
DEFAULT_SEED = 0x7E55E11A
FloatArray = npt.NDArray[Any]


def padded_dim(d: int) -> int:
    """d rounded up to a multiple of 64."""
    return (d + 63) // 64 * 64


def splitmix64(counter: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """A random 64-bit word for each counter (Steele, Lea & Flood, OOPSLA 2014)."""
    z = counter + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def rotate_signs(padded: int, seed: int = DEFAULT_SEED) -> npt.NDArray[np.uint64]:
    """Sign bits of all rounds, (4, D/64) words: bit j % 64 of word j // 64 set means -1 for coordinate j."""
    words = padded // 64
    counters = np.uint64(seed) + np.arange(ROUNDS * words, dtype=np.uint64)
    return splitmix64(counters).reshape(ROUNDS, words)


def signs_as_floats(signs: npt.NDArray[np.uint64], dtype: npt.DTypeLike) -> FloatArray:
    """(4, D/64) words -> (4, D) of +1 and -1."""
    bits = np.unpackbits(signs.astype("<u8").view(np.uint8), axis=1, bitorder="little")
    return np.asarray(1 - 2 * bits.astype(dtype))


def hadamard(x: FloatArray) -> FloatArray:
    """Normalised Walsh–Hadamard transform of the last axis, a power of two: its own inverse."""
    h = x.shape[-1]
    y: FloatArray = x * x.dtype.type(1 / np.sqrt(h))
    stride = 1
    while stride < h:
        pairs = y.reshape(*x.shape[:-1], h // (2 * stride), 2, stride)
        a, b = pairs[..., 0, :], pairs[..., 1, :]
        y = np.stack([a + b, a - b], axis=-2).reshape(x.shape)
        stride *= 2
    return y


def turn_halves(y: FloatArray) -> FloatArray:
    """Givens turn by 45 degrees between the two halves: its own inverse."""
    a, b = np.split(y, 2, axis=-1)
    return np.asarray(np.concatenate([a + b, a - b], axis=-1) * y.dtype.type(np.sqrt(0.5)))


def transform_window(y: FloatArray, i: int) -> FloatArray:
    """The Walsh–Hadamard part of round i."""
    padded = y.shape[-1]
    h = 1 << (padded.bit_length() - 1)
    window = slice(0, h) if i % 2 == 0 else slice(padded - h, padded)
    y = y.copy()
    y[..., window] = hadamard(y[..., window])
    return y


def rotate_forward(x: FloatArray, signs: npt.NDArray[np.uint64], centre: FloatArray | None = None) -> FloatArray:
    """R(x - centre): (n, d) -> (n, D)."""
    padded = signs.shape[1] * 64
    flips = signs_as_floats(signs, x.dtype)
    y = np.zeros((len(x), padded), dtype=x.dtype)
    y[:, : x.shape[1]] = x if centre is None else x - centre
    for i in range(ROUNDS):
        y = transform_window(y * flips[i], i)
        if padded & (padded - 1):
            y = turn_halves(y)
    return y


def rotate_inverse(
    y: FloatArray, signs: npt.NDArray[np.uint64], d: int, centre: FloatArray | None = None
) -> FloatArray:
    """R^-1 y + centre: (n, D) -> (n, d). The rounds run backwards; each part is its own inverse."""
    padded = signs.shape[1] * 64
    flips = signs_as_floats(signs, y.dtype)
    for i in reversed(range(ROUNDS)):
        if padded & (padded - 1):
            y = turn_halves(y)
        y = transform_window(y, i) * flips[i]
    return y[:, :d] if centre is None else y[:, :d] + centre
