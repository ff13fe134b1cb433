"""The inverted file over anchors that a `MultiVectorIndex` with an `SMVE` encoder looks for candidates in.

Rows lie in blocks of up to 8,192, each with its postings anchor after anchor: the number of a row in two bytes, its
weight in one, to be multiplied with the row's scale. Rows that are removed keep their number until half of all are.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from tessella import _container, _core
from tessella._filtering import Filtering, Restriction
from tessella._quantizer import natural
from tessella.bitmap import unpacked
from tessella.errors import InvalidArgument
from tessella.filters import Where
from tessella.maxsim import ranked
from tessella.smve import SparseRows

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

BLOCK_ROWS = 8192
_WEIGHT = 255  # of a row, the largest
_QUERY_WEIGHT = 65_535  # of a query, the largest …
_QUERY_SUM = ((1 << 32) - 1) // _WEIGHT  # … and all together, so that a score fits 32 bits
_SLICE_SCORES = 1 << 24


class Postings:
    """Rows by id in blocks of an inverted file: what `Filtering` takes for an engine."""

    def __init__(self, anchors: int) -> None:
        self.anchors = anchors
        self.blocks: list[Any] = []  # _core.SmveBlock
        self.scales = np.empty(0, np.float32)  # of every row,
        self.row_ids = np.empty(0, np.int64)  # and its id; -1: removed
        self._sorted: tuple[Indices, Indices] | None = None  # ids, and their rows

    def __len__(self) -> int:
        return int((self.row_ids >= 0).sum())

    def ids(self) -> Indices:
        """The ids of the rows that are here, in their order."""
        return self.row_ids[self.row_ids >= 0]

    def removed_rows(self) -> Indices:
        """The numbers of the others."""
        return np.flatnonzero(self.row_ids < 0)

    def rows_of(self, ids: Indices) -> Indices:
        """The rows of these ids, -1 for those that are not here."""
        if self._sorted is None:
            there = np.flatnonzero(self.row_ids >= 0)
            order = there[np.argsort(self.row_ids[there], kind="stable")]
            self._sorted = self.row_ids[order], order
        known, rows = self._sorted
        if not len(known):
            return np.full(ids.shape, -1, np.int64)
        place = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        return np.where(known[place] == ids, rows[place], -1)

    @property
    def nbytes(self) -> int:
        """Bytes that postings, scales and ids take."""
        parts = [each for block in self.blocks for each in (block.starts, block.rows, block.weights)]
        return sum(int(each.nbytes) for each in (*parts, self.scales, self.row_ids))

    def append(self, ids: Indices, rows: SparseRows) -> None:
        """New rows behind those there are."""
        weights, scales = _as_bytes(rows)
        first = 0
        while first < rows.n:
            if not self.blocks or self.blocks[-1].count == BLOCK_ROWS:
                self.blocks.append(self._block(np.zeros(self.anchors + 1, np.int64), [], [], 0))
            last = min(rows.n, first + BLOCK_ROWS - self.blocks[-1].count)
            begin, end = rows.offsets[first], rows.offsets[last]
            self.blocks[-1] = self.blocks[-1].extended(
                rows.offsets[first : last + 1] - begin, rows.anchors[begin:end], weights[begin:end]
            )
            first = last
        self.scales = np.concatenate([self.scales, scales])
        self.row_ids = np.concatenate([self.row_ids, ids])
        self._sorted = None

    def remove(self, ids: Indices) -> None:
        """Forgets rows that are here."""
        self.row_ids[self.rows_of(ids)] = -1
        self._sorted = None
        if 2 * len(self) < len(self.row_ids):
            self.compact()

    def compact(self) -> None:
        """Gives up the rows that were removed; the others move together, but not from block to block."""
        there = self.row_ids >= 0
        first, blocks = 0, []
        for block in self.blocks:
            own = there[first : first + block.count]
            first += block.count
            if own.any():
                kept, numbers = own[block.rows], np.cumsum(own) - 1
                places = np.concatenate([[0], np.cumsum(kept)])
                blocks.append(
                    self._block(
                        places[block.starts], numbers[block.rows[kept]], block.weights[kept], int(numbers[-1]) + 1
                    )
                )
        self.blocks, self.scales, self.row_ids, self._sorted = blocks, self.scales[there], self.row_ids[there], None

    def scores(self, queries: SparseRows, threads: int) -> Floats:
        """(nq, rows), of removed rows -inf. Those of different queries are not of one scale."""
        found: Floats = _core.smve_score(
            self.blocks, self.scales, queries.offsets, queries.anchors, _as_whole(queries), threads=threads
        )
        found[:, self.removed_rows()] = -np.inf
        return found

    @staticmethod
    def _block(starts: Any, rows: Any, weights: Any, count: int) -> Any:
        return _core.SmveBlock(
            np.asarray(starts, np.int64), np.asarray(rows, np.uint16), np.asarray(weights, np.uint8), count
        )


class AnchorIndex:
    """Sparse vectors with ids, and those with the largest inner products."""

    spec = "anchors"

    def __init__(self, anchors: int) -> None:
        self._take(Postings(anchors))

    def _take(self, postings: Postings) -> None:
        self._postings, self._filtering, self._changing = postings, Filtering(postings), threading.RLock()

    @property
    def anchors(self) -> int:
        """Length of a sparse vector."""
        return self._postings.anchors

    @property
    def ids(self) -> Indices:
        """The ids (n,), in the order of the rows."""
        return self._postings.ids()

    @property
    def nbytes(self) -> int:
        """Bytes of memory that postings take."""
        return self._postings.nbytes

    @property
    def postings(self) -> int:
        """Numbers stored: one for each row and anchor it has something at."""
        return sum(len(block.rows) for block in self._postings.blocks)

    def __len__(self) -> int:
        return len(self._postings)

    def __contains__(self, id: int) -> bool:
        return bool(self._postings.rows_of(np.array([id], np.int64))[0] >= 0)

    def __repr__(self) -> str:
        return f"AnchorIndex({self.anchors} anchors: {len(self):,} rows)"

    def check_new_ids(self, ids: Indices) -> None:
        """Refuses ids that are here, and repeated ones."""
        here = ids[self._postings.rows_of(ids) >= 0]
        if len(here):
            raise InvalidArgument(f"add: expected new ids; {here[0]} is already in the index")
        once, counts = np.unique(ids, return_counts=True)
        if len(once) < len(ids):
            raise InvalidArgument(f"add: expected ids without repeats; {once[np.argmax(counts > 1)]} occurs twice")

    def add(self, rows: SparseRows, ids: Indices, table: Any) -> None:
        """Rows with checked ids and fitted attributes."""
        with self._filtering.adding:
            self._postings.append(ids, rows)
            self._filtering.added(table, rows.n)

    def remove(self, ids: Indices) -> None:
        """Removes rows by id. An unknown id is an error, and then nothing is removed."""
        self._filtering.check(ids, "remove")
        with self._filtering.changing():
            self._postings.remove(ids)

    def update(self, ids: Indices, rows: SparseRows) -> None:
        """New rows for ids that are here."""
        with self._filtering.changing():
            self._postings.remove(ids)
            self._postings.append(ids, rows)

    def search(self, queries: SparseRows, k: int, where: Where, threads: int) -> Indices:
        """Ids (nq, k) of the best rows that `where` admits, -1 where there are fewer."""
        with self._filtering.turns.reading():
            restriction = self._filtering.restriction(where, queries.n)
            n = len(self._postings.row_ids)
            ids = np.full((queries.n, k), -1, np.int64)
            step = max(1, _SLICE_SCORES // max(1, n))
            for first in range(0, queries.n if n else 0, step):
                some = _part(queries, first, min(first + step, queries.n))
                scores = self._postings.scores(some, threads)
                if restriction is not None:
                    _admit(scores, restriction.of(first, first + some.n))
                rows, _ = ranked(scores, None, k)
                ids[first : first + some.n] = np.where(rows >= 0, self._postings.row_ids[rows], -1)
        return ids

    # ---- files

    def described(self) -> tuple[dict[str, Any], list[_container.Tensor]]:
        """What a file holds of it: what JSON says, and tensors."""
        with self._filtering.adding:
            with self._filtering.changing():
                if len(self._postings.removed_rows()):
                    self._postings.compact()
            kept = self._postings
            attributes = None if self._filtering.attributes is None else self._filtering.attributes.to_arrow()
        counts = np.array([block.count for block in kept.blocks], np.int64)
        tensors: list[_container.Tensor] = [
            ("ids", "I64", kept.row_ids.shape, [kept.row_ids]),
            ("scales", "F32", kept.scales.shape, [kept.scales]),
            ("counts", "I64", counts.shape, [counts]),
            ("starts", "I64", (len(counts), kept.anchors + 1), [block.starts for block in kept.blocks]),
            ("rows", "U16", (self.postings,), [block.rows for block in kept.blocks]),
            ("weights", "U8", (self.postings,), [block.weights for block in kept.blocks]),
        ]
        if attributes is not None:
            tensors.append(("attributes", "U8", (len(attributes),), [np.frombuffer(attributes, np.uint8)]))
        return {"anchors": kept.anchors, "rows": len(kept.row_ids)}, tensors

    @classmethod
    def made(cls, file: _container.Container) -> AnchorIndex:
        """The index that a container describes; a ValueError or FormatError where it does not."""
        anchors, rows = natural(file.config, "anchors"), natural(file.config, "rows")
        counts = file.take("counts", "I64", (None,))
        starts = file.take("starts", "I64", (len(counts), anchors + 1))
        sizes = starts[:, -1] if len(counts) else np.empty(0, np.int64)
        if (counts < 1).any() or (counts > BLOCK_ROWS).any() or counts.sum() != rows or (sizes < 0).any():
            raise ValueError("its blocks are not those of its rows")
        ends = np.concatenate([[0], np.cumsum(sizes)])
        numbers = file.take("rows", "U16", (int(ends[-1]),))
        weights = file.take("weights", "U8", (int(ends[-1]),))
        postings = Postings(anchors)
        postings.row_ids = np.array(file.take("ids", "I64", (rows,)))
        postings.scales = np.array(file.take("scales", "F32", (rows,)))
        if (postings.row_ids < 0).any() or len(np.unique(postings.row_ids)) != rows:
            raise ValueError("its ids are not whole numbers, each once")
        if not (np.isfinite(postings.scales) & (postings.scales >= 0)).all():
            raise ValueError("its scales are not finite")
        for i, count in enumerate(counts):
            part = slice(ends[i], ends[i + 1])
            postings.blocks.append(_core.SmveBlock(starts[i], numbers[part], weights[part], int(count)))
        index = cls(anchors)
        index._take(postings)
        if "attributes" in file.tensors:
            index._take_attributes(file.take("attributes", "U8", (None,)))
        return index

    def _take_attributes(self, data: Any) -> None:
        from tessella.attributes import Attributes

        table = Attributes.from_arrow(data)
        if len(table) != len(self):
            raise ValueError(f"it has attributes of {len(table)} rows, and {len(self)} rows")
        self._filtering.restored(table)


def _admit(scores: Floats, restriction: Restriction) -> None:
    """Rows that a query's bitmap does not have score -inf."""
    masks = [~unpacked(each.words, scores.shape[1]) for each in restriction.filters]
    for row, own in enumerate(scores):
        own[masks[0 if restriction.which is None else int(restriction.which[row])]] = -np.inf


def _part(rows: SparseRows, first: int, last: int) -> SparseRows:
    begin, end = rows.offsets[first], rows.offsets[last]
    return SparseRows(rows.offsets[first : last + 1] - begin, rows.anchors[begin:end], rows.weights[begin:end])


def _largest(rows: SparseRows) -> Floats:
    """Of each row, 0 where it has nothing."""
    largest = np.zeros(rows.n, np.float32)
    filled = np.flatnonzero(np.diff(rows.offsets) > 0)
    if len(filled):
        largest[filled] = np.maximum.reduceat(rows.weights, rows.offsets[filled])
    return largest


def _as_bytes(rows: SparseRows) -> tuple[npt.NDArray[np.uint8], Floats]:
    """Weights as bytes, and what they are multiplied with: the largest of a row becomes 255."""
    largest = _largest(rows)
    inverse = np.divide(np.float32(_WEIGHT), largest, out=np.zeros_like(largest), where=largest > 1e-30)
    weights = np.rint(rows.weights * np.repeat(inverse, np.diff(rows.offsets)))
    return weights.astype(np.uint8), largest / np.float32(_WEIGHT)


def _as_whole(queries: SparseRows) -> npt.NDArray[np.uint32]:
    """Weights as whole numbers whose sums of products fit 32 bits."""
    lengths, largest = np.diff(queries.offsets), _largest(queries).astype(np.float64)
    sums = np.zeros(queries.n)
    filled = np.flatnonzero(lengths > 0)
    if len(filled):
        sums[filled] = np.add.reduceat(queries.weights.astype(np.float64), queries.offsets[filled])
    factor = np.zeros(queries.n)
    np.divide(_QUERY_WEIGHT, largest, out=factor, where=largest > 0)
    np.minimum(factor, np.divide(_QUERY_SUM, sums, out=np.zeros(queries.n), where=sums > 0), out=factor)
    return np.floor(queries.weights * np.repeat(factor, lengths)).astype(np.uint32)
