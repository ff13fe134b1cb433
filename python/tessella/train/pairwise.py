"""Losses over pairs in order, CoSENT and RankNet, without the matrix of their differences: memory is O(n).

CoSENT's sum separates. The pairs of a come to e^(-s_a) times the sum of e^(s_b) over the labels below a's: sort by
label, and a running log-sum-exp has them all, in O(n log n). RankNet's terms do not; they are a softplus sum of
`tessella.contrast`, where s_b - s_a is the product of (-s_a, 1) and (1, s_b), a guide of ranks tells which pairs are in
order, and groups hold lists apart. `plain.cosent` and `plain.rank_net` are the definitions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tessella.train import plain
from tessella.train.fused import BlockSum

_SHORT = 64  # lists shorter than that are a matrix of a few times their size, and quicker as one
_AT_ONCE = 128  # documents of short lists that share a call: columns that the kernel takes at once


def cosent(scores: Tensor, labels: Tensor) -> Tensor:
    """As `plain.cosent`: log(1 + sum over label_a > label_b of e^(s_b - s_a)) of scores (n,) and labels (n,)."""
    ordered, order = labels.sort(stable=True)
    s = scores[order]
    below = torch.searchsorted(ordered, ordered)  # so many labels are smaller
    sums = s.logcumsumexp(0)[(below - 1).clamp_min(0)]
    terms = torch.where(below > 0, sums - s, -torch.inf)
    return torch.cat([terms.new_zeros(1), terms]).logsumexp(0)


def rank_net(scores: Tensor, labels: Tensor) -> Tensor:
    """As `plain.rank_net`: the mean over label_a > label_b of a list of log(1 + e^(s_b - s_a)); all (n, k)."""
    n, k = scores.shape
    if k < _SHORT or scores.dtype != torch.float32 or scores.device.type != "cpu":
        return plain.rank_net(scores, labels)
    lists = max(1, _AT_ONCE // k)
    sums = [_softplus_sum(scores[first : first + lists], labels[first : first + lists]) for first in range(0, n, lists)]
    return torch.stack(sums).sum() / _pairs(labels).clamp_min(1)


def _softplus_sum(scores: Tensor, labels: Tensor) -> Tensor:
    """Sum over the pairs of some lists."""
    ranks = torch.unique(labels, return_inverse=True)[1].flatten().float()[:, None]
    numbers = torch.arange(len(scores))[:, None].expand_as(scores)
    groups = torch.where(labels > -torch.inf, numbers, -1).flatten()  # empty places are of one rank, and pair with none
    s = scores.flatten()
    ones = torch.ones_like(s)
    rules = {
        "guide": (torch.ones_like(ranks), ranks, ranks[:, 0] - 0.5),  # what has not a smaller rank does not count
        "groups": (groups, groups),
        "reduce": "softplus",
    }
    out: Tensor = BlockSum.apply(torch.stack([-s, ones], 1), torch.stack([ones, s], 1), ones[None], None, rules)
    return out.sum()


def _pairs(labels: Tensor) -> Tensor:
    """How many pairs of a list have labels in order, over all lists."""
    empty = (labels == -torch.inf).sum(1, keepdim=True)
    below = torch.searchsorted(labels.sort(1)[0], labels.contiguous()) - empty
    return below.clamp_min(0).sum()
