"""The door for token vectors: documents or queries of different lengths, as one flat matrix and where each begins.

What comes in is a list of (t_i, d) arrays, a pair (flat, offsets), or a padded (n, t, d) array with its mask; NumPy,
CPU torch or anything with `__dlpack__`. The flat matrix is read as it lies where the kernels can read it; lists are
copied together. A document without tokens is a document. torch is never imported.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tessella._arrays import DTYPES, Array, host_array, is_torch, kind_of
from tessella.errors import InvalidArgument, UnsupportedType

TOKEN_DTYPES: dict[str, np.dtype[Any]] = {
    "f32": DTYPES["f32"],
    "f16": DTYPES["f16"],
    "bf16": DTYPES["bf16"],  # the bits, as uint16
    "i8": np.dtype(np.int8),
}
_EXPONENTS = {"f32": (np.uint32, 0x7F800000), "f16": (np.uint16, 0x7C00), "bf16": (np.uint16, 0x7F80)}
_SLICE_TOKENS = 65_536


class Ragged(NamedTuple):
    """Token vectors at the door: those of document i are `flat[offsets[i]:offsets[i + 1]]`."""

    flat: Array  # (T, d), C-contiguous, of TOKEN_DTYPES[kind]
    offsets: npt.NDArray[np.int64]  # (n + 1,), from 0 to T, never falling
    kind: str  # f32, f16, bf16 or i8
    single: bool  # one document came as a two-dimensional array
    torch: bool  # results go back as torch tensors

    @property
    def n(self) -> int:
        """Documents."""
        return len(self.offsets) - 1

    @property
    def d(self) -> int:
        return int(self.flat.shape[1])

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each document (n,)."""
        lengths: npt.NDArray[np.int64] = np.diff(self.offsets)
        return lengths

    def like(self, array: Array) -> Any:
        """`array` in the kind of the input: torch for torch, else NumPy."""
        return sys.modules["torch"].from_numpy(array) if self.torch else array

    def part(self, first: int, last: int) -> Ragged:
        """Documents first to last - 1, over the same memory."""
        begin, end = self.offsets[first], self.offsets[last]
        return self._replace(flat=self.flat[begin:end], offsets=self.offsets[first : last + 1] - begin, single=False)

    def chosen(self, which: npt.NDArray[np.int64]) -> Ragged:
        """Documents of these numbers, copied together."""
        pieces = [self.flat[self.offsets[i] : self.offsets[i + 1]] for i in which]
        flat = np.concatenate(pieces) if pieces else self.flat[:0]
        return self._replace(flat=flat, offsets=_starts([len(each) for each in pieces]), single=False)

    def slices(self, tokens: int = _SLICE_TOKENS) -> Iterator[tuple[int, Ragged]]:
        """(first document, part) in order, each of at most so many tokens or of one document."""
        first = 0
        while first < self.n:
            limit = self.offsets[first] + tokens
            last = max(first + 1, int(np.searchsorted(self.offsets, limit, side="right")) - 1)
            yield first, self.part(first, last)
            first = last


def as_ragged(
    operation: str, tokens: object, *, dim: int | None = None, mask: object | None = None, name: str = "tokens"
) -> Ragged:
    """Checks that `tokens` hold token vectors of `dim` numbers, in one of the shapes that the module names.

    float32, float16, bfloat16 and int8 stay as they are; other numbers become float32. In a padded array `mask` (n, t)
    says which tokens count; without one all do. A two-dimensional array is one document.
    """
    if isinstance(tokens, Ragged):
        ragged = tokens
    elif isinstance(tokens, tuple) and len(tokens) == 2 and np.ndim(tokens[1]) == 1:
        ragged = _flat_pair(operation, name, tokens[0], tokens[1])
    elif isinstance(tokens, (list, tuple)) or _is_array_of_arrays(tokens):
        ragged = _joined(operation, name, tokens, dim)
    else:
        return _array(operation, name, tokens, dim, mask)
    if mask is not None:
        raise InvalidArgument(f"{operation}: expected a mask with padded {name} (n, t, d) only")
    return _of_dim(operation, name, ragged, dim)


def check_finite(operation: str, ragged: Ragged, name: str = "tokens") -> None:
    """A NaN or an infinity is an error that names its document and token."""
    if ragged.kind not in _EXPONENTS:
        return
    bits, exponent = _EXPONENTS[ragged.kind]
    for start in range(0, len(ragged.flat), _SLICE_TOKENS):
        wrong = (ragged.flat[start : start + _SLICE_TOKENS].view(bits) & exponent == exponent).any(axis=1)
        if wrong.any():
            token = start + int(np.argmax(wrong))
            document = int(np.searchsorted(ragged.offsets, token, side="right")) - 1
            raise InvalidArgument(
                f"{operation}: expected finite {name}; token {token - ragged.offsets[document]} of number {document}"
                f" has a NaN or an infinity"
            )


def _is_array_of_arrays(tokens: object) -> bool:
    return isinstance(tokens, np.ndarray) and tokens.dtype == object and tokens.ndim == 1


def _host(operation: str, name: str, x: object) -> tuple[Array, str]:
    """An array and the kind it will have."""
    array, bf16 = host_array(x, name, operation)
    kind = "bf16" if bf16 else "i8" if array.dtype == np.int8 else kind_of(array.dtype)
    if kind is None:
        raise UnsupportedType(
            f"{operation}: expected {name} of type float32, float16, bfloat16 or int8; got {array.dtype}"
        )
    return array, "f32" if kind == "u8" else kind


def _ready(array: Array, kind: str) -> Array:
    dtype = TOKEN_DTYPES[kind]
    if array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned:
        return array
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes inf, which is refused where that matters
        return np.require(array, dtype, ["C", "A"])


def _array(operation: str, name: str, tokens: object, dim: int | None, mask: object | None) -> Ragged:
    """One document (t, d), or padded ones (n, t, d)."""
    array, kind = _host(operation, name, tokens)
    if array.ndim not in (2, 3):
        wanted = "a list of (t, d) arrays, (flat, offsets), or an array of shape (n, t, d) or (t, d)"
        raise InvalidArgument(f"{operation}: expected {name} as {wanted}; got shape {array.shape}")
    if array.ndim == 2 and mask is not None:
        raise InvalidArgument(f"{operation}: expected a mask with padded {name} (n, t, d) only")
    n, t = (1, len(array)) if array.ndim == 2 else array.shape[:2]
    d, torch = array.shape[-1], is_torch(tokens)
    if mask is None:
        offsets = np.arange(n + 1, dtype=np.int64) * t
        made = Ragged(_ready(array.reshape(n * t, d), kind), offsets, kind, array.ndim == 2, torch)
        return _of_dim(operation, name, made, dim)
    kept, _ = host_array(mask, "mask", operation)
    if kept.shape != (n, t) or kept.dtype.kind not in "biu":
        raise InvalidArgument(
            f"{operation}: expected mask of shape ({n}, {t}), of bool or whole numbers; got {kept.shape}, {kept.dtype}"
        )
    kept = kept != 0
    made = Ragged(_ready(array[kept], kind), _starts(kept.sum(axis=1)), kind, False, torch)
    return _of_dim(operation, name, made, dim)


def _flat_pair(operation: str, name: str, flat: object, offsets: Any) -> Ragged:
    array, kind = _host(operation, name, flat)
    starts, _ = host_array(offsets, "offsets", operation)
    if array.ndim != 2:
        raise InvalidArgument(f"{operation}: expected flat {name} of shape (T, d); got {array.shape}")
    if starts.dtype.kind not in "iu":
        raise UnsupportedType(f"{operation}: expected offsets of an integer type; got {starts.dtype}")
    # Compared before they are converted: uint64 beyond int64 must not wrap.
    rises = len(starts) > 0 and starts[0] == 0 and starts[-1] == len(array) and bool((starts[1:] >= starts[:-1]).all())
    if not rises:
        raise InvalidArgument(
            f"{operation}: expected offsets that rise from 0 to the number of {name}, {len(array)}; got"
            f" {np.array2string(starts, threshold=6, edgeitems=2)}"
        )
    return Ragged(_ready(array, kind), starts.astype(np.int64), kind, False, is_torch(flat))


def _joined(operation: str, name: str, documents: Any, dim: int | None) -> Ragged:
    """A list of documents, copied together; those without tokens have no say in the type."""
    arrays = [_host(operation, f"{name}[{i}]", each) for i, each in enumerate(documents)]
    arrays = [(a.reshape(0, 0) if a.shape == (0,) else a, kind) for a, kind in arrays]  # [] is no tokens, too
    for i, (array, _) in enumerate(arrays):
        if array.ndim != 2:
            raise InvalidArgument(f"{operation}: expected {name}[{i}] of shape (t, d); got {array.shape}")
    kinds, dims = _distinct(kind for a, kind in arrays if len(a)), _distinct(a.shape[1] for a, _ in arrays if len(a))
    dims = dims or _distinct(a.shape[1] for a, _ in arrays if a.shape[1])
    if len(kinds) > 1 or len(dims) > 1:
        got = " and ".join(map(str, kinds if len(kinds) > 1 else dims))
        raise InvalidArgument(f"{operation}: expected {name} of one type and length; got {got}")
    if not dims and dim is None:
        raise InvalidArgument(f"{operation}: expected {name} with a document of shape (t, d); got none")
    kind, d = kinds[0] if kinds else "f32", int(dims[0] if dims else dim or 0)
    filled = [_ready(a, kind) for a, _ in arrays if len(a)]
    flat = np.concatenate(filled) if filled else np.empty((0, d), TOKEN_DTYPES[kind])
    torch = any(is_torch(each) for each in documents)
    return Ragged(flat, _starts([len(a) for a, _ in arrays]), kind, False, torch)


def _distinct(values: Iterator[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def _starts(lengths: Sequence[int] | Array) -> npt.NDArray[np.int64]:
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _of_dim(operation: str, name: str, ragged: Ragged, dim: int | None) -> Ragged:
    if ragged.d == 0 or (dim is not None and ragged.d != dim):
        wanted = "at least one number" if dim is None else f"{dim} numbers"
        raise InvalidArgument(f"{operation}: expected {name} of {wanted} each; got {ragged.d}")
    return ragged
