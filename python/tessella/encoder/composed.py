"""Pooling as a plain composition of torch operations: what `tessella.pool` is held to, and what pools on devices that
it does not know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch


def pool(states: torch.Tensor, lengths: Sequence[int], modes: Sequence[str], skip: Sequence[int]) -> torch.Tensor:
    """Vectors of texts whose states (ΣT, d) lie end to end: (n, d · modes) in float32, modes side by side.

    `skip` leaves out that many tokens at the start of each text.
    """
    sizes = torch.tensor(lengths, device=states.device)
    ends = sizes.cumsum(0)
    starts = ends - sizes + torch.tensor(skip, device=states.device)
    vectors = [_MODES[mode](states, starts, ends).float() for mode in modes]
    return vectors[0] if len(vectors) == 1 else torch.cat(vectors, dim=1)


def _text_of(states: torch.Tensor, starts: torch.Tensor, ends: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens that count, and the text that each belongs to."""
    counts = ends - starts
    text = torch.repeat_interleave(torch.arange(len(starts), device=states.device), counts)
    offset = torch.arange(len(text), device=states.device) - (counts.cumsum(0) - counts)[text]
    return starts[text] + offset, text


def _first(states: torch.Tensor, starts: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    return states[starts]


def _last(states: torch.Tensor, starts: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    return states[ends - 1]


def _largest(states: torch.Tensor, starts: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    rows, text = _text_of(states, starts, ends)
    lowest = states.new_full((len(starts), states.shape[1]), -torch.inf)
    return lowest.scatter_reduce(0, text[:, None].expand(-1, states.shape[1]), states[rows], "amax")


def _sums(states: torch.Tensor, starts: torch.Tensor, ends: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    rows, text = _text_of(states, starts, ends)
    chosen = states[rows].float() if weights is None else states[rows].float() * weights[:, None]
    return chosen.new_zeros(len(starts), states.shape[1]).index_add(0, text, chosen)


def _mean(states: torch.Tensor, starts: torch.Tensor, ends: torch.Tensor, power: float) -> torch.Tensor:
    return _sums(states, starts, ends, None) / (ends - starts)[:, None] ** power


def _by_position(states: torch.Tensor, starts: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """Weights 1, 2, 3, …, counted from the start of the text, whatever was left out of it (SGPT)."""
    rows, text = _text_of(states, starts, ends)
    whole = torch.cat([ends.new_zeros(1), ends[:-1]])
    weights = (rows - whole[text] + 1).float()
    total = weights.new_zeros(len(starts)).index_add(0, text, weights)
    return _sums(states, starts, ends, weights) / total[:, None]


_MODES: dict[str, Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "cls": _first,
    "lasttoken": _last,
    "max": _largest,
    "mean": partial(_mean, power=1.0),
    "mean_sqrt_len_tokens": partial(_mean, power=0.5),
    "weightedmean": _by_position,
}
