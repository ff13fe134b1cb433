"""Rows that are named one by one: masks, ids, and FAISS's selectors, which are known by the names of their classes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tessella._arrays import as_ids
from tessella.bitmap import Bitmap
from tessella.errors import InvalidArgument, UnsupportedType

Mask: TypeAlias = npt.NDArray[np.bool_]
Ids: TypeAlias = npt.NDArray[np.int64]


def of_mask(mask: npt.NDArray[Any], n: int) -> Bitmap:
    """A bool for each row, in the order rows are stored."""
    if mask.shape != (n,):
        raise InvalidArgument(f"where: expected a mask of shape ({n},), one bool a stored row; got {mask.shape}")
    return Bitmap.of_mask(np.ascontiguousarray(mask))


def of_ids(ids: object, row_ids: Ids | None, n: int) -> Bitmap:
    """The rows with these ids; ids that no row has are passed over. Without `row_ids`, row i has id i."""
    wanted = as_ids(ids, None, "where")
    if row_ids is not None:
        return Bitmap.of_mask(np.isin(row_ids, wanted))
    mask = np.zeros(n, np.bool_)
    mask[wanted[wanted < n]] = True
    return Bitmap.of_mask(mask)


def of_rows(rows: Ids, n: int) -> Bitmap:
    """Rows by number; -1 is passed over."""
    mask = np.zeros(n, np.bool_)
    mask[rows[(rows >= 0) & (rows < n)]] = True
    return Bitmap.of_mask(mask)


def is_selector(where: object) -> bool:
    """Whether it is one of FAISS's selectors, or speaks like one."""
    return type(where).__name__.startswith("IDSelector") or callable(getattr(where, "is_member", None))


def of_selector(selector: object, row_ids: Ids | None, n: int) -> Bitmap:
    """The rows whose ids the selector admits."""
    return Bitmap.of_mask(_admitted(selector, np.arange(n) if row_ids is None else row_ids))


def _admitted(selector: Any, ids: Ids) -> Mask:
    known = _SELECTORS.get(type(selector).__name__)
    if known is not None:
        return known(selector, ids)
    if not callable(getattr(selector, "is_member", None)):
        raise UnsupportedType(
            f"where: expected one of FAISS's selectors ({', '.join(_SELECTORS)}) or an object with is_member(id);"
            f" got {type(selector).__name__}"
        )
    return np.fromiter((selector.is_member(each) for each in ids.tolist()), np.bool_, len(ids))


def _range(selector: Any, ids: Ids) -> Mask:
    low, high = int(selector.imin), int(selector.imax)
    return (ids >= low) & (ids < high)


def _array(selector: Any, ids: Ids) -> Mask:
    return np.isin(ids, _numbers(selector.ids, selector.n, selector))


def _bitmap(selector: Any, ids: Ids) -> Mask:
    """Bit i % 8 of byte i // 8; `n` counts the bytes."""
    bits = np.unpackbits(_numbers(selector.bitmap, selector.n, selector).view(np.uint8), bitorder="little")
    mask = np.zeros(len(ids), np.bool_)
    inside = ids < len(bits)
    mask[inside] = bits[ids[inside]]
    return mask


def _operands(selector: Any) -> tuple[Any, ...]:
    """What it joins. FAISS keeps the objects it was given in Python; what C++ gives back has lost its class."""
    kept = getattr(selector, "referenced_objects", None)
    if kept:
        return kept[0] if isinstance(kept[0], tuple) else tuple(kept)
    return (selector.sel,) if hasattr(selector, "sel") else (selector.lhs, selector.rhs)


def _not(selector: Any, ids: Ids) -> Mask:
    return ~_admitted(_operands(selector)[0], ids)


def _joined(join: Callable[[Mask, Mask], Mask]) -> Callable[[Any, Ids], Mask]:
    def admitted(selector: Any, ids: Ids) -> Mask:
        one, other = _operands(selector)
        return join(_admitted(one, ids), _admitted(other, ids))

    return admitted


def _numbers(pointer: Any, count: int, selector: Any) -> npt.NDArray[Any]:
    """The array behind an attribute of a selector, which from FAISS itself is a pointer."""
    if isinstance(pointer, np.ndarray):
        return pointer
    faiss: Any = sys.modules[type(selector).__module__.partition(".")[0]]
    return np.asarray(faiss.rev_swig_ptr(pointer, count))


_SELECTORS: dict[str, Callable[[Any, Ids], Mask]] = {
    "IDSelectorRange": _range,
    "IDSelectorArray": _array,
    "IDSelectorBitmap": _bitmap,
    "IDSelectorAll": lambda selector, ids: np.ones(len(ids), np.bool_),
    "IDSelectorNot": _not,
    "IDSelectorAnd": _joined(np.logical_and),
    "IDSelectorOr": _joined(np.logical_or),
    "IDSelectorXOr": _joined(np.logical_xor),
}
