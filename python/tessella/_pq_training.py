"""How a ProductQuantizer learns: codebooks by k-means in every piece at once, the rotation, the anisotropic update.

Everything is a function of the rows, the seed and the settings; neither threads nor levels change a bit of what the
kernels compute. Codebooks are dimension-major here, (m, dim/m, k), as the kernels read them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tessella import _core

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]

SWEEPS = 3  # of coordinate descent, for the anisotropic loss
_SPLIT = 1 / 1024  # how far apart the halves of a split codeword start
_FEATURES_AT_ONCE = 1 << 22


class Steps:
    """Counts steps, and reports the share done to whoever wants to know."""

    def __init__(self, total: int, report: Callable[[float], None] | None) -> None:
        self._done, self._total, self._report = 0, total, report

    def advance(self, steps: int = 1) -> None:
        self._done += steps
        if self._report is not None:
            self._report(self._done / self._total)


def biases(codebooks: Floats) -> Floats:
    """-|c|^2 / 2, (m, k)."""
    return np.asarray(-0.5 * (codebooks.astype(np.float64) ** 2).sum(axis=1)).astype(np.float32)


def unpacked(codes: Codes, m: int, bits: int) -> Codes:
    """Numbers (n, m) of codes (n, m) or (n, ceil(m/2))."""
    if bits == 8:
        return codes
    return np.stack([codes & 15, codes >> 4], axis=2).reshape(len(codes), 2 * codes.shape[1])[:, :m]


def decoded(codes: Codes, codebooks: Floats, bits: int) -> Floats:
    """The codewords that codes stand for, side by side: (n, dim)."""
    m, dims, _ = codebooks.shape
    words = np.ascontiguousarray(codebooks.swapaxes(1, 2))
    rows = np.empty((len(codes), m, dims), np.float32)
    for s, numbers in enumerate(unpacked(codes, m, bits).T):
        rows[:, s] = words[s][numbers]
    return rows.reshape(len(codes), m * dims)


def first_codebooks(x: Floats, m: int, k: int, draw: np.random.Generator) -> Floats:
    """Codewords cut from k rows drawn without replacement; rows repeat where there are fewer."""
    chosen = draw.permutation(len(x))[:k]
    rows = x[np.resize(chosen, k)]
    return np.ascontiguousarray(rows.reshape(k, m, -1).transpose(1, 2, 0))


def k_means(x: Floats, codebooks: Floats, iterations: int, steps: Steps, threads: int) -> Floats:
    """Lloyd's iterations in every piece at once, until nothing moves."""
    m, _, k = codebooks.shape
    bits = 4 if k == 16 else 8
    before = None
    for done in range(iterations):
        codes = _core.pq_encode(x, codebooks, biases(codebooks), threads=threads)
        if before is not None and np.array_equal(codes, before):
            steps.advance(iterations - done)
            break
        before = codes
        codebooks = means(x, codes, codebooks, m, bits, threads)
        steps.advance()
    return codebooks


def means(x: Floats, codes: Codes, codebooks: Floats, m: int, bits: int, threads: int) -> Floats:
    """Each codeword the mean of its rows; one without rows takes half of those of the fullest."""
    sums, counts = _core.pq_update(x, codes, m, bits, threads=threads)
    words = codebooks.swapaxes(1, 2).astype(np.float64)
    np.divide(sums, counts[:, :, None], out=words, where=counts[:, :, None] > 0)
    for s in np.flatnonzero((counts == 0).any(axis=1)):
        for empty in np.flatnonzero(counts[s] == 0):
            full = int(counts[s].argmax())
            if counts[s, full] < 2:
                break
            words[s, empty] = words[s, full] * (1 + _SPLIT)
            words[s, full] *= 1 - _SPLIT
            counts[s, empty] = counts[s, full] // 2
            counts[s, full] -= counts[s, empty]
    return np.ascontiguousarray(words.swapaxes(1, 2), dtype=np.float32)


def balanced_axes(x: Floats, m: int) -> Floats:
    """Principal axes dealt out to the pieces so that the products of their eigenvalues are alike.

    Eigenvalue allocation (Ge et al., section 3.2): largest first, to the piece with the smallest product so far
    among those with room.
    """
    centred = x - x.mean(axis=0, dtype=np.float64).astype(np.float32)
    values, vectors = np.linalg.eigh(centred.T.astype(np.float64) @ centred.astype(np.float64))
    logs = np.log(np.maximum(values, values.max() * 1e-12 + 1e-300))
    dims = x.shape[1] // m
    room, weight = np.full(m, dims), np.zeros(m)
    order = np.empty(x.shape[1], np.int64)
    for axis in np.argsort(-values, kind="stable"):
        piece = int(np.where(room > 0, weight, np.inf).argmin())
        order[piece * dims + dims - room[piece]] = axis
        room[piece] -= 1
        weight[piece] += logs[axis] - logs.min() + 1  # positive, so that pieces fill up evenly
    return np.ascontiguousarray(vectors[:, order], dtype=np.float32)


def learn_rotation(
    x: Floats, m: int, k: int, iterations: int, draw: np.random.Generator, steps: Steps, threads: int
) -> Floats:
    """R of OPQ (Ge et al., algorithm 1): codebooks for a rotation, the rotation for what they decode, in turn."""
    bits = 4 if k == 16 else 8
    rotation = balanced_axes(x, m)
    codebooks: Floats | None = None
    for _ in range(iterations):
        y = _core.pq_rotate(x, rotation, threads=threads)
        if codebooks is None:
            codebooks = first_codebooks(y, m, k, draw)
        codes = _core.pq_encode(y, codebooks, biases(codebooks), threads=threads)
        codebooks = means(y, codes, codebooks, m, bits, threads)
        target = decoded(codes, codebooks, bits)
        left, _, right = np.linalg.svd((x.T @ target).astype(np.float64))
        rotation = np.ascontiguousarray(left @ right, dtype=np.float32)
        steps.advance()
    return rotation


def inverse_norms(x: Floats) -> Floats:
    """1 / |x|, 0 for rows of zeros."""
    lengths = np.sqrt(np.einsum("ij,ij->i", x, x, dtype=np.float64))
    inverse = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 1e-30)
    return np.asarray(inverse).astype(np.float32)


def anisotropic_rounds(x: Floats, codebooks: Floats, weight: float, rounds: int, steps: Steps, threads: int) -> Floats:
    """Codes for the codebooks, codebooks for the codes, in turn, both for the anisotropic loss."""
    m, dims, k = codebooks.shape
    bits = 4 if k == 16 else 8
    inverse = inverse_norms(x)
    for _ in range(rounds):
        codes = _core.pq_encode(
            x, codebooks, biases(codebooks), inverse_norms=inverse, weight=weight, sweeps=SWEEPS, threads=threads
        )
        numbers = unpacked(codes, m, bits)
        residuals = x - decoded(codes, codebooks, bits)
        along = np.einsum("ij,ij->i", residuals, x) * inverse
        codebooks = codebooks.copy()
        for s in range(m):
            piece = x[:, s * dims : (s + 1) * dims]
            axis = piece * inverse[:, None]
            words = codebooks[s].T
            shares = np.einsum("ij,ij->i", axis, piece - words[numbers[:, s]])
            words = _aligned_codewords(piece, axis, along - shares, numbers[:, s], words, weight, threads)
            along += np.einsum("ij,ij->i", axis, piece - words[numbers[:, s]]) - shares
            codebooks[s] = words.T
        steps.advance()
    return codebooks


def _aligned_codewords(
    piece: Floats, axis: Floats, others: Floats, numbers: Codes, words: Floats, weight: float, threads: int
) -> Floats:
    """The codewords (k, dims) of one piece that minimise sum |x - c|^2 + weight (others + <u, x - c>)^2.

    u = axis is the piece of x / |x|, others what the other pieces add to <r, x> / |x|. Setting the gradient to
    zero leaves one small system a codeword: (n I + weight sum u u^T) c = sum x + weight sum u (others + <u, x>).
    """
    dims, k = piece.shape[1], len(words)
    sums, counts = np.zeros((k, dims * (dims + 2))), np.zeros(k, np.int64)
    step = max(1, _FEATURES_AT_ONCE // sums.shape[1])
    for start in range(0, len(piece), step):
        u, rows = axis[start : start + step], piece[start : start + step]
        pull = others[start : start + step] + np.einsum("ij,ij->i", u, rows)
        squares = (u[:, :, None] * u[:, None, :]).reshape(len(u), -1)
        features = np.concatenate([rows, u * pull[:, None], squares], axis=1).astype(np.float32, copy=False)
        code = np.ascontiguousarray(numbers[start : start + step, None])
        part, count = _core.pq_update(features, code, 1, 8, threads=threads)
        sums += part[0, :k]
        counts += count[0, :k]
    used = counts > 0
    left = counts[used, None, None] * np.eye(dims) + weight * sums[used, 2 * dims :].reshape(-1, dims, dims)
    right = sums[used, :dims] + weight * sums[used, dims : 2 * dims]
    made = words.copy()
    made[used] = np.linalg.solve(left, right[:, :, None])[:, :, 0].astype(np.float32)
    return made
