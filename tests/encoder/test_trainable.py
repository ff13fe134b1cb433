"""Pooling with weights: against the formulas in float64, over padding, and trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is an extra")
trainable = pytest.importorskip("tessella.encoder.trainable", reason="torch is an extra")


def batch(seed: int = 0) -> tuple[Any, Any]:
    torch.manual_seed(seed)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]])
    return torch.randn(3, 5, 16), mask


def norm(x: Any) -> Any:
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()


def attended(layer: Any, queries: Any, keys: Any) -> Any:
    """Head by head, in float64: queries (t, d), keys (s, d)."""
    attention = layer.attention
    q = queries @ attention.queries.weight.double().T
    k, v = (keys @ attention.keys_values.weight.double().T).chunk(2, -1)
    heads = []
    for a, b, c in zip(*(each.chunk(attention.heads, -1) for each in (q, k, v)), strict=True):
        heads.append(torch.softmax(a @ b.T / a.shape[-1] ** 0.5, -1) @ c)
    return torch.cat(heads, -1) @ attention.out.weight.double().T


def fed(layer: Any, x: Any) -> Any:
    widen, narrow = layer.feed_forward.widen, layer.feed_forward.narrow
    values, gates = (norm(x) @ widen.weight.double().T + widen.bias.double()).chunk(2, -1)
    gelu = gates * 0.5 * (1 + torch.erf(gates / 2**0.5))
    return x + (values * gelu) @ narrow.weight.double().T + narrow.bias.double()


@pytest.mark.parametrize("skip", [0, 1])
def test_latent_attention_is_its_formula(skip: int) -> None:
    hidden, mask = batch()
    layer = trainable.LatentAttention(16, latents=7, heads=2, head_dim=12)
    got = layer(hidden, mask, torch.full((3,), skip))
    for i, length in enumerate(mask.sum(1)):
        x = hidden[i].double()
        x = fed(layer, x + attended(layer, norm(x), norm(layer.latents.double())))
        wanted = torch.nn.functional.normalize(x[skip:length].mean(0), dim=0)
        np.testing.assert_allclose(got[i].detach().numpy(), wanted.detach().numpy(), atol=2e-6)


@pytest.mark.parametrize("mode", ["mean", "last"])
def test_layer_pooling_is_its_formula(mode: str) -> None:
    hidden, mask = batch()
    states = [hidden, 2 * hidden - 1, hidden.flip(0)]
    layer = trainable.LayerPooling(16, layers=3, latents=5, heads=2, head_dim=6, mode=mode)
    with torch.no_grad():
        layer.layer_embedding.normal_()
    got = layer(states, mask)
    for i, length in enumerate(mask.sum(1)):
        tokens = [each[i, :length].double() for each in states]
        rows = torch.stack([each.mean(0) if mode == "mean" else each[-1] for each in tokens])
        latents = layer.latents.double()
        x = latents + attended(layer, norm(latents), norm(rows + layer.layer_embedding.double()))
        wanted = torch.nn.functional.normalize(fed(layer, x).mean(0), dim=0)
        np.testing.assert_allclose(got[i].detach().numpy(), wanted.detach().numpy(), atol=2e-6)


def modules() -> list[Any]:
    return [
        (lambda: trainable.LatentAttention(16, latents=6, heads=2, head_dim=8), lambda x: x),
        (lambda: trainable.LayerPooling(16, layers=2, latents=6, heads=2), lambda x: [x, x * x]),
        (lambda: trainable.WeightedLayers(2), lambda x: [x, x * x]),
    ]


@pytest.mark.parametrize("which", range(3))
def test_padding_has_no_part(which: int) -> None:
    make, states = modules()[which]
    hidden, mask = batch()
    layer = make()
    first = layer(states(hidden), mask)
    noisy = torch.where(mask[:, :, None] > 0, hidden, 100 * torch.randn(3, 5, 16))
    assert torch.equal(first, layer(states(noisy), mask))


@pytest.mark.parametrize("which", range(3))
def test_it_trains_and_compiles(which: int) -> None:
    make, states = modules()[which]
    hidden, mask = batch()
    layer = make()
    target = torch.nn.functional.normalize(torch.randn(3, 16), dim=1)
    optimizer = torch.optim.Adam([*layer.parameters(), hidden.requires_grad_()], 0.02)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = (1 - (layer(states(hidden), mask) * target).sum(1)).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in layer.parameters())
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    given = states(hidden.detach())
    assert torch.allclose(compiled(given, mask), layer(given, mask), atol=1e-6)
