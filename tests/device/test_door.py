"""The Python door of the CUDA column refuses in full sentences; needs torch, but no device."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import numpy as np
import pytest

from tessella.errors import DeviceUnavailable, InvalidArgument, UnsupportedType

torch = pytest.importorskip("torch", reason="the CUDA door takes torch tensors")


def exact_topk(*arguments: Any) -> Any:
    return importlib.import_module("tessella._cuda_exact").exact_topk(*arguments)  # no public face yet


def tensor(*shape: int, dtype: str = "float32") -> Any:
    return torch.zeros(shape, dtype=getattr(torch, dtype))


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ((np.zeros((2, 4)), tensor(3, 4), 1, "ip"), UnsupportedType, "torch tensors in CUDA memory; got ndarray and"),
        ((tensor(2, 4), tensor(3, 4), 1, "ip"), UnsupportedType, "on one CUDA device; got cpu and cpu"),
        ((tensor(2, 4), tensor(3, 4).to("meta"), 1, "ip"), UnsupportedType, "got cpu and meta"),
        ((tensor(2, 4, dtype="uint8"), tensor(3, 4), 1, "ip"), UnsupportedType, "queries of type float32"),
        ((tensor(2, 4), tensor(3, 4, dtype="int64"), 1, "ip"), UnsupportedType, "got torch.float32 and torch.int64"),
        ((tensor(2, 5), tensor(3, 4), 1, "ip"), InvalidArgument, r"queries of shape \(nq, 4\); got \(2, 5\)"),
        ((tensor(4), tensor(3, 4), 1, "ip"), InvalidArgument, r"queries of shape \(nq, 4\); got \(4,\)"),
        ((tensor(2, 4), tensor(3), 1, "ip"), InvalidArgument, r"rows of shape \(n, d\); got \(3,\)"),
        ((tensor(2, 0), tensor(3, 0), 1, "ip"), InvalidArgument, r"rows of shape \(n, d\); got \(3, 0\)"),
        ((tensor(2, 4), tensor(3, 4), 0, "ip"), InvalidArgument, "k in 1..2048; got 0"),
        ((tensor(2, 4), tensor(3, 4), 2049, "ip"), InvalidArgument, "k in 1..2048; got 2049"),
        ((tensor(2, 4), tensor(3, 4), 1, "cosine"), InvalidArgument, "metric 'ip' or 'l2'; got 'cosine'"),
    ],
)
def test_bad_input_is_a_sentence(arguments: tuple[Any, ...], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=f"exact_topk: expected .*{sentence}"):
        exact_topk(*arguments)


@pytest.mark.parametrize(
    ("allowed", "error", "sentence"),
    [
        ([True] * 130, UnsupportedType, "allowed as a bool tensor on cpu; got list"),
        (tensor(130), UnsupportedType, "allowed as a bool tensor on cpu; got"),
        (tensor(129, dtype="bool"), InvalidArgument, r"allowed of shape \(130,\) or \(3, 130\); got \(129,\)"),
        (tensor(2, 130, dtype="bool"), InvalidArgument, r"allowed of shape \(130,\) or \(3, 130\); got \(2, 130\)"),
    ],
)
def test_bad_masks_are_a_sentence(allowed: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=f"exact_topk: expected {sentence}"):
        call("exact", "_checked_mask", torch, allowed, 3, tensor(130, 4))


@pytest.mark.parametrize("each", [False, True])
def test_masks_become_words(each: bool) -> None:
    mask = torch.from_numpy(np.random.default_rng(0).random((3, 130) if each else 130) < 0.3)
    words, own = call("exact", "_checked_mask", torch, mask, 3, tensor(130, 4))
    assert (words.dtype, words.shape[-1], own) == (torch.int64, 3, each)
    bits = np.unpackbits(words.numpy().view(np.uint8), axis=-1, bitorder="little")
    assert np.array_equal(bits[..., :130], mask.numpy())
    assert not bits[..., 130:].any()


def call(family: str, name: str, *arguments: Any, **options: Any) -> Any:
    return getattr(importlib.import_module(f"tessella._cuda_{family}"), name)(*arguments, **options)


@pytest.mark.parametrize(
    ("family", "name", "arguments", "error", "sentence"),
    [
        (
            "kmeans",
            "kmeans_assign",
            (np.zeros((2, 4)), tensor(3, 4)),
            UnsupportedType,
            "rows as a torch tensor of float32",
        ),
        ("kmeans", "kmeans_assign", (tensor(2, 4), tensor(3, 4)), UnsupportedType, "rows on one CUDA device .*got cpu"),
        ("kmeans", "kmeans_assign", (tensor(2), tensor(3, 4)), InvalidArgument, r"rows of shape \(n, d\); got \(2,\)"),
        ("maxsim", "maxsim_score", (tensor(2, 4), None, tensor(3, 4), None, None), UnsupportedType, "CUDA .* got cpu"),
        ("maxsim", "maxsim_score", (None, None, tensor(3, dtype="int32"), None, None), UnsupportedType, "got int32"),
        ("rabitq", "rabitq_encode", (tensor(2, 4, dtype="int32"),), UnsupportedType, "got torch.int32 on cpu"),
        ("rotate", "rotate_forward", (tensor(2, 4, 1), None), InvalidArgument, r"rows of shape \(n, d\)"),
        ("scalar", "scalar_encode", (tensor(2), 8), InvalidArgument, r"residuals of shape \(n, D\); got \(2,\)"),
        ("graph", "graph_prune", (tensor(2, 4, 1), None, None, 32), InvalidArgument, r"values of shape \(n, D\)"),
        ("graph", "graph_write", (tensor(2, 64, dtype="int32"), None), UnsupportedType, "got torch.int32 on cpu"),
        ("pq", "pq_table", (tensor(2, 4), tensor(2, 2), "ip"), InvalidArgument, r"codebooks of shape \(m, d/m, k\)"),
    ],
)
def test_every_door_refuses_in_a_sentence(
    family: str, name: str, arguments: tuple[Any, ...], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=f"{name}: expected .*{sentence}"):
        call(family, name, *arguments)


def test_the_module_says_that_there_is_no_device() -> None:
    if importlib.util.find_spec("tessella._cuda") is None:
        pytest.skip("tessella._cuda is not built here")
    cuda = importlib.import_module("tessella._cuda")
    if cuda.device_count() > 0:
        pytest.skip("there is a device here")
    with pytest.raises(DeviceUnavailable, match="no CUDA device or no driver"):
        cuda.device_name(0)
    with pytest.raises(DeviceUnavailable, match="no CUDA device or no driver"):
        cuda.exact_topk_scratch(1, 1, 1, 1, device=0)
    with pytest.raises(DeviceUnavailable, match="kmeans_assign: no CUDA device or no driver"):
        cuda.kmeans_assign_scratch(1, 1, 1, device=0)
    with pytest.raises(InvalidArgument, match=r"k in 1\.\.2048; got 0"):
        cuda.exact_topk_scratch(1, 1, 1, 0, device=0)
