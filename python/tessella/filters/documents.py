"""Filters as dicts, as users of LangChain, Chroma and Pinecone write them: {"size": {"$lt": 10}}.

Nulls are SQL's (`$ne` and `$nin` do not select them), except that None itself may be asked for: equal to None is
null, and None in a list stands for null there. A column of labels is compared label by label, as MongoDB does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from typing import Any

from tessella.errors import InvalidArgument
from tessella.filters.conditions import And, Condition, Contains, HasLength, Not, Or, field, typed

_COMPARISONS = {"$lt": field.__lt__, "$lte": field.__le__, "$gt": field.__gt__, "$gte": field.__ge__}
_JOINTS: dict[str, Callable[[tuple[Condition, ...]], Condition]] = {
    "$and": And,
    "$or": Or,
    "$nor": lambda conditions: Not(Or(conditions)),
}


def condition_of(document: Mapping[str, Any], is_list: Callable[[str], bool]) -> Condition:
    """The condition that a dict stands for; its entries all have to hold. `is_list` knows the columns of labels."""
    return And(tuple(_entry(key, value, is_list) for key, value in document.items()))


def key_of(value: object) -> Any:
    """What a dict says, as something to look up: equal keys mean the same filter."""
    if isinstance(value, Mapping):
        return ("dict", *((name, key_of(each)) for name, each in value.items()))
    if isinstance(value, (list, tuple, Set)):
        return ("list", *map(key_of, value))
    return (type(value), value)


def _entry(key: str, value: Any, is_list: Callable[[str], bool]) -> Condition:
    if key == "$not":
        return Not(_document(value, key, is_list))
    if key in _JOINTS:
        if not isinstance(value, Sequence) or isinstance(value, str) or not value:
            raise InvalidArgument(f"where: expected a list of dicts behind {key!r}; got {value!r}")
        return _JOINTS[key](tuple(_document(each, key, is_list) for each in value))
    if not isinstance(key, str) or key.startswith("$"):
        raise InvalidArgument(f"where: expected a column, '$and', '$or', '$nor' or '$not'; got {key!r}")
    return _column(key, value, is_list(key))


def _document(value: Any, key: str, is_list: Callable[[str], bool]) -> Condition:
    if not isinstance(value, Mapping):
        raise InvalidArgument(f"where: expected a dict behind {key!r}; got {value!r}")
    return condition_of(value, is_list)


def _column(name: str, value: Any, labels: bool) -> Condition:
    if isinstance(value, Mapping):
        return And(tuple(_operation(name, operator, operand, labels) for operator, operand in value.items()))
    if isinstance(value, (list, tuple, Set)):
        return _is_in(name, value, labels)
    return _equal(name, value, labels)


def _operation(name: str, operator: str, operand: Any, labels: bool) -> Condition:
    column = field(name)
    if operator in _COMPARISONS:
        return _COMPARISONS[operator](column, operand)
    if operator == "$not":
        return Not(_column(name, operand, labels))
    if operator not in _OPERATORS:
        known = ", ".join([*_COMPARISONS, "$not", *_OPERATORS])
        raise InvalidArgument(f"where: expected one of {known} for column {name!r}; got {operator!r}")
    return _OPERATORS[operator](name, operand, labels)


def _equal(name: str, value: Any, labels: bool) -> Condition:
    if value is None:
        return field(name).is_null()
    return field(name).has(value) if labels else field(name) == value


def _not_equal(name: str, value: Any, labels: bool) -> Condition:
    return Not(_equal(name, value, labels))


def _is_in(name: str, values: Any, labels: bool) -> Condition:
    column, wanted = field(name), [value for value in _several(name, "$in", values) if value is not None]
    found = column.has_any(wanted) if labels else column.is_in(wanted)
    return found if len(wanted) == len(values) else Or((found, column.is_null()))


def _is_not_in(name: str, values: Any, labels: bool) -> Condition:
    return Not(_is_in(name, _several(name, "$nin", values), labels))


def _has_all(name: str, values: Any, labels: bool) -> Condition:
    return field(name).has_all(_several(name, "$all", values))


def _exists(name: str, wanted: Any, labels: bool) -> Condition:
    if not isinstance(wanted, bool):
        raise InvalidArgument(f"where: expected True or False behind '$exists' of column {name!r}; got {wanted!r}")
    return field(name).is_not_null() if wanted else field(name).is_null()


def _size(name: str, length: Any, labels: bool) -> Condition:
    if not isinstance(length, int) or isinstance(length, bool):
        raise InvalidArgument(f"where: expected a whole number behind '$size' of column {name!r}; got {length!r}")
    return HasLength(name, length)


def _between(name: str, bounds: Any, labels: bool) -> Condition:
    if len(_several(name, "$between", bounds)) != 2:
        raise InvalidArgument(f"where: expected two bounds behind '$between' of column {name!r}; got {bounds!r}")
    return field(name).between(*bounds)


def _contains(name: str, value: Any, labels: bool) -> Condition:
    if labels:
        return field(name).has(value)
    if not isinstance(typed(value, name).value, str):
        raise InvalidArgument(f"where: expected a string behind '$contains' of column {name!r}; got {value!r}")
    return Contains(name, value)


def _several(name: str, operator: str, values: Any) -> Collection[Any]:
    if not isinstance(values, list | tuple | Set):
        raise InvalidArgument(f"where: expected a list behind {operator!r} of column {name!r}; got {values!r}")
    return values


_OPERATORS: dict[str, Callable[[str, Any, bool], Condition]] = {
    "$eq": _equal,
    "$ne": _not_equal,
    "$in": _is_in,
    "$nin": _is_not_in,
    "$between": _between,
    "$like": lambda name, pattern, labels: field(name).like(pattern),
    "$contains": _contains,
    "$not_contains": lambda name, value, labels: Not(_contains(name, value, labels)),
    "$all": _has_all,
    "$size": _size,
    "$exists": _exists,
}
