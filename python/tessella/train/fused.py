"""InfoNCE over the kernels of `tessella.contrast`: the matrix of scores never exists.

Each block of candidates is one call, which gives the log-sum-exp of a row's kept logits for every prefix at once; the
positive's own logit and the joining of blocks cost O(n). `plain.info_nce` is the definition; what the kernels do not
compute (another type or device, the squared form) stays there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tessella.contrast import contrast_backward, contrast_forward
from tessella.train import plain
from tessella.train.plain import Block, Contrast, Ids, Triple

_FEWEST_PAIRS = 1 << 14  # below, a matrix that fits into the cache is quicker than the calls


def fits(triple: Triple, contrast: Contrast) -> bool:
    """Whether the kernels compute this loss here."""
    tensors = [each for each in triple if each is not None]
    plain_type = all(each.dtype == torch.float32 and each.device.type == "cpu" for each in tensors)
    return plain_type and contrast.squared is None and len(triple.query) ** 2 >= _FEWEST_PAIRS


def info_nce(
    triple: Triple,
    scale: Tensor | float,
    contrast: Contrast,
    ids: Ids,
    guide: Triple | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """As `plain.info_nce`, of float32 on the CPU."""
    loss = _one_way(triple, scale, contrast, ids, guide, weight)
    if not contrast.symmetric:
        return loss
    back = Triple(triple.positive, triple.query)
    guide_back = None if guide is None else Triple(guide.positive, guide.query)
    return (loss + _one_way(back, scale, contrast, Ids(ids.positive, ids.query), guide_back, weight)) / 2


def _one_way(
    triple: Triple,
    scale: Tensor | float,
    contrast: Contrast,
    ids: Ids,
    guide: Triple | None,
    weight: Tensor | None,
) -> Tensor:
    dims = sorted(contrast.dims) or [triple.query.shape[-1]]
    scales = torch.as_tensor(scale, dtype=torch.float32).expand(len(triple.query))
    own = plain.prefix_similarities(*triple[:2], dims, normalized=contrast.normalized, pairwise=True)
    positive = torch.stack(list(own)) * scales  # (p, n)
    negatives = 0 if triple.negative is None else triple.negative.shape[1]
    rules = _Rules(dims, scales.detach(), positive.detach(), contrast, ids, guide, negatives)
    lengths = {name: _inverse_lengths(triple, name, dims, contrast) for name in ("query", "positive", "negative")}
    sums = [
        BlockSum.apply(*block.of(triple), lengths[block.rows] * scales, lengths[block.columns], rules.of(block))
        for block in plain.blocks_of(triple, contrast)
    ]
    losses = functional.softplus(_joined(sums) - positive)
    if contrast.focal:
        losses = losses * (-torch.expm1(-losses.detach())).clamp_min(0) ** contrast.focal
    by_dim = (losses if weight is None else losses * weight).mean(1)
    shares = dict(zip(contrast.dims, contrast.weights, strict=True)) if contrast.weights else {}
    return (by_dim * torch.tensor([shares.get(m, 1.0) for m in dims])).sum()


def _joined(sums: list[Tensor]) -> Tensor:
    """Log-sum-exp of the blocks' sums, the lowest number where none of a row's candidates counts.

    The positive stays outside: log(1 + e^(others - positive)) and its slope keep all their digits where the positive
    has nearly all of the probability, which one less that probability would not.
    """
    kept = torch.stack(sums).clamp_min(torch.finfo(torch.float32).min)  # a slope of 0 there, where -inf has none
    return kept[0] if len(sums) == 1 else kept.logsumexp(0)


class BlockSum(torch.autograd.Function):
    """For each prefix and row, the log-sum-exp of the kept logits of a block: (p, n)."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, columns: Tensor, row_scale: Tensor, column_scale: Tensor, rules: dict[str, Any]
    ) -> Tensor:
        out: Tensor = contrast_forward(rows, columns, row_scale, column_scale, **rules)
        ctx.save_for_backward(rows, columns, row_scale, column_scale, out)
        ctx.rules = rules
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        *given, out = ctx.saved_tensors
        found = contrast_backward(*given, out=out, out_gradient=gradients[0].contiguous(), **ctx.rules)
        return (*found, None)


class _Rules:
    """What of `Contrast` the kernels are told, block by block."""

    def __init__(
        self,
        dims: list[int],
        scale: Tensor,
        positive: Tensor,
        contrast: Contrast,
        ids: Ids,
        guide: Triple | None,
        negatives: int,
    ) -> None:
        self.contrast, self.ids, self.dims = contrast, ids, dims
        self.place, self.negatives = torch.arange(len(scale)), negatives
        self.hardness = contrast.hardness / scale
        self.bound = None if contrast.margin is None else positive + contrast.margin * scale
        self.guide, self.guide_bound = _guide(guide, contrast)

    def of(self, block: Block) -> dict[str, Any]:
        """Arguments of `contrast_forward`."""
        mined = block.columns == "negative"
        rules: dict[str, Any] = {"dims": self.dims, "row_bound": self.bound, "ids": self._ids(mined)}
        if self.contrast.hardness and (mined or self.contrast.hardness_on == "all"):
            rules["hardness"] = self.hardness
        if mined and self.contrast.own_negatives:
            rules["groups"] = (self.place, self.place.repeat_interleave(self.negatives))
        if self.guide is not None:
            rules["guide"] = (*block.of(self.guide), self.guide_bound)
        return rules

    def _ids(self, mined: bool) -> list[tuple[Tensor, Tensor]]:
        if not mined:
            return [(each, each) for each in (self.place, self.ids.query, self.ids.positive) if each is not None]
        positive, negative = self.ids.positive, self.ids.negative
        return [] if positive is None or negative is None else [(positive, negative.flatten())]


@torch.no_grad()
def _guide(guide: Triple | None, contrast: Contrast) -> tuple[Triple | None, Tensor | None]:
    """Unit vectors of the guide, and the score over which a row's candidates are dropped."""
    if guide is None:
        return None, None
    unit = Triple(*(None if each is None else functional.normalize(each.float(), dim=-1) for each in guide))
    own = (unit.query * unit.positive).sum(1)
    return unit, own - contrast.guide_margin * (own.abs() if contrast.guide_relative else 1.0)


def _inverse_lengths(triple: Triple, name: str, dims: list[int], contrast: Contrast) -> Tensor:
    """(p, rows) one over the length of each prefix; ones where products are taken as they come."""
    embeddings = getattr(triple, name)
    if embeddings is None:
        return torch.empty(0)
    rows = embeddings.flatten(0, -2)
    if not contrast.normalized:
        return rows.new_ones(len(dims), len(rows))
    tiny = torch.finfo(rows.dtype).tiny
    cuts = [rows[:, start:m].square().sum(1) for start, m in zip([0, *dims], dims, strict=False)]
    squares = torch.stack(cuts).cumsum(0)
    return squares.clamp_min(tiny).rsqrt()
