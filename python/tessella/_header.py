"""The header of a safetensors file, read without trusting it.

Layout: 8 bytes of header length (little-endian), that many bytes of JSON, then the tensors' bytes. The JSON
maps each tensor's name to its dtype, shape and byte range, and `__metadata__` to a table of strings. Every
length, offset, count and type is checked against the size of the real file before anything uses it.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from reprlib import repr as short  # a hostile value can be long or deep; this one never is
from typing import Any, BinaryIO, NoReturn

import numpy as np

from tessella.errors import FormatError

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # as bits: NumPy has no bfloat16
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "F32": np.dtype("<f4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
}
LENGTH_BYTES = 8
MAX_HEADER_BYTES = 16 << 20
_MAX_DIMENSIONS = 8


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor: where its bytes lie in the file, and how they read."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Header:
    raw: bytes  # length prefix and JSON, as they lie in the file
    entries: list[Entry]  # in the order of their bytes, which fill the file without a gap
    metadata: dict[str, str]


def read_header(file: BinaryIO, path: str) -> Header:
    size = os.fstat(file.fileno()).st_size
    prefix = file.read(LENGTH_BYTES)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < LENGTH_BYTES or not 2 <= length <= min(size - LENGTH_BYTES, MAX_HEADER_BYTES):
        reject(path, f"no safetensors file: a header of {length} bytes does not fit its {size} bytes")
    raw = file.read(length)
    if len(raw) < length:
        reject(path, "truncated inside its header")
    table = parse_json(raw, path, "header")
    metadata = table.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        reject(path, "damaged: expected __metadata__ to map names to strings")
    start = LENGTH_BYTES + length
    entries = [_entry(name, fields, start, path) for name, fields in table.items()]
    entries.sort(key=lambda entry: (entry.offset, entry.nbytes))
    for entry in entries:
        if entry.offset != start:
            reject(path, f"damaged: tensor {short(entry.name)} starts at {entry.offset}; expected {start}")
        start += entry.nbytes
    if start != size:
        reject(path, f"truncated or overlong: its header describes {start} bytes, the file has {size}")
    return Header(prefix + raw, entries, metadata)


def parse_json(raw: bytes | str, path: str, what: str) -> dict[str, Any]:
    """A JSON object without repeated keys, NaN or Infinity; anything else is a FormatError."""
    try:
        value = json.loads(
            raw if isinstance(raw, str) else raw.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
        )
    except (ValueError, RecursionError) as error:
        raise FormatError(f"load: {path} is damaged: its {what} is not valid JSON ({error})") from error
    if not isinstance(value, dict):
        reject(path, f"damaged: expected its {what} to be a JSON object; got {type(value).__name__}")
    return value


def reject(path: str, reason: str) -> NoReturn:
    raise FormatError(f"load: {path} is {reason}")


def _entry(name: str, fields: object, start: int, path: str) -> Entry:
    if not isinstance(fields, dict) or set(fields) != {"dtype", "shape", "data_offsets"}:
        reject(path, f"damaged: tensor {short(name)} lacks one of dtype, shape and data_offsets")
    dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        reject(path, f"of no use: tensor {short(name)} has the unknown dtype {short(dtype)}")
    itemsize = DTYPES[dtype].itemsize
    # A zero dimension must not hide others that overflow, hence the product over max(size, 1).
    if not _sizes(shape, _MAX_DIMENSIONS) or math.prod(max(s, 1) for s in shape) * itemsize >= 2**63:
        reject(path, f"damaged: tensor {short(name)} has the shape {short(shape)}")
    if not _sizes(offsets, 2) or len(offsets) != 2 or offsets[0] > offsets[1]:
        reject(path, f"damaged: tensor {short(name)} has the data_offsets {short(offsets)}")
    nbytes = offsets[1] - offsets[0]
    if nbytes != math.prod(shape) * itemsize:
        reject(path, f"damaged: tensor {short(name)} of {dtype} {tuple(shape)} cannot fill {nbytes} bytes")
    return Entry(name, dtype, tuple(shape), start + offsets[0], nbytes)


def _sizes(value: object, most: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= most
        and all(type(each) is int and 0 <= each < 2**63 for each in value)  # bool is an int; not here
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key is repeated")
    return table


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
