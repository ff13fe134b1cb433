"""Pooling with weights of its own: NV-Embed's latent attention, and attention over a model's layers.

All end in `tessella.pooling_op.pool`, so padding and instructions have no part in the vectors, and train, compile and
export like any module. `flat` is what `Encoder.set_pooling` makes use of: rows end to end, without padding, pooled over
texts or over pieces of them, as the caller's function does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from tessella.encoder.batches import runs_of
from tessella.pooling_op import pool

__all__ = ["LatentAttention", "LayerPooling", "TrainablePooling", "WeightedLayers"]
Pooled: TypeAlias = Callable[[Tensor], Tensor]  # states (ΣT, dim) of tokens to vectors (k, dim), by `mode`


class TrainablePooling(nn.Module, ABC):
    """What an encoder asks of a pooling with weights.

    Attributes:
        layered: whether it looks at the states of all layers, or at those of the last.
        mode: how tokens become one vector within it, as `ts.pool` calls it.
    """

    layered: ClassVar[bool]
    mode: str

    @abstractmethod
    def flat(self, states: Any, lengths: Sequence[int], pooled: Pooled) -> Tensor:
        """states (ΣT, dim) of texts of these lengths, or of each layer such, to what `pooled` makes of them (k, dim);
        not normalised."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """The arguments that make a module of this shape."""


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
        self.heads, self.head_dim = heads, head_dim
        self.queries = nn.Linear(dim, heads * head_dim, bias=False)
        self.keys_values = nn.Linear(dim, 2 * heads * head_dim, bias=False)
        self.out = nn.Linear(heads * head_dim, dim, bias=False)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """What the queries gather, (n, t, dim)."""
        return self.look(x, self.memory(context))

    def memory(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of a context, (n or 1, heads, s, head_dim)."""
        keys, values = self.keys_values(context if context.ndim == 3 else context[None]).chunk(2, dim=-1)
        return self._by_head(keys), self._by_head(values)

    def look(self, x: Tensor, memory: tuple[Tensor, Tensor]) -> Tensor:
        """What the queries gather of keys and values that may stand for many calls."""
        keys, values = (each.expand(len(x), -1, -1, -1) for each in memory)
        gathered = functional.scaled_dot_product_attention(self._by_head(self.queries(x)), keys, values)
        result: Tensor = self.out(gathered.transpose(1, 2).flatten(2))
        return result

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, self.head_dim)).transpose(1, 2)


class LatentAttention(TrainablePooling):
    """NV-Embed's pooling layer: each token looks at learned latents, then the mean of the tokens that count.

    x + attention(norm(x), norm(latents)), then x + feed_forward(norm(x)). The keys are latents, so no token sees
    another and padding needs no mask before the mean (arXiv 2405.17428).

    >>> import torch
    >>> layer = LatentAttention(8, latents=4, heads=2)
    >>> layer(torch.zeros(3, 5, 8), torch.ones(3, 5)).shape
    torch.Size([3, 8])
    """

    layered = False
    mode = "mean"

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
        x = self._fed(hidden + self.attention(self.token_norm(hidden), self.latent_norm(self.latents)))
        return pool(x, mask, normalize=normalize, dim=dim, instruction_lengths=instruction_lengths)

    def flat(self, states: Tensor, lengths: Sequence[int], pooled: Pooled) -> Tensor:
        """The same, rows end to end: one product for each run of texts of one length, as in the transformer."""
        runs = runs_of(lengths)
        memory = self.attention.memory(self.latent_norm(self.latents))
        parts = self.token_norm(states).split([count * length for count, length in runs])
        looked = [self.attention.look(part.unflatten(0, run), memory) for part, run in zip(parts, runs, strict=True)]
        return pooled(self._fed(states + torch.cat([each.flatten(0, 1) for each in looked])))

    def config(self) -> dict[str, Any]:
        latents, dim = self.latents.shape
        return {"dim": dim, "latents": latents, "heads": self.attention.heads, "head_dim": self.attention.head_dim}

    def _fed(self, x: Tensor) -> Tensor:
        fed: Tensor = x + self.feed_forward(self.inner_norm(x))
        return fed


class LayerPooling(TrainablePooling):
    """Multi-layer trainable pooling: learned latents look at one summary of each layer (arXiv 2409.02727).

    A summary is the layer's pooled states and a learned embedding of the layer; the result is the mean of the latents.
    Queries and keys have changed sides against `LatentAttention`.

    >>> import torch
    >>> layer = LayerPooling(8, layers=3, latents=6, heads=2)
    >>> layer([torch.zeros(2, 5, 8)] * 3, torch.ones(2, 5)).shape
    torch.Size([2, 8])
    """

    layered = True

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
        x = self._looked([pool(each, mask, mode=self.mode, normalize=False) for each in states])
        return functional.normalize(x, dim=1) if normalize else x

    def flat(self, states: Sequence[Tensor], lengths: Sequence[int], pooled: Pooled) -> Tensor:
        return self._looked([pooled(each) for each in states])

    def config(self) -> dict[str, Any]:
        (layers, dim), (latents, _) = self.layer_embedding.shape, self.latents.shape
        sizes = {"heads": self.attention.heads, "head_dim": self.attention.head_dim}
        return {"dim": dim, "layers": layers, "latents": latents, **sizes, "mode": self.mode}

    def _looked(self, summaries: list[Tensor]) -> Tensor:
        """Of each layer (n, dim), to (n, dim)."""
        joined = torch.stack(summaries, dim=1).to(self.layer_embedding.dtype) + self.layer_embedding
        latents = self.latents.expand(len(joined), -1, -1)
        x = latents + self.attention(self.latent_norm(latents), self.summary_norm(joined))
        looked: Tensor = (x + self.feed_forward(self.inner_norm(x))).mean(dim=1)
        return looked


class WeightedLayers(TrainablePooling):
    """The weighted mean of the layers' states, weights learned; then pooled.

    >>> import torch
    >>> WeightedLayers(2)([torch.ones(1, 3, 4), torch.zeros(1, 3, 4)], torch.ones(1, 3), normalize=False).tolist()
    [[0.5, 0.5, 0.5, 0.5]]
    """

    layered = True

    def __init__(self, layers: int, mode: str = "mean") -> None:
        super().__init__()
        self.mode = mode
        self.weights = nn.Parameter(torch.ones(layers))

    def forward(self, states: Sequence[Tensor], mask: Tensor, *, normalize: bool = True) -> Tensor:
        """states (n, t, dim) of each layer and mask (n, t) -> (n, dim)."""
        return pool(self._mixed(states), mask, mode=self.mode, normalize=normalize)

    def flat(self, states: Sequence[Tensor], lengths: Sequence[int], pooled: Pooled) -> Tensor:
        return pooled(self._mixed(states))

    def config(self) -> dict[str, Any]:
        return {"layers": len(self.weights), "mode": self.mode}

    def _mixed(self, states: Sequence[Tensor]) -> Tensor:
        shares = self.weights / self.weights.sum()
        return torch.stack([share * each for share, each in zip(shares, states, strict=True)]).sum(dim=0)
