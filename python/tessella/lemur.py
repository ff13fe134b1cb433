"""LEMUR: sets of token vectors as one vector each, learned from a sample of the corpus by linear algebra alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

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
Doubles = npt.NDArray[np.float64]
Offsets = npt.NDArray[np.int64]

_RIDGE = 1e-3  # of the mean of the system's diagonal; a hundred times more or less changes nothing that was measured
_QUERY_SHARE = 0.2  # of the sample, where queries are given
_FLOOR = 1e-7  # of the largest variance: what is below is noise, and must not be blown up
_TASK_TOKENS = 4096  # of documents that are encoded together
_TASK_SAMPLES = 1024  # whose products with those tokens stay in cache: 16 MiB at most
_STREAM = 4
_LARGEST = 1e15


class _Learned(NamedTuple):
    """What a fit leaves."""

    to_queries: Floats  # (features, output_dim), from a query's features
    samples: Floats  # (sample, dim)
    to_documents: Floats  # (sample, output_dim), from best inner products with the samples
    mean: Floats  # (output_dim), taken off every document


class LEMUR(TokenEncoder):
    """Learned encodings: inner products rank documents as MaxSim does, in a tenth of an FDE's numbers.

    The closed form of LEMUR (arXiv 2601.21853), in a basis made for short codes: a token x becomes random features
    psi(x) = max(0, W x), a query the sum of its tokens' features. A document becomes the weights w for which
    <psi(x), w> comes closest to its best inner product with x, by ridge regression over a sample of tokens. Both are
    then turned into the basis in which queries and documents spread alike, of which the first `output_dim` directions
    are kept. New documents can be encoded at any time, but should look like the sample: fit again when the corpus
    changes its nature. Scores are MaxSim less one number for all documents of a query. Do not normalise encodings.

    Args:
        dim: length of a token vector.
        output_dim: length of an encoding, at most `features`.
        features: random features; more of them follow MaxSim more closely.
        seed: of W and of the sample.

    Cost of fitting: sample * features² multiply-adds, and the best inner products of 2 * output_dim documents. Of a
    document of t tokens: sample * (t * dim + output_dim); of a query: features * (t * dim + output_dim). Products are
    NumPy's, so the last bits may differ between machines.

    >>> import numpy as np, tessella as ts
    >>> draw = np.random.default_rng(0)
    >>> documents = [draw.standard_normal((t, 16), dtype=np.float32) for t in (30, 5, 80)]
    >>> lemur = ts.LEMUR(16, output_dim=32, features=64)
    >>> lemur.fit(documents)
    >>> (lemur.encode_queries([documents[1]]) @ lemur.encode_documents(documents).T).shape
    (1, 3)

    See also: FDE (nothing to fit), docs/concepts/lemur.md.
    """

    _kind: ClassVar[str] = "lemur"

    def __init__(self, dim: int, *, output_dim: int = 1024, features: int = 2048, seed: int = 42) -> None:
        dim = whole_number(dim, 1, "dim", "lemur")
        self._output_dim = whole_number(output_dim, 1, "output_dim", "lemur")
        count = whole_number(features, 1, "features", "lemur")
        if count < self._output_dim:
            raise InvalidArgument(f"lemur: expected features >= output_dim, {self._output_dim}; got {count}")
        self._seed = whole_number(seed, 0, "seed", "lemur")
        self._features = _fde_draws.seeded_normals(self._seed, _STREAM, (count, dim))
        self._learned: _Learned | None = None

    @property
    def dim(self) -> int:
        """Length of a token vector."""
        return int(self._features.shape[1])

    @property
    def output_dim(self) -> int:
        """Length of an encoding."""
        return self._output_dim

    @property
    def features(self) -> int:
        """Random features."""
        return len(self._features)

    @property
    def is_fitted(self) -> bool:
        """Whether `fit` has been called: nothing can be encoded without."""
        return self._learned is not None

    def __repr__(self) -> str:
        fitted = "not fitted" if self._learned is None else f"fitted to {len(self._learned.samples):,} tokens"
        return f"LEMUR({self.dim}, output_dim={self.output_dim}, features={self.features}: {fitted})"

    def fit(
        self,
        documents: object,
        queries: object | None = None,
        *,
        mask: object | None = None,
        sample: int = 8192,
        progress: Progress = False,
    ) -> None:
        """Learns from `sample` tokens drawn from `documents`, a fifth of them from `queries` where those are given.

        Forms and types as for `encode_documents`. Queries of the kind to come make encodings much better. Encodings of
        documents made before no longer fit. `progress` is True for a bar (needs rich), or is called with the share
        done. A sample of 4 to 8 tokens a feature is worth while.
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
            self._learned = self._solved(samples, _some_documents(ragged, 2 * self._output_dim, draw), report)

    def state(self) -> tuple[Settings, Arrays]:
        """What the encoder is made of, for a file: settings that JSON holds, and arrays by name."""
        arrays: Arrays = {"features": self._features}
        if self._learned is not None:
            arrays |= self._learned._asdict()
        return {"seed": self._seed, "output_dim": self._output_dim}, arrays

    @classmethod
    def from_state(cls, settings: Settings, arrays: Arrays) -> LEMUR:
        """The encoder that `state` was taken of; a ValueError, KeyError or TypeError where that is not one."""
        features = _checked(arrays["features"], (None, None))
        count, d = features.shape
        made = cls(1, output_dim=settings["output_dim"], features=count, seed=settings["seed"])
        made._features, outputs = features, made._output_dim
        if "samples" in arrays:
            samples = _checked(arrays["samples"], (None, d))
            made._learned = _Learned(
                _checked(arrays["to_queries"], (count, outputs)),
                samples,
                _checked(arrays["to_documents"], (len(samples), outputs)),
                _checked(arrays["mean"], (outputs,)),
            )
        return made

    # ---- behind the door

    def _solved(self, samples: Floats, documents: Ragged, report: Callable[[float], None] | None) -> _Learned:
        """The regression's weights, whitened by the features, in the directions in which documents differ most.

        With psi's second moments A = L L^T, whitened features L^-1 psi and weights L^T w have the same products. Their
        principal directions V of variances v^2 are what is kept; scaling by v^-1/2 on the documents' side, v^1/2 on the
        queries', makes the errors of codes smallest for their bits.
        """
        psi = _features_of(samples, self._features)
        gram = (psi.T @ psi).astype(np.float64)
        ridge = max(_RIDGE * float(np.trace(gram)) / len(gram), float(np.finfo(np.float32).tiny))
        gram[np.diag_indices(len(gram))] += ridge
        whiten: Doubles = np.linalg.inv(np.linalg.cholesky(gram)).T
        white: Floats = psi @ whiten.astype(np.float32)
        _tell(report, 0.4)
        weights = np.concatenate(
            [_best_products(_floats(part), part.offsets, samples) @ white for _, part in documents.slices(_TASK_TOKENS)]
        )
        _tell(report, 0.8)
        mean = weights.mean(axis=0, dtype=np.float64)
        directions, spread = _principal((weights - mean).astype(np.float32), self._output_dim)
        _tell(report, 1.0)
        balanced = np.sqrt(spread)
        to_queries = (whiten @ directions) * balanced
        turned = directions / balanced
        return _Learned(
            to_queries.astype(np.float32),
            samples,
            white @ turned.astype(np.float32),
            (mean @ turned).astype(np.float32),
        )

    def _encode(self, tokens: Ragged, out: Array, query: bool, threads: int) -> None:
        operation = "encode_queries" if query else "encode_documents"
        check_finite(operation, tokens)
        learned = self._learned
        if learned is None:
            raise InvalidArgument(f"{operation}: expected a fitted encoder; fit(documents) comes first")

        def part(piece: tuple[int, Ragged]) -> None:
            first, some = piece
            rows = self._query_rows(some, learned) if query else _document_rows(some, learned)
            out[first : first + some.n] = rows

        pieces = tokens.slices(_TASK_TOKENS)
        if threads == 1:
            for piece in pieces:
                part(piece)
            return
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(part, pieces))

    def _query_rows(self, queries: Ragged, learned: _Learned) -> Floats:
        sums = _summed(_features_of(_floats(queries), self._features), queries.offsets)
        return np.asarray(sums @ learned.to_queries)


def _document_rows(documents: Ragged, learned: _Learned) -> Floats:
    rows: Floats = _best_products(_floats(documents), documents.offsets, learned.samples) @ learned.to_documents
    rows -= learned.mean
    return rows


def _principal(rows: Floats, count: int) -> tuple[Doubles, Doubles]:
    """Directions (m, count) in which rows (n, m) spread most, and standard deviations, none below the floor."""
    _, values, directions = np.linalg.svd(rows, full_matrices=len(rows) < count)
    spread = np.zeros(count)
    spread[: min(count, len(values))] = values[:count] / np.sqrt(len(rows))
    least = max(np.sqrt(_FLOOR) * float(spread[0]), float(np.finfo(np.float32).tiny))
    return directions[:count].T.astype(np.float64), np.maximum(spread, least)


def _some_documents(documents: Ragged, count: int, draw: np.random.Generator) -> Ragged:
    """At most so many, drawn."""
    chosen = np.sort(draw.permutation(documents.n)[:count])
    begins, lengths = documents.offsets[chosen], documents.lengths[chosen]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    places = np.repeat(begins - offsets[:-1], lengths) + np.arange(offsets[-1])
    return documents._replace(flat=documents.flat[places], offsets=offsets, single=False)


def _tell(report: Callable[[float], None] | None, share: float) -> None:
    if report is not None:
        report(share)


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


def _best_products(tokens: Floats, offsets: Offsets, samples: Floats) -> Floats:
    """(n, samples): of each sample, the best inner product with a token of each document; 0 without tokens."""
    best = np.zeros((len(offsets) - 1, len(samples)), np.float32)
    for first in range(0, len(samples), _TASK_SAMPLES):
        some = slice(first, first + _TASK_SAMPLES)
        products = tokens @ samples[some].T
        for i, rows in _documents(products, offsets):
            np.max(rows, axis=0, out=best[i, some])
    return best


def _summed(rows: Floats, offsets: Offsets) -> Floats:
    sums = np.zeros((len(offsets) - 1, rows.shape[1]), np.float32)
    for i, own in _documents(rows, offsets):
        np.sum(own, axis=0, out=sums[i])
    return sums


def _documents(rows: Floats, offsets: Offsets) -> Iterator[tuple[int, Floats]]:
    """The rows of each document that has any. One by one: reduceat takes 15 times as long."""
    places = offsets.tolist()
    for i, (begin, end) in enumerate(pairwise(places)):
        if end > begin:
            yield i, rows[begin:end]


def _checked(array: Any, shape: tuple[int | None, ...]) -> Floats:
    x = np.ascontiguousarray(array)
    fits = x.ndim == len(shape) and all(want in (None, got) for want, got in zip(shape, x.shape, strict=True))
    if x.dtype != np.float32 or not fits or 0 in x.shape:
        raise ValueError(f"an array of {x.dtype} {x.shape}")
    if not (np.abs(x) < _LARGEST).all():
        raise ValueError("its numbers are not finite, or too large to be squared")
    return x
