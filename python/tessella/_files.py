"""An index in a file and in a pickle: what is written of it, and what is made of that again.

A file's tensors are the structure's (`_structures`), its bytes the container's (`_container`); here is what describes
the index as a whole. Whatever is wrong with a file becomes a FormatError that names it.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from tessella import _container
from tessella.calibration import Calibration
from tessella.errors import FormatError

if TYPE_CHECKING:
    from tessella.index import Index


def save(index: Index, path: str | os.PathLike[str]) -> None:
    """See `Index.save`."""
    config, tensors = described(index)
    _container.write(path, tensors, {"kind": "index", "config": json.dumps(config)})


def described(index: Index) -> tuple[dict[str, Any], list[_container.Tensor]]:
    """What a file holds of an index: what JSON says of it, and tensors."""
    state, attributes = _snapshot(index)
    config = _header(index) | {key: state[key] for key in ("rows", "next_id", "trained")}
    tensors: list[_container.Tensor] = [("centre", "F32", (index.dim,), [state["centre"]])]
    if state["ids"] is not None:
        tensors.append(("ids", "I64", (state["rows"],), [state["ids"]]))
    if attributes is not None:
        from tessella.attributes import arrow

        name, stored = "attributes", arrow.compressed(attributes)
        if stored is not None:
            name, config["attribute_bytes"] = "attributes.zstd", len(attributes)
        data = np.frombuffer(attributes if stored is None else stored, np.uint8)
        tensors.append((name, "U8", (len(data),), [data]))
    return config, tensors + index._structure.tensors(state)


def load(kind: type[Index], path: str | os.PathLike[str], mmap: bool, verify: bool | None) -> Index:
    """See `Index.load`."""
    return made(kind, _container.read(path, mmap=mmap, verify=verify, kind="index"))


def made(kind: type[Index], file: _container.Container) -> Index:
    """The index that a container describes; a FormatError where it does not."""
    try:
        return _made(kind, file)
    except FormatError as error:
        message = str(error).removeprefix("load: ")
        if message.startswith(file.path):
            raise
        raise FormatError(f"load: {file.path} is damaged: {message}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"load: {file.path} is damaged: its config does not describe an index ({error})") from error


def reduced(index: Index) -> tuple[Any, ...]:
    """What pickle keeps of an index."""
    state, attributes = _snapshot(index)
    return _restored, (type(index), _header(index), index._structure.joined(state), attributes)


def _snapshot(index: Index) -> tuple[dict[str, Any], bytes | None]:
    """The engine's state and, as an Arrow stream, the attributes of just these rows."""
    filtering = index._filtering
    if filtering.attributes is None:
        return index._engine.snapshot(), None
    with filtering.adding:
        with filtering.changing():  # a graph gives up removed rows first
            state = index._engine.snapshot()
        return state, filtering.attributes.to_arrow()


def _restored(
    kind: type[Index], header: dict[str, Any], state: dict[str, Any], attributes: bytes | None = None
) -> Index:
    index = kind(header["spec"], dim=header["dim"], metric=header["metric"], seed=header["seed"])
    index._engine.restore(state)
    _take_attributes(index, attributes)
    _take_efforts(index, header)
    return index


def _made(kind: type[Index], file: _container.Container) -> Index:
    config = file.config
    dim, rows = _natural(config, "dim"), _natural(config, "rows")
    centre = file.take("centre", "F32", (dim,))
    index = kind(config["spec"], dim=dim, metric=config["metric"], seed=_natural(config, "seed"))
    ids = file.take("ids", "I64", (rows,)) if "ids" in file.tensors else None
    state = {"rows": rows, "next_id": _natural(config, "next_id"), "trained": config["trained"] is True}
    index._engine.restore(state | {"ids": ids, "centre": centre} | index._structure.read(file))
    _take_attributes(index, _stream(file))
    _take_efforts(index, config)
    return index


def _stream(file: _container.Container) -> Any:
    """The attributes as an Arrow stream; None where there are none."""
    if "attributes.zstd" not in file.tensors:
        return file.take("attributes", "U8", (None,)) if "attributes" in file.tensors else None
    from tessella.attributes import arrow

    return arrow.uncompressed(file.take("attributes.zstd", "U8", (None,)), _natural(file.config, "attribute_bytes"))


def _take_attributes(index: Index, data: Any) -> None:
    if data is None:
        return
    from tessella.attributes import Attributes

    table = Attributes.from_arrow(data)
    if len(table) != len(index):
        raise ValueError(f"it has attributes of {len(table)} rows, and {len(index)} rows")
    index._filtering.restored(table)


def _header(index: Index) -> dict[str, Any]:
    header = {"spec": index.spec, "dim": index.dim, "metric": index.metric, "seed": index._seed}
    if index.knob:
        header[index.knob] = index.effort
    if index.calibration is not None:
        header["calibration"] = index.calibration.as_config()
    return header


def _take_efforts(index: Index, config: dict[str, Any]) -> None:
    if index.knob in config:
        index._effort = index._checked_effort(_natural(config, index.knob), index.knob, "load")
    if "calibration" in config:
        index._calibration = Calibration.from_config(config["calibration"])


def _natural(config: dict[str, Any], key: str) -> int:
    value = config[key]
    if type(value) is not int or value < 0 or value >= 1 << 62:
        raise ValueError(f"{key!r} is {value!r}")
    return value
