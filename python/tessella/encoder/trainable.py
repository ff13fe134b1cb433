"""Pooling with weights of its own: NV-Embed's latent attention, and attention over a model's layers.

Both end in `tessella.pooling_op.pool`, so padding and instructions have no part in the vectors, and both train, compile
and export like any module.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from tessella.pooling_op import pool

__all__ = ["LatentAttention", "LayerPooling", "WeightedLayers"]


class GatedFeedForward(nn.Module):
    """GEGLU: a half of the first map, gated by the GELU of the other half, mapped back."""

    def __init__(self, dim: int, factor: int = 4) -> None:
        super().__init__()
        self.widen = nn.Linear(dim, 2 * factor * dim)
        self.narrow = nn.Linear(factor * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) -> (..., dim)."""
        values, gates = self.widen(x).chunk(2, dim=-1)
        result: Tensor = self.narrow(values * functional.gelu(gates))
        return result


class CrossAttention(nn.Module):
    """Queries (n, t, dim) look at keys and values (n, s, dim), or (s, dim) for all of them."""

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.queries = nn.Linear(dim, heads * head_dim, bias=False)
        self.keys_values = nn.Linear(dim, 2 * heads * head_dim, bias=False)
        self.out = nn.Linear(heads * head_dim, dim, bias=False)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """What the queries gather, (n, t, dim)."""
        keys, values = self.keys_values(context.expand(len(x), -1, -1)).chunk(2, dim=-1)
        parts = (each.unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in (self.queries(x), keys, values))
        gathered = functional.scaled_dot_product_attention(*parts)
        result: Tensor = self.out(gathered.transpose(1, 2).flatten(2))
        return result


class LatentAttention(nn.Module):
    """NV-Embed's pooling layer: each token looks at learned latents, then the mean of the tokens that count.

    x + attention(norm(x), norm(latents)), then x + feed_forward(norm(x)). The keys are latents, so no token sees
    another and padding needs no mask before the mean (arXiv 2405.17428).

    >>> import torch
    >>> layer = LatentAttention(8, latents=4, heads=2)
    >>> layer(torch.zeros(3, 5, 8), torch.ones(3, 5)).shape
    torch.Size([3, 8])
    """

    def __init__(self, dim: int, latents: int = 512, heads: int = 8, head_dim: int | None = None) -> None:
        """`head_dim` is dim where it is not given: the heads of NV-Embed are as wide as its states."""
        super().__init__()
        self.latents = nn.Parameter(torch.randn(latents, dim))
        self.token_norm, self.latent_norm, self.inner_norm = (nn.LayerNorm(dim) for _ in range(3))
        self.attention = CrossAttention(dim, heads, head_dim or dim)
        self.feed_forward = GatedFeedForward(dim)

    def forward(
        self,
        hidden: Tensor,
        mask: Tensor,
        instruction_lengths: Tensor | None = None,
        *,
        normalize: bool = True,
        dim: int | None = None,
    ) -> Tensor:
        """hidden (n, t, dim) and mask (n, t) -> (n, dim)."""
        x = hidden + self.attention(self.token_norm(hidden), self.latent_norm(self.latents))
        x = x + self.feed_forward(self.inner_norm(x))
        return pool(x, mask, normalize=normalize, dim=dim, instruction_lengths=instruction_lengths)


class LayerPooling(nn.Module):
    """Multi-layer trainable pooling: learned latents look at one summary of each layer (arXiv 2409.02727).

    A summary is the layer's pooled states and a learned embedding of the layer; the result is the mean of the latents.
    Queries and keys have changed sides against `LatentAttention`.

    >>> import torch
    >>> layer = LayerPooling(8, layers=3, latents=6, heads=2)
    >>> layer([torch.zeros(2, 5, 8)] * 3, torch.ones(2, 5)).shape
    torch.Size([2, 8])
    """

    def __init__(
        self, dim: int, layers: int, latents: int = 768, heads: int = 8, head_dim: int = 64, mode: str = "mean"
    ) -> None:
        """`mode` is "mean" for models that see both ways, "last" for causal ones."""
        super().__init__()
        self.mode = mode
        self.layer_embedding = nn.Parameter(torch.zeros(layers, dim))
        self.latents = nn.Parameter(torch.randn(latents, dim) / dim**0.5)
        self.latent_norm, self.summary_norm, self.inner_norm = (nn.LayerNorm(dim) for _ in range(3))
        self.attention = CrossAttention(dim, heads, head_dim)
        self.feed_forward = GatedFeedForward(dim)

    def forward(self, states: Sequence[Tensor], mask: Tensor, *, normalize: bool = True) -> Tensor:
        """states (n, t, dim) of each layer and mask (n, t) -> (n, dim)."""
        pooled = [pool(each, mask, mode=self.mode, normalize=False) for each in states]
        summaries = torch.stack(pooled, dim=1) + self.layer_embedding
        latents = self.latents.expand(len(mask), -1, -1)
        x = latents + self.attention(self.latent_norm(latents), self.summary_norm(summaries))
        x = (x + self.feed_forward(self.inner_norm(x))).mean(dim=1)
        return functional.normalize(x, dim=1) if normalize else x


class WeightedLayers(nn.Module):
    """The weighted mean of the layers' states, weights learned; then pooled.

    >>> import torch
    >>> WeightedLayers(2)([torch.ones(1, 3, 4), torch.zeros(1, 3, 4)], torch.ones(1, 3), normalize=False).tolist()
    [[0.5, 0.5, 0.5, 0.5]]
    """

    def __init__(self, layers: int, mode: str = "mean") -> None:
        super().__init__()
        self.mode = mode
        self.weights = nn.Parameter(torch.ones(layers))

    def forward(self, states: Sequence[Tensor], mask: Tensor, *, normalize: bool = True) -> Tensor:
        """states (n, t, dim) of each layer and mask (n, t) -> (n, dim)."""
        shares = self.weights / self.weights.sum()
        mixed = torch.stack([share * each for share, each in zip(shares, states, strict=True)]).sum(dim=0)
        return pool(mixed, mask, mode=self.mode, normalize=normalize)
