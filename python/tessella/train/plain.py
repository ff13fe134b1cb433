"""Contrastive and pairwise losses as a plain composition of torch operations: what fused forms answer to.

InfoNCE and its kin:

    L_i = -w_i * log( e^(z_ii) / (e^(z_ii) + sum over kept j of e^(z_ij)) ),   z_ij = f(s_ij) * scale_i + a * sg(s_ij)

s is the cosine of a row and a candidate, `scale` one over the temperature, sg stops the gradient. Candidates come in
blocks: the other rows' documents (qd), mined negatives, the other queries (qq), and the document of a row against
other documents (dd) or queries (dq). What `Contrast` names decides which are kept and how they weigh. Memory is a few
matrices of rows by candidates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from tessella.errors import InvalidArgument

BLOCKS = ("qd", "qq", "dd", "dq")
Side: TypeAlias = Literal["query", "positive", "negative"]


@dataclass(frozen=True)
class Contrast:
    """What a contrastive loss is made of; every field alone leaves plain InfoNCE at its default.

    Args:
        blocks: in-batch candidates, of "qd", "qq", "dd", "dq" (GTE, arXiv:2308.03281); () leaves mined ones alone.
        symmetric: the mean of both directions; mined negatives are candidates of queries only.
        own_negatives: a query meets its own mined negatives alone, not those of the others.
        hardness: a of the formula (LLaVE, arXiv:2503.04812: 9): harder negatives weigh more; positives stay.
        hardness_on: "all" negatives, or the "mined" ones (EmbeddingGemma, arXiv:2509.20354: a = 5).
        margin: drop candidates with s_ij > s_ii + margin as false negatives (Qwen3, arXiv:2506.05176: 0.1).
        guide_margin: with guide embeddings, drop candidates that the guide scores over g_ii - margin (GIST).
        guide_relative: the margin is a share of abs(g_ii), so that it tightens for negative scores, too.
        focal: w_i = sg((1 - P_i)^focal), P_i being the probability of the positive (KaLM-V2: 0.5; w is detached).
        squared: m of Focal-InfoNCE (Hou & Li, 2023): f(s) = s(s + m) for negatives, s^2 for the positive.
        normalized: similarities are cosines; False takes products of the embeddings as they come.
        dims: prefixes of the embeddings, each normalised by itself (Matryoshka, arXiv:2205.13147); () is all of it.
        weights: of the dims' losses; () weighs them alike.
    """

    blocks: tuple[str, ...] = ("qd",)
    symmetric: bool = False
    own_negatives: bool = False
    hardness: float = 0.0
    hardness_on: Literal["all", "mined"] = "all"
    margin: float | None = None
    guide_margin: float = 0.0
    guide_relative: bool = False
    focal: float = 0.0
    squared: float | None = None
    normalized: bool = True
    dims: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not set(self.blocks) <= set(BLOCKS) or len(set(self.blocks)) < len(self.blocks):
            raise InvalidArgument(f"contrast: expected blocks of {', '.join(BLOCKS)}, each once; got {self.blocks}")
        if self.hardness_on not in ("all", "mined"):
            raise InvalidArgument(f"contrast: expected hardness_on to be 'all' or 'mined'; got {self.hardness_on!r}")
        if self.focal < 0 or self.hardness < 0:
            got = f"focal={self.focal}, hardness={self.hardness}"
            raise InvalidArgument(f"contrast: expected focal and hardness of at least 0; got {got}")
        if self.weights and len(self.weights) != len(self.dims):
            got = f"{len(self.weights)} weights for {len(self.dims)} dims"
            raise InvalidArgument(f"contrast: expected a weight for each of dims; got {got}")
        if any(m < 1 for m in self.dims) or len(set(self.dims)) < len(self.dims):
            raise InvalidArgument(f"contrast: expected dims of at least 1, each once; got {self.dims}")


class Triple(NamedTuple):
    """Embeddings of queries (n, d), their documents (n, d), and mined negatives (n, k, d) or None."""

    query: Tensor
    positive: Tensor
    negative: Tensor | None = None


class Ids(NamedTuple):
    """int64 numbers of queries (n,), documents (n,) and negatives (n, k), equal where the texts are; below 0: none."""

    query: Tensor | None = None
    positive: Tensor | None = None
    negative: Tensor | None = None


class Block(NamedTuple):
    """A kind of candidates: which rows meet which columns."""

    rows: Side
    columns: Side

    def of(self, triple: Triple) -> tuple[Tensor, Tensor]:
        """Rows (n, d) and columns (c, d) of a triple."""
        return getattr(triple, self.rows), getattr(triple, self.columns).flatten(0, -2)


def prefix_similarities(
    a: Tensor, b: Tensor, dims: Sequence[int], *, normalized: bool = True, pairwise: bool = False
) -> Iterator[Tensor]:
    """Similarities of the prefixes of each length of ascending `dims`, of all pairs or row by row.

    Products of a longer prefix go on from those of the shorter: all dims cost the product of the longest.
    """
    products, squares_a, squares_b, start = 0.0, 0.0, 0.0, 0
    for m in dims:
        left, right = a[:, start:m], b[:, start:m]
        products = products + ((left * right).sum(1) if pairwise else left @ right.T)
        squares_a, squares_b = squares_a + left.square().sum(1), squares_b + right.square().sum(1)
        start = m
        if not normalized:
            yield products
            continue
        tiny = torch.finfo(a.dtype).tiny
        lengths_a, lengths_b = squares_a.clamp_min(tiny).sqrt(), squares_b.clamp_min(tiny).sqrt()
        yield products / (lengths_a * lengths_b if pairwise else lengths_a[:, None] * lengths_b)


def info_nce(
    triple: Triple,
    scale: Tensor | float,
    contrast: Contrast,
    ids: Ids,
    guide: Triple | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """The mean loss of the rows: a scalar; see the head of this file.

    `scale` is a number or a tensor, of one value or one for each row; `weight` (n,) weighs rows.
    """
    loss = _one_way(triple, scale, contrast, ids, guide, weight)
    if not contrast.symmetric:
        return loss
    back = Triple(triple.positive, triple.query)
    guide_back = None if guide is None else Triple(guide.positive, guide.query)
    return (loss + _one_way(back, scale, contrast, Ids(ids.positive, ids.query), guide_back, weight)) / 2


def blocks_of(triple: Triple, contrast: Contrast) -> list[Block]:
    """The blocks of candidates that a row meets."""
    sides: dict[str, Side] = {"q": "query", "d": "positive"}
    blocks = [Block(sides[name[0]], sides[name[1]]) for name in contrast.blocks]
    return blocks if triple.negative is None else [*blocks, Block("query", "negative")]


def _dropped(block: Block, triple: Triple, contrast: Contrast, ids: Ids) -> Tensor:
    """(n, c): pairs that are left out for their ids, as a row's own, or as another row's negatives."""
    return _dropped_negatives(triple, contrast, ids) if block.columns == "negative" else _same(triple, ids)


def equal(rows: Tensor, columns: Tensor) -> Tensor:
    """(n, c): whether ids are the same; those below 0 are of nothing and equal to none."""
    return (rows[:, None] == columns) & (columns >= 0)


def _same(triple: Triple, ids: Ids) -> Tensor:
    """(n, n): a row and itself, and rows that share their query or their document."""
    same = torch.eye(len(triple.query), dtype=torch.bool, device=triple.query.device)
    for each in (ids.query, ids.positive):
        if each is not None:
            same = same | equal(each, each)
    return same


def _dropped_negatives(triple: Triple, contrast: Contrast, ids: Ids) -> Tensor:
    """(n, n * k): negatives that are the row's document, and those of other rows where each has its own."""
    assert triple.negative is not None
    n, k = triple.negative.shape[:2]
    dropped = torch.zeros(n, n * k, dtype=torch.bool, device=triple.query.device)
    if ids.positive is not None and ids.negative is not None:
        dropped = equal(ids.positive, ids.negative.flatten())
    if contrast.own_negatives:
        own = torch.eye(n, dtype=torch.bool, device=dropped.device).repeat_interleave(k, dim=1)
        dropped = dropped | ~own
    return dropped


def _one_way(
    triple: Triple,
    scale: Tensor | float,
    contrast: Contrast,
    ids: Ids,
    guide: Triple | None,
    weight: Tensor | None,
) -> Tensor:
    dims = sorted(contrast.dims) or [triple.query.shape[-1]]
    shares = dict(zip(contrast.dims, contrast.weights, strict=True)) if contrast.weights else {}
    blocks = blocks_of(triple, contrast)
    dropped = [_dropped(block, triple, contrast, ids) | _misled(block, guide, contrast) for block in blocks]
    scores = [prefix_similarities(*block.of(triple), dims, normalized=contrast.normalized) for block in blocks]
    own = prefix_similarities(triple.query, triple.positive, dims, normalized=contrast.normalized, pairwise=True)
    column = scale[:, None] if isinstance(scale, Tensor) and scale.ndim == 1 and len(scale) > 1 else scale
    losses = []
    for m in dims:
        positive = next(own)
        logits = [
            _logits(next(s), positive, column, contrast, block).masked_fill(out, -torch.inf)
            for s, block, out in zip(scores, blocks, dropped, strict=True)
        ]
        kept = positive[:, None] if contrast.squared is None else positive[:, None].square()
        losses.append(shares.get(m, 1.0) * _rows(torch.cat([kept * column, *logits], dim=1), contrast, weight))
    return torch.stack(losses).sum()


@torch.no_grad()
def _misled(block: Block, guide: Triple | None, contrast: Contrast) -> Tensor:
    """(n, c): candidates that the guide holds closer than the positive."""
    if guide is None:
        return torch.zeros((), dtype=torch.bool)
    (own,) = prefix_similarities(guide.query, guide.positive, [guide.query.shape[1]], pairwise=True)
    (scores,) = prefix_similarities(*block.of(guide), [guide.query.shape[1]])
    slack = contrast.guide_margin * (own.abs() if contrast.guide_relative else 1.0)
    return scores > (own - slack)[:, None]


def _logits(scores: Tensor, positive: Tensor, scale: Tensor | float, contrast: Contrast, block: Block) -> Tensor:
    """(n, c) logits of a block, minus infinity beyond the margin."""
    logits = (scores if contrast.squared is None else scores * (scores + contrast.squared)) * scale
    if contrast.hardness and (contrast.hardness_on == "all" or block.columns == "negative"):
        logits = logits + contrast.hardness * scores.detach()
    if contrast.margin is None:
        return logits
    return logits.masked_fill(scores.detach() > (positive.detach() + contrast.margin)[:, None], -torch.inf)


def _rows(logits: Tensor, contrast: Contrast, weight: Tensor | None) -> Tensor:
    """Mean loss of rows of logits whose first column is the positive."""
    losses = logits.logsumexp(dim=1) - logits[:, 0]
    if contrast.focal:
        losses = losses * (-torch.expm1(-losses.detach())).clamp_min(0) ** contrast.focal
    return (losses if weight is None else losses * weight).mean()


def cosent(scores: Tensor, labels: Tensor) -> Tensor:
    """log(1 + sum over label_a > label_b of e^(s_b - s_a)) of scores (n,) and labels (n,)."""
    differences = scores - scores[:, None]  # [a, b]: s_b - s_a
    wrong = differences.masked_fill(labels[:, None] <= labels, -torch.inf).flatten()
    return torch.cat([wrong.new_zeros(1), wrong]).logsumexp(0)


def rank_net(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean over label_a > label_b of a list of log(1 + e^(s_b - s_a)) of scores and labels (n, k); -inf: no label."""
    above = (labels[:, :, None] > labels[:, None]) & (labels[:, None] > -torch.inf)  # [list, a, b]
    losses = functional.softplus(scores[:, None] - scores[:, :, None])
    return (losses * above).sum() / above.sum().clamp_min(1)
