"""What a search may be restricted to: SQL text, conditions, dicts, expressions, masks, ids, selectors; as bitmaps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tessella._arrays import as_ids, is_torch
from tessella.bitmap import Bitmap, KeptBitmap, full_words
from tessella.errors import InvalidArgument, UnsupportedType
from tessella.filters import documents, selections
from tessella.filters.conditions import Condition, field
from tessella.filters.prepared import Filter

if TYPE_CHECKING:
    from tessella.attributes import Attributes

__all__ = ["Bitmap", "Condition", "Filter", "Filters", "field"]

# What `where` may be. polars and pyarrow are extras, so their expressions have no names here.
Where: TypeAlias = Any
_KEPT = 256  # filters kept, each n/8 bytes


class Filters:
    """Compiles what users pass as `where` to bitmaps over the rows, and keeps those that may come again.

    Args:
        attributes: the table that conditions are about; without one, masks, ids and selectors are understood.
        rows: how many rows there are, where no table says so.
        ids: the ids of the rows (n,), in the order they are stored; by default row i has id i.
        find: the rows of ids, -1 for ids that no row has; quicker than a look through all ids.

    >>> from tessella.attributes import Attributes
    >>> table = Attributes({"section": ["python", "math", None], "size": [10, 20, 30]})
    >>> filters = Filters(table)
    >>> filters.compile("section = 'python' OR size > 25").rows()
    array([0, 2])
    >>> filters.compile(field("section") != "python").rows()
    array([1])
    >>> filters.compile({"size": {"$lte": 20}}).count
    2
    """

    def __init__(
        self,
        attributes: Attributes | None = None,
        *,
        rows: Callable[[], int] | None = None,
        ids: Callable[[], selections.Ids] | None = None,
        find: Callable[[selections.Ids], selections.Ids] | None = None,
    ) -> None:
        self._attributes, self._rows_now, self._ids, self._find = attributes, rows, ids, find
        self._known: dict[Any, tuple[int, Bitmap]] = {}
        self._arrow: tuple[int, Any] | None = None

    def compile(self, where: Where) -> Bitmap:
        """The rows that one filter admits; None admits all.

        Cost: a look into a table for a filter seen since the last change. Otherwise one pass over the codes or numbers
        of each column, and the postings of each label; an array or a selector is always looked at anew.
        """
        if isinstance(where, Filter):
            return where.bitmap()
        key = _key(where)
        if key is None or self._attributes is None:
            return self._compiled(where)
        try:
            known = self._known.get(key)
        except TypeError:  # a value that has no hash, which the compiler will name
            return self._compiled(where)
        version = self._attributes.version
        if known is None or known[0] != version:
            known = version, self._compiled(where)
            self._keep(key, known)
        return known[1]

    def compile_filters(self, where: Where, nq: int) -> Bitmap | list[Bitmap]:
        """One bitmap for all queries or, for a list of filters, one for each; equal filters share one.

        A list of numbers is a filter of its own: ids, or a mask.
        """
        if isinstance(where, np.ndarray) and where.ndim == 2 and where.dtype == np.bool_:
            where = list(where)
        if not _is_one_each(where):
            return self.compile(where)
        if len(where) != nq:
            raise InvalidArgument(f"where: expected one filter, or one for each of {nq} queries; got {len(where)}")
        made: dict[int, Bitmap] = {}  # what is no key for `compile` may still be the same object
        for each in where:
            if id(each) not in made:
                made[id(each)] = self.compile(each)
        return [made[id(each)] for each in where]

    def _compiled(self, where: Where) -> Bitmap:
        if where is None:
            return Bitmap.of_words(full_words(self._rows()), self._rows())
        if isinstance(where, str | Mapping | Condition) or _is_from(where, "polars", "Expr"):
            return self._evaluated(where)
        if _is_from(where, "pyarrow", "Expression"):
            return self._by_arrow(where)
        if isinstance(where, Bitmap):
            if where.n != self._rows():
                return selections.of_mask(where.mask(), self._rows())
            return Bitmap(where.words, where.n, where.count) if isinstance(where, KeptBitmap) else where
        if selections.is_selector(where):
            return selections.of_selector(where, self._row_ids(), self._rows())
        return self._of_array(where)

    def _row_ids(self) -> selections.Ids | None:
        return None if self._ids is None else self._ids()

    def _rows(self) -> int:
        if self._rows_now is not None:
            return self._rows_now()
        return 0 if self._attributes is None else len(self._attributes)

    def _of_array(self, where: Any) -> Bitmap:
        if isinstance(where, Sequence | set | frozenset) or is_torch(where) or hasattr(where, "__array__"):
            array = np.asarray(list(where) if isinstance(where, set | frozenset) else where)
            if array.dtype == np.bool_:
                return selections.of_mask(array, self._rows())
            if array.dtype.kind in "iu" or array.size == 0:
                wanted = array.astype(np.int64) if array.size == 0 else array
                if self._find is not None:
                    return selections.of_rows(self._find(as_ids(wanted, None, "where")), self._rows())
                return selections.of_ids(wanted, self._row_ids(), self._rows())
        raise UnsupportedType(
            "where: expected where as SQL text, a condition on ts.field(…), a dict, an expression of polars or"
            " pyarrow, a mask, ids, a FAISS selector, what ix.filter(…) made, or a list of those, one for each query;"
            f" got {type(where).__name__}"
        )

    def _evaluated(self, where: Any) -> Bitmap:
        table = self._table()
        from tessella.filters.evaluating import words_of
        from tessella.filters.lowering import every_row_by_row, lowered

        try:
            node = lowered(_condition(where, table.types), table.types)
            view = table.view() if every_row_by_row(node) else table.compact()
            return Bitmap.of_words(words_of(node, view), view.rows)
        except RecursionError:
            raise InvalidArgument("where: expected a condition of fewer parts; this one is nested too deep") from None

    def _by_arrow(self, where: Any) -> Bitmap:
        """pyarrow shows nothing of what an expression is made of, so it evaluates it, by its own rules for nulls."""
        table = self._table()
        import pyarrow as pa
        import pyarrow.dataset as ds

        from tessella.filters.evaluating import bits_of

        if self._arrow is None or self._arrow[0] != table.version:
            self._arrow = table.version, table.to_frame().to_arrow()
        arrow = self._arrow[1]
        try:
            truth = ds.dataset(arrow).to_table(columns={"where": where})["where"]
        except pa.ArrowException as error:
            raise InvalidArgument(
                f"where: expected an expression over {', '.join(map(repr, table.types))}; pyarrow says: {error}"
            ) from error
        if truth.type != pa.bool_():
            raise InvalidArgument(f"where: expected an expression of one bool a row; got {truth.type}")
        whole = truth.combine_chunks()
        return Bitmap.of_words(bits_of(whole, len(whole)), len(whole))

    def _table(self) -> Attributes:
        if self._attributes is None:
            raise InvalidArgument(
                "where: expected a mask, ids or a selector, as there are no attributes; got a condition on them"
            )
        return self._attributes

    def _keep(self, key: Any, compiled: tuple[int, Bitmap]) -> None:
        if len(self._known) >= _KEPT or any(known[0] != compiled[0] for known in list(self._known.values())[:1]):
            self._known = {}  # full, or of a table that has changed
        self._known[key] = compiled


def _condition(where: Any, types: Mapping[str, Any]) -> Condition:
    from tessella.filters import expressions

    if isinstance(where, Condition):
        return where
    if isinstance(where, Mapping):
        return documents.condition_of(where, lambda name: type(types.get(name)).__name__ == "List")
    return expressions.condition_of(expressions.parsed(where) if isinstance(where, str) else where, types)


def _key(where: Where) -> Any:
    """What stands for an equal filter later on; None where its contents may change."""
    if isinstance(where, str | Condition):
        return where
    if isinstance(where, Mapping):
        return documents.key_of(where)
    if _is_from(where, "polars", "Expr"):
        try:
            return where.meta.serialize()
        except Exception:  # a Python function inside, that has no text
            return None
    return None


def _is_from(where: object, package: str, name: str) -> bool:
    return type(where).__name__ == name and type(where).__module__.partition(".")[0] == package


def _is_one_each(where: Where) -> bool:
    if not isinstance(where, list | tuple) or not where:
        return False
    return not all(isinstance(each, int | np.integer | np.bool_) for each in where)
