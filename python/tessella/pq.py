"""ProductQuantizer: m codewords a row out of small codebooks; plain, rotated (OPQ), residual, or anisotropic."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from tessella import _container, _core
from tessella._arrays import Input, as_rows, like_input
from tessella._backend import resolve_threads, whole_number
from tessella._pq_training import (
    SWEEPS,
    Steps,
    anisotropic_rounds,
    biases,
    decoded,
    first_codebooks,
    inverse_norms,
    k_means,
    learn_rotation,
)
from tessella._progress import Progress, shown
from tessella._quantizer import DEFAULT_SEED, Codes, Floats, code_rows, float_rows, float_slices, natural
from tessella.errors import FormatError, InvalidArgument, UnsupportedType

__all__ = ["ProductQuantizer"]

_TRAINING_ROWS = 65_536  # 256 a codeword
_MOST_LEVELS = 16
_LARGEST = 1e15  # of a codeword read from a file: sums of squares stay within float32
_QUERIES_AT_ONCE = 64  # tables of 256 KiB for 256 pieces


class ProductQuantizer:
    """Product quantization: a row is cut into m pieces, each replaced by the nearest of 16 or 256 codewords.

    The code for a few bytes a row, where one bit a dimension is too much; it has to be trained on rows like those
    it will see. A query's similarity to a code is a sum of m look-ups (Jégou, Douze & Schmid, TPAMI 2011).

    Args:
        dim: length of a row, a multiple of `m`.
        m: pieces. At 8 bits a code takes m bytes, at 4 bits ceil(m / 2), as many times as there are levels.
        bits: 8 (256 codewords a piece) or 4 (16; twice the pieces for the same bytes, scanned much faster).
        opq: learn a rotation that suits the pieces (Ge et al., CVPR 2013); costs dim² operations a row.
        residual_levels: 1 to 16; each level quantizes what the levels before it left (Chen, Guan & Wang,
            Sensors 2010).
        anisotropic: None, or the threshold T of ScaNN's loss (Guo et al., ICML 2020, arXiv 1908.10396), 0.2 say:
            errors along a row, which change its inner products, count (dim - 1) T² / (1 - T²) times as much as
            errors across it. For inner products; with one level only.
        seed: of the rows that training draws.

    Rows and queries are float32, float16, bfloat16 or uint8, as NumPy arrays, CPU torch tensors or anything
    with `__dlpack__`; results come in the kind of the input. A wrong shape, NaN or infinity, or use before
    `train`, is an InvalidArgument, a wrong type an UnsupportedType. Where m is odd the last byte of a 4-bit code
    is half used.

    >>> import numpy as np, tessella as ts
    >>> x = np.random.default_rng(0).standard_normal((2000, 32), dtype=np.float32)
    >>> quantizer = ts.ProductQuantizer(32, m=16, bits=8)
    >>> quantizer.train(x, iterations=5)
    >>> codes = quantizer.encode(x)
    >>> codes.shape, codes.dtype
    ((2000, 16), dtype('uint8'))
    >>> quantizer.squared_distance(x[:3], codes).argmin(axis=1).tolist()
    [0, 1, 2]

    See also: RaBitQuantizer (nothing to train, and a bound on the error), docs/concepts/pq.md.
    """

    def __init__(
        self,
        dim: int,
        m: int,
        bits: int = 8,
        *,
        opq: bool = False,
        residual_levels: int = 1,
        anisotropic: float | None = None,
        seed: int = DEFAULT_SEED,
    ) -> None:
        self._dim = whole_number(dim, 1, "dim", "pq")
        self._m = whole_number(m, 1, "m", "pq")
        self._bits = whole_number(bits, 1, "bits", "pq")
        self._opq = bool(opq)
        self._levels = whole_number(residual_levels, 1, "residual_levels", "pq")
        self._seed = whole_number(seed, 0, "seed", "pq")
        self._anisotropic = _threshold(anisotropic)
        if self._dim % self._m:
            raise InvalidArgument(f"pq: expected m to divide dim; got m={self._m} for dim={self._dim}")
        if self._bits not in (4, 8):
            raise InvalidArgument(f"pq: expected 4 or 8 bits; got {self._bits}")
        if self._levels > _MOST_LEVELS:
            raise InvalidArgument(f"pq: expected residual_levels in 1..{_MOST_LEVELS}; got {self._levels}")
        if self._anisotropic is not None and (self._levels > 1 or self._dim < 2):
            raise InvalidArgument(
                "pq: expected one residual level and at least 2 dimensions with anisotropic;"
                f" got {self._levels} and {self._dim}"
            )
        self._codebooks: list[Floats] = []  # of each level, (m, dim/m, 2^bits)
        self._rotation: Floats | None = None

    @property
    def dim(self) -> int:
        """Length of a row."""
        return self._dim

    @property
    def m(self) -> int:
        """Pieces a row is cut into."""
        return self._m

    @property
    def bits(self) -> int:
        """Bits a piece, in each level."""
        return self._bits

    @property
    def residual_levels(self) -> int:
        """Levels, each with codebooks of its own."""
        return self._levels

    @property
    def anisotropic(self) -> float | None:
        """The threshold T of the anisotropic loss, None for the plain one."""
        return self._anisotropic

    @property
    def code_bytes(self) -> int:
        """Length of a code: m bytes or, at 4 bits, ceil(m / 2), for each level."""
        return self._levels * self._level_bytes

    @property
    def is_trained(self) -> bool:
        """Whether there are codebooks: nothing can be encoded without."""
        return bool(self._codebooks)

    @property
    def codebooks(self) -> Floats:
        """Codewords, (residual_levels, m, 2^bits, dim / m) float32: a copy."""
        self._expect_trained("codebooks")
        return np.stack([np.ascontiguousarray(level.swapaxes(1, 2)) for level in self._codebooks])

    @property
    def rotation(self) -> Floats | None:
        """R of OPQ, (dim, dim) float32, a copy: pieces are cut from x @ R. None without OPQ."""
        return None if self._rotation is None else self._rotation.copy()

    def __repr__(self) -> str:
        extras = ", opq" * self._opq + f", residual_levels={self._levels}" * (self._levels > 1)
        extras += f", anisotropic={self._anisotropic}" if self._anisotropic is not None else ""
        size = f"{self.code_bytes} bytes a row"
        return f"ProductQuantizer({self._dim}, m={self._m}, bits={self._bits}{extras}: {size})"

    def train(self, x: object, *, iterations: int = 25, progress: Progress = False, threads: int | None = None) -> None:
        """Learns codebooks from rows `x` (n, dim), of which at most 65,536 are drawn. Codes made before no longer fit.

        Fewer rows than codewords are allowed; the spare codewords repeat. `progress` is True for a bar (needs rich),
        or is called with the share done; `threads` are `ts.get_num_threads()` by default. The result depends on rows,
        settings and seed alone, not on threads.

        O(n dim 2^bits) an iteration and level; OPQ adds as many iterations with O(n dim²), the anisotropic loss
        a fifth as many, slower ones.
        """
        rows = as_rows(x, "x", "train", self._dim)
        iterations = whole_number(iterations, 1, "iterations", "train")
        count = resolve_threads(threads, "train")
        if rows.n == 0:
            raise InvalidArgument(f"train: expected x with at least one row; got {rows.source.shape}")
        draw = np.random.default_rng(self._seed)
        if rows.n > _TRAINING_ROWS:
            chosen = np.sort(draw.permutation(rows.n)[:_TRAINING_ROWS])
            rows = Input(rows.source[chosen], rows.kind, False, rows.torch)
        with shown(progress, "product quantizer") as report:
            self._learn(float_rows(rows, "x", "train"), iterations, draw, count, report)

    def encode(self, x: object, *, threads: int | None = None) -> Any:
        """Codes of rows `x` (n, dim): (n, code_bytes) uint8, level after level. O(n dim 2^bits) a level.

        `threads` are `ts.get_num_threads()` by default, and change no code.
        """
        self._expect_trained("encode")
        rows = as_rows(x, "x", "encode", self._dim)
        count = resolve_threads(threads, "encode")
        codes = np.empty((rows.n, self.code_bytes), dtype=np.uint8)
        start = 0
        for piece in float_slices(rows, "x", "encode"):
            left = self._rotated(piece, count)
            here = codes[start : start + len(piece)]
            for level, codebooks in enumerate(self._codebooks):
                found = self._encode_level(left, codebooks, count)
                here[:, level * self._level_bytes : (level + 1) * self._level_bytes] = found
                if level + 1 < self._levels:
                    left = left - decoded(found, codebooks, self._bits)
            start += len(piece)
        return like_input(codes, rows)

    def decode(self, codes: object, *, threads: int | None = None) -> Any:
        """Rows (n, dim) float32 made of codewords: the closest a code can say. `threads` as for `encode`."""
        array = self._codes(codes, "decode")
        count = resolve_threads(threads, "decode")
        rows = self._decoded(array)
        return like_input(rows if self._back is None else _core.pq_rotate(rows, self._back, threads=count), codes)

    def inner_product(self, queries: object, codes: object) -> Any:
        """<q, decode(code)>: queries (nq, dim), codes (n, code_bytes) -> (nq, n) float32.

        O(nq dim 2^bits) for the tables, then m look-ups for each query, code and level.
        """
        q, rows, array = self._pairs(queries, codes, "inner_product")
        return like_input(self._sums(q, array, "ip"), rows)

    def squared_distance(self, queries: object, codes: object) -> Any:
        """|q - decode(code)|^2, shapes and cost as for `inner_product`.

        With several levels it is |q|^2 - 2 <q, decode(code)> + |decode(code)|^2, and the codes are decoded once.
        """
        q, rows, array = self._pairs(queries, codes, "squared_distance")
        return like_input(self._distances(q, array), rows)

    def symmetric_distance(self, codes: object, others: object) -> Any:
        """|decode(a) - decode(b)|^2 of codes (na, code_bytes) and codes (nb, code_bytes): (na, nb) float32."""
        wanted = self._codes(codes, "symmetric_distance")
        array = self._codes(others, "symmetric_distance")
        return like_input(self._distances(self._decoded(wanted), array), codes)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the quantizer, not any codes, to one safetensors file."""
        config = {
            "dim": self._dim,
            "m": self._m,
            "bits": self._bits,
            "opq": self._opq,
            "residual_levels": self._levels,
            "anisotropic": self._anisotropic,
            "seed": self._seed,
            "trained": self.is_trained,
        }
        tensors: list[_container.Tensor] = []
        if self.is_trained:
            tensors.append(("codebooks", "F32", self.codebooks.shape, [self.codebooks]))
        if self._rotation is not None:
            tensors.append(("rotation", "F32", self._rotation.shape, [self._rotation]))
        _container.write(path, tensors, {"kind": "pq", "config": json.dumps(config)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ProductQuantizer:
        """Reads what `save` wrote; a FormatError where that is not what the file holds."""
        file = _container.read(path, kind="pq")
        try:
            config = file.config
            dim, m, bits = natural(config, "dim"), natural(config, "m"), natural(config, "bits")
            levels = natural(config, "residual_levels")
            made = cls(
                dim,
                m,
                bits,
                opq=config["opq"] is True,
                residual_levels=levels,
                anisotropic=config["anisotropic"],
                seed=natural(config, "seed"),
            )
            if config["trained"] is True:
                codebooks = file.take("codebooks", "F32", (levels, m, 1 << bits, dim // m))
                made._codebooks = [np.ascontiguousarray(level.swapaxes(1, 2)) for level in _finite(codebooks)]
                if made._opq:
                    made._rotation = _finite(file.take("rotation", "F32", (dim, dim)))
                    if np.abs(made._rotation.T @ made._rotation - np.eye(dim)).max() > 1e-3:
                        raise ValueError("its rotation is none")
        except FormatError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"load: {file.path} is damaged: it describes no quantizer ({error})") from error
        return made

    # ---- behind the door

    @property
    def _level_bytes(self) -> int:
        return self._m if self._bits == 8 else (self._m + 1) // 2

    @property
    def _weight(self) -> float:
        """What an error along the row counts more than one across it."""
        t = self._anisotropic or 0.0
        return (self._dim - 1) * t * t / (1 - t * t) - 1

    def _learn(
        self,
        left: Floats,
        iterations: int,
        draw: np.random.Generator,
        threads: int,
        report: Callable[[float], None] | None,
    ) -> None:
        k, rounds = 1 << self._bits, max(1, iterations // 5) * (self._anisotropic is not None)
        steps = Steps(iterations * (self._levels + self._opq) + rounds, report)
        rotation = learn_rotation(left, self._m, k, iterations, draw, steps, threads) if self._opq else None
        if rotation is not None:
            left = _core.pq_rotate(left, rotation, threads=threads)
        codebooks = []
        for level in range(self._levels):
            found = k_means(left, first_codebooks(left, self._m, k, draw), iterations, steps, threads)
            if rounds:
                found = anisotropic_rounds(left, found, self._weight, rounds, steps, threads)
            codebooks.append(found)
            if level + 1 < self._levels:
                left = left - decoded(_core.pq_encode(left, found, biases(found), threads=threads), found, self._bits)
        self._codebooks, self._rotation = codebooks, rotation

    def _expect_trained(self, operation: str) -> None:
        if not self._codebooks:
            raise InvalidArgument(f"{operation}: expected a trained quantizer; train(x) comes first")

    @property
    def _back(self) -> Floats | None:
        return None if self._rotation is None else np.ascontiguousarray(self._rotation.T)

    def _rotated(self, x: Floats, threads: int | None = None) -> Floats:
        return x if self._rotation is None else np.asarray(_core.pq_rotate(x, self._rotation, threads=threads))

    def _encode_level(self, x: Floats, codebooks: Floats, threads: int) -> Codes:
        if self._anisotropic is None:
            return np.asarray(_core.pq_encode(x, codebooks, biases(codebooks), threads=threads))
        inverse = inverse_norms(x)
        codes = _core.pq_encode(
            x, codebooks, biases(codebooks), inverse_norms=inverse, weight=self._weight, sweeps=SWEEPS, threads=threads
        )
        return np.asarray(codes)

    def _codes(self, codes: object, operation: str) -> Codes:
        self._expect_trained(operation)
        return code_rows(codes, self.code_bytes, operation)

    def _pairs(self, queries: object, codes: object, operation: str) -> tuple[Floats, Input, Codes]:
        self._expect_trained(operation)
        rows = as_rows(queries, "queries", operation, self._dim)
        return self._rotated(float_rows(rows, "queries", operation)), rows, self._codes(codes, operation)

    def _level_codes(self, codes: Codes, level: int) -> Codes:
        return np.ascontiguousarray(codes[:, level * self._level_bytes : (level + 1) * self._level_bytes])

    def _decoded(self, codes: Codes) -> Floats:
        """Rows before they are rotated back."""
        rows = np.zeros((len(codes), self._dim), np.float32)
        for level, codebooks in enumerate(self._codebooks):
            rows += decoded(self._level_codes(codes, level), codebooks, self._bits)
        return rows

    def _sums(self, q: Floats, codes: Codes, metric: str) -> Floats:
        sums = np.zeros((len(q), len(codes)), np.float32)
        for level, codebooks in enumerate(self._codebooks):
            here = self._level_codes(codes, level)
            for start in range(0, len(q), _QUERIES_AT_ONCE):
                some = slice(start, start + _QUERIES_AT_ONCE)
                sums[some] += _core.pq_sum(_core.pq_table(q[some], codebooks, metric), here)
        return sums

    def _distances(self, q: Floats, codes: Codes) -> Floats:
        if self._levels == 1:
            return -self._sums(q, codes, "l2")
        rows = self._decoded(codes)
        distances = -2 * self._sums(q, codes, "ip")
        distances += np.einsum("ij,ij->i", q, q, dtype=np.float64).astype(np.float32)[:, None]
        distances += np.einsum("ij,ij->i", rows, rows, dtype=np.float64).astype(np.float32)
        return distances


def _threshold(anisotropic: object) -> float | None:
    if anisotropic is None:
        return None
    if isinstance(anisotropic, bool) or not isinstance(anisotropic, (int, float)):
        raise UnsupportedType(f"pq: expected anisotropic as a float or None; got {type(anisotropic).__name__}")
    if not 0 < anisotropic < 1:
        raise InvalidArgument(f"pq: expected anisotropic between 0 and 1; got {anisotropic}")
    return float(anisotropic)


def _finite(array: Floats) -> Floats:
    if not (np.abs(array) < _LARGEST).all():
        raise ValueError("its numbers are not finite, or too large to be squared")
    return array
