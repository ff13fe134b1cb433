"""Losses that teach by another model's vectors or scores."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tessella.errors import InvalidArgument
from tessella.train.losses._loss import Loss, Nesting
from tessella.train.losses.contrast import check_negative, check_pair
from tessella.train.losses.nested import check_dims, divergence
from tessella.train.plain import prefix_similarities


class LEAF(Loss):
    """A student in its teacher's space: the squared distance of unit vectors (Vujanic & Rueckstiess, arXiv:2509.12539).

    | column | shape | |
    | --- | --- | --- |
    | query | (n, d) | the student, its projection to the teacher's d included |
    | teacher | (n, d) | |

    Requirements: no negatives, no labels; small batches do. The student's vectors may then be compared with documents
    of the teacher. Cost: n * d.

    >>> import torch
    >>> from tessella.train.losses import LEAF
    >>> float(LEAF()(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]])))
    2.0
    """

    def value(self, query: Tensor, teacher: Tensor) -> Tensor:
        check_pair(query, teacher, "LEAF")
        difference = functional.normalize(query, dim=1) - functional.normalize(teacher.detach(), dim=1)
        return difference.square().sum(1).mean()


class Stella(Nesting):
    """Vectors, similarities and their order, as the teachers have them (Zhang et al., arXiv:2412.19048).

        10 * mean(1 - cos(student, teacher)) + 200 * MSE(S S', T T') + 20 * mean of max(0, s_b - s_a + 0.015)

    The last mean is over all pairs a, b of similarities of which the teacher's has t_a > t_b.

    | column | shape | |
    | --- | --- | --- |
    | query | (n, d) | the student |
    | teacher | (n, D) | concatenate two teachers' unit vectors for both; the first term wants D = d |

    Args:
        cosine, similarity, order: factors of the terms; 0 leaves a term out, as for students of another width.
        margin: 0.015 of the formula.
        dims, weights: of `Matryoshka(Stella(), dims)`: the last two terms are then the mean, weighted if so, of those
            of the student's prefixes, each against the whole teacher. The first term is of whole vectors still.

    Cost: n^2 * (d + D), and O(n^2 log^2 n) for the order of each of the dims, which pairs of pairs enumerated would
    take O(n^4) for.

    >>> import torch
    >>> from tessella.train.losses import Stella
    >>> x = torch.eye(3) + 0.1
    >>> abs(float(Stella(order=0)(x, x))) < 1e-4
    True
    """

    def __init__(
        self,
        *,
        cosine: float = 10.0,
        similarity: float = 200.0,
        order: float = 20.0,
        margin: float = 0.015,
        dims: Sequence[int] = (),
        weights: Sequence[float] = (),
    ) -> None:
        super().__init__()
        self.cosine, self.similarity, self.order, self.margin = cosine, similarity, order, margin
        self.dims, self.weights = tuple(dims), tuple(weights) or (1.0,) * len(dims)

    def nested(self, dims: tuple[int, ...], weights: tuple[float, ...]) -> Stella:
        if self.dims:
            raise InvalidArgument(f"Matryoshka: expected a loss without dims; got one with dims={self.dims}")
        made = copy.copy(self)
        made.dims, made.weights = dims, weights
        return made

    def value(self, query: Tensor, teacher: Tensor) -> Tensor:
        if query.ndim != 2 or teacher.ndim != 2 or len(query) != len(teacher):
            got = f"{tuple(query.shape)} and {tuple(teacher.shape)}"
            raise InvalidArgument(f"Stella: expected query (n, d) and teacher (n, D); got {got}")
        total = query.new_zeros(())
        teacher = functional.normalize(teacher.detach(), dim=1)
        if self.cosine:
            check_pair(query, teacher, "Stella: with cosine > 0")
            total = total + self.cosine * (1 - (functional.normalize(query, dim=1) * teacher).sum(1)).mean()
        shares = dict(zip(self.dims, self.weights, strict=True)) or {query.shape[1]: 1.0}
        check_dims({"query": query}, max(shares), "Stella")
        dims, theirs = sorted(shares), teacher @ teacher.T
        for m, ours in zip(dims, prefix_similarities(query, query, dims), strict=True):
            total = total + shares[m] / sum(shares.values()) * self._of_similarities(ours, theirs)
        return total

    def _of_similarities(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """The last two terms."""
        total = ours.new_zeros(())
        if self.similarity:
            total = total + self.similarity * functional.mse_loss(ours, theirs)
        if self.order:
            above = torch.triu_indices(len(ours), len(ours), 1, device=ours.device)
            total = total + self.order * order_loss(ours[above[0], above[1]], theirs[above[0], above[1]], self.margin)
        return total


def order_loss(scores: Tensor, teacher: Tensor, margin: float) -> Tensor:
    """Mean of max(0, s_b - s_a + margin) over the pairs with t_a > t_b, of scores and teacher (p,): exact.

    The loss is linear in the scores between its kinks: sum of s * (how often as b - how often as a) + margin * pairs.
    Ranks of the teacher differ first in some bit. The pairs of one highest differing bit are those of two halves of a
    group, and how many of the one half lie under a bound of the other is a binary search in sorted scores; equal
    teachers never differ, so they never count. Cost: O(p log^2 p).
    """
    ranks = torch.unique(teacher, return_inverse=True)[1]
    fixed = scores.detach().double()
    balance, active, pairs = torch.zeros_like(fixed), 0, 0
    spread = float(fixed.max() - fixed.min()) + 2 * margin + 1 if len(fixed) else 1.0
    for bit in range(int(ranks.max()).bit_length() if len(ranks) else 0):
        group, high = ranks >> (bit + 1), (ranks >> bit) & 1 == 1
        place = group * spread + (fixed - fixed.min())  # groups lie apart on one line
        above, below = place[high], place[~high].sort()
        sorted_above = above.sort()[0]
        ends = (group[high] + 1) * spread - margin - 0.5  # behind the last of the own group
        last = torch.searchsorted(below.values, ends)
        balance[high] -= last - torch.searchsorted(below.values, above - margin, right=True)
        starts = torch.searchsorted(sorted_above, group[~high] * spread - margin - 0.5)
        under = torch.searchsorted(sorted_above, place[~high] + margin) - starts
        balance[~high] += under
        active += int(under.sum())
        pairs += int((last - torch.searchsorted(below.values, group[high] * spread - margin - 0.5)).sum())
    total = (scores * balance.to(scores.dtype)).sum() + margin * active
    return total / max(pairs, 1)


class ScoreDistillation(Loss):
    """A list's scores as the teacher has them: KL(softmax(teacher / T) || softmax(cosine * scale)).

    | column | shape | |
    | --- | --- | --- |
    | query, positive | (n, d) | |
    | negative | (n, k, d) | |
    | score | (n, 1 + k) | the teacher's scores, of the positive first |

    Relations: KaLM-V2's last stage (arXiv:2506.20923). `MarginMSE` compares differences instead.

    >>> import torch
    >>> from tessella.train.losses import ScoreDistillation
    >>> q, n = torch.tensor([[1.0, 0.0]]), torch.tensor([[[0.0, 1.0]]])
    >>> round(float(ScoreDistillation(scale=1.0)(q, q, n, torch.tensor([[1.0, 0.0]]))), 4)
    0.0
    """

    def __init__(self, *, scale: float = 20.0, temperature: float = 1.0) -> None:
        super().__init__()
        self.scale_by, self.temperature = scale, temperature

    def value(self, query: Tensor, positive: Tensor, negative: Tensor, score: Tensor) -> Tensor:
        similarity = list_similarities(query, positive, negative, score, "ScoreDistillation")
        return divergence(score.detach() / self.temperature, similarity * self.scale_by)


class MarginMSE(Loss):
    """Differences of scores as the teacher has them (Hofstätter et al., arXiv:2010.02666).

        mean of ((s_positive - s_negative) - (t_positive - t_negative))^2

    Columns as of `ScoreDistillation`; the teacher's scores on the scale of a cosine.

    >>> import torch
    >>> from tessella.train.losses import MarginMSE
    >>> q, n = torch.tensor([[1.0, 0.0]]), torch.tensor([[[0.0, 1.0]]])
    >>> float(MarginMSE()(q, q, n, torch.tensor([[0.5, 0.0]])))
    0.25
    """

    def value(self, query: Tensor, positive: Tensor, negative: Tensor, score: Tensor) -> Tensor:
        similarity = list_similarities(query, positive, negative, score, "MarginMSE")
        ours, theirs = similarity[:, :1] - similarity[:, 1:], score[:, :1] - score[:, 1:]
        return functional.mse_loss(ours, theirs.detach().to(ours.dtype))


def list_similarities(query: Tensor, positive: Tensor, negative: Tensor, score: Tensor, name: str) -> Any:
    """(n, 1 + k) cosines of a query with its document and its negatives."""
    check_pair(query, positive, name)
    negative = negative[:, None] if negative.ndim == 2 else negative
    check_negative(query, negative, name)
    n, k = negative.shape[:2]
    if score.shape != (n, 1 + k):
        raise InvalidArgument(f"{name}: expected score of shape {(n, 1 + k)}; got {tuple(score.shape)}")
    return functional.cosine_similarity(query[:, None], torch.cat([positive[:, None], negative], dim=1), dim=-1)
