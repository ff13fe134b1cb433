"""What all losses share: named columns in, a scalar out, and sums of losses."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tessella.errors import InvalidArgument


class Loss(nn.Module, ABC):
    """A pure function of embeddings: `loss(query, positive, …)`, or by name from more columns than it needs.

    A subclass writes `value(self, query, positive, …)`, whose parameters name its columns; those with a default may be
    absent. Losses add and scale: `InfoNCE() + 0.1 * SpreadOut()`. A loss never holds a model.
    """

    def forward(self, *embeddings: Tensor, **columns: Tensor) -> Tensor:
        """The loss of these columns, a scalar."""
        names = self.columns()
        columns = {**dict(zip(names, embeddings, strict=False)), **columns}
        if missing := [name for name, needed in names.items() if needed and name not in columns]:
            got = ", ".join(columns) or "none"
            raise InvalidArgument(f"{type(self).__name__}: expected the columns {', '.join(missing)}; got {got}")
        return self.value(**{name: columns[name] for name in names if name in columns})

    def columns(self) -> dict[str, bool]:
        """Names of the columns that `value` takes, and whether it needs them."""
        return parameters_of(self.value)

    @abstractmethod
    def value(self, *args: Any, **columns: Any) -> Tensor:
        """Written by each loss."""

    def __add__(self, other: Loss) -> Sum:
        return Sum([(1.0, self), (1.0, other)])

    def __rmul__(self, factor: float) -> Sum:
        return Sum([(float(factor), self)])


class Nesting(Loss):
    """A loss that takes all prefixes at once, and so says itself what its other columns have to do with them."""

    @abstractmethod
    def nested(self, dims: tuple[int, ...], weights: tuple[float, ...]) -> Loss:
        """The same loss on prefixes of these lengths; it shares this one's parameters."""


class Sum(Loss):
    """Losses times factors, added; made by `a + 0.1 * b`."""

    def __init__(self, terms: list[tuple[float, Loss]]) -> None:
        super().__init__()
        self.factors = [factor for factor, _ in terms]
        self.terms = nn.ModuleList([term for _, term in terms])

    def columns(self) -> dict[str, bool]:
        return joined(self.terms)

    def value(self, **columns: Tensor) -> Tensor:
        return torch.stack(
            [factor * term(**columns) for factor, term in zip(self.factors, self.terms, strict=True)]
        ).sum()

    def __add__(self, other: Loss) -> Sum:
        return Sum([*zip(self.factors, self.terms, strict=True), (1.0, other)])

    def __rmul__(self, factor: float) -> Sum:
        return Sum([(factor * each, term) for each, term in zip(self.factors, self.terms, strict=True)])


class Wrapper(Loss):
    """A loss around another, which looks at the same columns."""

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        self.loss = loss

    def columns(self) -> dict[str, bool]:
        return dict(self.loss.columns())

    def value(self, **columns: Tensor) -> Tensor:
        return self.loss(**columns)


class Drawn(nn.Module):
    """Random numbers that depend on a seed and on how many draws came before, the same on every process.

    The count is a buffer: a checkpoint keeps it, so that a resumed run draws what an unbroken one would have.
    """

    count: Tensor

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self) -> torch.Generator:
        """A generator for the next draw, on the CPU."""
        self.count += 1
        return torch.Generator().manual_seed(self.seed * 1_000_003 + int(self.count))


def parameters_of(function: Callable[..., Tensor]) -> dict[str, bool]:
    """Names of a function's parameters, and whether it needs them."""
    parameters = inspect.signature(function).parameters.values()
    return {each.name: each.default is inspect.Parameter.empty for each in parameters}


def joined(losses: Any) -> dict[str, bool]:
    """Columns of several losses: needed where one needs them."""
    names: dict[str, bool] = {}
    for loss in losses:
        for name, needed in loss.columns().items():
            names[name] = names.get(name, False) or needed
    return names


def mapped(columns: Mapping[str, Tensor], change: Any, names: Any) -> dict[str, Tensor]:
    """The columns with those of these names changed."""
    return {name: change(each) if name in names else each for name, each in columns.items()}


EMBEDDINGS = ("query", "positive", "negative", "negative_query")
