"""Losses that make a part of the model useful by itself: prefixes of the vector, layers, both."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from tessella.errors import InvalidArgument
from tessella.train.losses._loss import EMBEDDINGS, Drawn, Loss, Nesting, Sum, Wrapper, mapped

STARBUCKS = ((2, 32), (4, 64), (6, 128), (8, 256), (10, 512), (12, 768))


class Matryoshka(Wrapper):
    """A loss on prefixes of the embeddings, too, so that `vector[:64]` ranks well (Kusupati et al., arXiv:2205.13147).

    Args:
        loss: any loss. Under InfoNCE (and sums of it) a longer prefix goes on from the products of the shorter, so that
            all prefixes cost one matrix product; so they do under Stella, whose teacher stays whole. Other losses are
            asked once for each.
        dims: lengths; list the full one, too, to train it.
        weights: of their losses; alike by default.

    Relations: prefixes are cut first and normalised then; a loss sees unit prefixes. `Matryoshka2D` cuts layers, too.

    >>> import torch
    >>> from tessella.train.losses import InfoNCE, Matryoshka
    >>> x = torch.eye(4)
    >>> float(Matryoshka(InfoNCE(), dims=(4, 2))(x, x)) > float(InfoNCE()(x, x))
    True
    """

    def __init__(self, loss: Loss, dims: Sequence[int], weights: Sequence[float] = ()) -> None:
        if not dims or any(m < 1 for m in dims) or len(set(dims)) < len(dims):
            raise InvalidArgument(f"Matryoshka: expected dims of at least 1, each once; got {tuple(dims)}")
        if weights and len(weights) != len(dims):
            raise InvalidArgument(f"Matryoshka: expected {len(dims)} weights, one for each of dims; got {len(weights)}")
        self.dims, self.weights = tuple(dims), tuple(weights) or (1.0,) * len(dims)
        self.at_once = isinstance(loss, Nesting)
        super().__init__(self._inner(loss))

    def _inner(self, loss: Loss) -> Loss:
        if isinstance(loss, Sum):
            terms = [Matryoshka(term, self.dims, self.weights) for term in loss.terms]
            self.at_once = True
            return Sum(list(zip(loss.factors, terms, strict=True)))
        return loss.nested(self.dims, self.weights) if isinstance(loss, Nesting) else loss

    def value(self, **columns: Tensor) -> Tensor:
        if self.at_once:
            return self.loss(**columns)
        check_dims(columns, max(self.dims), "Matryoshka")
        losses = [
            weight * self.loss(**mapped(prefixes(columns, m), unit, EMBEDDINGS))
            for m, weight in zip(self.dims, self.weights, strict=True)
        ]
        return torch.stack(losses).sum()


class Matryoshka2D(Wrapper):
    """A loss on the last and one drawn layer, each in full and cut to one drawn dim (Li et al., arXiv:2402.14776).

        L(last) + L(l) / (1 + l) + kl_weight * T * KL(softmax(e_last / T) || softmax(e_l / T)),  l counted from 0

    | column | shape | |
    | --- | --- | --- |
    | query, positive | (n, layers, d) | one vector for each layer, the last layer last |
    | negative | (n, k, layers, d), optional | |

    The last layer is a constant to the divergence: it pulls the drawn layer, not the other way round.

    Args:
        loss: of single vectors; prefixes through `Matryoshka`.
        dims: to draw from, besides the full one.
        seed: of the draws; a checkpoint keeps their count.

    Relations: this is the paper's first version, which draws; its repository later replaced it by another method
    (ESE). `Starbucks` trains a fixed list each step instead.
    """

    def __init__(
        self, loss: Loss, dims: Sequence[int], *, kl_weight: float = 1.0, temperature: float = 0.3, seed: int = 0
    ) -> None:
        super().__init__(loss)
        if not dims or any(m < 1 for m in dims):
            raise InvalidArgument(f"Matryoshka2D: expected dims of at least 1; got {tuple(dims)}")
        self.dims, self.kl_weight, self.temperature = tuple(dims), kl_weight, temperature
        self.draw = Drawn(seed)

    def value(self, **columns: Tensor) -> Tensor:
        layers, full = check_layers(columns, "Matryoshka2D")
        generator = self.draw()
        drawn = int(torch.randint(layers - 1, (), generator=generator))
        dim = self.dims[int(torch.randint(len(self.dims), (), generator=generator))]
        last, layer = layer_of(columns, layers - 1), layer_of(columns, drawn)
        task = Matryoshka(self.loss, sorted({dim, full}))
        temperature = self.temperature
        pull = divergence(embeddings(last).detach() / temperature, embeddings(layer) / temperature)
        return task(**last) + task(**layer) / (1 + drawn) + self.kl_weight * temperature * pull


class Starbucks(Wrapper):
    """A loss on a fixed list of (layer, dim) pairs, all of them each step (Zhuang et al., arXiv:2410.13230).

        L(full) + sum over pairs of L(layer, dim) + kl_weight * T * KL(full || pair)

    | column | shape | |
    | --- | --- | --- |
    | query, positive | (n, layers, d) | one vector for each layer, the last layer last |
    | negative | (n, k, layers, d), optional | |

    Args:
        loss: of single vectors. `InfoNCE(normalized=False)` is the paper's retrieval form: prefixes of vectors that
            were normalised in full, not again; any other loss sees vectors as its own rule has them.
        pairs: layers counted from 1, and dims.
        kl: "embeddings", the form for similarity: softmax over the prefixes of a vector, without a temperature, no
            side a constant; "scores", the form for retrieval: softmax over each query's scores, the full model a
            constant.
        temperature: T, which is a factor here and nothing else.
        score_scale: of the scores under "scores".
    """

    def __init__(
        self,
        loss: Loss,
        pairs: Sequence[tuple[int, int]] = STARBUCKS,
        *,
        kl: str = "embeddings",
        kl_weight: float = 1.0,
        temperature: float = 0.3,
        score_scale: float = 20.0,
    ) -> None:
        super().__init__(loss)
        if kl not in ("embeddings", "scores"):
            raise InvalidArgument(f"Starbucks: expected kl to be 'embeddings' or 'scores'; got {kl!r}")
        self.pairs, self.kl, self.factor, self.score_scale = tuple(pairs), kl, kl_weight * temperature, score_scale

    def value(self, **columns: Tensor) -> Tensor:
        layers, full = check_layers(columns, "Starbucks")
        if not self.pairs or any(not (1 <= layer <= layers and 1 <= m <= full) for layer, m in self.pairs):
            got = f"{self.pairs} for {layers} layers of {full}"
            raise InvalidArgument(f"Starbucks: expected pairs of a layer and a dim within the embeddings; got {got}")
        columns = mapped(columns, unit, EMBEDDINGS)
        whole = layer_of(columns, layers - 1)
        total = self.loss(**whole)
        for layer, m in self.pairs:
            part = prefixes(layer_of(columns, layer - 1), m)
            total = total + self.loss(**part) + self.factor * self._pull(whole, part, m)
        return total

    def _pull(self, whole: dict[str, Tensor], part: dict[str, Tensor], m: int) -> Tensor:
        if self.kl == "scores":
            return divergence(self.score_scale * scores(whole).detach(), self.score_scale * scores(part))
        return divergence(unit(embeddings(prefixes(whole, m))), unit(embeddings(part)))


def unit(x: Tensor) -> Tensor:
    """Vectors of length one."""
    return functional.normalize(x, dim=-1)


def prefixes(columns: dict[str, Tensor], m: int) -> dict[str, Tensor]:
    """The columns with embeddings cut to m."""
    return mapped(columns, lambda x: x[..., :m], EMBEDDINGS)


def layer_of(columns: dict[str, Tensor], layer: int) -> dict[str, Tensor]:
    """The columns with embeddings of one layer."""
    return mapped(columns, lambda x: x.select(-2, layer), EMBEDDINGS)


def embeddings(columns: dict[str, Tensor]) -> Tensor:
    """All embeddings, one below the other."""
    return torch.cat([columns[name].flatten(0, -2) for name in EMBEDDINGS if name in columns])


def scores(columns: dict[str, Tensor]) -> Tensor:
    """(n, c) products of queries with documents and mined negatives."""
    others = [columns[name].flatten(0, -2) for name in ("positive", "negative") if name in columns]
    return columns["query"] @ torch.cat(others).T


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """Mean over rows of KL(softmax(teacher) || softmax(student))."""
    target, log_student = teacher.log_softmax(-1), student.log_softmax(-1)
    return functional.kl_div(log_student, target, reduction="batchmean", log_target=True)


def check_layers(columns: dict[str, Tensor], name: str) -> tuple[int, int]:
    """Layers and dims, where every embedding has two of the former at least."""
    query = columns["query"]
    if query.ndim != 3 or query.shape[1] < 2:
        raise InvalidArgument(
            f"{name}: expected query of shape (n, layers, d) with two layers at least; got {tuple(query.shape)}"
        )
    return query.shape[1], query.shape[2]


def check_dims(columns: dict[str, Tensor], most: int, name: str) -> None:
    """Raises where a prefix is longer than the embeddings."""
    full = columns["query"].shape[-1]
    if most > full:
        raise InvalidArgument(f"{name}: expected dims within those of the embeddings; got {most} of {full}")
