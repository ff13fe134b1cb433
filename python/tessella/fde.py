"""FDE: sets of token vectors as one vector each, from random matrices alone."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tessella import _core, _fde_draws
from tessella._arrays import Array
from tessella._backend import whole_number
from tessella._fde_draws import Sketch
from tessella._ragged import Ragged
from tessella._token_encoder import Arrays, Settings, TokenEncoder
from tessella.errors import InvalidArgument

__all__ = ["FDE"]

Floats = npt.NDArray[np.float32]

_MOST_BITS = 16
_MOST_OUTPUTS = 1 << 31
_PROJECTIONS = ("countsketch", "dense", "none")
_FILLS = ("none", "nearest", "decay")
_SCHEMES = ("tessella", "google")
_STREAMS = {"hyperplanes": 1, "projection": 2, "final": 3}  # of the seed
# (k_sim, projection_dim) of the paper's Pareto front, poor to rich; a budget buys repetitions of one of them.
_FRONT = ((3, 8), (4, 8), (5, 8), (5, 16), (5, 32), (6, 32))
_BUDGET_REPETITIONS = 20
_BITS = {"binary": 1, "float16": 16, "float32": 32}


class FDE(TokenEncoder):
    """Fixed-dimensional encodings: inner products approximate MaxSim, the sum over query tokens of the best match.

    MUVERA (Dhulipala et al., NeurIPS 2024, arXiv 2405.19504). Each repetition cuts space into 2^k_sim cells by random
    hyperplanes; a query is the sum of its projected tokens in each cell, a document their mean. Nothing is trained, so
    documents can be added at any time. Encodings find candidates, which `maxsim` then ranks; do not normalise them.

    Args:
        dim: length of a token vector.
        k_sim: hyperplanes of a repetition, 0 to 16.
        repetitions: each with hyperplanes and a projection of its own.
        projection: "countsketch" (each coordinate is added, with a random sign, to one of the outputs), "dense" (signs
            over sqrt(projection_dim), as in the paper; more work, as accurate) or "none".
        projection_dim: numbers a cell, where there is a projection.
        final_dim: None, or the length that a count-sketch reduces the whole encoding to.
        fill: what a document's empty cells hold: "none" (zeros), "nearest" (of the nearest cells' tokens, the first, as
            in the paper) or "decay" (the same, halved for each bit of distance). docs/decisions/0014 has figures.
        seed: of the matrices.
        scheme: "tessella", or "google" for the bits of google/graph-mining's encodings at that seed; projections are
            then "countsketch" or "none".

    output_dim is repetitions * 2^k_sim * projection_dim, 10,240 by default. Scores are about repetitions times MaxSim.
    A document without tokens becomes zeros.
    Cost of a token: dim * k_sim * repetitions multiply-adds and dim * repetitions additions.

    >>> import numpy as np, tessella as ts
    >>> draw = np.random.default_rng(0)
    >>> documents = [draw.standard_normal((t, 64), dtype=np.float32) for t in (30, 5, 80)]
    >>> fde = ts.FDE(64)
    >>> scores = fde.encode_queries([documents[1]]) @ fde.encode_documents(documents).T
    >>> scores.shape, int(scores.argmax())
    ((1, 3), 1)

    See also: LEMUR (learned, shorter), docs/concepts/fde.md.
    """

    _kind: ClassVar[str] = "fde"

    def __init__(
        self,
        dim: int,
        k_sim: int = 5,
        repetitions: int = 20,
        *,
        projection: str = "countsketch",
        projection_dim: int = 16,
        final_dim: int | None = None,
        fill: str = "none",
        seed: int = 42,
        scheme: str = "tessella",
    ) -> None:
        dim, k_sim = whole_number(dim, 1, "dim", "fde"), whole_number(k_sim, 0, "k_sim", "fde")
        repetitions = whole_number(repetitions, 1, "repetitions", "fde")
        seed = whole_number(seed, 0, "seed", "fde")
        for name, value, known in (
            ("projection", projection, _PROJECTIONS),
            ("scheme", scheme, _SCHEMES),
        ):
            if value not in known:
                raise InvalidArgument(f"fde: expected {name} of {', '.join(known)}; got {value!r}")
        if scheme == "google" and projection == "dense":
            raise InvalidArgument("fde: expected projection 'countsketch' or 'none' with scheme 'google'; got 'dense'")
        p = dim if projection == "none" else whole_number(projection_dim, 1, "projection_dim", "fde")
        whole = _check_size(repetitions, k_sim, p)
        final = None if final_dim is None else whole_number(final_dim, 1, "final_dim", "fde")
        draw = _google if scheme == "google" else _seeded
        self._set(*draw(seed, repetitions, k_sim, dim, projection, p, whole, final), fill)
        self._origin = {"scheme": scheme, "seed": seed}

    @classmethod
    def from_matrices(
        cls,
        hyperplanes: object,
        projection: object = None,
        final: tuple[object, object, int] | None = None,
        *,
        fill: str = "none",
    ) -> FDE:
        """An encoder of given matrices, such as those of another library.

        `hyperplanes` is (repetitions, k_sim, dim); `projection` None, a dense (repetitions, projection_dim, dim), or a
        count-sketch (index, signs, projection_dim) whose index and signs are (repetitions, dim); `final` a count-sketch
        (index, signs, final_dim) of the whole encoding.
        """
        planes = _floats(hyperplanes, "hyperplanes")
        if planes.ndim != 3 or 0 in (planes.shape[0], planes.shape[2]):
            raise InvalidArgument(f"fde: expected hyperplanes of shape (repetitions, k_sim, dim); got {planes.shape}")
        made = cls.__new__(cls)
        inner = _sketch(projection, "projection") if isinstance(projection, tuple) else None
        dense = None if projection is None or inner is not None else _floats(projection, "projection")
        made._set(planes, dense if inner is None else inner, None if final is None else _sketch(final, "final"), fill)
        made._origin = {"scheme": "matrices", "seed": 0}
        return made

    @classmethod
    def for_budget(cls, dim: int, bytes: int, *, dtype: str = "binary", fill: str = "none", seed: int = 42) -> FDE:
        """The encoder whose documents take about so many `bytes`: codes of one bit, or float16, or float32 rows.

        Cells and projection are the richest of the paper's Pareto front that leave 20 repetitions. The 12 bytes of
        numbers that a 1-bit code has besides are not counted.

        >>> FDE.for_budget(128, 1280).output_dim
        10240
        """
        if dtype not in _BITS:
            raise InvalidArgument(f"for_budget: expected dtype 'binary', 'float16' or 'float32'; got {dtype!r}")
        outputs = whole_number(bytes, 1, "bytes", "for_budget") * 8 // _BITS[dtype]
        affordable = [(k, p) for k, p in _FRONT if outputs // (p << k) >= _BUDGET_REPETITIONS] or [_FRONT[0]]
        k_sim, p = affordable[-1]
        repetitions = outputs // (p << k_sim)
        if repetitions == 0:
            least = -(-(_FRONT[0][1] << _FRONT[0][0]) * _BITS[dtype] // 8)
            raise InvalidArgument(f"for_budget: expected at least {least} bytes for {dtype}; got {bytes}")
        return cls(dim, k_sim, repetitions, projection_dim=p, fill=fill, seed=seed)

    @property
    def dim(self) -> int:
        """Length of a token vector."""
        return int(self._hyperplanes.shape[2])

    @property
    def k_sim(self) -> int:
        """Hyperplanes of a repetition."""
        return int(self._hyperplanes.shape[1])

    @property
    def repetitions(self) -> int:
        """Repetitions; scores are about so many times MaxSim."""
        return int(self._hyperplanes.shape[0])

    @property
    def projection_dim(self) -> int:
        """Numbers a cell."""
        return _width(self._projection, self.dim)

    @property
    def output_dim(self) -> int:
        """Length of an encoding."""
        return self._final.size if self._final is not None else self._whole

    @property
    def fill(self) -> str:
        """What a document's empty cells hold: "none", "nearest" or "decay"."""
        return self._fill

    def __repr__(self) -> str:
        sizes = f"k_sim={self.k_sim}, repetitions={self.repetitions}, projection_dim={self.projection_dim}"
        return f"FDE({self.dim}, {sizes}, fill={self._fill!r}: {self.output_dim} numbers)"

    def matrices(self) -> Arrays:
        """Copies of the matrices: `hyperplanes`; `projection`, or `index` and `signs`; `final_index`, `final_signs`."""
        return {name: x.copy() for name, x in self.state()[1].items()}

    def state(self) -> tuple[Settings, Arrays]:
        """What the encoder is made of, for a file: settings that JSON holds, and arrays by name."""
        settings = {**self._origin, "fill": self._fill, "projection_dim": self.projection_dim}
        settings["final_dim"] = None if self._final is None else self._final.size
        arrays: Arrays = {"hyperplanes": self._hyperplanes}
        if isinstance(self._projection, Sketch):
            arrays |= {"index": self._projection.index, "signs": self._projection.signs}
        elif self._projection is not None:
            arrays["projection"] = self._projection
        if self._final is not None:
            arrays |= {"final_index": self._final.index, "final_signs": self._final.signs}
        return settings, arrays

    @classmethod
    def from_state(cls, settings: Settings, arrays: Arrays) -> FDE:
        """The encoder that `state` was taken of; a ValueError, KeyError or TypeError where that is not one."""
        projection: object = arrays.get("projection")
        if "index" in arrays:
            projection = (arrays["index"], arrays["signs"], settings["projection_dim"])
        final_dim = settings["final_dim"]
        final = None if final_dim is None else (arrays["final_index"], arrays["final_signs"], final_dim)
        made = cls.from_matrices(arrays["hyperplanes"], projection, final, fill=settings["fill"])
        made._origin = {"scheme": str(settings["scheme"]), "seed": whole_number(settings["seed"], 0, "seed", "fde")}
        return made

    # ---- behind the door

    def _set(self, hyperplanes: Floats, projection: Floats | Sketch | None, final: Sketch | None, fill: str) -> None:
        if fill not in _FILLS:
            raise InvalidArgument(f"fde: expected fill of {', '.join(_FILLS)}; got {fill!r}")
        r, k_sim, d = hyperplanes.shape
        p = _width(projection, d)
        self._whole = _check_size(r, k_sim, p)
        self._check_shapes(r, d, p, projection, final)
        inner, dense = (projection, None) if isinstance(projection, Sketch) else (None, projection)
        self._matrices = _core.FdeMatrices(
            hyperplanes,
            p=p,
            matrix=dense,
            index=None if inner is None else inner.index,
            signs=None if inner is None else inner.signs,
            final_dim=0 if final is None else final.size,
            final_index=None if final is None else final.index,
            final_signs=None if final is None else final.signs,
        )
        self._hyperplanes, self._projection, self._final, self._fill = hyperplanes, projection, final, fill

    def _check_shapes(self, r: int, d: int, p: int, projection: Floats | Sketch | None, final: Sketch | None) -> None:
        if isinstance(projection, Sketch):
            _check_sketch(projection, (r, d), "projection")
        elif projection is not None and projection.shape != (r, p, d):
            raise InvalidArgument(
                f"fde: expected a projection of shape ({r}, projection_dim, {d}); got {projection.shape}"
            )
        if final is not None:
            _check_sketch(final, (self._whole,), "final")

    def _encode(self, tokens: Ragged, out: Array, query: bool, threads: int) -> None:
        flat, kind = (tokens.flat.astype(np.float32), "f32") if tokens.kind == "i8" else (tokens.flat, tokens.kind)
        _core.fde_encode(
            _bits(flat), kind, tokens.offsets, self._matrices,
            queries=query, fill=self._fill, out=_bits(out), threads=threads,
        )  # fmt: skip


def _bits(array: Array) -> Array:
    """float16 as uint16, as the kernels take it."""
    return array.view(np.uint16) if array.dtype == np.float16 else array


def _google(
    seed: int, r: int, k_sim: int, d: int, projection: str, p: int, whole: int, final: int | None
) -> tuple[Floats, Sketch | None, Sketch | None]:
    inner = _fde_draws.google_projection(seed, r, d, p) if projection == "countsketch" else None
    last = None if final is None else _fde_draws.google_sketch(seed, whole, final)
    return _fde_draws.google_hyperplanes(seed, r, k_sim, d), inner, last


def _seeded(
    seed: int, r: int, k_sim: int, d: int, projection: str, p: int, whole: int, final: int | None
) -> tuple[Floats, Floats | Sketch | None, Sketch | None]:
    inner: Floats | Sketch | None = None
    if projection == "countsketch":
        inner = _fde_draws.seeded_sketch(seed, _STREAMS["projection"], (r, d), p)
    elif projection == "dense":
        inner = _fde_draws.seeded_dense(seed, _STREAMS["projection"], (r, p, d))
    last = None if final is None else _fde_draws.seeded_sketch(seed, _STREAMS["final"], (whole,), final)
    return _fde_draws.seeded_normals(seed, _STREAMS["hyperplanes"], (r, k_sim, d)), inner, last


def _width(projection: Floats | Sketch | None, d: int) -> int:
    if isinstance(projection, Sketch):
        return projection.size
    return d if projection is None else int(projection.shape[1]) if projection.ndim > 1 else 0


def _check_size(r: int, k_sim: int, p: int) -> int:
    """Numbers of an encoding before any final sketch."""
    if k_sim > _MOST_BITS:
        raise InvalidArgument(f"fde: expected k_sim in 0..{_MOST_BITS}; got {k_sim}")
    whole = r * p << k_sim
    if not 0 < whole < _MOST_OUTPUTS:
        raise InvalidArgument(f"fde: expected repetitions * 2^k_sim * projection_dim in 1..2**31 - 1; got {whole}")
    return whole


def _check_sketch(sketch: Sketch, shape: tuple[int, ...], name: str) -> None:
    if sketch.index.shape != shape or sketch.signs.shape != shape:
        got = f"{sketch.index.shape} and {sketch.signs.shape}"
        raise InvalidArgument(f"fde: expected index and signs of {name} of shape {shape}; got {got}")
    if sketch.index.size and int(sketch.index.max()) >= sketch.size:
        raise InvalidArgument(f"fde: expected an index of {name} below {sketch.size}; got {int(sketch.index.max())}")


def _floats(x: object, name: str) -> Floats:
    array = np.ascontiguousarray(np.asarray(x, dtype=np.float32))
    if not np.isfinite(array).all() or (array.size and float(np.abs(array).max()) > math.sqrt(3e38)):
        raise InvalidArgument(f"fde: expected finite {name} whose squares fit float32")
    return array


def _sketch(parts: Any, name: str) -> Sketch:
    if len(parts) != 3:
        raise InvalidArgument(f"fde: expected {name} as (index, signs, size); got {len(parts)} parts")
    index = np.asarray(parts[0])
    if index.dtype.kind not in "iu" or (index.size and int(index.min()) < 0) or (index.size and int(index.max()) >> 32):
        raise InvalidArgument(f"fde: expected an index of {name} of whole numbers 0..2**32 - 1; got {index.dtype}")
    size = whole_number(parts[2], 1, f"size of {name}", "fde")
    return Sketch(np.ascontiguousarray(index, dtype=np.uint32), _floats(parts[1], f"signs of {name}"), size)
