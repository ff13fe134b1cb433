"""`Filter`: a filter over one index, looked at once and used often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from tessella.bitmap import Bitmap, KeptBitmap


class Filter:
    """What `Index.filter` makes: the rows that a filter admits, found anew only when the index has changed.

    Masks and what else is given row by row go on meaning the ids that they meant when the filter was made.
    """

    def __init__(
        self,
        where: Any,
        kept: Callable[[Any, bool], KeptBitmap],
        ids: Callable[[], npt.NDArray[np.int64]],
        version: Callable[[], int],
        materialize: bool = False,
    ) -> None:
        self._where, self._kept, self._ids, self._version = where, kept, ids, version
        self._materialize = materialize
        self._known = version(), kept(where, materialize)
        if _is_mask(where):
            self._where = self.ids

    @property
    def count(self) -> int:
        """Rows that it admits."""
        return self.bitmap().count

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """Their ids, in the order rows are stored."""
        return self._ids()[self.bitmap().rows()]

    @property
    def nbytes(self) -> int:
        """Bytes that it takes: its bitmap, and what searches have left with it."""
        bitmap = self._now()
        return bitmap.words.nbytes + int(bitmap.row_filter.nbytes())

    def bitmap(self) -> Bitmap:
        """One bit for each row, in the order of `Index.ids`."""
        return self._now()

    def _now(self) -> KeptBitmap:
        version = self._version()
        if self._known[0] != version:
            self._known = version, self._kept(self._where, self._materialize)
        return self._known[1]

    def __len__(self) -> int:
        return self.count

    def __repr__(self) -> str:
        return f"Filter({self._where!r}: {self.count:,} rows)"


def _is_mask(where: object) -> bool:
    if isinstance(where, list):
        return bool(where) and all(isinstance(each, bool | np.bool_) for each in where)
    return str(getattr(where, "dtype", "")) in ("bool", "torch.bool")
