"""What an index knows of its rows besides their numbers, kept in step with them, and the filters over it.

Filters speak of rows in the order of `Index.ids`. An engine may have rows besides, removed ones that it still steps on;
a bitmap is spread over its rows on the way in.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tessella import _core
from tessella._arrays import as_float32, as_ids, as_rows
from tessella._turns import Turns
from tessella.bitmap import Bitmap, KeptBitmap, packed
from tessella.errors import InvalidArgument
from tessella.filters import Filters, Where

if TYPE_CHECKING:
    from tessella.attributes import Attributes

Ids = npt.NDArray[np.int64]


class Restriction(NamedTuple):
    """What an engine's search takes: filters (`_core.RowFilter`), and, if not one for all, which one a query has."""

    filters: list[Any]
    which: Ids | None

    def of(self, first: int, last: int) -> Restriction:
        """That of the queries first .. last."""
        return self if self.which is None else self._replace(which=self.which[first:last])

    def matched(self, queries: int) -> int:
        """Rows admitted, summed over the queries."""
        if self.which is None:
            return int(self.filters[0].count()) * queries
        return int(np.array([each.count() for each in self.filters])[self.which].sum())


class Filtering:
    """The attributes of an engine's rows, and filters over them."""

    def __init__(self, engine: Any) -> None:
        self.attributes: Attributes | None = None
        self.turns = Turns()
        self.adding = threading.RLock()  # rows and attributes come one after the other, and are saved together
        self.version = 0  # raised by every change of the rows or of what is known of them
        self._engine = engine
        self._adopt(None)

    def _adopt(self, attributes: Attributes | None) -> None:
        self.attributes = attributes
        self._filters = Filters(attributes, rows=self._rows, ids=self._engine.ids, find=self._find)

    # ---- changes

    def fitted(self, table: object | None, rows: int, operation: str) -> Any:
        """A table of so many rows, checked against what is here; None where there is none."""
        if table is None:
            return None
        from tessella.attributes import Attributes

        return (self.attributes or Attributes()).fitted(table, rows, operation)

    def added(self, fitted: Any, rows: int) -> None:
        """The engine has `rows` more rows, the first of the fitted ones."""
        self.version += 1
        if rows and (fitted is not None or self.attributes is not None):
            self._table(len(self._engine) - rows).append(None if fitted is None else fitted[:rows], rows=rows)

    def _table(self, rows: int) -> Attributes:
        """The table; where there is none yet, one without a value for so many rows."""
        if self.attributes is None:
            from tessella.attributes import Attributes

            table = Attributes()
            table.append(None, rows=rows)
            self._adopt(table)
            return table
        return self.attributes

    @contextmanager
    def changing(self) -> Iterator[None]:
        """While the engine may move rows; afterwards attributes are where their rows are."""
        with self.turns.changing():
            before = None if self.attributes is None else self._engine.ids()
            try:
                yield
            finally:
                self.version += 1
                if before is not None:
                    self._follow(before)

    def update(self, ids: Ids, fitted: Any) -> None:
        """New values for the attributes of these ids, which are here."""
        if fitted is None:
            return
        self._table(len(self._engine)).update(self._find(ids), fitted)
        self.version += 1

    def restored(self, attributes: Attributes | None) -> None:
        """After the engine was: takes the table that came with it."""
        self.version += 1
        self._adopt(attributes)

    def _follow(self, before: Ids) -> None:
        after = self._engine.ids()
        assert self.attributes is not None
        old, new = moves(before, after)
        if len(old) or len(after) != len(before):
            self.attributes.remove(old, new, len(after))

    # ---- searches

    def still(self, where: Where) -> AbstractContextManager[None]:
        """While a search goes by a filter, no row changes its number."""
        return nullcontext() if where is None else self.turns.reading()

    def kept(self, where: Where, copies: bool) -> KeptBitmap:
        """The rows that one filter admits, in the order of the index's ids, and what searches will know of them."""
        bitmap = self._filters.compile(where)
        row_filter = _core.RowFilter(self._spread(bitmap), bitmap.count, copies)
        return KeptBitmap(bitmap.words, bitmap.n, bitmap.count, self, row_filter)

    def restriction(self, where: Where, queries: int) -> Restriction | None:
        """What the engine is asked; None where every row counts."""
        if where is None:
            return None
        made = self._filters.compile_filters(where, queries)
        if isinstance(made, Bitmap):
            return Restriction([self._row_filter(made)], None)
        numbers: dict[int, int] = {}
        which = np.array([numbers.setdefault(id(each), len(numbers)) for each in made], np.int64)
        bitmaps = {id(each): each for each in made}
        return Restriction([self._row_filter(bitmaps[each]) for each in numbers], which)

    def admitted(
        self, where: Where, offsets: Ids, ids: Ids, scores: npt.NDArray[np.float32]
    ) -> tuple[Ids, Ids, npt.NDArray[np.float32]]:
        """Of lists of hits, laid end to end, those that the filter admits."""
        made = self._filters.compile_filters(where, len(offsets) - 1)
        rows = self._find(ids)
        if isinstance(made, Bitmap):
            kept = _has(made, rows)
        else:
            kept = np.empty(len(ids), np.bool_)
            for first, last, bitmap in zip(offsets, offsets[1:], made, strict=False):
                kept[first:last] = _has(bitmap, rows[first:last])
        return np.concatenate([[0], np.cumsum(kept)])[offsets], ids[kept], scores[kept]

    def values(self, ids: Ids, columns: Sequence[str] | None) -> Any:
        """The attributes of these ids; nulls for those that are not here."""
        if self.attributes is None:
            raise InvalidArgument("search: expected an index with attributes for with_attributes; this one has none")
        rows = self._find(ids)
        return self.attributes.rows(np.where(rows < len(self.attributes), rows, -1), columns)

    def known(self, ids: Ids) -> Any:
        """All attributes of these ids; None where there are none at all."""
        return self.values(ids, None) if self.attributes is not None and self.attributes.types else None

    def check(self, ids: Ids, operation: str) -> None:
        """Refuses ids that are not here, and repeated ones."""
        missing = self._engine.rows_of(ids) < 0
        if missing.any():
            raise InvalidArgument(f"{operation}: id {ids[np.argmax(missing)]} is not in the index")
        once, counts = np.unique(ids, return_counts=True)
        if len(once) < len(ids):
            twice = once[np.argmax(counts > 1)]
            raise InvalidArgument(f"{operation}: expected ids without repeats; {twice} occurs twice")

    def _rows(self) -> int:
        return len(self._engine)

    def _find(self, ids: Ids) -> Ids:
        rows: Ids = self._engine.rows_of(np.ascontiguousarray(ids, np.int64))
        removed = self._engine.removed_rows()
        return rows - np.searchsorted(removed, rows) if len(removed) else rows

    def _row_filter(self, bitmap: Bitmap) -> Any:
        """What the engine takes: that which is kept, or one for this search."""
        if isinstance(bitmap, KeptBitmap) and bitmap.owner is self:
            return bitmap.row_filter
        return _core.RowFilter(self._spread(bitmap), bitmap.count)

    def _spread(self, bitmap: Bitmap) -> npt.NDArray[np.uint64]:
        """The words over the engine's rows, one at least."""
        removed = self._engine.removed_rows()
        if not len(removed):
            return bitmap.words if bitmap.n else np.zeros(1, np.uint64)
        there = np.ones(bitmap.n + len(removed), np.bool_)
        there[removed] = False
        there[there] = bitmap.mask()
        return packed(there)


def _has(bitmap: Bitmap, rows: Ids) -> npt.NDArray[np.bool_]:
    """Which of these rows it admits; rows that came after it are not."""
    known = rows < bitmap.n
    known[known] = bitmap.mask()[rows[known]]
    return known


def new_table(table: object, rows: int, operation: str) -> Attributes:
    """Attributes of so many rows."""
    from tessella.attributes import Attributes

    made = Attributes()
    made.append(made.fitted(table, rows, operation))
    return made


def sorted_rows(x: object, ids: object | None, table: Attributes | None, column: str) -> tuple[Any, Ids, Attributes]:
    """Rows, their ids and their attributes in the order of a column."""
    if table is None:
        raise InvalidArgument(f"build: expected attributes with sort_by={column!r}; got none")
    order = table.order(column)
    rows = as_rows(x, "x", "build")
    own = np.arange(rows.n, dtype=np.int64) if ids is None else as_ids(ids, rows.n, "build")
    values = as_float32(rows.array, rows.kind) if rows.kind == "bf16" else rows.source
    return values[order], own[order], new_table(table.rows(order), rows.n, "build")


def moves(before: Ids, after: Ids) -> tuple[Ids, Ids]:
    """Rows whose number has changed: those they had in `before`, and those they have in `after`."""
    shared = min(len(before), len(after))
    new = np.flatnonzero(before[:shared] != after[:shared])
    left = np.concatenate([new, np.arange(shared, len(before))])  # where the ids that moved can have been
    order = left[np.argsort(before[left], kind="stable")]
    return order[np.searchsorted(before[order], after[new])], new
