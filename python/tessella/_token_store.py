"""The tokens of documents, as an index of many vectors keeps them: in 32 to 4 bits a number, in memory or in a file.

Documents have slots. Those that came out of a mapped file stay there; later ones are in memory. What is removed leaves
a hole until holes are half of everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tessella import _core
from tessella._arrays import Array, as_float32
from tessella._ragged import Ragged
from tessella.errors import InvalidArgument
from tessella.maxsim import Tokens, prepared, quantized, scores_of

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

TOKEN_KINDS = ("f32", "f16", "bf16", "int8", "n4")
FILE_DTYPES = {"f32": "F32", "f16": "F16", "bf16": "BF16", "int8": "I8", "n4": "U8"}
_DTYPES = {"f32": np.float32, "f16": np.float16, "bf16": np.uint16, "int8": np.int8, "n4": np.uint8}
_LARGEST_HALF = 65504.0


class TokenCodec:
    """How tokens of `dim` numbers are stored: floats, bytes with a scale each, or rotated 4-bit codes with a scale."""

    def __init__(self, kind: str, dim: int, seed: int) -> None:
        if kind not in TOKEN_KINDS:
            raise InvalidArgument(f"tokens: expected one of {', '.join(TOKEN_KINDS)}; got {kind!r}")
        self.kind, self.dim = kind, dim
        self.kernel_kind = {"int8": "i8"}.get(kind, kind)
        padded = -(-dim // 64) * 64
        self.width = padded // 2 if kind == "n4" else dim
        self.scaled = kind in ("int8", "n4")
        self.dtype = np.dtype(_DTYPES[kind])
        self._signs = _core.rotate_signs(padded, seed)

    @property
    def bytes(self) -> int:
        """Bytes a token."""
        return self.width * self.dtype.itemsize + 4 * self.scaled

    def encode(self, tokens: Ragged) -> tuple[Array, Floats | None]:
        """Stored values (T, width), and scales (T,) where there are any. Tokens are finite."""
        if self.kind == "int8" and tokens.kind == "i8":
            return tokens.flat, np.ones(len(tokens.flat), np.float32)
        if self.kind == tokens.kind:
            return tokens.flat, None
        x = as_float32(tokens.flat, tokens.kind)
        if self.kind == "f32":
            return np.ascontiguousarray(x), None
        if self.kind == "f16":
            if x.size and float(np.abs(x).max()) > _LARGEST_HALF:
                raise InvalidArgument("add: expected tokens that float16 can store, up to 65504; tokens='f32' has room")
            return x.astype(np.float16), None
        if self.kind == "bf16":
            bits = x.view(np.uint32)
            return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16), None
        if self.kind == "int8":
            return quantized(x)
        codes, scales, _ = _core.scalar_encode(_core.rotate_forward(x, self._signs), 4, "lloyd")
        return codes, scales / 2  # the kernel's whole numbers are twice the values

    def queries(self, queries: Ragged) -> Tokens:
        """Query tokens as stored ones are multiplied with."""
        if self.kind != "n4":
            return prepared(queries, self.kernel_kind)
        values, scales = quantized(_core.rotate_forward(as_float32(queries.flat, queries.kind), self._signs))
        return Tokens(values, "i8", scales)

    def decode(self, values: Array, scales: Floats | None) -> Floats:
        """Tokens (T, dim), as close as they are stored."""
        if self.kind == "n4":
            assert scales is not None
            rotated = _core.scalar_decode(values, 4, "lloyd") * (2 * scales[:, None])
            restored: Floats = _core.rotate_inverse(rotated, self._signs, self.dim, None)
            return restored
        plain = as_float32(values, self.kernel_kind)
        return plain if scales is None else plain * scales[:, None]


class Segment(NamedTuple):
    """Tokens side by side; of `values` the first `filled` are filled."""

    values: Array
    scales: Floats | None
    filled: int


class TokenStore:
    """Tokens of documents by id, and MaxSim over them. Who changes it keeps others out meanwhile."""

    def __init__(self, codec: TokenCodec) -> None:
        self.codec = codec
        self._segments = [self._empty(0)]
        self._ids = np.empty(0, np.int64)  # of each slot; -1: removed
        self._segment = np.empty(0, np.int8)
        self._begins = np.empty(0, np.int64)  # within the segment
        self._ends = np.empty(0, np.int64)
        self._sorted: tuple[Indices, Indices] | None = None  # ids, and their slots

    def _empty(self, capacity: int) -> Segment:
        scales = np.empty(capacity, np.float32) if self.codec.scaled else None
        return Segment(np.empty((capacity, self.codec.width), self.codec.dtype), scales, 0)

    # ---- what it is

    def __len__(self) -> int:
        return int((self._ids >= 0).sum())

    @property
    def tokens(self) -> int:
        """Tokens of the documents that are here."""
        return int((self._ends - self._begins)[self._ids >= 0].sum())

    @property
    def nbytes(self) -> int:
        """Bytes that tokens take, spare room and holes included."""
        return sum(each.values.nbytes + (0 if each.scales is None else each.scales.nbytes) for each in self._segments)

    def slots(self, ids: Indices) -> Indices:
        """The slots of these ids, -1 for those that are not here."""
        if self._sorted is None:
            there = np.flatnonzero(self._ids >= 0)
            order = there[np.argsort(self._ids[there], kind="stable")]
            self._sorted = self._ids[order], order
        known, slots = self._sorted
        if not len(known):
            return np.full(ids.shape, -1, np.int64)
        place = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        return np.where(known[place] == ids, slots[place], -1)

    # ---- changes

    def append(self, ids: Indices, offsets: Indices, values: Array, scales: Floats | None) -> None:
        """New documents, whose stored tokens are values[offsets[i]:offsets[i + 1]]."""
        last = len(self._segments) - 1
        start = self._segments[last].filled
        self._segments[last] = self._grown(self._segments[last], values, scales)
        self._take(ids, np.full(len(ids), last, np.int8), start + offsets[:-1], start + offsets[1:])

    def adopt(self, ids: Indices, offsets: Indices, values: Array, scales: Floats | None) -> None:
        """The documents of a file, where they lie; only while empty."""
        self._segments = [Segment(values, scales, len(values)), self._empty(0)]
        self._take(ids, np.zeros(len(ids), np.int8), offsets[:-1].copy(), offsets[1:].copy())

    def forget_last(self, count: int) -> None:
        """Takes back the documents that were appended last."""
        if count:
            kept = len(self._ids) - count
            last = self._segments[-1]
            self._segments[-1] = last._replace(filled=int(self._begins[kept]))
            self._ids, self._segment = self._ids[:kept], self._segment[:kept]
            self._begins, self._ends, self._sorted = self._begins[:kept], self._ends[:kept], None

    def remove(self, ids: Indices) -> None:
        """Forgets documents that are here; their room is given up once holes are half of everything."""
        self._ids[self.slots(ids)] = -1
        self._sorted = None
        if 2 * self.tokens < sum(each.filled for each in self._segments):
            self.compact()

    def compact(self) -> None:
        """Copies what is left together."""
        there = np.flatnonzero(self._ids >= 0)
        kept = TokenStore(self.codec)
        pieces = list(self.pieces(there))
        offsets = self.offsets(there)
        if pieces:
            scales = np.concatenate([s for _, s in pieces if s is not None]) if self.codec.scaled else None
            kept.append(self._ids[there], offsets, np.concatenate([v for v, _ in pieces]), scales)
        self.__dict__.update(kept.__dict__)

    def _grown(self, old: Segment, values: Array, scales: Floats | None) -> Segment:
        count = old.filled + len(values)
        if count > len(old.values):
            bigger = self._empty(max(count, len(old.values) * 3 // 2))
            bigger.values[: old.filled] = old.values[: old.filled]
            if old.scales is not None and bigger.scales is not None:
                bigger.scales[: old.filled] = old.scales[: old.filled]
            old = bigger
        old.values[count - len(values) : count] = values
        if old.scales is not None:
            old.scales[count - len(values) : count] = scales
        return old._replace(filled=count)

    def _take(self, ids: Indices, segment: npt.NDArray[np.int8], begins: Indices, ends: Indices) -> None:
        self._ids, self._segment = np.concatenate([self._ids, ids]), np.concatenate([self._segment, segment])
        self._begins, self._ends = np.concatenate([self._begins, begins]), np.concatenate([self._ends, ends])
        self._sorted = None

    # ---- what is read

    def score(self, queries: Tokens, offsets: Indices, which: Indices | None, threads: int) -> Floats:
        """MaxSim (nq, c) of the slots `which` (nq, c), -1 for none; or (nq, slots), -inf for removed ones."""
        best: Floats | None = None
        for number, segment in enumerate(self._segments):
            if segment.filled == 0 and (best is not None or number + 1 < len(self._segments)):
                continue
            begins, ends, own = self._begins, self._ends, which
            if which is None:  # what lies elsewhere, and what is gone, has no tokens here
                ends = np.where((self._segment == number) & (self._ids >= 0), ends, begins)
            elif len(self._segments) > 1:
                own = np.where((which >= 0) & (self._segment[which] == number), which, -1)
            stored = Tokens(segment.values[: segment.filled], self.codec.kernel_kind, _cut(segment))
            scores = scores_of(queries, offsets, stored, begins, ends, own, threads)
            best = scores if best is None else np.maximum(best, scores)
        assert best is not None
        return best

    def ids_of(self, slots: Indices) -> Indices:
        """The ids of these slots, -1 for -1."""
        return np.where(slots >= 0, self._ids[slots], -1) if len(self._ids) else np.full(slots.shape, -1, np.int64)

    def present(self) -> Indices:
        """The slots that hold a document, in order."""
        return np.flatnonzero(self._ids >= 0)

    def offsets(self, slots: Indices) -> Indices:
        """Where the tokens of each begin when they lie one after another."""
        return np.concatenate([[0], np.cumsum(self._ends[slots] - self._begins[slots])]).astype(np.int64)

    def pieces(self, slots: Indices) -> Iterator[tuple[Array, Floats | None]]:
        """Their stored tokens in order, as few views of what is stored as do."""
        if not len(slots):
            return
        before, after = slots[:-1], slots[1:]
        joined = (self._segment[after] == self._segment[before]) & (self._begins[after] == self._ends[before])
        starts = np.concatenate([[0], np.flatnonzero(~joined) + 1, [len(slots)]])
        for a, b in pairwise(starts):
            segment = self._segments[self._segment[slots[a]]]
            begin, end = self._begins[slots[a]], self._ends[slots[b - 1]]
            yield segment.values[begin:end], None if segment.scales is None else segment.scales[begin:end]

    def document(self, slot: int) -> Floats:
        """The tokens (t, dim) of one document, as close as they are stored."""
        values, scales = next(self.pieces(np.array([slot])))
        return self.codec.decode(np.ascontiguousarray(values), scales)


def _cut(segment: Segment) -> Floats | None:
    return None if segment.scales is None else segment.scales[: segment.filled]


def check_offsets(offsets: Any, tokens: int) -> Indices:
    """Offsets out of a file; a ValueError where they do not fit its tokens."""
    rises = len(offsets) > 0 and offsets[0] == 0 and offsets[-1] == tokens and bool((np.diff(offsets) >= 0).all())
    if not rises:
        raise ValueError(f"its offsets do not rise from 0 to its {tokens} tokens")
    return np.ascontiguousarray(offsets, np.int64)
