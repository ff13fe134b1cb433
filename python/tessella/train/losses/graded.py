"""Losses of graded labels: pairs in their order of similarity, lists in their order of relevance, triplets."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from tessella.errors import InvalidArgument
from tessella.train import pairwise
from tessella.train.losses._loss import Loss
from tessella.train.losses.contrast import check_negative, check_pair


class CoSENT(Loss):
    """Pairs of a higher label shall have a higher cosine (Su, spaces.ac.cn/archives/8847).

        log(1 + sum over a, b with label_a > label_b of e^((s_b - s_a) / temperature))

    | column | shape | |
    | --- | --- | --- |
    | query, positive | (n, d) | the two texts of a pair |
    | score | (n,) | the label of each pair: only its order counts |

    Requirements: two different labels in a batch; without them the loss is 0. Cost: a sort of the labels.

    >>> import torch
    >>> from tessella.train.losses import CoSENT
    >>> a, b = torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    >>> round(float(CoSENT()(a, b, score=torch.tensor([5.0, 1.0]))), 4)
    0.0
    """

    def __init__(self, temperature: float = 0.05) -> None:
        super().__init__()
        if not temperature > 0:
            raise InvalidArgument(f"CoSENT: expected a temperature above 0; got {temperature}")
        self.temperature = temperature

    def value(self, query: Tensor, positive: Tensor, score: Tensor) -> Tensor:
        check_pair(query, positive, "CoSENT")
        if score.shape != query.shape[:1]:
            raise InvalidArgument(f"CoSENT: expected score of shape ({len(query)},); got {tuple(score.shape)}")
        return pairwise.cosent(functional.cosine_similarity(query, positive) / self.temperature, score)


class RankNet(Loss):
    """Documents of a list in the order of their labels (Burges et al., 2005; E2Rank, arXiv:2510.22733).

        mean over pairs a, b of a list with label_a > label_b of log(1 + e^(-scale * (s_a - s_b)))

    | column | shape | |
    | --- | --- | --- |
    | query | (n, d) | |
    | negative | (n, k, d) | the documents of each list, best or not |
    | score | (n, k) | their labels; minus infinity for a place that is empty |

    Requirements: pairs of different labels; without them the loss is 0. E2Rank adds twice this to InfoNCE. Cost: the
    n * k^2 terms, which are not kept.

    >>> import torch
    >>> from tessella.train.losses import RankNet
    >>> query, documents = torch.eye(1, 2), torch.eye(2)[None]
    >>> round(float(RankNet()(query, documents, torch.tensor([[2.0, 1.0]]))), 6)
    4.5e-05
    """

    def __init__(self, scale: float = 10.0) -> None:
        super().__init__()
        self.scale_by = scale

    def value(self, query: Tensor, negative: Tensor, score: Tensor) -> Tensor:
        check_negative(query, negative, "RankNet")
        if score.shape != negative.shape[:2]:
            expected = tuple(negative.shape[:2])
            raise InvalidArgument(f"RankNet: expected score of shape {expected}; got {tuple(score.shape)}")
        scores = self.scale_by * functional.cosine_similarity(query[:, None], negative, dim=-1)
        return pairwise.rank_net(scores, score)


class Triplet(Loss):
    """A document shall be nearer than a mined negative, by a margin (Schroff et al., arXiv:1503.03832).

        mean of max(0, margin + distance(query, positive) - distance(query, negative))

    | column | shape | |
    | --- | --- | --- |
    | query, positive | (n, d) | |
    | negative | (n, k, d) | |

    Args:
        margin: of distances 1 - cosine ("cosine") or lengths of differences ("euclidean").
        over: "all" negatives of a query, or only the "hardest", nearest one.

    >>> import torch
    >>> from tessella.train.losses import Triplet
    >>> query, negative = torch.tensor([[1.0, 0.0]]), torch.tensor([[[0.0, 1.0]]])
    >>> float(Triplet(margin=1.5)(query, query, negative))
    0.5
    """

    def __init__(
        self,
        margin: float = 0.2,
        *,
        distance: Literal["cosine", "euclidean"] = "cosine",
        over: Literal["all", "hardest"] = "all",
    ) -> None:
        super().__init__()
        if distance not in ("cosine", "euclidean") or over not in ("all", "hardest"):
            got = f"distance={distance!r}, over={over!r}"
            raise InvalidArgument(f"Triplet: expected cosine or euclidean, over all or the hardest; got {got}")
        self.margin, self.distance, self.over = margin, distance, over

    def value(self, query: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        check_pair(query, positive, "Triplet")
        negative = negative[:, None] if negative.ndim == 2 else negative
        check_negative(query, negative, "Triplet")
        near, far = self._distance(query, positive), self._distance(query[:, None], negative)
        if self.over == "hardest":
            far = far.amin(1, keepdim=True)
        return (self.margin + near[:, None] - far).relu().mean()

    def _distance(self, a: Tensor, b: Tensor) -> Tensor:
        if self.distance == "cosine":
            return 1 - functional.cosine_similarity(a, b, dim=-1)
        return torch.linalg.vector_norm(a - b, dim=-1)
