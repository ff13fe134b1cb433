"""Static embeddings: a vector for each token, and no transformer. Of sentence-transformers or model2vec."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch

from tessella.encoder.extras import require
from tessella.encoder.folder import Description
from tessella.encoder.tokens import Ids, Tokens
from tessella.errors import FormatError


class Static(torch.nn.Module):
    """A row of the table for each token; what stands for a transformer's states."""

    flat = True
    depth = 1

    def __init__(self, table: torch.Tensor, tokenizer: Any, described: Description) -> None:
        super().__init__()
        self.table = torch.nn.Embedding.from_pretrained(table, freeze=False)
        self.tokenizer = tokenizer
        self.tokens = Tokens(tokenizer, described.max_tokens, special=False, lower_case=described.lower_case)

    @classmethod
    def load(cls, described: Description, device: str, weights: torch.dtype) -> Static:
        files = require("safetensors.torch")
        library = require("tokenizers")
        path = described.path
        try:
            stored = files.load_file(path / "model.safetensors")
            tokenizer = library.Tokenizer.from_file(str(path / "tokenizer.json"))
        except Exception as error:  # both libraries raise plain Exceptions
            raise FormatError(f"load: {path} holds no static embeddings that can be loaded ({error})") from error
        table = _table(stored, path).to(weights)
        if len(table) < tokenizer.get_vocab_size():
            raise FormatError(f"load: {path} has {len(table)} vectors for {tokenizer.get_vocab_size()} tokens")
        made = cls(table, tokenizer, described)
        made.to(device)
        return made

    @property
    def dim(self) -> int:
        """Size of a vector."""
        return int(self.table.embedding_dim)

    def forward(self, batch: Sequence[Ids]) -> torch.Tensor:
        """Vectors of the tokens, end to end: (ΣT, dim)."""
        row = torch.tensor(list(chain.from_iterable(batch)), device=self.table.weight.device)
        states: torch.Tensor = self.table(row)
        return states

    def layers(self, batch: Sequence[Ids]) -> Sequence[torch.Tensor]:
        """The same, as of a transformer of one layer."""
        return [self(batch)]


def _table(stored: dict[str, torch.Tensor], path: object) -> torch.Tensor:
    """One row a token. model2vec may share rows among tokens (`mapping`) and weigh them (`weights`)."""
    if "embedding.weight" in stored:
        return stored["embedding.weight"]
    if "embeddings" not in stored:
        raise FormatError(f"load: expected embedding.weight or embeddings in {path}; got {', '.join(stored)}")
    table = stored["embeddings"]
    try:
        if "mapping" in stored:
            table = table[stored["mapping"].long()]
        if "weights" in stored:
            table = table.float() * stored["weights"].float()[:, None]
    except (IndexError, RuntimeError) as error:
        raise FormatError(f"load: {path} has a mapping or weights that do not fit its embeddings ({error})") from error
    return table
