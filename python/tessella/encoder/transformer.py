"""A transformer over texts of any lengths, without padding wherever the architecture allows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding, AutoTokenizer
from transformers.utils import logging

from tessella.encoder.attention import NAME
from tessella.encoder.batches import runs_of
from tessella.encoder.folder import Description
from tessella.encoder.linear import pack
from tessella.encoder.tokens import Ids, Tokens
from tessella.errors import FormatError, InvalidArgument

_PROBES = ("mosaic", "A mosaic is laid of many small tiles, each of them cut to its place.")
_TOLERANCE = {torch.float32: 1e-4, torch.float16: 3e-2, torch.bfloat16: 2e-1}  # of states of size about 1


class Transformer(torch.nn.Module):
    """Hidden states of `transformers`' own model, from flat rows.

    Attributes:
        flat: whether texts run end to end. Tried at loading: the states of two texts in one row have to be those of
            each alone. Otherwise texts of one batch are padded to the longest.
    """

    def __init__(self, model: Any, tokenizer: Any, described: Description) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        positions = getattr(model.config, "max_position_embeddings", None)
        self._pad = tokenizer.pad_token_id or 0
        self._segments = "token_type_ids" in tokenizer.model_input_names
        self._sight = _sight(model.config)
        self._first_position = 0
        self._own_attention = False  # of the architecture: it cannot be exchanged
        self.flat = False
        self.tokens = Tokens(
            tokenizer.backend_tokenizer, described.max_tokens, special=True, lower_case=described.lower_case
        )
        self._find_positions()
        if positions is not None:
            limit = int(positions) - self._first_position
            self.tokens.max_tokens = min(described.max_tokens or limit, limit)

    @classmethod
    def load(cls, described: Description, device: str, weights: torch.dtype, layers: int | None = None) -> Transformer:
        config = _config(described, layers)
        try:
            kind = AutoModelForTextEncoding if getattr(config, "is_encoder_decoder", False) else AutoModel
            with _quiet(left_weights=layers is not None):
                model = kind.from_pretrained(described.path, config=config, dtype=weights, local_files_only=True)
            tokenizer = AutoTokenizer.from_pretrained(described.path, local_files_only=True)
        except Exception as error:  # transformers raises whatever the damage runs into
            raise FormatError(f"load: {described.path} holds no transformer that can be loaded ({error})") from error
        if not getattr(tokenizer, "is_fast", False):
            raise FormatError(f"load: expected a tokenizer.json in {described.path}, or what one can be made of")
        if device == "cpu":
            pack(model)
        return cls(model.eval().to(device), tokenizer, described)

    def save(self, folder: Path) -> None:
        """Weights, configuration and tokenizer, as Hugging Face keeps them."""
        with _quiet():
            self.model.save_pretrained(folder)
        if self.tokens.max_tokens is not None:
            self.tokenizer.model_max_length = self.tokens.max_tokens
        self.tokenizer.save_pretrained(folder)

    @property
    def dim(self) -> int:
        """Size of a state."""
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def depth(self) -> int:
        """Number of layers."""
        return int(self.model.config.get_text_config().num_hidden_layers)

    def forward(self, batch: Sequence[Ids]) -> torch.Tensor:
        """States of the texts, end to end: (ΣT, dim)."""
        return self._run(batch)[-1]

    def layers(self, batch: Sequence[Ids]) -> Sequence[torch.Tensor]:
        """The same after each layer; the last is what `forward` gives."""
        return self._run(batch, output_hidden_states=True)

    def _run(self, batch: Sequence[Ids], **more: Any) -> list[torch.Tensor]:
        longest = max(map(len, batch))
        if self.flat and (self._sight is None or longest <= self._sight):
            return self._flat(batch, **more)
        return self._padded(batch, longest, **more)

    def _flat(self, batch: Sequence[Ids], **more: Any) -> list[torch.Tensor]:
        lengths = [len(ids) for ids in batch]
        row = torch.tensor(list(chain.from_iterable(batch)), device=self.model.device)[None]
        first = self._first_position
        positions = torch.cat([torch.arange(first, first + length) for length in lengths]).to(row.device)[None]
        self._attend_by(NAME)
        return [each[0] for each in self._states(row, position_ids=positions, runs=runs_of(lengths), **more)]

    def _padded(self, batch: Sequence[Ids], longest: int, **more: Any) -> list[torch.Tensor]:
        rows = torch.full((len(batch), longest), self._pad)
        mask = torch.zeros((len(batch), longest), dtype=torch.long)
        for i, ids in enumerate(batch):
            rows[i, : len(ids)] = torch.tensor(ids)
            mask[i, : len(ids)] = 1
        self._attend_by("sdpa")
        mask = mask.to(self.model.device)
        states = self._states(rows.to(self.model.device), attention_mask=mask, **more)
        return [each[mask.bool()] for each in states]

    def _states(self, rows: torch.Tensor, **more: Any) -> list[torch.Tensor]:
        """Of each layer, where they are asked for; of the last one in any case, behind the model's final norm."""
        if self._segments:
            more["token_type_ids"] = torch.zeros_like(rows)
        found = self.model(input_ids=rows, **more)
        return [*(found.hidden_states or ())[1:-1], found.last_hidden_state]

    def _attend_by(self, name: str) -> None:
        if not self._own_attention and self.model.config._attn_implementation != name:
            self.model.set_attn_implementation(name)

    @torch.inference_mode()
    def _find_positions(self) -> None:
        """Where positions start, and whether flat rows give what single texts give: both tried, not looked up."""
        batch = self.tokens(_PROBES)
        try:
            single = torch.cat([self._padded([ids], len(ids))[-1] for ids in batch])
        except (ValueError, NotImplementedError):  # what transformers says where attention cannot be exchanged
            self._own_attention = True
            return
        for first in dict.fromkeys((0, self._pad + 1)):  # RoBERTa and its kin count from the padding id on
            self._first_position = first
            if self._same(batch, single):
                self.flat = True
                return
        self._first_position = 0

    def _same(self, batch: list[Ids], single: torch.Tensor) -> bool:
        try:
            flat = self._flat(batch)[-1]
        except (TypeError, ValueError, RuntimeError, IndexError, NotImplementedError):
            return False
        near = _TOLERANCE[single.dtype] * max(1.0, float(single.abs().max()))
        return flat.shape == single.shape and bool((flat - single).abs().max() <= near)


def _config(described: Description, layers: int | None) -> Any:
    """The model's configuration, of so many layers."""
    try:
        config = AutoConfig.from_pretrained(described.path, local_files_only=True)
    except Exception as error:
        raise FormatError(f"load: {described.path} holds no transformer that can be loaded ({error})") from error
    if layers is not None:
        text = config.get_text_config()
        if layers > text.num_hidden_layers:
            raise InvalidArgument(f"load: expected layers up to {text.num_hidden_layers}; got {layers}")
        text.num_hidden_layers = layers
    return config


def _sight(config: Any) -> int | None:
    """How long a text may be before some layer's window keeps two of its tokens from seeing each other."""
    both_ways = getattr(config, "local_attention", None)  # ModernBERT's window reaches half of it to either side
    window = both_ways // 2 if both_ways else getattr(config, "sliding_window", None)
    return None if window is None else int(window)


@contextmanager
def _quiet(left_weights: bool = False) -> Iterator[None]:
    """transformers shows a bar for every file it reads or writes, and a table of the weights that are left over where
    layers are left out; a library has no business with the screen."""
    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    if left_weights:
        logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()
