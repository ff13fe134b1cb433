"""A `MultiVectorIndex` in a file: its encoder, the first stage as an index's own file has it, and the stored tokens.

Tensors of the first stage are named `index.…`, those of the encoder `encoder.…`. Whatever is wrong with a file becomes
a FormatError that names it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tessella import _container, _first_stage
from tessella._quantizer import natural
from tessella._token_encoder import FILE_DTYPES as ENCODER_DTYPES
from tessella._token_encoder import SetEncoder
from tessella._token_store import FILE_DTYPES, check_offsets
from tessella.calibration import Calibration, check_recall
from tessella.errors import FormatError

if TYPE_CHECKING:
    from tessella.multivector import MultiVectorIndex

_KIND = "multivector"


def save(index: MultiVectorIndex, path: str | os.PathLike[str]) -> None:
    """See `MultiVectorIndex.save`."""
    settings, arrays = index.encoder.state()
    first, tensors = index._first.described()
    config: dict[str, Any] = {
        "encoder": {"kind": index.encoder._kind, "settings": settings},
        "index": first,
        "tokens": index.tokens,
        "pool_factor": index.pool_factor,
        "seed": index._seed,
        "next_id": index._next_id,
    }
    if index.calibration is not None:
        config |= {"calibration": index.calibration.as_config(), "recall": index._recall}
    tensors = [(f"index.{name}", dtype, shape, buffers) for name, dtype, shape, buffers in tensors]
    tensors += [(f"encoder.{name}", ENCODER_DTYPES[x.dtype.name], x.shape, [x]) for name, x in arrays.items()]
    _container.write(path, tensors + _stored(index), {"kind": _KIND, "config": json.dumps(config)})


def _stored(index: MultiVectorIndex) -> list[_container.Tensor]:
    store, codec = index._store, index._store.codec
    slots = store.present()
    offsets, ids = store.offsets(slots), store.ids_of(slots)
    count = int(offsets[-1])

    def values() -> Iterator[Any]:
        return (piece for piece, _ in store.pieces(slots))

    made: list[_container.Tensor] = [
        ("documents.ids", "I64", (len(slots),), [ids]),
        ("documents.offsets", "I64", (len(slots) + 1,), [offsets]),
        ("documents.tokens", FILE_DTYPES[codec.kind], (count, codec.width), values()),
    ]
    if codec.scaled:
        scales = (each for _, each in store.pieces(slots) if each is not None)
        made.append(("documents.scales", "F32", (count,), scales))
    return made


def load(
    kind: type[MultiVectorIndex], path: str | os.PathLike[str], mmap: bool, verify: bool | None
) -> MultiVectorIndex:
    """See `MultiVectorIndex.load`."""
    file = _container.read(path, mmap=mmap, verify=verify, kind=_KIND)
    try:
        return _made(kind, file)
    except FormatError as error:
        message = str(error).removeprefix("load: ")
        if message.startswith(file.path):
            raise
        raise FormatError(f"load: {file.path} is damaged: {message}") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FormatError(
            f"load: {file.path} is damaged: its config does not describe an index of many vectors ({error})"
        ) from error


def _made(kind: type[MultiVectorIndex], file: _container.Container) -> MultiVectorIndex:
    config = file.config
    encoder = _encoder(config["encoder"], _part(file, "encoder", {}))
    stage = _first_stage.restored(encoder, _part(file, "index", config["index"]))
    first = stage.index
    index = kind(
        encoder, tokens=config["tokens"], pool_factor=natural(config, "pool_factor"), seed=natural(config, "seed")
    )
    codec = index._store.codec
    tokens = file.take("documents.tokens", FILE_DTYPES[codec.kind], (None, codec.width))
    scales = file.take("documents.scales", "F32", (len(tokens),)) if codec.scaled else None
    offsets = check_offsets(file.take("documents.offsets", "I64", (len(first) + 1,)), len(tokens))
    ids = np.ascontiguousarray(file.take("documents.ids", "I64", (len(first),)))
    if not np.array_equal(np.sort(ids), np.sort(first.ids)):
        raise ValueError("its tokens are not those of its documents")
    index._first = stage
    index._store.adopt(ids, offsets, tokens, scales)
    index._next_id = natural(config, "next_id")
    if len(ids) and index._next_id <= ids.max():
        raise ValueError(f"its next id is {index._next_id}")
    if "calibration" in config:
        index._calibration = Calibration.from_config(config["calibration"])
        index._recall = check_recall(config["recall"], "load")
    return index


def _part(file: _container.Container, prefix: str, config: dict[str, Any]) -> _container.Container:
    """The tensors under a prefix, as a file of their own would hold them."""
    start = f"{prefix}."
    tensors = {name.removeprefix(start): x for name, x in file.tensors.items() if name.startswith(start)}
    dtypes = {name: file.dtypes[start + name] for name in tensors}
    return _container.Container(file.path, tensors, dtypes, {"config": json.dumps(config)})


def _encoder(config: dict[str, Any], part: _container.Container) -> SetEncoder:
    kinds = {each._kind: each for each in _kinds()}
    if config["kind"] not in kinds:
        raise ValueError(f"its encoder is of the kind {config['kind']!r}")
    return kinds[config["kind"]].from_state(config["settings"], part.tensors)


def _kinds() -> Iterator[type[SetEncoder]]:
    """Every encoder there is, those of the caller's own included."""
    waiting: list[type[SetEncoder]] = list(SetEncoder.__subclasses__())
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if hasattr(kind, "_kind"):
            yield kind
