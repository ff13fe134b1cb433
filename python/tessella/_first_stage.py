"""What a `MultiVectorIndex` finds candidates in: an `Index` over dense encodings, or an inverted file over anchors.

Both have ids and attributes, take documents in slices so that encodings never stand in memory together, and answer
queries with ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tessella import _container, _files
from tessella._anchor_index import AnchorIndex
from tessella._ragged import Ragged
from tessella._token_encoder import SetEncoder, TokenEncoder
from tessella.errors import InvalidArgument, UnsupportedType
from tessella.filters import Where
from tessella.index import Index
from tessella.smve import SMVE

Indices = npt.NDArray[np.int64]
Described = tuple[dict[str, Any], list[_container.Tensor]]

_SLICE_DOCUMENTS = 2048  # encoded at a time
_MEAN_DOCUMENTS = 2048  # that a first stage takes its centre from, at most
_TRAIN_DOCUMENTS = 16_384  # that lists or codebooks are learnt from


class FirstStage(Protocol):
    """Documents by id, and candidates among them."""

    @property
    def index(self) -> Index | AnchorIndex:
        """What is searched."""

    def check_new_ids(self, ids: Indices) -> None: ...

    def add(self, documents: Ragged, ids: Indices, table: Any, threads: int) -> None: ...

    def update(self, documents: Ragged, ids: Indices, threads: int) -> None: ...

    def find(self, queries: Ragged, count: int, where: Where, threads: int) -> Indices:
        """Ids (nq, count), best first, -1 where there are fewer."""

    def described(self) -> Described:
        """What a file holds of it: what JSON says, and tensors."""


class Dense:
    """An index of encodings."""

    def __init__(self, encoder: TokenEncoder, index: Index) -> None:
        self.encoder, self.index = encoder, index

    def check_new_ids(self, ids: Indices) -> None:
        self.index._engine.check_new_ids(ids)

    def add(self, documents: Ragged, ids: Indices, table: Any, threads: int) -> None:
        self._train_first(documents, threads)
        step = documents.n if self.index._structure.built_at_once and not len(self.index) else _SLICE_DOCUMENTS
        self.index._add_encoded(self._encoded(documents, step, threads), ids, table, threads)

    def update(self, documents: Ragged, ids: Indices, threads: int) -> None:
        first = 0
        for x in self._encoded(documents, _SLICE_DOCUMENTS, threads):
            self.index.update(ids[first : first + len(x)], x, threads=threads)
            first += len(x)

    def find(self, queries: Ragged, count: int, where: Where, threads: int) -> Indices:
        encoded = self.encoder.encode_queries(queries, threads=threads)
        return np.asarray(self.index.search(encoded, count, where=where, threads=threads).ids)

    def described(self) -> Described:
        return _files.described(self.index)

    def _train_first(self, documents: Ragged, threads: int) -> None:
        if self.index.is_trained or not documents.n:
            return
        config = self.index.config
        learns = config.structure == "IVF" or "PQ" in config.codecs[0]
        some, most = documents, _TRAIN_DOCUMENTS if learns else _MEAN_DOCUMENTS
        if documents.n > most:
            some = documents.chosen(np.sort(np.random.default_rng(0).permutation(documents.n)[:most]))
        self.index.train(self.encoder.encode_documents(some, threads=threads), threads=threads)

    def _encoded(self, documents: Ragged, step: int, threads: int) -> Iterator[npt.NDArray[np.float32]]:
        for first in range(0, documents.n, max(1, step)):
            part = documents.part(first, min(first + step, documents.n))
            yield self.encoder.encode_documents(part, threads=threads)


class Sparse:
    """An inverted file over anchors."""

    def __init__(self, encoder: SMVE, index: AnchorIndex) -> None:
        self.encoder, self.index = encoder, index

    def check_new_ids(self, ids: Indices) -> None:
        self.index.check_new_ids(ids)

    def add(self, documents: Ragged, ids: Indices, table: Any, threads: int) -> None:
        self.index.add(self.encoder.encode_documents(documents, threads=threads), ids, table)

    def update(self, documents: Ragged, ids: Indices, threads: int) -> None:
        self.index.update(ids, self.encoder.encode_documents(documents, threads=threads))

    def find(self, queries: Ragged, count: int, where: Where, threads: int) -> Indices:
        return self.index.search(self.encoder.encode_queries(queries, threads=threads), count, where, threads)

    def described(self) -> Described:
        return self.index.described()


def made(encoder: SetEncoder, codes: str | None, seed: int) -> FirstStage:
    """An empty one."""
    if isinstance(encoder, SMVE):
        if codes is not None:
            raise InvalidArgument(f"MultiVectorIndex: expected no codes with SMVE, which has postings; got {codes!r}")
        return Sparse(encoder, AnchorIndex(encoder.anchors))
    if not isinstance(encoder, TokenEncoder):
        raise UnsupportedType(f"MultiVectorIndex: expected an encoder such as FDE; got {type(encoder).__name__}")
    spec = codes or "B1"
    spec = spec if spec.startswith(("Flat", "IVF", "Graph")) else f"Flat,{spec}"
    return Dense(encoder, Index(spec, dim=encoder.output_dim, metric="ip", seed=seed))


def restored(encoder: SetEncoder, file: _container.Container) -> FirstStage:
    """The one that a file describes; a ValueError or FormatError where it does not."""
    if isinstance(encoder, SMVE):
        index = AnchorIndex.made(file)
        if index.anchors != encoder.anchors:
            raise ValueError(f"its first stage has {index.anchors} anchors, its encoder {encoder.anchors}")
        return Sparse(encoder, index)
    assert isinstance(encoder, TokenEncoder)
    first = _files.made(Index, file)
    if first.metric != "ip" or first.dim != encoder.output_dim:
        raise ValueError(f"its first stage is of {first.dim} dimensions, its encoder makes {encoder.output_dim}")
    return Dense(encoder, first)
