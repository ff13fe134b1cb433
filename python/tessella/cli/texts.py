"""Texts of files and of the command line, and the model that encodes them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy.typing as npt

from tessella.cli.extras import require
from tessella.errors import FormatError, InvalidArgument

if TYPE_CHECKING:
    from tessella.encoder import Encoder

Array: TypeAlias = npt.NDArray[Any]
MINILM = "minilm"
KINDS = (".txt", ".jsonl", ".parquet")


def load(model: str, threads: int | None = None) -> Encoder:
    """The model of that folder or name."""
    from tessella.encoder import Encoder

    encoder = Encoder.load(model)
    if threads is not None:
        require("torch").set_num_threads(threads)
    return encoder


def queries(texts: Sequence[str], model: str) -> Array:
    """Vectors of queries."""
    return load(model).encode_queries(texts)


def query(text: str, model: str, dim: int) -> Array:
    """The vector of a query, for an index of that dimension."""
    encoder = load(model)
    if dim > encoder.full_dim:
        raise InvalidArgument(f"search: expected a model of {dim} dimensions or more; {model} has {encoder.full_dim}")
    return encoder.encode_queries([text], dim=dim)


def read(source: str, column: str) -> Iterator[str]:
    """The texts of a file, one after another."""
    path = Path(source)
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if kind not in KINDS:
        raise InvalidArgument(f"encode: expected a file of one of the kinds {', '.join(KINDS)}; got {path}")
    if not path.is_file():
        raise InvalidArgument(f"encode: expected {path} to be a file, and there is none")
    return _parquet(path, column) if kind == ".parquet" else _lines(path, column if kind == ".jsonl" else None)


def _lines(path: Path, column: str | None) -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if column is None:
                yield line.rstrip("\n")
                continue
            try:
                yield str(json.loads(line)[column])
            except (ValueError, KeyError, TypeError) as error:
                raise FormatError(f"encode: line {number} of {path} has no {column!r} ({error})") from error


def _parquet(path: Path, column: str) -> Iterator[str]:
    file = require("pyarrow.parquet").ParquetFile(path)
    if column not in file.schema_arrow.names:
        known = ", ".join(file.schema_arrow.names)
        raise InvalidArgument(f"encode: expected a column of {path} ({known}); got {column!r}")
    for batch in file.iter_batches(8192, columns=[column]):
        yield from (str(text) for text in batch[column].to_pylist())
