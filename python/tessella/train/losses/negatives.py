"""What is done with negatives: mixed into harder ones, kept near the queries they answer, spread over the sphere."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from tessella.errors import InvalidArgument
from tessella.train.losses._loss import Drawn, Loss, Wrapper
from tessella.train.losses.contrast import check_negative, check_pair
from tessella.train.losses.nested import unit


class MixedNegatives(Wrapper):
    """A loss with synthetic negatives beside the mined ones (KaLM-V2, arXiv:2506.20923).

        pairs: normalise(l * d_a + (1 - l) * d_b),  a and b drawn from the row's negatives, l uniform in [0, 1)
        list:  normalise(sum of softmax(scale * s_k) * d_k)  over the row's negatives

    | column | shape | |
    | --- | --- | --- |
    | query | (n, d) | |
    | negative | (n, k, d) | k of at least 2 |
    | … | | what the loss takes |

    The paper publishes no law for l; the uniform one is ours, as is that mixes carry no id.

    Args:
        pairs: how many are made from pairs, for each row.
        lists: whether one is made from the whole list.
        scale: of the similarities in the list's weights, which carry gradients as everything else does.
        seed: of the draws; a checkpoint keeps their count.

    >>> import torch
    >>> from tessella.train.losses import InfoNCE, MixedNegatives
    >>> q, n = torch.eye(2), torch.tensor([[[0.6, 0.8], [0.8, 0.6]], [[0.8, 0.6], [0.6, 0.8]]])
    >>> mixed, plain = MixedNegatives(InfoNCE()), InfoNCE()
    >>> float(mixed(q, q, n)) > float(plain(q, q, n))
    True
    """

    def __init__(self, loss: Loss, *, pairs: int = 1, lists: bool = True, scale: float = 1.0, seed: int = 0) -> None:
        super().__init__(loss)
        if pairs < 0 or (not pairs and not lists):
            raise InvalidArgument(f"MixedNegatives: expected pairs or lists to mix; got pairs={pairs}, lists={lists}")
        self.pairs, self.lists, self.scale_by = pairs, lists, scale
        self.draw = Drawn(seed)

    def columns(self) -> dict[str, bool]:
        return {**self.loss.columns(), "negative": True}

    def value(self, **columns: Tensor) -> Tensor:
        query, negative = columns["query"], columns["negative"]
        check_negative(query, negative, "MixedNegatives")
        if negative.shape[1] < 2:
            raise InvalidArgument(f"MixedNegatives: expected two negatives a row at least; got {negative.shape[1]}")
        shares = self._shares(query, negative)
        mixed = {"negative": shares @ negative}
        if (guide := columns.get("guide_negative")) is not None:
            mixed["guide_negative"] = shares.detach().to(guide) @ guide
        for name, mixes in mixed.items():
            columns[name] = torch.cat([columns[name], unit(mixes)], dim=1)
        if (ids := columns.get("negative_id")) is not None:
            columns["negative_id"] = functional.pad(ids, (0, shares.shape[1]), value=-1)
        return self.loss(**columns)

    def _shares(self, query: Tensor, negative: Tensor) -> Tensor:
        """(n, mixes, k): how much of each negative of its row goes into a mix."""
        generator = self.draw()
        n, k, _ = negative.shape
        rows, mixes = torch.arange(n), []
        for _ in range(self.pairs):
            a = torch.randint(k, (n,), generator=generator)
            b = (a + torch.randint(1, k, (n,), generator=generator)) % k
            share = torch.rand(n, generator=generator, dtype=torch.float64)
            mix = torch.zeros(n, k, dtype=torch.float64)
            mix[rows, a], mix[rows, b] = share, 1 - share
            mixes.append(mix.to(negative))
        if self.lists:
            similarity = functional.cosine_similarity(query[:, None], negative, dim=-1)
            mixes.append((self.scale_by * similarity).softmax(1))
        return torch.stack(mixes, dim=1)


class CLP(Wrapper):
    """A loss, and a penalty that keeps negatives near the queries they do answer (CLP, arXiv:2412.17364).

        (1 - share) * loss + share * mean of (1 - cos(negative, its own query))

    | column | shape | |
    | --- | --- | --- |
    | query, positive | (n, d) | in-batch negatives are the documents, and their own queries the queries |
    | negative, negative_query | (n, k, d), optional | mined negatives, and a query that each of them answers |

    The sign is that of the paper's text, which its printed formula turns round; means stand where it has sums.

    >>> import torch
    >>> from tessella.train.losses import CLP, InfoNCE
    >>> x = torch.eye(4)
    >>> float(CLP(InfoNCE(), share=1.0)(x, x))
    0.0
    """

    def __init__(self, loss: Loss, *, share: float = 0.1) -> None:
        super().__init__(loss)
        if not 0 <= share <= 1:
            raise InvalidArgument(f"CLP: expected share within 0 and 1; got {share}")
        self.share = share

    def columns(self) -> dict[str, bool]:
        return {**self.loss.columns(), "negative_query": False}

    def value(self, negative_query: Tensor | None = None, **columns: Tensor) -> Tensor:
        distances = 1 - functional.cosine_similarity(columns["query"], columns["positive"])
        if negative_query is not None:
            negative = columns.get("negative")
            if negative is None or negative.shape != negative_query.shape:
                got = None if negative is None else tuple(negative.shape)
                expected = tuple(negative_query.shape)
                raise InvalidArgument(f"CLP: expected negative of shape {expected}, as negative_query; got {got}")
            mined = 1 - functional.cosine_similarity(negative, negative_query, dim=-1)
            distances = torch.cat([distances, mined.flatten()])
        return (1 - self.share) * self.loss(**columns) + self.share * distances.mean()


class SpreadOut(Loss):
    """Embeddings of different texts shall be orthogonal (Zhang et al., arXiv:1708.06320; EmbeddingGemma).

        mean over i != j of cos(e_i, e_j)^2, of queries and of documents

    | column | shape | |
    | --- | --- | --- |
    | query, positive | (n, d) | |

    Requirements: two rows at least. A small addition to another loss: `InfoNCE() + 0.1 * SpreadOut()`.

    >>> import torch
    >>> from tessella.train.losses import SpreadOut
    >>> float(SpreadOut()(torch.eye(3), torch.eye(3)))
    0.0
    """

    def __init__(self, over: Literal["both", "query", "positive"] = "both") -> None:
        super().__init__()
        if over not in ("both", "query", "positive"):
            raise InvalidArgument(f"SpreadOut: expected over to be 'both', 'query' or 'positive'; got {over!r}")
        self.over = over

    def value(self, query: Tensor, positive: Tensor) -> Tensor:
        check_pair(query, positive, "SpreadOut")
        if len(query) < 2:
            raise InvalidArgument(f"SpreadOut: expected two rows at least; got {len(query)}")
        sides = {"query": query, "positive": positive}
        chosen = sides.values() if self.over == "both" else [sides[self.over]]
        return torch.stack([self._of(each) for each in chosen]).mean()

    def _of(self, x: Tensor) -> Tensor:
        near = unit(x)
        squares = (near @ near.T).square()
        return (squares.sum() - squares.diagonal().sum()) / (len(x) * (len(x) - 1))
