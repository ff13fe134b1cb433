"""Linear layers that are laid out for the CPU, and the activation that is joined to them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn.functional import gelu, linear
from transformers.activations import ACT2FN

from tessella.encoder import Encoder
from tessella.encoder.linear import PackedLinear, pack
from tests.encoder import models

KINDS = {"gelu": "none", "gelu_pytorch_tanh": "tanh"}
LOOSE = {"rtol": 1e-5, "atol": 1e-6}


class Block(torch.nn.Module):
    """As BERT has it."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.dense = torch.nn.Linear(32, 48)
        self.act = ACT2FN[kind]

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.act(self.dense(states))


class Otherwise(Block):
    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.dense(states) + self.act(self.dense(states))


def joined(module: torch.nn.Module) -> bool:
    return type(module).__name__.startswith("Joined")


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(7, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_block_gives_what_its_layers_give(kind: str, x: torch.Tensor) -> None:
    block = Block(kind)
    wanted = gelu(linear(x, block.dense.weight, block.dense.bias), approximate=KINDS[kind]).detach()
    pack(block)
    assert joined(block) and isinstance(block, Block)
    torch.testing.assert_close(block(x).detach(), wanted, **LOOSE)  # with gradients
    with torch.inference_mode():
        torch.testing.assert_close(block(x), wanted, **LOOSE)
        torch.testing.assert_close(block(x[None])[0], wanted, **LOOSE)
        assert torch.equal(block(x)[:1], block(x[:1])), "a row depends on those beside it"


@pytest.mark.parametrize("kind", ["relu", "silu", "gelu_new"])
def test_other_activations_stay_as_they_are(kind: str, x: torch.Tensor) -> None:
    block = Block(kind)
    with torch.inference_mode():
        wanted = block(x)
        pack(block)
        assert not joined(block)
        torch.testing.assert_close(block(x), wanted, **LOOSE)


def test_a_block_that_does_more_stays_as_it_is() -> None:
    block = Otherwise("gelu")
    pack(block)
    assert type(block) is Otherwise and type(block.dense) is PackedLinear


@torch.inference_mode()
def test_layers_made_in_inference_mode_work(x: torch.Tensor) -> None:
    block = Block("gelu")
    wanted = block(x)
    pack(block)
    torch.testing.assert_close(block(x), wanted, **LOOSE)


@torch.no_grad()
def test_what_is_put_around_a_layer_is_obeyed(x: torch.Tensor) -> None:
    block = Block("gelu")
    pack(block)
    seen: list[torch.Tensor] = []
    handle = block.dense.register_forward_hook(lambda _, __, out: seen.append(out))
    block(x)
    torch.testing.assert_close(seen[0], linear(x, block.dense.weight, block.dense.bias), **LOOSE)
    handle.remove()
    block.dense = torch.nn.Sequential(block.dense, torch.nn.Linear(48, 48))  # as an adapter does
    torch.testing.assert_close(block(x), gelu(block.dense(x)), **LOOSE)


@torch.no_grad()
@pytest.mark.parametrize("again", [copy.deepcopy, lambda block: pickle.loads(pickle.dumps(block))])
def test_copies_are_joined_too(again: object, x: torch.Tensor) -> None:
    block = Block("gelu")
    pack(block)
    wanted = block(x)
    other = again(block)  # type: ignore[operator]
    assert joined(other) and torch.equal(other(x), wanted)
    other.dense.weight.zero_()
    assert torch.equal(block(x), wanted)


def doubled(weight: torch.nn.Parameter) -> None:
    weight.data.mul_(2)


def exchanged(weight: torch.nn.Parameter) -> None:
    weight.data = weight.data * 2


def through_numpy(weight: torch.nn.Parameter) -> None:
    weight.detach().numpy()[:] *= 2


def one_column(weight: torch.nn.Parameter) -> None:
    weight[:, 5].mul_(2)


@torch.no_grad()
@pytest.mark.parametrize("write", [doubled, exchanged, through_numpy, one_column])
@pytest.mark.parametrize("shape", [(32, 48), (32, 700), (700, 32), (32, 1)])
def test_writes_that_torch_does_not_count_are_noticed(write: Callable[..., None], shape: tuple[int, int]) -> None:
    layer = torch.nn.Linear(*shape)
    pack(layer)
    x = torch.randn(7, shape[0])
    layer(x)
    for _ in range(2):
        write(layer.weight)
        torch.testing.assert_close(layer(x), linear(x, layer.weight, layer.bias), **LOOSE)


@torch.no_grad()
def test_a_weight_stays_laid_out_while_nothing_writes_to_it(x: torch.Tensor) -> None:
    layer = torch.nn.Linear(32, 48)
    pack(layer)
    layer(x)
    first = layer._laid_out
    layer(x[:2])
    assert first is not None and layer._laid_out is first


def test_an_encoder_follows_uncounted_writes(tmp_path: Path) -> None:
    models.write_transformer(tmp_path / "m")
    encoder, texts = Encoder.load(tmp_path / "m"), ["w1 w2 w3", "w4"]
    before = encoder.encode(texts)
    for layer in (each for each in encoder.backbone.modules() if isinstance(each, PackedLinear)):
        layer.weight.data.mul_(1.5)
    after = encoder.encode(texts)
    encoder.save(tmp_path / "saved")
    assert abs(after - before).max() > 1e-2
    assert (after == Encoder.load(tmp_path / "saved").encode(texts)).all()


@pytest.mark.parametrize("architecture", ["bert", "roberta", "electra"])
def test_blocks_of_models_are_joined(tmp_path: Path, architecture: str) -> None:
    models.write_transformer(tmp_path, architecture)
    encoder = Encoder.load(tmp_path)
    assert sum(map(joined, encoder.backbone.modules())) == encoder.backbone.depth
