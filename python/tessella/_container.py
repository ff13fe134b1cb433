"""The file every index and quantizer is kept in: a valid safetensors file, 64-byte aligned, with checksums.

`write` streams the tensors into a temporary file beside the target, then puts it in the target's place in
one step, so a crash leaves the old file or the new one, whole. `read` trusts nothing in a file: whatever is
wrong with it becomes a FormatError that names it. docs/formats describes the bytes.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import mmap as memory_map
import os
import stat
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from reprlib import repr as short
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

from tessella._header import (
    DTYPES,
    LENGTH_BYTES,
    MAX_HEADER_BYTES,
    Entry,
    Header,
    parse_json,
    read_header,
    reject,
)
from tessella.errors import FormatError, InvalidArgument

Array: TypeAlias = npt.NDArray[Any]
Tensor: TypeAlias = tuple[str, str, tuple[int, ...], Iterable[Any]]  # name, dtype, shape, buffers in order

FORMAT = "tessella"
VERSION = 1
ALIGNMENT = 64
_PAD = "__pad__"  # strict readers allow no gaps between tensors, so alignment is filled by tensors of zeros
_CHECKSUM_MARK = b'"header_crc32":"'
_BLANK = "0" * 8
_SMALL_BYTES = 1 << 20  # checked even when a file is mapped: costs nothing, and covers all that steers us
_CHUNK_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Container:
    """What a file holds. `dtypes` tells BF16 from U16, both of which NumPy sees as uint16."""

    path: str
    tensors: dict[str, Array]
    dtypes: dict[str, str]
    metadata: dict[str, str]

    @property
    def config(self) -> dict[str, Any]:
        return parse_json(self.metadata.get("config", "{}"), self.path, "config")

    def take(self, name: str, dtype: str, shape: tuple[int | None, ...]) -> Array:
        """The tensor of that name; a FormatError unless it has that dtype and shape (None: any size)."""
        if name not in self.tensors:
            reject(self.path, f"damaged: it lacks the tensor {name!r}")
        array = self.tensors[name]
        pairs = zip(shape, array.shape, strict=False)
        fits = array.ndim == len(shape) and all(want in (None, size) for want, size in pairs)
        if self.dtypes[name] != dtype or not fits:
            wanted = tuple("any" if size is None else size for size in shape)
            got = f"{self.dtypes[name]} {array.shape}"
            reject(self.path, f"damaged: expected tensor {name!r} to be {dtype} {wanted}; got {got}")
        return array


def write(
    path: str | os.PathLike[str], tensors: Iterable[Tensor], metadata: Mapping[str, str], *, sync: bool = True
) -> None:
    """Writes the tensors, whose buffers are asked for one at a time and never held, and replaces `path`."""
    target = os.path.realpath(path)
    with _replacing(target, sync) as file:
        listed = list(tensors)
        entries = _arrange(listed)
        blank = _render(entries, metadata, dict.fromkeys((name for name, *_ in listed), _BLANK))
        file.write(blank)
        checksums = {}
        for name, dtype, shape, buffers in listed:
            file.write(bytes(-file.tell() % ALIGNMENT))
            checksums[name] = _stream(file, name, math.prod(shape) * DTYPES[dtype].itemsize, buffers)
        # The header comes first but knows the checksums last; they have a fixed width, so it fits its place.
        raw = _render(entries, metadata, checksums)
        file.seek(0)
        file.write(raw.replace(_CHECKSUM_MARK + _BLANK.encode(), _CHECKSUM_MARK + _crc(raw).encode(), 1))


def read(
    path: str | os.PathLike[str], mmap: bool = False, verify: bool | None = None, *, kind: str | None = None
) -> Container:
    """Reads a file: owned, aligned arrays, or read-only views of a mapping.

    `verify=None` checks every checksum when copying, and when mapping those of the header and of tensors
    below 1 MiB; True checks all; False none, only the structure. A missing file is the system's OSError.
    """
    name = os.fsdecode(path)
    with open(name, "rb") as file:
        header = read_header(file, name)
        checksums = _check_metadata(header, name, kind, verify is not False)
        entries = [entry for entry in header.entries if not entry.name.startswith(_PAD)]
        if set(checksums) != {entry.name for entry in entries}:
            reject(name, "damaged: its checksums do not belong to its tensors")
        mapping = memory_map.mmap(file.fileno(), 0, access=memory_map.ACCESS_READ) if mmap else None
        tensors = {}
        for entry in entries:
            if entry.offset % ALIGNMENT:
                reject(name, f"damaged: tensor {short(entry.name)} is not aligned to {ALIGNMENT} bytes")
            raw = _copied(file, entry, name) if mapping is None else _mapped(mapping, entry)
            check = mapping is None or entry.nbytes < _SMALL_BYTES if verify is None else verify
            if check and checksums[entry.name] != f"{zlib.crc32(raw.data):08x}":
                reject(name, f"damaged: the checksum of tensor {short(entry.name)} does not match its bytes")
            tensors[entry.name] = raw.view(DTYPES[entry.dtype]).reshape(entry.shape)
    return Container(name, tensors, {entry.name: entry.dtype for entry in entries}, header.metadata)


@contextlib.contextmanager
def _replacing(target: str, sync: bool) -> Iterator[BinaryIO]:
    folder, base = os.path.split(target)
    temporary = os.path.join(folder, f".{base[:100]}.{os.urandom(8).hex()}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as error:  # the caller knows the target, not our temporary name
        raise OSError(error.errno, error.strerror, target) from None
    with open(descriptor, "wb") as file:
        try:
            with contextlib.suppress(FileNotFoundError):
                os.fchmod(file.fileno(), stat.S_IMODE(os.stat(target).st_mode))
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
    if sync:
        _sync_folder(folder)


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems sync no folders
            raise
    finally:
        os.close(descriptor)


def _arrange(tensors: list[Tensor]) -> dict[str, Any]:
    """The header's entries, with a pad tensor wherever one is needed to start on a multiple of 64."""
    entries: dict[str, Any] = {}
    end = 0
    for name, dtype, shape, _ in tensors:
        if name in entries or name.startswith("__"):
            raise InvalidArgument(f"save: expected distinct tensor names without leading __; got {name!r}")
        gap = -end % ALIGNMENT
        if gap:
            entries[f"{_PAD}{len(entries)}"] = _describe("U8", (gap,), end)
        entries[name] = _describe(dtype, shape, end + gap)
        end = entries[name]["data_offsets"][1]
    return entries


def _describe(dtype: str, shape: tuple[int, ...], start: int) -> dict[str, Any]:
    end = start + math.prod(shape) * DTYPES[dtype].itemsize
    return {"dtype": dtype, "shape": [int(size) for size in shape], "data_offsets": [start, end]}


def _render(entries: dict[str, Any], metadata: Mapping[str, str], checksums: dict[str, str]) -> bytes:
    # First in the header, so that no other text can be taken for it.
    own = {"header_crc32": _BLANK, "format": FORMAT, "version": str(VERSION)}
    table = {"__metadata__": own | {**metadata, **own, "checksums": json.dumps(checksums)}, **entries}
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-(LENGTH_BYTES + len(text)) % ALIGNMENT)
    if len(text) > MAX_HEADER_BYTES:
        raise InvalidArgument(f"save: expected a header below {MAX_HEADER_BYTES} bytes; got {len(text)}")
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def _stream(file: BinaryIO, name: str, nbytes: int, buffers: Iterable[Any]) -> str:
    crc = written = 0
    for buffer in buffers:
        array = buffer if isinstance(buffer, np.ndarray) else np.asarray(memoryview(buffer))
        flat = array.reshape(-1).view(np.uint8).data
        crc = zlib.crc32(flat, crc)
        file.write(flat)
        written += flat.nbytes
    if written != nbytes:
        raise InvalidArgument(f"save: expected {nbytes} bytes for tensor {name!r}; got {written}")
    return f"{crc:08x}"


def _crc(raw: bytes) -> str:
    """The checksum of a header with its own checksum's digits blanked."""
    before, mark, after = raw.partition(_CHECKSUM_MARK)
    return f"{zlib.crc32(before + mark + _BLANK.encode() + after[len(_BLANK) :]):08x}"


def _check_metadata(header: Header, path: str, kind: str | None, verify: bool) -> dict[str, Any]:
    metadata = header.metadata
    if metadata.get("format") != FORMAT:
        reject(path, "a safetensors file, but not one of tessella")
    version = metadata.get("version", "")
    if not (version.isascii() and version.isdigit() and len(version) < 10) or int(version) < 1:
        reject(path, f"damaged: it has the format version {short(version)}")
    if int(version) > VERSION:
        raise FormatError(
            f"load: {path} has format version {version} and needs a newer tessella; this one reads {VERSION}"
        )
    if verify and metadata.get("header_crc32") != _crc(header.raw):
        reject(path, "damaged: the checksum of its header does not match its bytes")
    if kind is not None and metadata.get("kind") != kind:
        reject(path, f"of the kind {short(metadata.get('kind'))}; expected {kind!r}")
    return parse_json(metadata.get("checksums", ""), path, "table of checksums")


def _mapped(mapping: memory_map.mmap, entry: Entry) -> Array:
    if entry.nbytes == 0:  # frombuffer refuses to look at nothing
        return np.empty(0, np.uint8)
    return np.frombuffer(mapping, np.uint8, entry.nbytes, entry.offset)


def _copied(file: BinaryIO, entry: Entry, path: str) -> Array:
    room = np.empty(entry.nbytes + ALIGNMENT, np.uint8)
    skip = -room.ctypes.data % ALIGNMENT
    raw = room[skip : skip + entry.nbytes]
    file.seek(entry.offset)
    for start in range(0, entry.nbytes, _CHUNK_BYTES):
        part = raw[start : start + _CHUNK_BYTES]
        if file.readinto(part) != part.nbytes:  # type: ignore[attr-defined]
            reject(path, f"truncated inside tensor {short(entry.name)}")
    return raw
