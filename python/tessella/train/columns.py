"""Training data as named columns: from dicts, Arrow, polars, pandas, datasets, Parquet and JSON lines."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tessella.errors import InvalidArgument

Array: TypeAlias = npt.NDArray[Any]
Texts: TypeAlias = "list[str] | list[list[str]]"
_NUMBERED = re.compile(r"(negative|negative_query)_(\d+)")


class Columns:
    """Rows of training data: columns of texts, of lists of texts, and of numbers.

    | column | what |
    | --- | --- |
    | query, positive | a text |
    | negative, negative_query | a list of texts, as many in each row; or negative_1, negative_2, … with a text each |
    | score, weight, teacher, task, query_id, … | numbers, (n,) or (n, …), passed on to the loss |

    Where the ids of texts are not given they are made of the texts: equal texts are never each other's negatives.

    >>> Columns.of({"query": ["a", "b"], "positive": ["c", "d"], "negative_1": ["e", "f"]})
    Columns(2 rows: query, positive, negative)
    """

    def __init__(self, texts: Mapping[str, Texts], numbers: Mapping[str, Array]) -> None:
        self.texts, self.numbers = dict(texts), dict(numbers)
        lengths = {name: len(each) for name, each in {**self.texts, **self.numbers}.items()}
        if len(set(lengths.values())) != 1:
            raise InvalidArgument(f"columns: expected columns of one length; got {lengths or 'none'}")
        if not self.texts:
            raise InvalidArgument(f"columns: expected a column of texts; got {', '.join(lengths)}")
        for name, each in self.texts.items():
            _check_texts(name, each)

    @classmethod
    def of(cls, data: object) -> Columns:
        """From a dict of columns, a list of dicts, an Arrow table, a polars or pandas DataFrame, a `datasets.Dataset`,
        or the path of a .parquet, .jsonl or .jsonl.gz file."""
        if isinstance(data, Columns):
            return data
        raw = _merged(_raw(data))
        texts = {name: each for name, each in raw.items() if _is_text(each)}
        numbers = {name: np.asarray(each) for name, each in raw.items() if name not in texts}
        for name, each in numbers.items():
            if each.dtype.kind not in "biuf":
                raise InvalidArgument(f"columns: expected {name} to be texts or numbers; got {each.dtype}")
        return cls(texts, numbers)

    def __len__(self) -> int:
        return len(next(iter(self.texts.values())))

    def __repr__(self) -> str:
        return f"Columns({len(self)} rows: {', '.join([*self.texts, *self.numbers])})"

    def take(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> Columns:
        """These rows, in this order."""
        texts: dict[str, Any] = {name: [each[row] for row in rows] for name, each in self.texts.items()}
        return Columns(texts, {name: each[np.asarray(rows)] for name, each in self.numbers.items()})

    def replaced(self, **texts: Texts) -> Columns:
        """With these columns of texts in place of those of their names."""
        return Columns({**self.texts, **texts}, self.numbers)

    def all_numbers(self) -> dict[str, Array]:
        """The columns of numbers, and the ids of texts."""
        return {**self.numbers, **self.ids()}

    def ids(self) -> dict[str, npt.NDArray[np.int64]]:
        """`query_id`, `positive_id`, `negative_id` of each text, where the data has none; equal for equal texts."""
        wanted = [name for name in ("query", "positive", "negative") if name in self.texts]
        return {
            f"{name}_id": np.array(_hashed(self.texts[name]), np.int64)
            for name in wanted
            if f"{name}_id" not in self.numbers
        }


def _hashed(texts: Any) -> list[Any]:
    return [_hash(each) if isinstance(each, str) else _hashed(each) for each in texts]


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def _raw(data: object) -> dict[str, list[Any]]:
    """Columns as lists, whatever they came in."""
    if isinstance(data, str | os.PathLike):
        return _read(Path(data))
    if isinstance(data, Mapping):
        return {str(name): list(each) for name, each in data.items()}
    if hasattr(data, "to_pydict"):  # Arrow
        return dict(data.to_pydict())
    if hasattr(data, "column_names"):  # datasets
        rows: Any = data
        return {name: list(rows[name]) for name in rows.column_names}
    if hasattr(data, "columns") and hasattr(data, "to_dict"):  # polars; pandas has lists under another name
        arrow = getattr(data, "to_arrow", None)
        return dict(arrow().to_pydict()) if arrow else dict(data.to_dict("list"))
    if isinstance(data, Iterable):
        return _transposed(list(data))
    raise InvalidArgument(
        "columns: expected a dict, a list of dicts, an Arrow table, a DataFrame, a datasets.Dataset or a path;"
        f" got {type(data).__name__}"
    )


def _read(path: Path) -> dict[str, list[Any]]:
    if path.suffix == ".parquet":
        import pyarrow.parquet

        return dict(pyarrow.parquet.read_table(path).to_pydict())
    if ".jsonl" not in path.suffixes:
        raise InvalidArgument(f"columns: expected a file named .parquet, .jsonl or .jsonl.gz; got {path.name}")
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        return _transposed([json.loads(line) for line in lines])


def _transposed(rows: list[Any]) -> dict[str, list[Any]]:
    names = list(rows[0]) if rows and isinstance(rows[0], Mapping) else []
    if not names or any(not isinstance(row, Mapping) or set(row) != set(names) for row in rows):
        raise InvalidArgument("columns: expected rows as dicts of the same names, one at least")
    return {name: [row[name] for row in rows] for name in names}


def _merged(raw: dict[str, list[Any]]) -> dict[str, Any]:
    """negative_1, negative_2, … as one column of lists."""
    numbered: dict[str, list[tuple[int, str]]] = {}
    for name in raw:
        if (found := _NUMBERED.fullmatch(name)) and _is_text(raw[name]):
            numbered.setdefault(found[1], []).append((int(found[2]), name))
    merged: dict[str, Any] = {name: each for name, each in raw.items() if not _NUMBERED.fullmatch(name)}
    for stem, names in numbered.items():
        if stem in merged:
            raise InvalidArgument(f"columns: expected {stem} or {stem}_1, …; got both")
        lists = [raw[name] for _, name in sorted(names)]
        merged[stem] = [list(row) for row in zip(*lists, strict=True)]
    return merged


def _is_text(column: Sequence[Any]) -> bool:
    first = next(iter(column), None)
    return isinstance(first, str) or (isinstance(first, list | tuple) and bool(first) and isinstance(first[0], str))


def _check_texts(name: str, column: Any) -> None:
    lists = isinstance(column[0], list | tuple) if len(column) else False
    wrong = [row for row in column if isinstance(row, list | tuple) != lists]
    if wrong or any(not isinstance(text, str) for row in column for text in (row if lists else [row])):
        raise InvalidArgument(f"columns: expected {name} to hold texts alone, or lists of texts alone")
    if lists and len({len(row) for row in column}) != 1:
        counts = sorted({len(row) for row in column})
        raise InvalidArgument(f"columns: expected as many texts in each row of {name}; got {counts}")
