"""Damage done to tessella's files, repeatably: a case of a file is always the same bytes.

Many of the damaged files get their checksums put right again, so that the damage reaches the code behind
the checksums: the shapes, the config, and the compiled core that is handed the tensors.
"""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

MARK = b'"header_crc32":"'
LENGTH_BYTES = 8
# What reading a header meets that is damaged already.
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)


def split(raw: bytes) -> tuple[dict[str, Any], bytes]:
    """A file as its header and the tensors' bytes."""
    end = LENGTH_BYTES + int.from_bytes(raw[:LENGTH_BYTES], "little")
    return json.loads(raw[LENGTH_BYTES:end]), raw[end:]


def join(header: dict[str, Any], data: bytes) -> bytes:
    """The file again, with the padding and the header's checksum as a writer would make them."""
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(LENGTH_BYTES + len(text)) % 64)
    head = len(text).to_bytes(LENGTH_BYTES, "little") + text
    before, mark, after = head.partition(MARK)
    blank = before + mark + b"0" * 8 + after[8:]
    return blank.replace(MARK + b"0" * 8, MARK + f"{zlib.crc32(blank):08x}".encode(), 1) + data


def repaired(raw: bytes) -> bytes:
    """The file with checksums that match what its tensors now are."""
    header, data = split(raw)
    checksums = {}
    for name, entry in header.items():
        if not name.startswith("__"):
            start, end = entry["data_offsets"]
            checksums[name] = f"{zlib.crc32(data[start:end]):08x}"
    header["__metadata__"]["checksums"] = json.dumps(checksums)
    return join(header, data)


def mutate(raw: bytes, rng: np.random.Generator) -> bytes:
    """Damage to the tensors alone, under right checksums, or one to three kinds of damage to anything."""
    if rng.random() < 0.3:
        header, data = split(raw)
        for _ in range(rng.integers(1, 9)):
            data = [_flip_bit, _overwrite_some][rng.integers(2)](data, rng)
        return repaired(join(header, data))
    for _ in range(rng.integers(1, 4)):
        raw = MUTATIONS[rng.integers(len(MUTATIONS))](raw, rng)
    if rng.random() < 0.5:
        with contextlib.suppress(*UNREADABLE):
            return repaired(raw)
    return raw


def _truncate(raw: bytes, rng: np.random.Generator) -> bytes:
    return raw[: rng.integers(len(raw) + 1)]


def _extend(raw: bytes, rng: np.random.Generator) -> bytes:
    return raw + rng.bytes(rng.integers(1, 200))


def _flip_bit(raw: bytes, rng: np.random.Generator) -> bytes:
    return _overwrite(raw, rng, lambda old: bytes([old[0] ^ 1 << int(rng.integers(8))]), 1)


def _overwrite_some(raw: bytes, rng: np.random.Generator) -> bytes:
    fill = [rng.bytes, lambda n: b"\0" * n, lambda n: b"\xff" * n][rng.integers(3)]
    return _overwrite(raw, rng, lambda old: fill(len(old)), int(rng.integers(1, 65)))


def _overwrite(raw: bytes, rng: np.random.Generator, change: Callable[[bytes], bytes], size: int) -> bytes:
    if len(raw) < size:
        return raw
    start = int(rng.integers(len(raw) - size + 1))
    return raw[:start] + change(raw[start : start + size]) + raw[start + size :]


def _cut_out(raw: bytes, rng: np.random.Generator) -> bytes:
    start, end = sorted(int(at) for at in rng.integers(len(raw) + 1, size=2))
    return raw[:start] + raw[end:]


def _repeat(raw: bytes, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(len(raw) + 1))
    return raw[:start] + raw[start : start + int(rng.integers(1, 4096))] + raw[start:]


def _header_character(raw: bytes, rng: np.random.Generator) -> bytes:
    end = min(len(raw), LENGTH_BYTES + int.from_bytes(raw[:LENGTH_BYTES], "little"))
    if end == 0:
        return raw
    at = int(rng.integers(end))
    return raw[:at] + rng.choice(list(b'0123456789[]{}",:-eNaIn\\\0\xff')).tobytes()[:1] + raw[at + 1 :]


def _header_value(raw: bytes, rng: np.random.Generator) -> bytes:
    """One value somewhere in the header, or in the config inside it, becomes another."""
    try:
        header, data = split(raw)
        metadata = header["__metadata__"]
        if rng.random() < 0.5:
            config = json.loads(metadata["config"])
            _change(config, rng)
            metadata["config"] = json.dumps(config)
        else:
            _change(header, rng)
        return join(header, data)
    except UNREADABLE:
        return raw


def _change(tree: Any, rng: np.random.Generator) -> None:
    while True:
        keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
        key = keys[rng.integers(len(keys))]
        child = tree[key]
        if isinstance(child, (dict, list)) and child and rng.random() < 0.9:
            tree = child
        else:
            break
    if isinstance(tree, dict) and rng.random() < 0.1:
        del tree[key]
    elif type(child) is int and rng.random() < 0.5:
        tree[key] = child + int(rng.integers(-64, 65))
    else:
        tree[key] = STRANGE[rng.integers(len(STRANGE))]


STRANGE: list[Any] = [
    *(0, 1, -1, 2, 63, 64, 65, 1000, 2**31, 2**32 + 1, 2**62, 2**63, 2**64, 10**30, 0.5, 1e308),
    *("", "F32", "F16", "BF16", "U8", "U32", "I64", "Q7", "\0", "é" * 40, "ip", "l2", "cosine", "index", "2"),
    *("Flat", "Flat,B1", "Flat,B1+U8", "Flat,U8", "Flat,N4", "Flat,R3", "Flat,BF16", "Flat,UINT8", "IVF"),
    *("IVF4,F32", "IVF5,F32", "IVF4,B1", "IVF4+SOAR,B1", "IVF4,B1+U8", "IVF4+SOAR,B1+U8"),
    *(None, True, [], {}, [0], [0, 0], [2**62, 4], [64, 2**63 - 1], {"a": [1]}, [[[[]]]]),
]
MUTATIONS: list[Callable[[bytes, np.random.Generator], bytes]] = [
    _truncate,
    _extend,
    _flip_bit,
    _overwrite_some,
    _overwrite_some,
    _cut_out,
    _repeat,
    _header_character,
    _header_value,
    _header_value,
    _header_value,
]
