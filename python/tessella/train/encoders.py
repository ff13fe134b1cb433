"""An `Encoder` as what the trainer takes: a module from texts to embeddings, with gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tessella.encoder import Encoder
from tessella.encoder.batches import by_tokens
from tessella.encoder.pooling import pool

_BUDGET = 4096  # tokens that go through the transformer at once


class EncoderModule(nn.Module):
    """Texts to (n, d) through an encoder's own layers: training it changes the encoder.

    Prompts are the trainer's matter (`Config.prompts`) and are pooled with the text.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.backbone, self.head = encoder.backbone, encoder.head
        self.modes = encoder.pooling.modes

    def forward(self, texts: list[str]) -> Tensor:
        ids = self.backbone.tokens(texts)
        places: list[int] = []
        parts: list[Tensor] = []
        for batch in by_tokens([len(each) for each in ids], _BUDGET):
            states = self.backbone([ids[i] for i in batch])
            parts.append(self.head(pool(states, [len(ids[i]) for i in batch], self.modes)))
            places += batch
        if len(places) < len(ids):  # a text without a token, as a static model may meet, is the zero vector
            empty = [i for i, each in enumerate(ids) if not each]
            parts.append(parts[0].new_zeros(len(empty), parts[0].shape[1]) if parts else self._zeros(len(empty)))
            places += empty
        out: Tensor = torch.cat(parts)[torch.tensor(places).argsort().to(parts[0].device)]
        return out

    def _zeros(self, n: int) -> Tensor:
        weight = next(self.backbone.parameters())
        return weight.new_zeros(n, self.backbone.dim * len(self.modes))


def as_module(model: Any) -> nn.Module:
    """A module that embeds texts: the model itself, or an encoder's layers."""
    if isinstance(model, Encoder):
        return EncoderModule(model)
    module: nn.Module = model
    return module
