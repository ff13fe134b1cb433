"""Product quantization: a row in m pieces, each replaced by the number of its nearest codeword.

Jégou, Douze & Schmid, "Product quantization for nearest neighbor search", TPAMI 2011; the anisotropic loss:
Guo et al., "Accelerating large-scale inference with anisotropic vector quantization", ICML 2020
(arXiv 1908.10396). A query's similarity to a code is a sum of m look-ups in the query's own table.

Codebooks are (m, d/m, k) here and in the kernels, k = 16 or 256: the codewords of one dimension are contiguous.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

BLOCK_ROWS = 32
Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PqPacked:
    """entries (m, 16) of 0..63: similarity ~ step * (sum of one entry a piece) + base."""

    entries: Codes
    step: np.float32
    base: np.float32


def fma(a: npt.ArrayLike, b: npt.ArrayLike, c: npt.ArrayLike) -> Floats:
    """a * b + c of float32, rounded once: the product is exact in float64."""
    product = np.asarray(a, np.float32).astype(np.float64) * np.asarray(b, np.float32)
    return np.asarray((product + np.asarray(c, np.float32)).astype(np.float32))


def code_biases(codebooks: Floats) -> Floats:
    """-|c|^2 / 2 of each codeword, (m, k)."""
    return np.asarray(-0.5 * (codebooks.astype(np.float64) ** 2).sum(axis=1)).astype(np.float32)


def products(x: Floats, codebooks: Floats, start: Floats) -> Floats:
    """<x, c> + start of every row, piece and codeword, (n, m, k): dimension after dimension, by FMA."""
    pieces = x.reshape(len(x), *codebooks.shape[:2])
    sums = np.broadcast_to(start, (len(x), *start.shape)).astype(np.float32)
    for j in range(codebooks.shape[1]):
        sums = fma(pieces[:, :, j, None], codebooks[None, :, j, :], sums)
    return sums


def pq_encode(x: Floats, codebooks: Floats) -> Codes:
    """Numbers (n, m) of the nearest codewords; of equally near ones the smaller number."""
    return np.asarray(products(x, codebooks, code_biases(codebooks)).argmax(axis=2)).astype(np.uint8)


def pq_encode_anisotropic(x: Floats, codebooks: Floats, inverse_norms: Floats, weight: float, sweeps: int) -> Codes:
    """Numbers (n, m) of small |r|^2 + weight <r, x>^2 / |x|^2, r = x - decoded.

    Each piece in turn takes the best codeword given the others, `sweeps` times; the sweep before these, which
    gives the loss no weight, takes the nearest. `along` is <r, x> / |x|, to which each piece adds its share.
    """
    biases = code_biases(codebooks)
    dots = products(x, codebooks, np.zeros_like(biases))
    pieces = x.reshape(len(x), *codebooks.shape[:2])
    along = np.zeros(len(x), np.float32)
    shares = np.zeros((len(x), len(codebooks)), np.float32)
    numbers = np.zeros((len(x), len(codebooks)), np.uint8)
    every = np.arange(len(x))
    for sweep in range(sweeps + 1):
        half = np.float32(-0.5) * np.float32(weight if sweep else 0)
        for s in range(len(codebooks)):
            square = np.zeros(len(x), np.float32)
            for j in range(codebooks.shape[1]):
                square = fma(pieces[:, s, j], pieces[:, s, j], square)
            others = along - shares[:, s]
            rest = fma(square, inverse_norms, others)
            e = fma(dots[:, s], -inverse_norms[:, None], rest[:, None])
            score = fma(e * half, e, dots[:, s] + biases[s])
            numbers[:, s] = score.argmax(axis=1)
            along = e[every, numbers[:, s]]
            shares[:, s] = along - others
    return numbers


def pq_rotate(x: Floats, rotation: Floats) -> Floats:
    """x R, dimension after dimension, by FMA."""
    sums = np.zeros(x.shape, np.float32)
    for j, row in enumerate(rotation):
        sums = fma(x[:, j, None], row, sums)
    return sums


def pq_decode(numbers: Codes, codebooks: Floats) -> Floats:
    """Rows (n, d) made of codewords."""
    pieces = codebooks.swapaxes(1, 2)[np.arange(len(codebooks)), numbers]
    return np.ascontiguousarray(pieces.reshape(len(numbers), codebooks.shape[0] * codebooks.shape[1]))


def pack_codes(numbers: Codes, bits: int) -> Codes:
    """(n, m) -> (n, m), or at 4 bits (n, ceil(m/2)): even pieces in low nibbles, odd ones in high nibbles."""
    if bits == 8:
        return numbers
    even, odd = numbers[:, 0::2], numbers[:, 1::2]
    packed = even.copy()
    packed[:, : odd.shape[1]] |= odd << 4
    return packed


def unpack_codes(codes: Codes, m: int, bits: int) -> Codes:
    """What pack_codes was given, (n, m)."""
    if bits == 8:
        return codes
    return np.stack([codes & 15, codes >> 4], axis=2).reshape(len(codes), 2 * codes.shape[1])[:, :m].copy()


def pq_update(x: Floats, numbers: Codes, k: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint32]]:
    """Sums (m, k, d/m) and counts (m, k) of the rows of each codeword, summed in float64 row after row."""
    n, m = numbers.shape
    pieces = x.reshape(n, m, -1).astype(np.float64)
    sums = np.zeros((m, k, pieces.shape[2]))
    counts = np.zeros((m, k), np.uint32)
    for row, chosen in zip(pieces, numbers, strict=True):
        sums[np.arange(m), chosen] += row
        counts[np.arange(m), chosen] += 1
    return sums, counts


def pq_table(query: Floats, codebooks: Floats, metric: str) -> Floats:
    """Inner products ("ip") with, or minus squared distances ("l2") to, each codeword: (d,) -> (m, k)."""
    pieces = query.reshape(codebooks.shape[:2])
    sums = np.zeros((codebooks.shape[0], codebooks.shape[2]), np.float32)
    for j in range(codebooks.shape[1]):
        q, c = pieces[:, j, None], codebooks[:, j]
        sums = fma(q, c, sums) if metric == "ip" else fma(q - c, q - c, sums)
    return sums if metric == "ip" else np.float32(0) - sums


def pq_pack(table: Floats) -> PqPacked:
    """A table (m, 16) in 6 bits: each piece less its smallest entry, one step for all."""
    low = table.min(axis=1)
    base, widest = np.float32(0), (table.max(axis=1) - low).max()
    for each in low:
        base += each
    if not 1e-30 <= widest <= 3e38:  # nothing to tell codewords apart by
        return PqPacked(np.zeros(table.shape, np.uint8), np.float32(0), base)
    scale = np.float32(63) / widest
    return PqPacked(np.rint((table - low[:, None]) * scale).astype(np.uint8), widest / np.float32(63), base)


def pq_sum(table: Floats, numbers: Codes) -> Floats:
    """Sums of a table (m, k) over rows (n, m): even pieces and odd pieces apart, each in order."""
    even, odd = np.zeros(len(numbers), np.float32), np.zeros(len(numbers), np.float32)
    for s in range(0, len(table), 2):
        even += table[s, numbers[:, s]]
    for s in range(1, len(table), 2):
        odd += table[s, numbers[:, s]]
    return even + odd


def pack_blocks(codes: Codes, m: int, bits: int, terms: Floats | None = None) -> Codes:
    """Blocks of 32 rows, (ceil(n/32), bytes); missing rows are zeros.

    4 bits: byte i of column p is byte p of row i's code, in a multiple of four columns. 8 bits: the codes row by
    row. Then, where given, 32 float32 terms.
    """
    n = len(codes)
    count = -(-n // BLOCK_ROWS)

    def blocks(values: npt.NDArray[Any], width: int) -> npt.NDArray[Any]:
        padded = np.zeros((count * BLOCK_ROWS, width), values.dtype)
        padded[:n, : values.shape[1]] = values
        return padded.reshape(count, BLOCK_ROWS, width)

    if bits == 8:
        parts = [blocks(codes, m).reshape(count, -1)]
    else:
        parts = [blocks(codes, -(-m // 8) * 4).swapaxes(1, 2).reshape(count, -1)]
    if terms is not None:
        parts.append(blocks(terms[:, None].astype("<f4"), 1).reshape(count, -1).view(np.uint8))
    return np.concatenate(parts, axis=1)
