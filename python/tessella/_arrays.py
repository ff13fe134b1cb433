"""The door for inputs: whatever holds rows or ids comes in here, and results leave in the kind of the input.

Nothing is copied that the kernels can read as it lies. What they cannot read (strides, float64, integers,
the other byte order) is converted, and `row_slices` does that a slice at a time, so that a memory-mapped or
float64 matrix never stands in memory twice. torch is looked up among the loaded modules, never imported.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple, TypeAlias, TypeGuard

import numpy as np
import numpy.typing as npt

from tessella.errors import InvalidArgument, UnsupportedType

Array: TypeAlias = npt.NDArray[Any]

DTYPES: dict[str, np.dtype[Any]] = {
    "f32": np.dtype(np.float32),
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(np.uint16),  # NumPy has no bfloat16 of its own: the bits travel as uint16
    "u8": np.dtype(np.uint8),
}
_F32 = DTYPES["f32"]  # there is one object of it, of native order
LONG_NAMES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "u8": "uint8"}
_DLPACK_CPU = 1


class Input(NamedTuple):
    """Rows at the door: `source` is (n, d), as it came; `kind` is the type the kernels will see."""

    source: Array
    kind: str
    single: bool  # one row came as a one-dimensional array
    torch: bool  # results go back as torch tensors
    plain: bool = False  # known to be ready

    @property
    def n(self) -> int:
        return len(self.source)

    @property
    def d(self) -> int:
        return int(self.source.shape[1])

    @property
    def ready(self) -> bool:
        """Whether the kernels can read `source` as it lies."""
        return self.plain or _is_ready(self.source, self.kind)

    @property
    def array(self) -> Array:
        """All rows, C-contiguous and of the kind's type: the source itself where it is that already."""
        return self.source if self.plain else _ready(self.source, self.kind)


def as_rows(
    x: object, name: str, operation: str, dim: int | None = None, dtypes: Collection[str] = tuple(DTYPES)
) -> Input:
    """Checks that `x` holds rows of `dim` numbers of one of the `dtypes`; one row may be one-dimensional."""
    if is_plain(x, dim):
        return Input(x, "f32", False, False, True)
    source, bf16 = host_array(x, name, operation)
    kind = "bf16" if bf16 else kind_of(source.dtype)
    if kind is None or kind not in dtypes:
        wanted = ", ".join(LONG_NAMES[each] for each in dtypes)
        raise UnsupportedType(f"{operation}: expected {name} of type {wanted}; got {source.dtype}")
    single = source.ndim == 1
    expected = f"(n, {'d' if dim is None else dim})"
    if source.ndim not in (1, 2) or (dim is not None and source.shape[-1] != dim):
        raise InvalidArgument(f"{operation}: expected {name} of shape {expected}; got {source.shape}")
    if source.shape[-1] == 0:
        raise InvalidArgument(f"{operation}: expected {name} with at least one column; got {source.shape}")
    return Input(source.reshape(1, -1) if single else source, kind, single, is_torch(x))


def is_plain(x: object, dim: int | None) -> TypeGuard[npt.NDArray[np.float32]]:
    """Whether this is an array as most callers pass it, so that nothing else has to be looked at."""
    return type(x) is np.ndarray and x.dtype is _F32 and x.ndim == 2 and x.shape[1] == dim and x.flags.carray


def row_slices(rows: Input, rows_per_slice: int) -> Iterator[Array]:
    """The rows in order, at most `rows_per_slice` at a time, each slice ready for the kernels."""
    for start in range(0, rows.n, rows_per_slice):
        yield _ready(rows.source[start : start + rows_per_slice], rows.kind)


def as_float32(array: Array, kind: str) -> npt.NDArray[np.float32]:
    """Rows of one of the kinds as float32; float32 itself is not copied."""
    if kind == "bf16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array if kind == "f32" else array.astype(np.float32)


def as_ids(ids: object, n: int | None, operation: str) -> npt.NDArray[np.int64]:
    """Checks that `ids` are integers >= 0 (-1 marks a missing slot), `n` of them where `n` is given."""
    array, _ = host_array(ids, "ids", operation)
    if array.size == 0 and isinstance(ids, (list, tuple)):
        array = array.astype(np.int64)  # NumPy takes an empty list for float64
    if array.dtype.kind not in "iu":
        raise UnsupportedType(f"{operation}: expected ids of an integer type; got {array.dtype}")
    if array.ndim == 0:
        array = array.reshape(1)
    if array.ndim != 1 or (n is not None and len(array) != n):
        raise InvalidArgument(f"{operation}: expected ids of shape ({'n' if n is None else n},); got {array.shape}")
    wrong = (array < 0) | (array > np.iinfo(np.int64).max)
    if wrong.any():
        place = int(np.argmax(wrong))
        raise InvalidArgument(f"{operation}: expected ids between 0 and 2**63 - 1; got {array[place]} at place {place}")
    return np.ascontiguousarray(array, dtype=np.int64)


def is_torch(x: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def like_input(array: Array, like: object) -> Any:
    """`array` in the kind of `like` (an Input or what the caller passed): torch for torch, else NumPy."""
    if like.torch if isinstance(like, Input) else is_torch(like):
        return sys.modules["torch"].from_numpy(array)
    return array


def kind_of(dtype: np.dtype[Any]) -> str | None:
    dtype = dtype.newbyteorder("=")
    if dtype in (np.float16, np.uint8):
        return "f16" if dtype == np.float16 else "u8"
    # float64 and the other integers are taken as numbers and become float32
    return "f32" if dtype.kind in "iu" or dtype in (np.float32, np.float64) else None


def _ready(rows: Array, kind: str) -> Array:
    if _is_ready(rows, kind):
        return rows
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes inf; the check for inf names its row
        return np.require(rows, DTYPES[kind], ["C", "A"])


def _is_ready(rows: Array, kind: str) -> bool:
    return rows.dtype == DTYPES[kind] and rows.flags.c_contiguous and rows.flags.aligned


def host_array(x: object, name: str, operation: str) -> tuple[Array, bool]:
    """`x` as a NumPy array over the same memory where that is possible, and whether uint16 means bfloat16."""
    if isinstance(x, np.ma.MaskedArray):
        raise UnsupportedType(f"{operation}: expected {name} without a mask; got a masked array")
    if isinstance(x, np.ndarray):
        return _plain(np.asarray(x))  # a memory map or a matrix becomes a plain view of itself
    if is_torch(x):
        return _from_torch(x, name, operation)
    _refuse_devices(x, name, operation)
    source: Any = x
    try:
        array = np.from_dlpack(source) if _prefers_dlpack(x) else np.asarray(source)
    except (TypeError, ValueError, BufferError, RuntimeError, OverflowError) as error:
        raise UnsupportedType(
            f"{operation}: expected {name} as a NumPy array, a torch tensor or an object with __dlpack__;"
            f" got {type(x).__name__} ({error})"
        ) from error
    return _plain(array)


def _plain(array: Array) -> tuple[Array, bool]:
    bf16 = array.dtype.kind == "V" and array.dtype.name == "bfloat16"  # the type of ml_dtypes, which is never imported
    return (array.view(np.uint16) if bf16 else array), bf16


def _from_torch(tensor: Any, name: str, operation: str) -> tuple[Array, bool]:
    torch = sys.modules["torch"]
    if tensor.device.type != "cpu":
        raise UnsupportedType(
            f"{operation}: expected {name} in CPU memory; got a torch tensor on {tensor.device},"
            f" which {name}.cpu() brings there"
        )
    bf16 = tensor.dtype == torch.bfloat16
    try:
        plain = tensor.detach().view(torch.int16) if bf16 else tensor.detach().resolve_neg()
        array = plain.numpy()
    except (TypeError, RuntimeError) as error:  # sparse, quantised, float8
        raise UnsupportedType(
            f"{operation}: expected {name} as a dense tensor of a type NumPy has, or bfloat16;"
            f" got {tensor.dtype}, {tensor.layout}"
        ) from error
    return (array.view(np.uint16) if bf16 else array), bf16


def _refuse_devices(x: object, name: str, operation: str) -> None:
    on_cuda = hasattr(x, "__cuda_array_interface__")
    if not on_cuda and hasattr(x, "__dlpack_device__"):
        on_cuda = int(x.__dlpack_device__()[0]) != _DLPACK_CPU
    if on_cuda:
        raise UnsupportedType(
            f"{operation}: expected {name} in CPU memory; got {type(x).__name__} on another device,"
            f" which its own .cpu() or .get() brings there"
        )


def _prefers_dlpack(x: object) -> bool:
    # Whoever speaks NumPy's own protocols keeps types that DLPack lacks in NumPy (bfloat16).
    return hasattr(x, "__dlpack__") and not (hasattr(x, "__array__") or hasattr(x, "__array_interface__"))
