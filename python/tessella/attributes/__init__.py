"""`Attributes`: what is known of each stored vector besides its numbers."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

try:
    import polars as pl
    import pyarrow  # noqa: F401, the modules of this package need it
except ImportError as error:
    raise ImportError(
        'attributes: expected polars and pyarrow; `pip install "tessella[filters]"` brings them'
    ) from error

from tessella.attributes import arrow
from tessella.attributes.parts import Part, nulls
from tessella.attributes.tables import Type, as_frame, common_type, converted
from tessella.errors import InvalidArgument

__all__ = ["Attributes", "View"]

_GROWTH = 4  # a part is merged with those before it that have fewer than so many times its rows
_SPARE_ROWS = 1024  # rows that changes may leave behind before the table is written anew, beside one in eight

Places = npt.NDArray[np.int64]


class View(NamedTuple):
    """The table at one moment: `parts` end to end, of which row i is the one at `places[i]` (None: at i)."""

    version: int
    rows: int
    parts: tuple[Part, ...]
    places: Places | None
    types: Mapping[str, Type]


class Attributes:
    """A table with one row for each stored vector, in the order they are stored.

    Args:
        table: a polars or pandas DataFrame, an Arrow table or anything with `__arrow_c_stream__`, a dict of arrays
            or lists, a list of dicts.

    Columns are bool, integers, floats, strings, dates, timestamps and lists of strings or integers (labels); any
    value may be null, and NaN is taken for null. Repeated strings and labels are stored once. Reading and filtering
    may go on in many threads beside one that changes the table.

    >>> table = Attributes({"section": ["python", "math"], "tags": [["net", "web"], []]})
    >>> table.append({"section": ["python"]})
    >>> table.rows([2, 0]).to_dicts()
    [{'section': 'python', 'tags': None}, {'section': 'python', 'tags': ['net', 'web']}]
    """

    # Rows are only ever added at the end: a removed row is one that no place names any more, and an updated one has
    # a new copy at the end. So parts, their codes and their postings never change, and a change costs what it touches.

    def __init__(self, table: object | None = None) -> None:
        self._lock = threading.RLock()
        self._types: dict[str, Type] = {}
        self._parts: list[Part] = []
        self._pending: list[tuple[pl.DataFrame, int]] = []  # added since somebody last looked
        self._held = 0  # rows in parts and pending
        self._rows = 0
        self._places: Places | None = None
        self._places_shared = False
        self._version = 0
        if table is not None:
            self.append(table)

    def __len__(self) -> int:
        return self._rows

    def __repr__(self) -> str:
        columns = ", ".join(f"{name}: {kept}" for name, kept in self._types.items())
        return f"Attributes({len(self):,} rows; {columns})"

    @property
    def types(self) -> dict[str, Any]:
        """The polars type of each column."""
        return dict(self._types)

    @property
    def version(self) -> int:
        """A number that every change raises."""
        return self._version

    @property
    def nbytes(self) -> int:
        """Bytes that columns, dictionaries and postings take."""
        with self._lock:
            places = 0 if self._places is None else self._places.nbytes
            pending = sum(int(frame.estimated_size()) for frame, _ in self._pending)
            return sum(part.nbytes for part in self._parts) + pending + places

    # ---- changes

    def fitted(self, table: object, rows: int, operation: str) -> pl.DataFrame:
        """What `append` and `update` will take for so many rows; raises what they would, and changes nothing."""
        frame = as_frame(table, operation)
        if frame.height != rows:
            raise InvalidArgument(f"{operation}: expected attributes of {rows} rows; got {frame.height}")
        return _fitted(frame, self._types_with(frame, operation), operation)

    def append(self, table: object | None, *, rows: int | None = None) -> None:
        """Adds rows at the end; all of them or, on an error, none.

        A column that the table lacks is null in these rows, a new column is null in the earlier ones. `None` adds
        `rows` rows without a value.
        """
        frame = pl.DataFrame() if table is None else as_frame(table, "append")
        count = frame.height if frame.width or rows is None else rows
        if rows is not None and count != rows:
            raise InvalidArgument(f"append: expected attributes of {rows} rows; got {count}")
        with self._lock:
            types = self._types_with(frame, "append")
            fitted = _fitted(frame, types, "append")
            self._retype(types)
            self._hold(fitted, count)
            if self._places is not None:
                new = np.arange(self._held - count, self._held)
                self._places, self._places_shared = np.concatenate([self._places, new]), False
            self._rows += count
            self._version += 1

    def update(self, rows: object, table: object) -> None:
        """Gives rows new values; columns that the table lacks keep theirs."""
        frame = as_frame(table, "update")
        numbers = self._numbers(rows, "update")
        if len(numbers) != frame.height:
            raise InvalidArgument(f"update: expected attributes of {len(numbers)} rows; got {frame.height}")
        if len(np.unique(numbers)) != len(numbers):
            raise InvalidArgument("update: expected each row once; some row numbers are repeated")
        with self._lock:
            types = self._types_with(frame, "update")
            fitted = _fitted(frame, types, "update")
            whole = self.rows(numbers).with_columns(fitted.get_columns()) if self._types else fitted
            self._retype(types)
            self._hold(whole, len(numbers))
            self._own_places()[numbers] = np.arange(self._held - len(numbers), self._held)
            self._changed()

    def remove(self, old: object, new: object, rows: int) -> None:
        """Row `old[i]` becomes row `new[i]`, all at once; of what results the first `rows` rows stay.

        So an index removes: each gap is filled with a row from the end.
        """
        if not 0 <= rows <= self._rows:
            raise InvalidArgument(f"remove: expected 0 to {self._rows} rows to stay; got {rows}")
        sources, targets = self._numbers(old, "remove"), self._numbers(new, "remove")
        if len(sources) != len(targets) or (len(targets) and targets.max() >= rows):
            raise InvalidArgument(
                f"remove: expected as many new places as old ones, each below {rows};"
                f" got {len(sources)} old and {len(targets)} new ones"
            )
        with self._lock:
            places = self._own_places()
            places[targets] = places[sources]
            self._places, self._rows = places[:rows], rows
            self._changed()

    # ---- what comes out

    def rows(self, numbers: object, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The values of these rows, in this order; -1 gives a row of nulls, as it marks a missing hit."""
        wanted = self._numbers(numbers, "rows", least=-1)
        view = self.view()
        types = {name: view.types[name] for name in self._named(columns)}
        if not types:
            return pl.DataFrame()
        places = wanted if view.places is None or not view.rows else view.places[wanted]
        frames, order, start = [], [], 0
        for part in view.parts:
            here = np.flatnonzero((wanted >= 0) & (places >= start) & (places < start + part.rows))
            frames.append(part.decoded(types, places[here] - start))
            order.append(here)
            start += part.rows
        missing = np.flatnonzero(wanted < 0)
        frames.append(pl.DataFrame([nulls(name, kept, len(missing)) for name, kept in types.items()]))
        return pl.concat(frames)[np.argsort(np.concatenate([*order, missing]))]

    def to_frame(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """All rows."""
        return self.rows(np.arange(self._rows), columns)

    def order(self, column: str) -> npt.NDArray[np.int64]:
        """The numbers of all rows by rising values of a column, equal ones as they are, nulls last."""
        (values,) = self.to_frame([column]).get_columns()
        if values.dtype.is_nested():
            raise InvalidArgument(f"order: expected a column that has an order; {column!r} is {values.dtype}")
        numbers = pl.DataFrame({"value": values, "row": np.arange(self._rows)})
        return numbers.sort("value", nulls_last=True, maintain_order=True)["row"].to_numpy().astype(np.int64)

    def to_arrow(self) -> bytes:
        """The table as an uncompressed Arrow stream, as `from_arrow` reads it where it lies."""
        view = self.compact()
        return arrow.written(view.parts[0] if view.parts else Part(pl.DataFrame(), 0, {}), view.types)

    @classmethod
    def from_arrow(cls, data: object) -> Attributes:
        """Reads what `to_arrow` wrote, from bytes or any buffer, which is kept and not copied."""
        part, types = arrow.read(data)
        table = cls()
        table._types, table._parts = types, [part]
        table._held = table._rows = part.rows
        return table

    def view(self) -> View:
        """The table as it is now; later changes do not touch it."""
        with self._lock:
            self._settle()
            self._places_shared = True
            return View(self._version, self._rows, tuple(self._parts), self._places, self._types)

    def compact(self) -> View:
        """Writes the table anew as one part, without what changes have left behind."""
        with self._lock:
            self._settle()
            if len(self._parts) > 1 or self._places is not None:
                self._parts = [Part.of(self.to_frame(), self._rows)]
                self._places, self._held = None, self._rows
            return self.view()

    # ---- behind the door

    def _types_with(self, frame: pl.DataFrame, operation: str) -> dict[str, Type]:
        """The types of the columns once these have joined them."""
        types = dict(self._types)
        for name, given in frame.schema.items():
            joint = common_type(types.get(name, pl.Null), given)
            if joint is None:
                raise InvalidArgument(
                    f"{operation}: expected column {name!r} as {types[name]}, which it is here; got {given}"
                )
            types[name] = joint
        return types

    def _retype(self, types: dict[str, Type]) -> None:
        if types == self._types:
            return
        self._settle()
        self._parts = [part.retyped(types) for part in self._parts]
        self._types = types

    def _hold(self, frame: pl.DataFrame, count: int) -> None:
        if count:
            self._pending.append((frame, count))
            self._held += count

    def _settle(self) -> None:
        """Makes a part of what was added, joined with the parts before it that are not much larger."""
        if not self._pending:
            return
        pieces = [_completed(frame, self._types, count) for frame, count in self._pending]
        rows = sum(count for _, count in self._pending)
        while self._parts and self._parts[-1].rows < _GROWTH * rows:
            before = self._parts.pop()
            pieces.insert(0, before.decoded(self._types))
            rows += before.rows
        self._parts.append(Part.of(pl.concat(pieces), rows))
        self._pending = []

    def _own_places(self) -> Places:
        """The places, for writing: a view that was handed out keeps its own."""
        if self._places is None:
            self._places = np.arange(self._held)[: self._rows]
        elif self._places_shared:
            self._places = self._places.copy()
        self._places_shared = False
        return self._places

    def _changed(self) -> None:
        self._version += 1
        if self._held - self._rows > _SPARE_ROWS + self._rows // 8:
            self.compact()

    def _numbers(self, numbers: object, operation: str, least: int = 0) -> Places:
        array = np.asarray(numbers)
        array = array.astype(np.int64) if array.size == 0 else array
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise InvalidArgument(
                f"{operation}: expected row numbers of shape (n,) and an integer type;"
                f" got {array.dtype} of shape {array.shape}"
            )
        wrong = (array < least) | (array >= self._rows)
        if wrong.any():
            raise InvalidArgument(
                f"{operation}: expected row numbers below {self._rows}; got {array[np.argmax(wrong)]}"
                f" at place {int(np.argmax(wrong))}"
            )
        return array.astype(np.int64)

    def _named(self, columns: Sequence[str] | None) -> Sequence[str]:
        if isinstance(columns, str):
            columns = [columns]
        unknown = [name for name in columns or [] if name not in self._types]
        if unknown:
            raise InvalidArgument(f"rows: expected columns out of {list(self._types)}; got {unknown[0]!r}")
        return list(self._types) if columns is None else columns


def _fitted(frame: pl.DataFrame, types: Mapping[str, Type], operation: str) -> pl.DataFrame:
    return pl.DataFrame([converted(column, types[column.name], operation) for column in frame.get_columns()])


def _completed(frame: pl.DataFrame, types: Mapping[str, Type], count: int) -> pl.DataFrame:
    """The frame with all columns; what it lacks is null."""
    return pl.DataFrame(
        [frame[name].cast(kept) if name in frame.columns else nulls(name, kept, count) for name, kept in types.items()]
    )
