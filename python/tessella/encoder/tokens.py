"""Texts to token ids: each text once, in the library's own threads, without padding."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Ids = list[int]


class Tokens:
    """A tokenizer with its limits.

    Args:
        tokenizer: of the `tokenizers` package; truncation and padding are set here.
        max_tokens: longest text in tokens, special ones included; None has no end.
        special: whether texts get their [CLS], [SEP] and the like.
        lower_case: whether texts are written small first.
    """

    def __init__(self, tokenizer: Any, max_tokens: int | None, *, special: bool, lower_case: bool) -> None:
        self._tokenizer = tokenizer
        self._special = special
        self.lower_case = lower_case
        self.max_tokens = max_tokens
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._added = len(tokenizer.encode("", add_special_tokens=True).ids) if special else 0
        self.prompt_tokens = lru_cache(64)(self._prompt_tokens)

    @property
    def content_tokens(self) -> int | None:
        """Tokens of a text itself that fit beside the special ones."""
        return None if self.max_tokens is None else max(self.max_tokens - self._added, 1)

    def __call__(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of each text, cut at `max_tokens`."""
        self._limit(self.max_tokens)
        encoded = self._tokenizer.encode_batch_fast(self._written(texts), add_special_tokens=self._special)
        return [each.ids for each in encoded]

    def with_special(self, texts: Sequence[str]) -> tuple[list[Ids], list[npt.NDArray[np.bool_]]]:
        """Ids as above, and which of them are special tokens."""
        self._limit(self.max_tokens)
        encoded = self._tokenizer.encode_batch_fast(self._written(texts), add_special_tokens=self._special)
        return [each.ids for each in encoded], [np.array(each.special_tokens_mask, bool) for each in encoded]

    def whole(self, text: str) -> tuple[Ids, list[tuple[int, int]]]:
        """Ids of a whole text without special tokens, and the characters that each stands for."""
        self._limit(None)
        encoded = self._tokenizer.encode_batch(self._written([text]), add_special_tokens=False)[0]
        return encoded.ids, encoded.offsets

    def frame(self) -> tuple[Ids, Ids]:
        """Special tokens that stand before and after a text."""
        if not self._special:
            return [], []
        self._limit(None)
        encoded = self._tokenizer.encode("a", add_special_tokens=True)
        body = [i for i, special in enumerate(encoded.special_tokens_mask) if not special]
        return (encoded.ids[: body[0]], encoded.ids[body[-1] + 1 :]) if body else (encoded.ids, [])

    def _prompt_tokens(self, prompt: str) -> int:
        """Tokens that a prompt takes at the start of a text, leading special ones included."""
        before, _ = self.frame()
        self._limit(None)
        return len(before) + len(self._tokenizer.encode(*self._written([prompt]), add_special_tokens=False).ids)

    def _written(self, texts: Sequence[str]) -> list[str]:
        return [text.lower() for text in texts] if self.lower_case else list(texts)

    def _limit(self, length: int | None) -> None:
        if length is None:
            self._tokenizer.no_truncation()
        elif (self._tokenizer.truncation or {}).get("max_length") != length:
            self._tokenizer.enable_truncation(length)
