"""LEMUR: sets of token vectors as one vector each, learned from a sample of the corpus by one linear system."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tessella import _fde_draws
from tessella._arrays import Array, as_float32
from tessella._backend import whole_number
from tessella._progress import Progress, shown
from tessella._ragged import Ragged, as_ragged, check_finite
from tessella._token_encoder import Arrays, Settings, TokenEncoder
from tessella.errors import InvalidArgument

__all__ = ["LEMUR"]

Floats = npt.NDArray[np.float32]

_RIDGE = 1e-3  # of the mean of the system's diagonal; a hundred times more or less changes nothing that was measured
_QUERY_SHARE = 0.2  # of the sample, where queries are given
_TASK_TOKENS = 4096  # of documents that are encoded together
_TASK_SAMPLES = 1024  # whose products with those tokens stay in cache: 16 MiB at most
_STREAM = 4
_LARGEST = 1e15


class LEMUR(TokenEncoder):
    """Learned encodings: inner products approximate MaxSim, in a fifth of an FDE's numbers for the same candidates.

    The closed form of LEMUR (arXiv 2601.21853): a token x becomes random features psi(x) = max(0, W x), a query the sum
    of its tokens' features. A document becomes the weights w for which <psi(x), w> comes closest to its best inner
    product with x, by ridge regression over a sample of tokens; <query, document> is then the sum over query tokens of
    an estimate of the best inner product. One linear system serves all documents, so new ones can be encoded at any
    time. They should look like the sample: fit again when the corpus changes its nature. Do not normalise encodings.

    Args:
        dim: length of a token vector.
        output_dim: features, and so the length of an encoding.
        seed: of W and of the sample.

    Cost of fitting: sample * output_dim² multiply-adds. Of a document of t tokens: sample * (t * dim + output_dim).
    Products are NumPy's, so the last bits may differ between machines.

    >>> import numpy as np, tessella as ts
    >>> draw = np.random.default_rng(0)
    >>> documents = [draw.standard_normal((t, 16), dtype=np.float32) for t in (30, 5, 80)]
    >>> lemur = ts.LEMUR(16, output_dim=64)
    >>> lemur.fit(documents)
    >>> (lemur.encode_queries([documents[1]]) @ lemur.encode_documents(documents).T).shape
    (1, 3)

    See also: FDE (nothing to fit), docs/concepts/lemur.md.
    """

    _kind: ClassVar[str] = "lemur"

    def __init__(self, dim: int, *, output_dim: int = 2048, seed: int = 42) -> None:
        dim, outputs = whole_number(dim, 1, "dim", "lemur"), whole_number(output_dim, 1, "output_dim", "lemur")
        self._seed = whole_number(seed, 0, "seed", "lemur")
        self._set(_fde_draws.seeded_normals(self._seed, _STREAM, (outputs, dim)), None)

    @property
    def dim(self) -> int:
        """Length of a token vector."""
        return int(self._features.shape[1])

    @property
    def output_dim(self) -> int:
        """Length of an encoding."""
        return int(self._features.shape[0])

    @property
    def is_fitted(self) -> bool:
        """Whether there is a sample; documents cannot be encoded without, queries can."""
        return self._samples is not None

    def __repr__(self) -> str:
        fitted = "not fitted" if self._samples is None else f"fitted to {len(self._samples):,} tokens"
        return f"LEMUR({self.dim}, output_dim={self.output_dim}: {fitted})"

    def fit(
        self,
        documents: object,
        queries: object | None = None,
        *,
        mask: object | None = None,
        sample: int = 16_384,
        progress: Progress = False,
    ) -> None:
        """Learns from `sample` tokens drawn from `documents`, a fifth of them from `queries` where those are given.

        Forms and types as for `encode_documents`. Queries of the kind to come make encodings much better. Encodings of
        documents made before no longer fit. `progress` is True for a bar (needs rich), or is called with the share
        done. More tokens than numbers, 4 to 8 times `output_dim`, are worth while.
        """
        count = whole_number(sample, 1, "sample", "fit")
        ragged = as_ragged("fit", documents, dim=self.dim, mask=mask, name="documents")
        asked = None if queries is None else as_ragged("fit", queries, dim=self.dim, name="queries")
        if len(ragged.flat) == 0:
            raise InvalidArgument("fit: expected documents with tokens; got none")
        draw = np.random.default_rng(self._seed)
        parts = []
        if asked is not None and len(asked.flat):
            parts.append(_drawn("queries", asked, int(_QUERY_SHARE * count), draw))
            count -= len(parts[0])
        parts.append(_drawn("documents", ragged, count, draw))
        samples = np.concatenate(parts)
        with shown(progress, "token encoder") as report:
            solver = _solved(self._features, samples, report)
        self._set(self._features, samples, solver)

    def state(self) -> tuple[Settings, Arrays]:
        """What the encoder is made of, for a file: settings that JSON holds, and arrays by name."""
        arrays: Arrays = {"features": self._features}
        if self._samples is not None:
            arrays["samples"] = self._samples
        return {"seed": self._seed}, arrays

    @classmethod
    def from_state(cls, settings: Settings, arrays: Arrays) -> LEMUR:
        """The encoder that `state` was taken of; a ValueError, KeyError or TypeError where that is not one.

        The linear system is solved again before the first document is encoded, in the time of a `fit`.
        """
        features, samples = _checked(arrays["features"], None), arrays.get("samples")
        made = cls.__new__(cls)
        made._seed = whole_number(settings["seed"], 0, "seed", "lemur")
        made._set(features, None if samples is None else _checked(samples, features.shape[1]))
        return made

    # ---- behind the door

    def _set(self, features: Floats, samples: Floats | None, solver: Floats | None = None) -> None:
        self._features, self._samples = features, samples
        self._solver = solver  # (samples, output_dim): from best inner products to weights; None until it is needed

    def _encode(self, tokens: Ragged, out: Array, query: bool, threads: int) -> None:
        operation = "encode_queries" if query else "encode_documents"
        check_finite(operation, tokens)
        if not query and self._samples is None:
            raise InvalidArgument("encode_documents: expected a fitted encoder; fit(documents) comes first")
        if not query and self._solver is None:
            assert self._samples is not None
            self._solver = _solved(self._features, self._samples, None)
        encode = self._query_rows if query else self._document_rows

        def part(piece: tuple[int, Ragged]) -> None:
            first, documents = piece
            out[first : first + documents.n] = encode(documents)

        pieces = tokens.slices(_TASK_TOKENS)
        if threads == 1:
            for piece in pieces:
                part(piece)
            return
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(part, pieces))

    def _query_rows(self, queries: Ragged) -> Floats:
        return _summed(_features_of(_floats(queries), self._features), queries.offsets)

    def _document_rows(self, documents: Ragged) -> Floats:
        assert self._samples is not None
        assert self._solver is not None
        rows: Floats = _best_products(_floats(documents), documents.offsets, self._samples) @ self._solver
        return rows


def _floats(tokens: Ragged) -> Floats:
    return tokens.flat.astype(np.float32) if tokens.kind == "i8" else as_float32(tokens.flat, tokens.kind)


def _drawn(name: str, tokens: Ragged, count: int, draw: np.random.Generator) -> Floats:
    check_finite("fit", tokens, name)
    chosen = np.sort(draw.permutation(len(tokens.flat))[:count])
    return _floats(tokens._replace(flat=tokens.flat[chosen]))


def _features_of(tokens: Floats, features: Floats) -> Floats:
    """psi of tokens (t, dim): (t, output_dim)."""
    values: Floats = tokens @ features.T
    np.maximum(values, 0, out=values)
    return values


def _solved(features: Floats, samples: Floats, report: Callable[[float], None] | None) -> Floats:
    """Psi (Psi^T Psi + ridge)^-1, (samples, output_dim): best inner products times that are weights."""
    psi = _features_of(samples, features)
    gram = (psi.T @ psi).astype(np.float64)
    if report is not None:
        report(0.5)
    ridge = max(_RIDGE * float(np.trace(gram)) / len(gram), float(np.finfo(np.float32).tiny))
    gram[np.diag_indices(len(gram))] += ridge
    inverse = np.linalg.inv(np.linalg.cholesky(gram))
    solver: Floats = psi @ (inverse.T @ inverse).astype(np.float32)
    if report is not None:
        report(1.0)
    return solver


def _best_products(tokens: Floats, offsets: npt.NDArray[np.int64], samples: Floats) -> Floats:
    """(n, samples): of each sample, the best inner product with a token of each document; 0 without tokens."""
    filled = np.flatnonzero(np.diff(offsets))
    best = np.zeros((len(offsets) - 1, len(samples)), np.float32)
    for first in range(0, len(samples) if len(filled) else 0, _TASK_SAMPLES):
        some = slice(first, first + _TASK_SAMPLES)
        best[filled, some] = np.maximum.reduceat(tokens @ samples[some].T, offsets[filled], axis=0)
    return best


def _summed(rows: Floats, offsets: npt.NDArray[np.int64]) -> Floats:
    filled = np.flatnonzero(np.diff(offsets))
    sums = np.zeros((len(offsets) - 1, rows.shape[1]), np.float32)
    if len(filled):
        sums[filled] = np.add.reduceat(rows, offsets[filled], axis=0)
    return sums


def _checked(array: Any, dim: int | None) -> Floats:
    x = np.ascontiguousarray(array)
    if x.dtype != np.float32 or x.ndim != 2 or 0 in x.shape or (dim is not None and x.shape[1] != dim):
        raise ValueError(f"an array of {x.dtype} {x.shape}")
    if not (np.abs(x) < _LARGEST).all():
        raise ValueError("its numbers are not finite, or too large to be squared")
    return x
