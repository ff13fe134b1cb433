"""Attention over texts that lie end to end in one row, without padding between them.

transformers lets an attention be registered by name; every architecture that goes through its interface then works on
flat rows, untouched. The lengths of the texts arrive as the keyword `runs`, which the models hand through.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from tessella.encoder.batches import Run

NAME = "tessella_flat"


def flat_attention(
    module: torch.nn.Module,
    query: torch.Tensor,  # (1, heads, ΣT, size)
    key: torch.Tensor,  # (1, heads or fewer, ΣT, size)
    value: torch.Tensor,
    attention_mask: object,
    *,
    runs: Sequence[Run],
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Each text attends to itself: (1, ΣT, heads, size). One product for each run of texts of one length."""
    causal = bool(getattr(module, "is_causal", False)) if is_causal is None else is_causal
    grouped = query.shape[1] != key.shape[1]
    parts = []
    start = 0
    for count, length in runs:
        rows = slice(start, start + count * length)
        q, k, v = (_by_text(states, rows, count) for states in (query, key, value))
        attended = scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, is_causal=causal and length > 1, scale=scaling, enable_gqa=grouped
        )
        parts.append(attended.transpose(1, 2).reshape(count * length, query.shape[1], -1))
        start = rows.stop
    whole = parts[0] if len(parts) == 1 else torch.cat(parts)
    return whole[None], None


def _by_text(states: torch.Tensor, rows: slice, count: int) -> torch.Tensor:
    """(count, heads, length, size), a view of those rows."""
    return states[0, :, rows].unflatten(1, (count, -1)).transpose(0, 1)


AttentionInterface.register(NAME, flat_attention)
AttentionMaskInterface.register(NAME, lambda *_, **__: None)
