"""From the states of tokens to one vector a text: the one place where the encoder pools.

`tessella.pool` reads the states once and leaves what was asked for, whatever that is; devices that it does not know are
served by a composition of torch's operations. Two rules are sentence-transformers': an instruction that has no part in
the vector has none in `cls` either, which is then the first token behind it; and a text that is nothing but its
instruction is pooled whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import tessella
from tessella.encoder import composed

NAMES = {  # of sentence-transformers: what tessella.pool calls them
    "cls": "cls",
    "lasttoken": "last",
    "max": "max",
    "mean": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt",
    "weightedmean": "weighted_mean",
}
Whole = npt.NDArray[np.int64]


def pool(
    states: torch.Tensor, lengths: Sequence[int], modes: Sequence[str], skip: int | Sequence[int] = 0
) -> torch.Tensor:
    """Vectors of texts whose states (ΣT, d) lie end to end: (n, d · modes) in float32, modes side by side.

    `skip` leaves out that many tokens at the start of the texts, or of each. Carries gradients where `states` does.
    """
    skipped = _skipped(lengths, skip)
    if not fused(states):
        return composed.pool(states, lengths, modes, skipped.tolist())
    if not one_pass(modes, skipped):
        return torch.cat([pool(states, lengths, [mode], skip) for mode in modes], dim=1)
    return _pool(states, lengths, modes, skipped, normalize=False)


def finished(
    states: torch.Tensor, lengths: Sequence[int], modes: Sequence[str], skip: int | Sequence[int], **options: Any
) -> npt.NDArray[Any]:
    """The same up to the end, where `one_pass` says so: `options` are what `tessella.pool` makes of the vectors."""
    made: torch.Tensor = _pool(states, lengths, modes, _skipped(lengths, skip), **options)
    finished: npt.NDArray[Any] = made.cpu().numpy()
    return finished


def of_spans(states: torch.Tensor, lengths: Sequence[int], modes: Sequence[str], spans: Whole) -> torch.Tensor:
    """Vectors of spans (k, 3), each a text's number, its first token and the one behind its last: (k, d · modes)."""
    if fused(states):
        return _pool(states, lengths, modes, np.zeros(len(lengths), np.int64), spans=spans, normalize=False)
    starts = np.cumsum([0, *lengths])[spans[:, 0]]
    parts = [
        states[start + first : start + last] for start, (_, first, last) in zip(starts, spans.tolist(), strict=True)
    ]
    return composed.pool(torch.cat(parts), [len(part) for part in parts], modes, [0] * len(parts))


def fused(states: torch.Tensor) -> bool:
    """Whether `tessella.pool` takes states of this device."""
    kind = states.device.type
    return kind == "cpu" or (kind == "cuda" and find_spec("tessella._cuda") is not None)


def one_pass(modes: Sequence[str], skip: int | Sequence[int] | Whole) -> bool:
    """Whether one call gives all modes: behind an instruction, `cls` and places begin at different tokens."""
    return not ("cls" in modes and "weightedmean" in modes and np.any(skip))


def _pool(states: torch.Tensor, lengths: Sequence[int], modes: Sequence[str], skip: Whole, **options: Any) -> Any:
    bounds = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    if "cls" in modes and skip.any():
        numbers = np.arange(len(lengths))
        options["spans"] = np.stack([numbers, skip, np.asarray(lengths)], axis=1)
    names = [NAMES[mode] for mode in modes]
    return tessella.pool(states, mode=names, cu_seqlens=bounds, instruction_lengths=skip, **options)


def _skipped(lengths: Sequence[int], skip: int | Sequence[int]) -> Whole:
    """Of each text the tokens that have no part; 0 where it has no others."""
    sizes, wanted = np.asarray(lengths, np.int64), np.asarray(skip, np.int64)
    return np.where(sizes > wanted, wanted, 0)
