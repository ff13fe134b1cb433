"""Scalar codes of rotated residuals: 2 to 8 bits a dimension and one unbiased scale.

A rotated residual r (D floats) looks like sigma = |r|/sqrt(D) times a unit Gaussian, so each coordinate goes
to one of 2^b levels made for a Gaussian. With v the levels' values, scale = |r|^2 / <v, r> makes
<r, q'> ~ scale <v, q'> unbiased over the random rotation (RaBitQ: Gao & Long, arXiv 2405.12497 and
2409.09913; EDEN: Vargaftik et al., ICML 2022).

* uniform grid: v_j = u_j - (2^b - 1)/2, step kappa_b sigma, kappa_b the best step for a unit Gaussian;
* Lloyd–Max grid (4 bits): the levels of least squared error for a Gaussian (Lloyd, 1982; Max, 1960), rounded
  to 6 bits, v_j = LLOYD_LEVELS[u_j] - 29.5. The unit is the one at which this rounding costs least.

Decisions are made in float32 with one multiplication and one addition; sums that a decision depends on are
taken in float64 in a fixed order, so that every level writes the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]

KAPPA = {2: 0.9957, 3: 0.5860, 4: 0.3352, 5: 0.1881, 6: 0.1041, 7: 0.0569, 8: 0.0308}
LLOYD_LEVELS = np.array([0, 7, 12, 16, 19, 22, 25, 28, 31, 34, 37, 40, 43, 47, 52, 59], dtype=np.uint8)
LLOYD_MIDDLE = 29.5
LLOYD_UNIT = 10.86  # units of a level in one sigma
SHORTEST_STEP = 1e-37  # its inverse is still a float32


@dataclass(frozen=True)
class ScalarCodes:
    """codes (n, D*b/8) uint8, scales (n,) float32, norms2 (n,) float32: |r|^2."""

    codes: Codes
    scales: Floats
    norms2: Floats


def sum_products(a: FloatArray, b: FloatArray) -> npt.NDArray[np.float64]:
    """Row by row sum_j a_j b_j in float64, element j in accumulator j % 8: (n, D), (n, D) -> (n,)."""
    products = a.astype(np.float64) * b.astype(np.float64)
    lanes = np.zeros((len(a), 8))
    for group in products.reshape(len(a), a.shape[1] // 8, 8).swapaxes(0, 1):
        lanes = lanes + group
    pairs = lanes[:, 0::2] + lanes[:, 1::2]
    return np.asarray((pairs[:, 0] + pairs[:, 1]) + (pairs[:, 2] + pairs[:, 3]))


def round_codes(r: FloatArray, step: FloatArray, middle: float, top: float) -> FloatArray:
    """rint(clamp(r / step + middle, 0, top)), r (n, D), step (n,); a step that is too short is infinite."""
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.where(step > SHORTEST_STEP, 1 / step, 0).astype(np.float32)
    shifted = r * inverse[:, None] + np.float32(middle)
    return np.asarray(np.rint(np.clip(shifted, np.float32(0), np.float32(top))))


def quantize_uniform(r: FloatArray, step: FloatArray, bits: int) -> Codes:
    """The nearest of 2^b values around 0, a step apart."""
    top = 2**bits - 1
    return round_codes(r, step, top / 2, top).astype(np.uint8)


def quantize_lloyd(r: FloatArray, sigma: FloatArray) -> Codes:
    """The nearest of the 16 levels. Cells end half-way between levels, on half units, which are counted."""
    half_units = round_codes(r, sigma / (2 * LLOYD_UNIT), 2 * LLOYD_MIDDLE - 0.5, 4 * LLOYD_MIDDLE)
    ends = LLOYD_LEVELS[1:].astype(np.float32) + LLOYD_LEVELS[:-1]
    return np.asarray(np.searchsorted(ends, half_units, side="right")).astype(np.uint8)


def code_values(u: Codes, bits: int, grid: str) -> Floats:
    """v of codes u (n, D) in 0..2^b-1."""
    if grid == "lloyd":
        return np.asarray(LLOYD_LEVELS[u].astype(np.float32) - np.float32(LLOYD_MIDDLE))
    return np.asarray(u.astype(np.float32) - np.float32((2**bits - 1) / 2))


def scalar_encode(residuals: Floats, bits: int, grid: str = "uniform") -> ScalarCodes:
    """Codes and factors of residuals (n, D). A residual of zero, or below about 1e-36, has scale 0."""
    norms2 = sum_products(residuals, residuals)
    sigma = np.sqrt(norms2 / residuals.shape[1])
    if grid == "lloyd":
        step, u = sigma / (2 * LLOYD_UNIT), quantize_lloyd(residuals, sigma)
    else:
        step = sigma * KAPPA[bits]
        u = quantize_uniform(residuals, step, bits)
    along = sum_products(code_values(u, bits, grid), residuals)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        scales = np.where(step > SHORTEST_STEP, norms2 / along, 0.0).astype(np.float32)
        return ScalarCodes(pack_codes(u, bits), scales, norms2.astype(np.float32))


def code_planes(bits: int) -> list[int]:
    """The planes a code is cut into, high bits first: 8 alone, else of 4, 2 and 1 those that add up to b."""
    return [8] if bits == 8 else [plane for plane in (4, 2, 1) if bits & plane]


def pack_codes(u: Codes, bits: int) -> Codes:
    """(n, D) codes in 0..2^b-1 -> (n, D*b/8). Per 64 dimensions the planes one after another."""
    groups = u.reshape(len(u), u.shape[1] // 64, 64)
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
    return np.concatenate(packed, axis=2).reshape(len(u), u.shape[1] * bits // 8)


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
            shifts = np.arange(8 // plane, dtype=np.uint8)[:, None] * np.uint8(plane)
            fields = ((part[:, :, None, :] >> shifts) & np.uint8(2**plane - 1)).reshape(u.shape)
        u = (u << np.uint8(plane % 8)) | fields
    return u.reshape(len(codes), padded)


def scalar_decode(codes: Codes, padded: int, bits: int, grid: str = "uniform") -> Floats:
    """The values v (n, D), before the scale."""
    return code_values(unpack_codes(codes, padded, bits), bits, grid)


@dataclass(frozen=True)
class ScalarQuery:
    """A rotated query in integers: q'_j ~ word_step * words[j] ~ byte_step * bytes_[j]."""

    words: npt.NDArray[np.int16]
    bytes_: npt.NDArray[np.int8]
    word_step: np.float32
    byte_step: np.float32


def scalar_query(query: Floats) -> ScalarQuery:
    """A rotated query (D,): bytes to +-127, words to +-2015, or less where D products of 255 would overflow."""
    largest = np.abs(query).max()
    largest_word = np.float32(min(2015, (2**31 - 1) // (255 * len(query))))
    flat = largest < 1e-30
    to_word, to_byte = (np.float32(0) if flat else top / largest for top in (largest_word, np.float32(127)))
    return ScalarQuery(
        words=np.rint(query * to_word).astype(np.int16),
        bytes_=np.rint(query * to_byte).astype(np.int8),
        word_step=largest / largest_word,
        byte_step=largest / np.float32(127),
    )


def scalar_dot(
    query: ScalarQuery, codes: Codes, padded: int, bits: int, grid: str = "uniform"
) -> npt.NDArray[np.float32]:
    """<v, q'> with codes (n, D*b/8) -> (n,): bytes for codes of up to 4 bits, words for more."""
    twice = (2 * scalar_decode(codes, padded, bits, grid)).astype(np.int64)  # v counts halves
    whole = query.bytes_ if bits <= 4 else query.words
    step = query.byte_step if bits <= 4 else query.word_step
    return np.asarray(np.float32(0.5) * step * (twice @ whole.astype(np.int64)).astype(np.float32))
