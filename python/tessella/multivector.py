"""`MultiVectorIndex`: documents of many vectors in, the best by MaxSim out."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from tessella import _first_stage
from tessella import _multivector_files as _files
from tessella._anchor_index import AnchorIndex
from tessella._arrays import Array, as_ids
from tessella._backend import resolve_threads, whole_number
from tessella._ragged import Ragged, as_ragged, check_finite
from tessella._token_encoder import SetEncoder
from tessella._token_pooling import pooled
from tessella._token_store import TokenCodec, TokenStore
from tessella._turns import Turns
from tessella.calibration import Calibration, Span, Truth, check_recall, efforts_of
from tessella.errors import InvalidArgument, RecallWarning
from tessella.filters import Where
from tessella.hits import Hits
from tessella.index import Index
from tessella.maxsim import carved, check_cosine, ranked

__all__ = ["MultiVectorHits", "MultiVectorIndex"]

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

_SEED = 0x7E55E11A
_RAW_TOKENS = ("f32", "f16", "bf16")
_MOST_CANDIDATES = 16_384  # the longest list that an index returns
_FOR_EACH, _FOR_EACH_LEARNED = 20, 10  # candidates for each document wanted, before anything has been measured
_LEAST, _LEAST_LEARNED = 200, 100
_DRAWN = ("fde", "smve")  # kinds of encoders that have looked at no document


class MultiVectorHits(Hits):
    """Ids and scores as `Hits` has them, how many `candidates` were scored, and the recall to expect of that.

    `expected_recall` is what `calibrate` measured at so many candidates, None before; under a filter more is found.
    """

    candidates: int = 0
    expected_recall: float | None = None


class MultiVectorIndex:
    """Documents of many vectors, and those that score best by MaxSim.

    An `encoder` makes one vector of each document; an `Index` over these, or for `SMVE` an inverted file, finds
    candidates, and the exact MaxSim over their stored tokens ranks them.

    Args:
        encoder: `FDE(…)` or `SMVE(…)`, which need no training, or a learned encoder that has been fitted.
        codes: spec of the first stage, as for `Index`, without a structure a flat one: `B1` (1 bit a number, the
            default), `B1+U8`, `U8`, `PQ1280`, `IVF,B1`, `Graph32,B1+U8`, …; not for `SMVE`.
        tokens: how tokens are stored: `f32`, `f16`, `bf16`, `int8` or `n4` (4 bits, rotated).
        pool_factor: stored tokens are means of so many that lie close together; 1 keeps all. The first stage sees the
            document as it came.
        seed: of random rotations.

    Token vectors come as lists of (t, dim) arrays, pairs (flat, offsets) or padded arrays with a `mask`, of float32,
    float16, bfloat16 or int8; NumPy, torch or anything with `__dlpack__`. Documents without tokens may be added; they
    are never found. Searches may run from many threads at once, beside one writer.

    >>> import numpy as np, tessella as ts
    >>> draw = np.random.default_rng(0)
    >>> documents = [draw.standard_normal((t, 64), dtype=np.float32) for t in (12, 30, 7, 21)]
    >>> ix = ts.MultiVectorIndex(ts.FDE(64), tokens="int8")
    >>> ix.add(documents, ids=[10, 20, 30, 40])
    >>> ix.search(documents[2], k=1).ids
    array([[30]])

    See also: maxsim, FDE, docs/howto/late-interaction.md.
    """

    def __init__(
        self,
        encoder: SetEncoder,
        *,
        codes: str | None = None,
        tokens: str = "f16",
        pool_factor: int = 1,
        seed: int = _SEED,
    ) -> None:
        self._pool_factor = whole_number(pool_factor, 1, "pool_factor", "MultiVectorIndex")
        self._seed = whole_number(seed, 0, "seed", "MultiVectorIndex")
        self._first = _first_stage.made(encoder, codes, self._seed)
        self._encoder = encoder
        self._store = TokenStore(TokenCodec(tokens, encoder.dim, self._seed))
        self._calibration: Calibration | None = None
        self._recall = 0.95
        self._next_id = 0
        self._turns = Turns()
        self._writing = threading.RLock()

    # ---- what it is

    @property
    def dim(self) -> int:
        """Length of a token vector."""
        return self._encoder.dim

    @property
    def encoder(self) -> SetEncoder:
        """What makes one vector of a document."""
        return self._encoder

    @property
    def first_stage(self) -> Index | AnchorIndex:
        """The index over encodings; to be looked at, and for its `nprobe` or `ef`. Do not add to it."""
        return self._first.index

    @property
    def tokens(self) -> str:
        """How tokens are stored."""
        return self._store.codec.kind

    @property
    def pool_factor(self) -> int:
        """How many tokens a stored one stands for."""
        return self._pool_factor

    @property
    def ids(self) -> Indices:
        """The ids (n,), in the order that the first stage has them."""
        return self._index.ids

    @property
    def nbytes(self) -> int:
        """Bytes of memory that codes and tokens take, spare room included."""
        return self._index.nbytes + self._store.nbytes

    @property
    def token_count(self) -> int:
        """Tokens stored."""
        return self._store.tokens

    @property
    def calibration(self) -> Calibration | None:
        """Recall by number of candidates, as `calibrate` measured it."""
        return self._calibration

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, id: int) -> bool:
        return id in self._index

    def __repr__(self) -> str:
        stored = f"{self._index.spec!r}, tokens={self.tokens!r}"
        pools = f", pool_factor={self.pool_factor}" if self.pool_factor > 1 else ""
        return f"MultiVectorIndex({self._encoder!r}, {stored}{pools}: {len(self):,} documents)"

    # ---- what goes in

    def add(
        self,
        documents: object,
        *,
        ids: object | None = None,
        attributes: object | None = None,
        mask: object | None = None,
        threads: int | None = None,
    ) -> None:
        """Adds documents; all of them or, on an error, none.

        `ids` (n,) are integers >= 0 that are not here yet; by default the next free numbers, from 0. `attributes` are
        what filters go by, a row each, as for `Index.add`. A first stage that has to be trained learns from documents
        of the first `add`, from up to 2,048 its centre, from up to 16,384 lists and codebooks. Cost: encoding
        (see the encoder), and for `pool_factor` some 0.2 ms a document.
        """
        count = resolve_threads(threads, "add")
        ragged = as_ragged("add", documents, dim=self.dim, mask=mask, name="documents")
        check_finite("add", ragged, "documents")
        own = None if ids is None else as_ids(ids, ragged.n, "add")
        with self._writing:
            if own is None:
                own = np.arange(self._next_id, self._next_id + ragged.n, dtype=np.int64)
            self._first.check_new_ids(own)
            table = self._index._filtering.fitted(attributes, ragged.n, "add")
            added = 0
            try:
                for first, part in self._kept(ragged):
                    self._append(own[first : first + part.n], part)
                    added += part.n
                self._first.add(ragged._replace(torch=False), own, table, count)
            except BaseException:
                with self._turns.changing():
                    self._store.forget_last(added)
                raise
            self._next_id = max(self._next_id, int(own.max(initial=-1)) + 1)

    def remove(self, ids: object) -> int:
        """Removes documents by id and returns how many. An unknown id is an error, and then nothing is removed."""
        which = as_ids(ids, None, "remove")
        with self._writing, self._turns.changing():
            self._index.remove(which)
            self._store.remove(which)
        return len(which)

    def update(
        self,
        ids: object,
        documents: object | None = None,
        *,
        attributes: object | None = None,
        mask: object | None = None,
        threads: int | None = None,
    ) -> None:
        """Gives the documents of these ids new tokens, new attributes, or both.

        Columns that `attributes` lack keep their values. An unknown id is an error, and nothing changes. Encodings of
        other documents stay as they are: after many updates a learned encoder, and what `calibrate` measured, may no
        longer fit.
        """
        if documents is None and attributes is None:
            raise InvalidArgument("update: expected documents, attributes, or both; got neither")
        count = resolve_threads(threads, "update")
        ragged = None
        if documents is not None:
            ragged = as_ragged("update", documents, dim=self.dim, mask=mask, name="documents")
            check_finite("update", ragged, "documents")
        which = as_ids(ids, None if ragged is None else ragged.n, "update")
        with self._writing:
            table = self._index._filtering.fitted(attributes, len(which), "update")
            self._index._filtering.check(which, "update")
            if ragged is not None:
                self._replace(which, ragged, count)
            self._index._filtering.update(which, table)

    # ---- what comes out

    def search(
        self,
        queries: object,
        k: int = 10,
        *,
        candidates: int | str = "auto",
        recall: float | None = None,
        where: Where = None,
        with_attributes: list[str] | None = None,
        carve: float | None = None,
        mask: object | None = None,
        threads: int | None = None,
    ) -> MultiVectorHits:
        """The k documents with the largest MaxSim, of those that the first stage finds.

        Args:
            queries: token vectors of one query (t, dim) or more, in any of the forms that documents have.
            candidates: how many documents the first stage hands on, 16,384 at most. "auto" goes by what `calibrate`
                measured, and before it takes 20·k but at least 200, with a learned encoder half of that.
            recall: the share of the true k best to aim at, where the index has been calibrated.
            where: only documents that this admits, as for `Index.search`.
            with_attributes: columns to return with the hits, as `hits.attributes`.
            carve: rank by carved queries, see `tessella.maxsim.carve`; their best 2·k are then scored exactly.
            mask: (n, t), which tokens of padded queries count.
        Returns:
            `MultiVectorHits`, in the kind of the queries (NumPy or torch): ids (nq, k), -1 where there are fewer, and
            scores (nq, k), exact but for how tokens are stored.

        Cost: a search of the first stage, and d multiply-adds for each pair of tokens of query and candidates.
        """
        wanted, count = whole_number(k, 1, "k", "search"), resolve_threads(threads, "search")
        asked = as_ragged("search", queries, dim=self.dim, mask=mask, name="queries")
        check_finite("search", asked, "queries")
        number, expected = self._candidates(candidates, recall, wanted)
        with self._turns.reading():
            slots = self._found(asked, number, where, count)
            if carve is not None:
                slots = self._screened(carved(asked, check_cosine(carve, "search")), slots, 2 * wanted, count)
            scores = self._store.score(self._store.codec.queries(asked), asked.offsets, slots, count)
            ids, best = ranked(scores, self._store.ids_of(slots), wanted)
        hits = MultiVectorHits(asked.like(ids), asked.like(best))
        hits.candidates, hits.expected_recall = number, expected
        if with_attributes is not None:
            hits.attributes = self._index._filtering.values(ids.ravel(), with_attributes)
        return hits

    def exact(
        self, queries: object, k: int = 10, *, mask: object | None = None, threads: int | None = None
    ) -> MultiVectorHits:
        """The k best of all documents, each of which is scored: the truth that recall is measured by."""
        wanted, count = whole_number(k, 1, "k", "exact"), resolve_threads(threads, "exact")
        asked = as_ragged("exact", queries, dim=self.dim, mask=mask, name="queries")
        check_finite("exact", asked, "queries")
        with self._turns.reading():
            scores = self._store.score(self._store.codec.queries(asked), asked.offsets, None, count)
            slots, best = ranked(scores, None, wanted)
            ids = self._store.ids_of(slots)
        hits = MultiVectorHits(asked.like(ids), asked.like(best))
        hits.candidates, hits.expected_recall = len(self), 1.0
        return hits

    def calibrate(
        self,
        queries: object,
        k: int = 10,
        *,
        recall: float = 0.95,
        truth: object | None = None,
        mask: object | None = None,
        threads: int | None = None,
    ) -> Calibration:
        """Measures recall by number of candidates on `queries`, for `candidates="auto"` to go by; kept in files.

        From then on a search takes as many candidates as `recall` of the true `k` best took. `truth` (nq, k) are their
        ids, and what coarse tokens rank amiss counts as lost too; without it every document is scored, by its tokens as
        they are stored. Take queries of the kind that will be asked, a hundred or more.
        """
        wanted, count = whole_number(k, 1, "k", "calibrate"), resolve_threads(threads, "calibrate")
        target = check_recall(recall, "calibrate")
        asked = as_ragged("calibrate", queries, dim=self.dim, mask=mask, name="queries")
        if asked.n == 0 or len(self) == 0:
            raise InvalidArgument(
                f"calibrate: expected queries, and documents in the index; got {asked.n} and {len(self)} of them"
            )
        true_ids = np.asarray(self.exact(asked, wanted, threads=count).ids if truth is None else truth, dtype=np.int64)
        if true_ids.shape != (asked.n, wanted):
            raise InvalidArgument(f"calibrate: expected truth of shape ({asked.n}, {wanted}); got {true_ids.shape}")
        most = min(len(self), _MOST_CANDIDATES)
        with self._turns.reading():
            slots = self._found(asked, most, None, count)
            found = self._store.ids_of(slots)
            scores = None  # of our own best none is ever ranked below the k-th
            if truth is not None:
                scores = self._store.score(self._store.codec.queries(asked), asked.offsets, slots, count)
        efforts = tuple(efforts_of(Span(min(wanted, most), most, most)))
        recalls = _recalls(efforts, found, scores, true_ids)
        counted: Truth = "exact" if truth is not None or self.tokens in _RAW_TOKENS else "own best"
        self._calibration, self._recall = Calibration(wanted, asked.n, efforts, recalls, counted), target
        return self._calibration

    def document(self, id: int) -> npt.NDArray[np.float32]:
        """The stored tokens (t, dim) of a document, as close as they are stored."""
        with self._turns.reading():
            slot = int(self._store.slots(as_ids([id], 1, "document"))[0])
            if slot < 0:
                raise InvalidArgument(f"document: id {id} is not in the index")
            return self._store.document(slot)

    # ---- files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes encoder, codes and tokens to one file, a valid safetensors file, replacing it in one step."""
        with self._writing, self._turns.reading():
            _files.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, mmap: bool = False, verify: bool | None = None) -> MultiVectorIndex:
        """Reads an index from a file; with `mmap`, codes and tokens stay there and are read when they are looked at.

        Raises:
            FormatError: when the file is not a whole, undamaged index of a version this library knows.
        """
        return _files.load(cls, path, mmap, verify)

    # ---- behind the door

    @property
    def _index(self) -> Index | AnchorIndex:
        return self._first.index

    def _kept(self, ragged: Ragged) -> Iterator[tuple[int, Ragged]]:
        for first, part in ragged.slices():
            yield first, part if self._pool_factor == 1 else pooled(part, self._pool_factor)

    def _append(self, ids: Indices, part: Ragged) -> None:
        values, scales = self._store.codec.encode(part)
        with self._turns.changing():
            self._store.append(ids, part.offsets, values, scales)

    def _replace(self, ids: Indices, documents: Ragged, threads: int) -> None:
        """All tokens are encoded before any is replaced, since that may fail."""
        kept: list[tuple[int, Ragged, tuple[Array, Any]]] = [
            (first, part, self._store.codec.encode(part)) for first, part in self._kept(documents)
        ]
        with self._turns.changing():
            self._first.update(documents._replace(torch=False), ids, threads)
            self._store.remove(ids)
            for first, part, (values, scales) in kept:
                self._store.append(ids[first : first + part.n], part.offsets, values, scales)

    def _candidates(self, candidates: int | str, recall: float | None, k: int) -> tuple[int, float | None]:
        """How many, and the recall to expect."""
        known = self._calibration
        if candidates != "auto":
            if isinstance(candidates, str):
                raise InvalidArgument(f"search: expected candidates as 'auto' or a number; got {candidates!r}")
            if recall is not None:
                raise InvalidArgument("search: expected candidates or recall; got both")
            number = whole_number(candidates, 1, "candidates", "search")
        elif known is None:
            if recall is not None:
                raise InvalidArgument(
                    f"search: expected a calibrated index for recall={recall};"
                    " ix.calibrate(queries) measures what it takes"
                )
            drawn = self._encoder._kind in _DRAWN
            number = max(_LEAST, _FOR_EACH * k) if drawn else max(_LEAST_LEARNED, _FOR_EACH_LEARNED * k)
        else:
            target = self._recall if recall is None else check_recall(recall, "search")
            _warn_beyond(known, target)
            number = max(known.effort_for(target), -(-known.effort_for(target) * k // known.k))
        number = max(k, min(number, _MOST_CANDIDATES)) if k <= _MOST_CANDIDATES else k
        return number, None if known is None or k > known.k else known.recall_at(number)

    def _found(self, asked: Ragged, candidates: int, where: Where, threads: int) -> Indices:
        """Slots (nq, candidates) of what the first stage finds, best first."""
        most = min(candidates, max(1, len(self)))
        return self._store.slots(self._first.find(asked._replace(torch=False), most, where, threads))

    def _screened(self, queries: Ragged, slots: Indices, count: int, threads: int) -> Indices:
        """Of these slots those that score best by other queries."""
        scores = self._store.score(self._store.codec.queries(queries), queries.offsets, slots, threads)
        return ranked(scores, slots, min(count, slots.shape[1]))[0]


def _recalls(efforts: tuple[int, ...], found: Indices, scores: Floats | None, truth: Indices) -> tuple[float, ...]:
    """The share of the true ids that a search with so many of the candidates found returns."""
    comes, goes = _stays(found, scores, truth)
    sought = max(1, int((truth >= 0).sum()))
    return tuple(float(((comes <= effort) & (effort < goes)).sum() / sought) for effort in efforts)


def _stays(found: Indices, scores: Floats | None, truth: Indices) -> tuple[Indices, Indices]:
    """With how many candidates each of the true ids (nq, k) comes among the k best, and with how many it goes again.

    Candidates (nq, c) join in the order in which they were `found`. One comes at its own place and goes when k others
    that score better, or as well with smaller ids, have joined. Without `scores` none goes.
    """
    never = np.iinfo(np.int64).max
    comes, goes = np.full(truth.shape, never), np.full(truth.shape, never)
    k = truth.shape[1]
    for row, place in np.argwhere(truth >= 0):
        ids, wanted = found[row], truth[row, place]
        at = np.flatnonzero(ids == wanted)
        if not len(at):
            continue
        comes[row, place] = at[0] + 1
        if scores is not None:
            own = scores[row, at[0]]
            better = np.flatnonzero((scores[row] > own) | ((scores[row] == own) & (ids < wanted)))
            if len(better) >= k:
                goes[row, place] = better[k - 1] + 1
    return comes, goes


def _warn_beyond(known: Calibration, target: float) -> None:
    if known.reaches(target):
        return
    warnings.warn(
        f"search: recall {target} was not reached when this index was calibrated; its best is {max(known.recalls):.4f}",
        RecallWarning,
        stacklevel=4,
    )
