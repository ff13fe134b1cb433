"""Sign bits of raw vectors: 32 times smaller than float32, compared by Hamming distance.

A float query against the +-1 values (asymmetric) keeps more of the order than bits against bits
(semantic hashing: Charikar, STOC 2002; binary embeddings with rescoring: sentence-transformers).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[Any]
Codes = npt.NDArray[np.uint8]


def binary_encode(x: FloatArray, thresholds: FloatArray | None = None) -> Codes:
    """(n, d) -> (n, ceil(d/8)): bit j = x_j > threshold_j (0 by default), little-endian, spare bits 0."""
    above = np.asarray(x) > (0 if thresholds is None else thresholds)
    return np.packbits(above, axis=1, bitorder="little")


def binary_decode(codes: Codes, d: int) -> npt.NDArray[np.float32]:
    """(n, ceil(d/8)) -> (n, d) of +1 and -1."""
    bits = np.unpackbits(codes, axis=1, count=d, bitorder="little")
    return 2 * bits.astype(np.float32) - 1


def binary_hamming(a: Codes, b: Codes) -> npt.NDArray[np.int32]:
    """Differing bits of every code of a (na, bytes) with every code of b (nb, bytes) -> (na, nb)."""
    differing = np.unpackbits(a[:, None, :] ^ b[None, :, :], axis=2)
    return np.asarray(differing.sum(axis=2, dtype=np.int32))


def binary_dot(queries: FloatArray, codes: Codes) -> npt.NDArray[np.float64]:
    """sum_j q_j * (+1 or -1): queries (nq, d), codes (n, ceil(d/8)) -> (nq, n)."""
    values = binary_decode(codes, queries.shape[1]).astype(np.float64)
    return np.asarray(queries, dtype=np.float64) @ values.T
