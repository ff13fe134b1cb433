"""Scalar codes of rotated residuals: 2 to 8 bits a dimension and one unbiased scale.

A rotated residual r (D floats) looks like |r|/sqrt(D) times a unit Gaussian, so each coordinate goes to one of
2^b levels made for a Gaussian. With v the levels' values, scale = |r|^2 / <v, r> makes <r, q'> ~ scale <v, q'>
unbiased over the random rotation (RaBitQ: Gao & Long, arXiv 2405.12497 and 2409.09913; EDEN: Vargaftik et al.,
ICML 2022).

* uniform grid: v_j = u_j - (2^b - 1)/2, step kappa_b |r|/sqrt(D), kappa_b the best step for a unit Gaussian;
* Lloyd–Max grid (4 bits): the levels with the least squared error for a Gaussian, as bytes (Lloyd, 1982; Max,
  1960), v_j = level - 127.5.

Decisions are made in float32 with one multiplication and one addition; sums that a decision depends on are
taken in float64 in a fixed order, so that every level writes the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[Any]
Codes = npt.NDArray[np.uint8]

KAPPA = {2: 0.9957, 3: 0.5860, 4: 0.3352, 5: 0.1881, 6: 0.1041, 7: 0.0569, 8: 0.0308}
# Lloyd–Max levels of a unit Gaussian, and the same as bytes: (byte - 127.5) * LLOYD_STEP ~ level.
LLOYD_LEVELS = np.array([0.1283950, 0.3880483, 0.6567591, 0.9423405, 1.2562309, 1.6180464, 2.0690172, 2.7325896])
LLOYD_LEVELS = np.concatenate([-LLOYD_LEVELS[::-1], LLOYD_LEVELS])
LLOYD_BYTES = np.rint(LLOYD_LEVELS / LLOYD_LEVELS[-1] * 127.5 + 127.5).astype(np.uint8)


@dataclass(frozen=True)
class ScalarCodes:
    """codes (n, D*b/8) uint8, scales (n,) float32, norms2 (n,) float32: |r|^2."""

    codes: Codes
    scales: npt.NDArray[np.float32]
    norms2: npt.NDArray[np.float32]


def sum_products(a: FloatArray, b: FloatArray) -> npt.NDArray[np.float64]:
    """Row by row sum_j a_j b_j in float64, element j in accumulator j % 8: (n, D), (n, D) -> (n,)."""
    products = a.astype(np.float64) * b.astype(np.float64)
    lanes = np.zeros((len(a), 8))
    for group in products.reshape(len(a), -1, 8).swapaxes(0, 1):
        lanes = lanes + group
    pairs = lanes[:, 0::2] + lanes[:, 1::2]
    return np.asarray((pairs[:, 0] + pairs[:, 1]) + (pairs[:, 2] + pairs[:, 3]))


def quantize_uniform(r: FloatArray, inverse_step: npt.NDArray[np.float32], bits: int) -> Codes:
    """Nearest of 2^b equal steps around 0: u_j = rint(clamp(r_j / step + (2^b - 1)/2))."""
    top = np.float32(2**bits - 1)
    u = r * inverse_step[:, None] + top / np.float32(2)
    return np.rint(np.clip(u, np.float32(0), top)).astype(np.uint8)


def quantize_lloyd(r: FloatArray, inverse_sigma: npt.NDArray[np.float32]) -> Codes:
    """Index of the nearest of the 16 levels: how many midpoints lie at or below r_j / sigma."""
    midpoints = ((LLOYD_LEVELS[1:] + LLOYD_LEVELS[:-1]) / 2).astype(np.float32)
    scaled = r * inverse_sigma[:, None]
    return np.searchsorted(midpoints, scaled.ravel(), side="right").reshape(r.shape).astype(np.uint8)


def code_values(u: Codes, bits: int, grid: str) -> npt.NDArray[np.float32]:
    """v of codes u (n, D) in 0..2^b-1."""
    if grid == "lloyd":
        return LLOYD_BYTES[u].astype(np.float32) - np.float32(127.5)
    return u.astype(np.float32) - np.float32((2**bits - 1) / 2)


def scalar_encode(residuals: npt.NDArray[np.float32], bits: int, grid: str = "uniform") -> ScalarCodes:
    """Codes and factors of rotated residuals (n, D).

    A residual that is zero, or so short (about 1e-36) that 1/step is no float32, has scale 0.
    """
    n, padded = residuals.shape
    kappa = KAPPA[bits] if grid == "uniform" else 1.0
    norms2 = sum_products(residuals, residuals)
    with np.errstate(divide="ignore", over="ignore"):
        inverse = (np.sqrt(np.float64(padded)) / (kappa * np.sqrt(norms2))).astype(np.float32)
    inverse = np.where(np.isfinite(inverse), inverse, np.float32(0))
    u = quantize_uniform(residuals, inverse, bits) if grid == "uniform" else quantize_lloyd(residuals, inverse)
    products = sum_products(code_values(u, bits, grid), residuals)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        scales = np.where(inverse > 0, norms2 / products, 0.0).astype(np.float32)
        return ScalarCodes(pack_codes(u, bits), scales, norms2.astype(np.float32))


def code_planes(bits: int) -> list[int]:
    """The planes a code is cut into, high bits first: 8 alone, else of 4, 2 and 1 those that add up to b."""
    return [8] if bits == 8 else [plane for plane in (4, 2, 1) if bits & plane]


def pack_codes(u: Codes, bits: int) -> Codes:
    """(n, D) codes in 0..2^b-1 -> (n, D*b/8). Per 64 dimensions the planes one after another."""
    groups = u.reshape(len(u), -1, 64)
    shift, packed = bits, []
    for plane in code_planes(bits):
        shift -= plane
        part = (groups >> shift) & (2**plane - 1)
        if plane == 1:
            packed.append(np.packbits(part, axis=2, bitorder="little"))
        else:  # byte i holds dimensions i, i + 64*plane/8, ... from bit 0
            fields = part.reshape(*part.shape[:2], 8 // plane, 8 * plane)
            shifts = np.arange(8 // plane, dtype=np.uint8)[:, None] * plane
            packed.append(np.bitwise_or.reduce(fields << shifts, axis=2).astype(np.uint8))
    return np.concatenate(packed, axis=2).reshape(len(u), -1)


def unpack_codes(codes: Codes, padded: int, bits: int) -> Codes:
    """(n, D*b/8) -> (n, D) codes in 0..2^b-1."""
    groups = codes.reshape(len(codes), padded // 64, 8 * bits)
    u = np.zeros((len(codes), padded // 64, 64), dtype=np.uint8)
    start = 0
    for plane in code_planes(bits):
        part = groups[:, :, start : start + 8 * plane]
        start += 8 * plane
        if plane == 1:
            fields = np.unpackbits(part, axis=2, bitorder="little")
        else:
            shifts = np.arange(8 // plane, dtype=np.uint8)[:, None] * plane
            fields = ((part[:, :, None, :] >> shifts) & (2**plane - 1)).reshape(u.shape)
        u = (u << (plane % 8)) | fields
    return u.reshape(len(codes), padded)


def scalar_decode(codes: Codes, padded: int, bits: int, grid: str = "uniform") -> npt.NDArray[np.float32]:
    """The values v (n, D), before the scale."""
    return code_values(unpack_codes(codes, padded, bits), bits, grid)


def scalar_dot(
    query: FloatArray, codes: Codes, padded: int, bits: int, grid: str = "uniform"
) -> npt.NDArray[np.float64]:
    """<v, q'> of rotated queries (nq, D) with codes (n, D*b/8) -> (nq, n)."""
    values = scalar_decode(codes, padded, bits, grid).astype(np.float64)
    return np.asarray(query, dtype=np.float64) @ values.T
