"""An `Encoder` as what the trainer takes: a module from texts to embeddings, with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tessella.encoder import Encoder
from tessella.encoder.batches import by_tokens
from tessella.encoder.head import headed, out_dim
from tessella.encoder.pooler import pooled_by, states_of
from tessella.encoder.pooling import pool
from tessella.encoder.tokens import Ids
from tessella.errors import InvalidArgument

_BUDGET = 4096  # tokens that go through the transformer at once


class Prompted(str):
    """A text behind its instruction, which a model may want to tell from it: `prompt` is what it begins with."""

    prompt: str

    def __new__(cls, prompt: str, text: str) -> Prompted:
        made = super().__new__(cls, prompt + text)
        made.prompt = prompt
        return made


class EncoderModule(nn.Module):
    """Texts to (n, d) through an encoder's own layers: training it changes the encoder.

    Args:
        encoder: its backbone, pooling and head; instructions (`Config.prompts`) are pooled, or not, as it does. Weights
            of its pooling (`Encoder.set_pooling`) are trained, too.
        layers: (n, layers, d) instead, a vector for each layer of the transformer, the last layer last; all of them
            pooled and put through the head alike, as `losses.Matryoshka2D` and `losses.Starbucks` take them.
    """

    def __init__(self, encoder: Encoder, *, layers: bool = False) -> None:
        super().__init__()
        self.backbone, self.pooler, self.head = encoder.backbone, encoder.pooler, encoder.head
        self.pooling, self.layers = encoder.pooling, layers
        if layers and encoder.pooler is not None and encoder.pooler.layered:
            kind = type(encoder.pooler).__name__
            raise InvalidArgument(
                f"Trainer: expected an Encoder whose pooling takes one layer, for layers=True; got {kind}"
            )

    def forward(self, texts: list[str]) -> Tensor:
        ids = self.backbone.tokens(texts)
        skip = self._skipped(texts)
        places: list[int] = []
        parts: list[Tensor] = []
        for batch in by_tokens([len(each) for each in ids], _BUDGET):
            lengths, skipped = [len(ids[i]) for i in batch], [skip[i] for i in batch]
            states = self._states([ids[i] for i in batch])
            pooled = partial(pool, lengths=lengths, modes=self.pooling.modes, skip=skipped)
            vectors = [headed(self.head, pooled_by(self.pooler, each, lengths, pooled)) for each in states]
            parts.append(torch.stack(vectors, dim=1) if self.layers else vectors[0])
            places += batch
        if len(places) < len(ids):  # a text without a token, as a static model may meet, is the zero vector
            empty = [i for i, each in enumerate(ids) if not each]
            parts.append(parts[0].new_zeros(len(empty), *parts[0].shape[1:]) if parts else self._zeros(len(empty)))
            places += empty
        out: Tensor = torch.cat(parts)[torch.tensor(places).argsort().to(parts[0].device)]
        return out

    def _states(self, batch: list[Ids]) -> Sequence[Any]:
        """What is pooled to one vector each."""
        return self.backbone.layers(batch) if self.layers else [states_of(self.backbone, self.pooler)(batch)]

    def _skipped(self, texts: list[str]) -> list[int]:
        """How many tokens at the start of each text are an instruction that is not pooled."""
        if self.pooling.include_prompt:
            return [0] * len(texts)
        count = self.backbone.tokens.prompt_tokens
        return [count(text.prompt) if isinstance(text, Prompted) else 0 for text in texts]

    def _zeros(self, n: int) -> Tensor:
        weight = next(self.backbone.parameters())
        shape = (n, self.backbone.depth) if self.layers else (n,)
        return weight.new_zeros(*shape, out_dim(self.head, self.backbone.dim * len(self.pooling.modes)))


def as_module(model: Any, *, layers: bool = False) -> nn.Module:
    """A module that embeds texts: the model itself, or an encoder's layers."""
    if isinstance(model, Encoder):
        return EncoderModule(model, layers=layers)
    if layers:
        raise InvalidArgument(f"Trainer: expected an Encoder, for layers=True; got {type(model).__name__}")
    module: nn.Module = model
    return module
