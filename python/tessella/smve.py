"""SMVE: sets of token vectors as sparse vectors over random anchors."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from tessella import _core
from tessella._arrays import as_float32
from tessella._backend import resolve_threads, whole_number
from tessella._ragged import Ragged, as_ragged, check_finite
from tessella._token_encoder import Arrays, SetEncoder, Settings
from tessella.errors import InvalidArgument

__all__ = ["SMVE", "SparseRows"]

_ROUNDS = 4  # of a rotation
_MOST_ANCHORS = 1 << 24
_LARGEST = 1e30  # so that rotations and sums fit float32


class SparseRows(NamedTuple):
    """Sparse vectors, one after another: row i has `weights` at `anchors`, offsets[i] to offsets[i + 1] - 1.

    `scipy.sparse.csr_array((rows.weights, rows.anchors, rows.offsets))` takes them as they are.
    """

    offsets: npt.NDArray[np.int64]  # (n + 1,)
    anchors: npt.NDArray[np.uint32]  # ascending in each row
    weights: npt.NDArray[np.float32]  # above zero

    @property
    def n(self) -> int:
        """Rows."""
        return len(self.offsets) - 1


class SMVE(SetEncoder):
    """Sparse encodings over random anchors: inner products approximate MaxSim, the sum of the best matches.

    SMVE (TopK, 2026). Anchors are the axes of random rotations and their opposites; each token stays at those `kept`
    that it is nearest to. At each anchor a query has the sum of its tokens' inner products, a document their mean, and
    most have nothing. Nothing is trained, so documents can be added at any time. In a `MultiVectorIndex` an inverted
    file over anchors finds candidates.

    Args:
        dim: length of a token vector.
        rotations: of D = dim rounded up to 64 axes; there are 2 * rotations * D anchors, 8,192 by default at 128.
        kept: anchors of a token.
        seed: of the rotations.

    A document without tokens has nothing anywhere.
    Cost of a token: `rotations` rotations, each D * log2 D * 4 additions, and two looks at rotations * D numbers.

    >>> import numpy as np, tessella as ts
    >>> draw = np.random.default_rng(0)
    >>> documents = [draw.standard_normal((t, 64), dtype=np.float32) for t in (30, 5, 80)]
    >>> smve = ts.SMVE(64)
    >>> rows = smve.encode_documents(documents)
    >>> rows.n, bool((np.diff(rows.offsets) <= smve.anchors).all())
    (3, True)

    See also: FDE (dense), LEMUR (learned), docs/concepts/smve.md.
    """

    _kind: ClassVar[str] = "smve"

    def __init__(self, dim: int, *, rotations: int = 32, kept: int = 32, seed: int = 42) -> None:
        self._dim = whole_number(dim, 1, "dim", "smve")
        self._rotations = whole_number(rotations, 1, "rotations", "smve")
        self._kept = whole_number(kept, 1, "kept", "smve")
        self._seed = whole_number(seed, 0, "seed", "smve")
        if self.anchors > _MOST_ANCHORS:
            raise InvalidArgument(f"smve: expected at most {_MOST_ANCHORS} anchors; got {self.anchors}")
        if 2 * self._kept > self.anchors:
            raise InvalidArgument(f"smve: expected kept <= {self.anchors // 2}, half the anchors; got {kept}")
        padded, words = self._padded, _ROUNDS * self._padded // 64
        self._signs = np.stack([_core.rotate_signs(padded, self._seed + i * words) for i in range(self._rotations)])

    @property
    def dim(self) -> int:
        """Length of a token vector."""
        return self._dim

    @property
    def rotations(self) -> int:
        """Random rotations, whose axes are the anchors."""
        return self._rotations

    @property
    def kept(self) -> int:
        """Anchors that a token stays at."""
        return self._kept

    @property
    def anchors(self) -> int:
        """Length of a sparse vector."""
        return 2 * self._rotations * self._padded

    def __repr__(self) -> str:
        return f"SMVE({self._dim}, rotations={self._rotations}, kept={self._kept}: {self.anchors} anchors)"

    def encode_queries(self, queries: object, *, mask: object | None = None, threads: int | None = None) -> SparseRows:
        """Sparse vectors of queries, sums over tokens; forms and types of tokens as for `FDE.encode_queries`."""
        return self._encoded("encode_queries", queries, mask, threads)

    def encode_documents(
        self, documents: object, *, mask: object | None = None, threads: int | None = None
    ) -> SparseRows:
        """Sparse vectors of documents, means over tokens; forms and types of tokens as for `FDE.encode_documents`."""
        return self._encoded("encode_documents", documents, mask, threads)

    def state(self) -> tuple[Settings, Arrays]:
        """What the encoder is made of, for a file: settings that JSON holds, and arrays by name."""
        return {"dim": self._dim, "rotations": self._rotations, "kept": self._kept, "seed": self._seed}, {}

    @classmethod
    def from_state(cls, settings: Settings, arrays: Arrays) -> SMVE:
        """The encoder that `state` was taken of; a ValueError, KeyError or TypeError where that is not one."""
        return cls(settings["dim"], rotations=settings["rotations"], kept=settings["kept"], seed=settings["seed"])

    # ---- behind the door

    @property
    def _padded(self) -> int:
        return -(-self._dim // 64) * 64

    def _encoded(self, operation: str, tokens: object, mask: object | None, threads: int | None) -> SparseRows:
        ragged = as_ragged(operation, tokens, dim=self._dim, mask=mask)
        count = resolve_threads(threads, operation)
        check_finite(operation, ragged)
        parts = [self._part(part, operation, count) for _, part in ragged.slices()]
        if len(parts) == 1:
            return parts[0]
        lengths = np.concatenate([[0], *(np.diff(part.offsets) for part in parts)])
        return SparseRows(
            np.cumsum(lengths, dtype=np.int64),
            np.concatenate([np.empty(0, np.uint32), *(part.anchors for part in parts)]),
            np.concatenate([np.empty(0, np.float32), *(part.weights for part in parts)]),
        )

    def _part(self, part: Ragged, operation: str, threads: int) -> SparseRows:
        tokens = part.flat.astype(np.float32) if part.kind == "i8" else as_float32(part.flat, part.kind)
        if tokens.size and float(np.abs(tokens).max()) > _LARGEST:
            raise InvalidArgument(f"{operation}: expected tokens of numbers up to {_LARGEST:g}")
        found: Any = _core.smve_encode(
            tokens, part.offsets, self._signs,
            kept=self._kept, queries=operation == "encode_queries", threads=threads,
        )  # fmt: skip
        return SparseRows(*found)
