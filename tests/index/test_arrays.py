"""The door: every kind of input gives the result of its plain float32 copy, or a sentence."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

import tessella as ts
from tessella.errors import InvalidArgument, UnsupportedType

N, D, K = 60, 24, 5


@pytest.fixture
def x(rng: np.random.Generator) -> np.ndarray:
    """Small eighths: every type below, bfloat16 too, holds them exactly."""
    return (rng.integers(-16, 17, size=(N, D)) / 8).astype(np.float32)


class OnlyDlpack:
    """What another library's array looks like that shares no protocol with NumPy but DLPack."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()


class OnCuda:
    """What a CUDA array looks like from outside."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": (1, D), "typestr": "<f4", "data": (0, False), "version": 3}


def read_only(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


def unaligned(x: np.ndarray) -> np.ndarray:
    room = np.empty(x.nbytes + 1, np.uint8)
    view = room[1:].view(np.float32).reshape(x.shape)
    view[:] = x
    assert not view.flags.aligned
    return view


NUMPY_KINDS: dict[str, Callable[[np.ndarray], Any]] = {
    "float32": lambda x: x,
    "float64": lambda x: x.astype(np.float64),
    "float16": lambda x: x.astype(np.float16),
    "bfloat16": lambda x: x.astype(ml_dtypes.bfloat16),
    "other byte order": lambda x: x.astype(">f4"),
    "Fortran order": np.asfortranarray,
    "negative strides": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "every second column": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "strided bfloat16": lambda x: np.repeat(x, 2, axis=1).astype(ml_dtypes.bfloat16)[:, ::2],
    "broadcast columns": lambda x: np.lib.stride_tricks.as_strided(x, x.shape, x.strides, writeable=False),
    "read-only": read_only,
    "unaligned": unaligned,
    "list of lists": lambda x: x.tolist(),
    "list of rows": list,
    "memoryview": memoryview,
    "DLPack alone": OnlyDlpack,
}
TORCH_KINDS: dict[str, Callable[[np.ndarray], torch.Tensor]] = {
    "float32": lambda x: torch.from_numpy(x),
    "float64": lambda x: torch.from_numpy(x).double(),
    "float16": lambda x: torch.from_numpy(x).half(),
    "bfloat16": lambda x: torch.from_numpy(x).bfloat16(),
    "transposed": lambda x: torch.from_numpy(x.T.copy()).T,
    "transposed bfloat16": lambda x: torch.from_numpy(x.T.copy()).bfloat16().T,
    "with a gradient": lambda x: torch.from_numpy(x).requires_grad_(),
}


def found(x: Any, q: Any) -> tuple[Any, Any]:
    index = ts.Index("Flat", dim=D, metric="ip")
    index.add(x)
    ids, scores = index.search(q, k=K)
    return ids, scores


@pytest.mark.parametrize("kind", NUMPY_KINDS)
def test_every_kind_of_array_is_its_float32_copy(kind: str, x: np.ndarray) -> None:
    ids, scores = found(NUMPY_KINDS[kind](x), NUMPY_KINDS[kind](x[:7]))
    plain_ids, plain_scores = found(x, x[:7])
    np.testing.assert_array_equal(ids, plain_ids)
    np.testing.assert_array_equal(scores, plain_scores)


@pytest.mark.parametrize("kind", TORCH_KINDS)
def test_tensors_in_tensors_out(kind: str, x: np.ndarray) -> None:
    ids, scores = found(TORCH_KINDS[kind](x), TORCH_KINDS[kind](x[:7]))
    plain_ids, plain_scores = found(x, x[:7])
    assert isinstance(ids, torch.Tensor)
    assert isinstance(scores, torch.Tensor)
    np.testing.assert_array_equal(ids.numpy(), plain_ids)
    np.testing.assert_array_equal(scores.numpy(), plain_scores)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int8, np.int64])
def test_integers_are_numbers(dtype: type, rng: np.random.Generator) -> None:
    x = rng.integers(0, 100, size=(N, D))
    ids, scores = found(x.astype(dtype), x[:3].astype(dtype))
    plain_ids, plain_scores = found(x.astype(np.float32), x[:3].astype(np.float32))
    np.testing.assert_array_equal(ids, plain_ids)
    np.testing.assert_array_equal(scores, plain_scores)


def test_one_row_may_be_flat(x: np.ndarray) -> None:
    index = ts.Index("Flat", dim=D, metric="ip")
    for row in x:
        index.add(row)
    assert len(index) == N
    np.testing.assert_array_equal(index.search(x[3], k=K).ids, index.search(x[3:4], k=K).ids)


def test_inputs_are_not_kept(x: np.ndarray) -> None:
    """The index owns its rows: what the caller does to the array later changes nothing."""
    index = ts.Index("Flat", dim=D, metric="ip")
    mine = x.copy()
    index.add(mine)
    mine[:] = 0
    np.testing.assert_array_equal(index.reconstruct([5])[0], x[5])


def test_a_mapped_float64_matrix_is_never_held_whole(tmp_path: Path, rng: np.random.Generator) -> None:
    """The kernels read float32; the conversion goes slice by slice."""
    rows, dim = 400_000, 16
    np.save(tmp_path / "x.npy", rng.standard_normal((rows, dim)))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    index = ts.Index("Flat", dim=dim, metric="ip")
    tracemalloc.start()
    try:
        index.add(mapped)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(index) == rows
    assert peak < rows * dim * 4 / 2, "NumPy held more than half of a float32 copy"


BAD_ROWS: dict[str, tuple[Any, type[Exception], str]] = {
    "wrong dim": (
        np.zeros((3, D - 1)),
        InvalidArgument,
        rf"expected \w+ of shape \(n, {D}\); got \(3, {D - 1}\)",
    ),
    "wrong dim, one row": (np.zeros(D + 1), InvalidArgument, rf"of shape \(n, {D}\); got \({D + 1},\)"),
    "three dimensions": (np.zeros((2, 2, D)), InvalidArgument, rf"got \(2, 2, {D}\)"),
    "a number": (np.float32(1), InvalidArgument, r"of shape \(n, 24\); got \(\)"),
    "complex": (np.zeros((3, D), complex), UnsupportedType, "of type float32, .*; got complex128"),
    "objects": (np.zeros((3, D), object), UnsupportedType, "got object"),
    "strings": (np.full((3, D), "a"), UnsupportedType, "got <U1"),
    "booleans": (np.zeros((3, D), bool), UnsupportedType, "got bool"),
    "None": (None, UnsupportedType, "got object"),
    "ragged lists": ([[1.0], [1.0, 2.0]], UnsupportedType, "got list"),
    "masked": (np.ma.zeros((3, D)), UnsupportedType, "without a mask"),
    "sparse tensor": (torch.zeros(3, D).to_sparse(), UnsupportedType, "dense tensor"),
    "complex tensor": (torch.zeros(3, D, dtype=torch.complex64), UnsupportedType, "got complex64"),
    "float8 tensor": (torch.zeros(3, D).to(torch.float8_e4m3fn), UnsupportedType, "float8"),
    "tensor elsewhere": (torch.zeros(3, D, device="meta"), UnsupportedType, r"on meta, which \w+\.cpu\(\)"),
    "CUDA array": (OnCuda(), UnsupportedType, r"CPU memory; got OnCuda .*\.cpu\(\)"),
}


@pytest.mark.parametrize("kind", BAD_ROWS)
@pytest.mark.parametrize("operation", ["add", "search"])
def test_bad_rows_are_a_sentence(operation: str, kind: str, x: np.ndarray) -> None:
    bad, error, message = BAD_ROWS[kind]
    index = ts.Index("Flat", dim=D, metric="ip")
    index.add(x)
    with pytest.raises(error, match=f"^{operation}: .*{message}"):
        index.add(bad) if operation == "add" else index.search(bad)
    assert len(index) == N


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("operation", ["add", "search"])
def test_a_number_that_is_none_is_found_by_row(operation: str, bad: float, x: np.ndarray) -> None:
    index = ts.Index("Flat", dim=D, metric="ip")
    index.add(x)
    rows = np.zeros((9, D))
    rows[4, D - 1] = rows[7, 0] = bad
    with pytest.raises(InvalidArgument, match=rf"^{operation}: .*row 4"):
        index.add(rows) if operation == "add" else index.search(rows)
    assert len(index) == N


GOOD_IDS: dict[str, Callable[[np.ndarray], Any]] = {
    "int64": lambda ids: ids,
    "int32": lambda ids: ids.astype(np.int32),
    "uint64": lambda ids: ids.astype(np.uint64),
    "list": lambda ids: ids.tolist(),
    "strided": lambda ids: np.repeat(ids, 3)[::3],
    "backwards": lambda ids: ids[::-1].copy()[::-1],
    "read-only": read_only,
    "tensor": torch.from_numpy,
}


@pytest.mark.parametrize("kind", GOOD_IDS)
def test_ids_of_every_integer_kind(kind: str, x: np.ndarray) -> None:
    ids = np.arange(N, dtype=np.int64) * 7 + 3
    index = ts.Index("Flat", dim=D, metric="l2")
    index.add(x, ids=GOOD_IDS[kind](ids))
    np.testing.assert_array_equal(np.sort(np.asarray(index.ids)), ids)


BAD_IDS: dict[str, tuple[Any, type[Exception], str]] = {
    "too few": (np.arange(N - 1), InvalidArgument, rf"of shape \({N},\); got \({N - 1},\)"),
    "two dimensions": (np.zeros((N, 1), int), InvalidArgument, rf"got \({N}, 1\)"),
    "negative": (np.arange(N) - 2, InvalidArgument, "between 0 and .*; got -2 at place 0"),
    "beyond int64": (
        np.arange(N, dtype=np.uint64) + np.uint64(2**63),
        InvalidArgument,
        "got 9223372036854775808",
    ),
    "floats": (np.arange(N) * 1.0, UnsupportedType, "integer type; got float64"),
    "booleans": (np.zeros(N, bool), UnsupportedType, "integer type; got bool"),
    "strings": ([str(i) for i in range(N)], UnsupportedType, "integer type; got <U2"),
    "repeated": (np.zeros(N, int), InvalidArgument, "without repeats; 0 occurs twice"),
}


@pytest.mark.parametrize("kind", BAD_IDS)
def test_bad_ids_are_a_sentence_and_add_nothing(kind: str, x: np.ndarray) -> None:
    bad, error, message = BAD_IDS[kind]
    index = ts.Index("Flat", dim=D, metric="ip")
    with pytest.raises(error, match=f"^add: .*{message}"):
        index.add(x, ids=bad)
    assert len(index) == 0


def test_torch_stays_out() -> None:
    """Adding and searching arrays loads no torch."""
    code = (
        "import sys, numpy, tessella; ix = tessella.Index('Flat', dim=4); ix.add(numpy.eye(4));"
        " ix.search(numpy.eye(4), k=1); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
