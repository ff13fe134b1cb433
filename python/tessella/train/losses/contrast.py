"""InfoNCE and its kin as losses: what `plain.Contrast` names, a temperature that may learn, SimCSE."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from tessella.errors import InvalidArgument
from tessella.train import fused, plain
from tessella.train.losses._loss import Nesting

_MOST_SCALE = 100.0


class Temperature(nn.Module):
    """A temperature that learns: scale = e^t = 1 / temperature, held at or under 100 (CLIP, arXiv:2103.00020).

    With several `tasks` each has its own (RzenEmbed, arXiv:2510.27350), chosen by the column `task` (n,) int64.
    """

    def __init__(self, start: float = 0.05, *, tasks: int = 1) -> None:
        super().__init__()
        if not start >= 1 / _MOST_SCALE:
            raise InvalidArgument(f"Temperature: expected a start of at least {1 / _MOST_SCALE}; got {start}")
        self.log_scale = nn.Parameter(torch.full((tasks,), -math.log(start)))

    def forward(self, task: Tensor | None = None) -> Tensor:
        """One over the temperature: of one value, or (n,) for rows of these tasks."""
        with torch.no_grad():  # the parameter itself is held: a clamp behind it would end its gradient for good
            self.log_scale.clamp_(max=math.log(_MOST_SCALE))
        scale = self.log_scale.exp()
        if len(scale) == 1:
            return scale
        if task is None:
            raise InvalidArgument(f"Temperature: expected the column task, for one of {len(scale)}; got none")
        return scale[task]


class InfoNCE(Nesting):
    """Contrastive loss over in-batch and mined negatives (van den Oord et al., arXiv:1807.03748), and its kin.

    | column | shape | |
    | --- | --- | --- |
    | query, positive | (n, d) | a query and the document that answers it; need not be normalised |
    | negative | (n, k, d), optional | mined negatives, met by every query unless `own_negatives` |
    | query_id, positive_id, negative_id | (n,), (n,), (n, k) int64, optional | equal: no negatives; below 0: no id |
    | guide_query, guide_positive, guide_negative | as their embeddings, optional | of a guide: GIST |
    | task | (n,) int64, optional | chooses among several temperatures |
    | weight | (n,), optional | weighs rows |

    Args:
        temperature: a number, or a `Temperature` that learns.
        contrast: fields of `tessella.train.plain.Contrast`, which see: blocks, symmetric, own_negatives, hardness,
            hardness_on, margin, guide_margin, guide_relative, focal, squared, normalized, dims, weights.

    Requirements: at least two rows, or mined negatives. Cost: n * c * d multiply-adds for c candidates, three times
    that with gradients.

    Relations: GIST is this with guide columns, KaLM-V2 with `focal=0.5`, LLaVE with `hardness=9`, RzenEmbed with both
    `hardness` and `margin` (its rule for false negatives is not published; the margin is ours), Qwen3 with
    `blocks=("qd", "qq", "dd")` and `margin=0.1`. `Matryoshka(InfoNCE(), dims)` sets `dims`.

    >>> import torch
    >>> from tessella.train.losses import InfoNCE
    >>> x = torch.eye(4)
    >>> round(float(InfoNCE(temperature=0.5)(x, x)), 4)
    0.3408
    """

    def __init__(self, temperature: float | Temperature = 0.05, **contrast: Any) -> None:
        super().__init__()
        if not isinstance(temperature, Temperature) and not temperature > 0:
            raise InvalidArgument(f"{type(self).__name__}: expected a temperature above 0; got {temperature}")
        self.temperature = temperature
        self.contrast = plain.Contrast(**contrast)

    def value(
        self,
        query: Tensor,
        positive: Tensor,
        negative: Tensor | None = None,
        query_id: Tensor | None = None,
        positive_id: Tensor | None = None,
        negative_id: Tensor | None = None,
        guide_query: Tensor | None = None,
        guide_positive: Tensor | None = None,
        guide_negative: Tensor | None = None,
        task: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        name = type(self).__name__
        check_pair(query, positive, name)
        negative = _as_lists(negative)
        check_negative(query, negative, name)
        if self.contrast.dims and max(self.contrast.dims) > query.shape[1]:
            got = f"{max(self.contrast.dims)} of {query.shape[1]}"
            raise InvalidArgument(f"{name}: expected dims within those of the embeddings; got {got}")
        guide = None
        if guide_query is not None and guide_positive is not None:
            guide_negative = _as_lists(guide_negative)
            if (guide_negative is None) != (negative is None):
                raise InvalidArgument(f"{name}: expected guide_negative exactly where there is negative")
            guide = plain.Triple(guide_query.detach(), guide_positive.detach(), guide_negative)
        if negative_id is not None and negative_id.ndim == 1:
            negative_id = negative_id[:, None]
        ids = plain.Ids(query_id, positive_id, negative_id)
        triple = plain.Triple(query, positive, negative)
        info_nce = fused.info_nce if fused.fits(triple, self.contrast) else plain.info_nce
        return info_nce(triple, self.scale(task), self.contrast, ids, guide, weight)

    def nested(self, dims: tuple[int, ...], weights: tuple[float, ...]) -> InfoNCE:
        if self.contrast.dims:
            raise InvalidArgument(f"Matryoshka: expected a loss without dims; got one with dims={self.contrast.dims}")
        made = copy.copy(self)
        made.contrast = dataclasses.replace(self.contrast, dims=dims, weights=weights)
        return made

    def scale(self, task: Tensor | None = None) -> Tensor | float:
        """One over the temperature."""
        if isinstance(self.temperature, Temperature):
            return cast(Tensor, self.temperature(task))
        return 1.0 / self.temperature


class SimCSE(InfoNCE):
    """InfoNCE between two passes of the same texts under dropout (Gao et al., arXiv:2104.08821).

    | column | shape | |
    | --- | --- | --- |
    | query, positive | (n, d) | the same texts, embedded twice |

    The data has the texts in both columns: `{"query": texts, "positive": texts}`.

    Requirements: a model with dropout, in training mode: passes that are equal teach nothing and are refused.

    >>> import torch
    >>> from tessella.train.losses import SimCSE
    >>> x, noise = torch.eye(4), torch.full((4, 4), 0.1)
    >>> float(SimCSE()(x + noise, x)) < 0.01
    True
    """

    # Fewer columns than InfoNCE takes: `forward` passes only those that a loss names.
    def value(self, query: Tensor, positive: Tensor, query_id: Tensor | None = None) -> Tensor:  # type: ignore[override]
        if torch.equal(query, positive):
            raise InvalidArgument("SimCSE: expected two passes under dropout; got the same embeddings twice")
        return super().value(query, positive, query_id=query_id)


def check_pair(a: Tensor, b: Tensor, name: str) -> None:
    """Raises where two columns are no (n, d) of one shape."""
    if a.ndim != 2 or a.shape != b.shape:
        raise InvalidArgument(f"{name}: expected two columns of one shape (n, d); got {_shape(a)} and {_shape(b)}")


def check_negative(query: Tensor, negative: Tensor | None, name: str) -> None:
    """Raises where negatives are no (n, k, d)."""
    if negative is None:
        return
    n, d = query.shape
    if negative.ndim != 3 or negative.shape[0] != n or negative.shape[2] != d:
        raise InvalidArgument(f"{name}: expected negative of shape ({n}, k, {d}); got {_shape(negative)}")


def _as_lists(negative: Tensor | None) -> Tensor | None:
    """(n, k, d), k being 1 where each row has one negative."""
    return negative[:, None] if negative is not None and negative.ndim == 2 else negative


def _shape(x: Tensor) -> tuple[int, ...]:
    return tuple(x.shape)
