"""The encoder's pooling through `tessella.pool`, against the plain composition of torch's operations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tessella as ts
from tessella.encoder import Encoder, composed, pooling
from tessella.encoder.pooling import NAMES
from tests.encoder.models import write_json, write_transformer

LENGTHS = [5, 1, 9, 3, 2]
SKIPS: list[Any] = [0, 2, [0, 1, 4, 3, 0]]  # of a text of three tokens all three: then it is pooled whole
MODES = [*((mode,) for mode in NAMES), ("cls", "max", "lasttoken"), ("cls", "weightedmean"), tuple(NAMES)]


def skipped(skip: Any) -> list[int]:
    wanted = [skip] * len(LENGTHS) if isinstance(skip, int) else skip
    return [each if length > each else 0 for length, each in zip(LENGTHS, wanted, strict=True)]


def states(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    torch.manual_seed(2)
    return torch.randn(sum(LENGTHS), 24).to(dtype)


@pytest.mark.parametrize("skip", SKIPS, ids=str)
@pytest.mark.parametrize("modes", MODES, ids="+".join)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_it_is_the_composition(modes: tuple[str, ...], skip: Any, dtype: torch.dtype) -> None:
    found = pooling.pool(states(dtype), LENGTHS, modes, skip)
    wanted = composed.pool(states(dtype).float(), LENGTHS, modes, skipped(skip))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, atol=2e-6, rtol=0)


@pytest.mark.parametrize("skip", SKIPS, ids=str)
@pytest.mark.parametrize("modes", MODES, ids="+".join)
def test_gradients_are_those_of_the_composition(modes: tuple[str, ...], skip: Any) -> None:
    ours, theirs = states().requires_grad_(), states().double().requires_grad_()
    weights = torch.randn(len(LENGTHS), 24 * len(modes))
    (pooling.pool(ours, LENGTHS, modes, skip) * weights).sum().backward()
    (composed.pool(theirs, LENGTHS, modes, skipped(skip)) * weights).sum().backward()
    assert ours.grad is not None and theirs.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad.float(), atol=2e-6, rtol=0)


def folder(path: Path, modes: tuple[str, ...], head: bool) -> Path:
    """A model folder of these modes, and a linear map behind them."""
    from safetensors.torch import save_file

    write_transformer(path)
    kinds = ["Transformer", "Pooling", *(["Dense"] if head else [])]
    places = ["", "1_Pooling", "2_Dense"]
    write_json(
        path / "modules.json", [{"path": place, "type": kind} for place, kind in zip(places, kinds, strict=False)]
    )
    write_json(path / "1_Pooling" / "config.json", {"pooling_mode": list(modes), "include_prompt": False})
    if head:
        size = 32 * len(modes)
        activation = "torch.nn.modules.linear.Identity"
        config = {"in_features": size, "out_features": 20, "bias": True, "activation_function": activation}
        write_json(path / "2_Dense" / "config.json", config)
        tensors = {"linear.weight": torch.randn(20, size), "linear.bias": torch.randn(20)}
        save_file(tensors, path / "2_Dense" / "model.safetensors")
    return path


@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize("modes", [("mean",), ("cls", "mean"), ("cls", "weightedmean")], ids="+".join)
def test_what_leaves_is_finished_in_the_pass(
    modes: tuple[str, ...], head: bool, tmp_path: Path, sentences: Callable[[int, int], list[str]]
) -> None:
    """Dimensions, length and type as the parts one after the other give them."""
    encoder = Encoder.load(folder(tmp_path / "m", modes, head))
    texts = sentences(30, 12)
    options: dict[str, Any] = {"prompt": "w1 w2 ", "normalize": True}
    with torch.no_grad():
        whole = encoder.embed(texts, prompt="w1 w2 ").numpy()
    for dim in (encoder.dim, 9):
        wanted = whole[:, :dim] / np.linalg.norm(whole[:, :dim], axis=1, keepdims=True)
        np.testing.assert_allclose(encoder.encode(texts, dim=dim, **options), wanted, atol=1e-6)
        halves = encoder.encode(texts, dim=dim, dtype="float16", **options)
        np.testing.assert_allclose(halves.astype(np.float32), wanted, atol=5e-4)
        codes = encoder.encode(texts, dim=dim, dtype="int8", **options)
        assert np.abs(codes - wanted / (8 / np.sqrt(dim) / 127)).max() <= 0.501
        bits = ts.BinaryQuantizer(dim).encode(encoder.encode(texts, dim=dim, **options))
        np.testing.assert_array_equal(encoder.encode(texts, dim=dim, dtype="binary", **options), bits)


def test_one_pass_is_what_runs(minilm: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call for the batch, from states to codes."""
    calls: list[dict[str, Any]] = []

    def kept(*given: Any, **options: Any) -> Any:
        calls.append(options)
        return pool(*given, **options)

    pool = ts.pool
    monkeypatch.setattr(ts, "pool", kept)
    minilm.encode(["one", "two"], dim=64, dtype="int8")
    assert len(calls) == 1 and calls[0]["dim"] == 64 and calls[0]["dtype"] == "int8" and calls[0]["normalize"]


def test_devices_that_the_kernels_do_not_know_get_the_same(minilm: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["A mosaic is laid of many small tiles.", "tiles", "", "mortar sets within an hour " * 3]
    wanted = minilm.encode(texts, dim=100), minilm.encode_chunks(texts, chunk_tokens=4).embeddings
    monkeypatch.setattr(pooling, "fused", lambda states: False)
    monkeypatch.setattr(ts, "pool", None)  # which is not to be called
    np.testing.assert_allclose(minilm.encode(texts, dim=100), wanted[0], atol=2e-6)
    np.testing.assert_allclose(minilm.encode_chunks(texts, chunk_tokens=4).embeddings, wanted[1], atol=2e-6)
