"""B1: RaBitQ's 1-bit codes of rotated residuals, with an unbiased estimate and a bound on its error.

Gao & Long, "RaBitQ: Quantizing High-Dimensional Vectors with a Theoretical Error Bound for Approximate
Nearest Neighbor Search", SIGMOD 2024 (arXiv 2405.12497). With s = sign(r) and cos = <s, r> / (sqrt(D) |r|):

    scale = |r|^2 / <s, r>                                <r, q'> ~ scale <s, q'>
    error = |r| sqrt((1 - cos^2) / cos^2) / sqrt(D - 1)   |<r, q'> - estimate| <= epsilon |q'| error

for all but a small share of rows; epsilon = 1.9 leaves a few in a thousand, whatever the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tessella.reference.scalar import sum_products

BLOCK_ROWS = 32
FloatArray = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class RabitqCodes:
    """bits (n, D/8): bit j of a row, little-endian, is r_j >= 0; scales, errors and norms2 = |r|^2 (n,)."""

    bits: Codes
    scales: Floats
    errors: Floats
    norms2: Floats


@dataclass(frozen=True)
class RabitqTable:
    """entries (D/4, 16) of 0..63: <s, q'> ~ step * (sum of one entry per 4 dimensions) + base."""

    entries: Codes
    step: np.float32
    base: np.float32


def rabitq_encode(residuals: Floats) -> RabitqCodes:
    """Codes of rotated residuals (n, D). A zero residual has zero factors."""
    padded = residuals.shape[1]
    square = sum_products(residuals, residuals)
    projection = sum_products(np.abs(residuals), np.ones_like(residuals))  # <s, r> = sum |r_j|
    nonzero = projection > 0
    safe = np.where(nonzero, projection, 1.0)
    cosine2 = np.where(nonzero, safe * safe / (padded * np.where(nonzero, square, 1.0)), 1.0)
    lost = np.where(cosine2 < 1.0, (1.0 - cosine2) / cosine2, 0.0)
    with np.errstate(over="ignore"):
        return RabitqCodes(
            bits=np.packbits(residuals >= 0, axis=1, bitorder="little"),
            scales=np.where(nonzero, square / safe, 0.0).astype(np.float32),
            errors=np.sqrt(square * lost / (padded - 1)).astype(np.float32),
            norms2=square.astype(np.float32),
        )


def sign_values(bits: Codes) -> Floats:
    """(n, D/8) -> (n, D) of +1 and -1."""
    return 2 * np.unpackbits(bits, axis=1, bitorder="little").astype(np.float32) - 1


def float16_up(x: Floats) -> npt.NDArray[np.float16]:
    """The smallest float16 that is not below x >= 0."""
    with np.errstate(over="ignore"):
        nearest = x.astype(np.float16)
        return np.where(nearest < x, np.nextafter(nearest, np.float16(np.inf)), nearest).astype(np.float16)


def pack_blocks(codes: RabitqCodes, metric: str) -> Codes:
    """Blocks of 32 rows, (ceil(n/32), 4 D + 128) or 4 D + 256 for "l2"; missing rows are zeros.

    Byte i of column p holds dims 8p..8p+7 of row i; then 32 float16 scales (nearest), 32 float16 errors
    (rounded up) and, for "l2", 32 float32 norms2.
    """
    n, columns = codes.bits.shape
    count = -(-n // BLOCK_ROWS)

    def blocks(values: npt.NDArray[Any]) -> Codes:
        padded = np.zeros((count * BLOCK_ROWS, *values.shape[1:]), dtype=values.dtype)
        padded[:n] = values
        return padded.view(np.uint8).reshape(count, -1)

    with np.errstate(over="ignore"):
        scales = codes.scales.astype("<f2")
    bits = blocks(codes.bits).reshape(count, BLOCK_ROWS, columns).swapaxes(1, 2).reshape(count, -1)
    parts = [bits, blocks(scales), blocks(float16_up(codes.errors).astype("<f2"))]
    if metric == "l2":
        parts.append(blocks(codes.norms2.astype("<f4")))
    return np.concatenate(parts, axis=1)


def rabitq_table(query: Floats) -> RabitqTable:
    """Tables of one rotated query (D,): float32 in the kernels' order, so the entries are theirs."""
    q = query.astype(np.float32).reshape(-1, 4)
    signs = np.array([[1 if v >> b & 1 else -1 for b in range(4)] for v in range(16)], dtype=np.float32)
    signed = q[:, None, :] * signs  # (D/4, 16, 4)
    sums = ((signed[..., 0] + signed[..., 1]) + signed[..., 2]) + signed[..., 3]
    magnitude = ((np.abs(q[:, 0]) + np.abs(q[:, 1])) + np.abs(q[:, 2])) + np.abs(q[:, 3])
    base, widest = np.float32(0), magnitude.max()
    for each in magnitude:
        base -= each
    if widest < 1e-30:  # no direction left to look up
        return RabitqTable(np.zeros(sums.shape, dtype=np.uint8), np.float32(0), base)
    inverse = np.float32(63) / (np.float32(2) * widest)
    entries = np.rint((sums + magnitude[:, None]) * inverse).astype(np.uint8)
    return RabitqTable(entries, np.float32(2) * widest / np.float32(63), base)


def rabitq_sums(table: RabitqTable, bits: Codes) -> npt.NDArray[np.int64]:
    """The integer sums of table entries over rows of bits (n, D/8) -> (n,)."""
    nibbles = np.stack([bits & 15, bits >> 4], axis=2).reshape(len(bits), -1)
    return np.asarray(table.entries[np.arange(nibbles.shape[1]), nibbles].sum(axis=1, dtype=np.int64))


# ---- by bit planes: how devices that count bits, and shuffle no bytes, take a query


@dataclass(frozen=True)
class RabitqPlanes:
    """values (D,) of -(2^(b-1) - 1) .. 2^(b-1) - 1, b planes of bits: q' ~ step * values."""

    values: npt.NDArray[np.int32]
    step: np.float32


def rabitq_planes(query: Floats, planes: int = 8) -> RabitqPlanes:
    """One rotated query (D,) in signed whole numbers of `planes` bits, float32 in the kernels' order."""
    q = query.astype(np.float32)
    most, largest = np.float32(2 ** (planes - 1) - 1), np.abs(q).max()
    if largest < 1e-30:  # no direction left to count
        return RabitqPlanes(np.zeros(len(q), dtype=np.int32), np.float32(0))
    return RabitqPlanes(np.rint(q * (most / largest)).astype(np.int32), largest / most)


def plane_words(planes: RabitqPlanes, count: int = 8) -> npt.NDArray[np.uint32]:
    """(D/32, count): bit b of word (j, i) is bit i, in two's complement, of values[32 j + b]."""
    bits = (planes.values.reshape(-1, 32, 1) >> np.arange(count)) & 1
    return np.asarray((bits.astype(np.uint32) << np.arange(32, dtype=np.uint32)[:, None]).sum(axis=1, dtype=np.uint32))


def plane_sums(planes: RabitqPlanes, bits: Codes) -> npt.NDArray[np.int64]:
    """<s, values> of rows of bits (n, D/8) -> (n,): 2 <x, values> - sum(values), x the bits."""
    ones = np.unpackbits(bits, axis=1, bitorder="little").astype(np.int64)
    return np.asarray(2 * (ones @ planes.values.astype(np.int64)) - planes.values.sum(dtype=np.int64))


def plane_bounds(
    planes: RabitqPlanes, codes: RabitqCodes, factor: float, add: float, epsilon: float, terms: Floats | None = None
) -> tuple[Floats, Floats]:
    """Estimates and upper bounds (n,) as blocks give them: factors in float16, a rounding an operation in float32.

    estimate = add + factor * scale * <s, q'> - term;  upper = estimate + epsilon * error.
    """
    sums = plane_sums(planes, codes.bits).astype(np.float32)
    with np.errstate(over="ignore"):
        scales = codes.scales.astype(np.float16).astype(np.float32)
    estimates = sums * (np.float32(factor) * planes.step) * scales + np.float32(add)
    if terms is not None:
        estimates = estimates - terms
    return estimates, estimates + float16_up(codes.errors).astype(np.float32) * np.float32(epsilon)
