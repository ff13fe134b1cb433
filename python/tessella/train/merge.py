"""Weights of several models made into one: soups, slerp, moving averages, learnt positions between models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tessella.errors import InvalidArgument

State: TypeAlias = Mapping[str, Tensor]


def soup(states: Sequence[State], weights: Sequence[float] | None = None) -> dict[str, Tensor]:
    """The weighted mean of state dicts (model soups, Wortsman et al., arXiv:2203.05482); equal weights by default.

    Weights are scaled to a sum of one. Whole numbers, such as position ids, are taken from the first.

    >>> import torch
    >>> soup([{"w": torch.tensor([0.0])}, {"w": torch.tensor([4.0])}], [3, 1])
    {'w': tensor([1.])}
    """
    shares = torch.tensor(weights if weights is not None else [1.0] * len(states), dtype=torch.float64)
    if len(shares) != len(states) or not shares.sum() > 0:
        raise InvalidArgument(f"soup: expected a weight for each of {len(states)} models, of a sum above 0")
    _check_alike(states, "soup")
    shares = shares / shares.sum()
    return {
        name: sum((s * state[name].double() for s, state in zip(shares, states, strict=True))).to(first.dtype)
        if first.is_floating_point()
        else first.clone()
        for name, first in states[0].items()
    }


def loss_weights(losses: Sequence[float], temperature: float = 5.0) -> list[float]:
    """Weights for a soup from each model's loss on a few examples, softmax(-loss / T) (LM-Cocktail, arXiv:2311.13534).

    >>> loss_weights([1.0, 1.0])
    [0.5, 0.5]
    """
    return [float(each) for each in torch.tensor([-loss / temperature for loss in losses]).double().softmax(0)]


def slerp(a: State, b: State, share: float) -> dict[str, Tensor]:
    """`share` of the way from a to b, tensor by tensor along the great circle (Shoemake, 1985); 0 is a, 1 is b.

    Tensors that are all but parallel, and those of whole numbers, are mixed linearly or taken from a.

    >>> import torch
    >>> slerp({"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.0, 1.0])}, 0.5)
    {'w': tensor([0.7071, 0.7071])}
    """
    _check_alike([a, b], "slerp")
    return {name: _slerp(x, b[name], share) if x.is_floating_point() else x.clone() for name, x in a.items()}


def _slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    x, y = a.double(), b.double()
    lengths = x.norm() * y.norm()
    cosine = float((x * y).sum() / lengths) if lengths > 0 else 1.0
    angle = math.acos(max(-1.0, min(1.0, cosine)))
    if math.sin(angle) < 1e-6:
        return torch.lerp(x, y, share).to(a.dtype)
    left, right = math.sin((1 - share) * angle), math.sin(share * angle)
    return ((left * x + right * y) / math.sin(angle)).to(a.dtype)


class Average:
    """An exponential moving average of a model's parameters: average = decay * average + (1 - decay) * now.

    >>> import torch
    >>> layer = torch.nn.Linear(1, 1, bias=False)
    >>> average = Average(layer, 0.5)
    >>> average.update(layer); list(average.state)
    ['weight']
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise InvalidArgument(f"average: expected decay within 0 and 1; got {decay}")
        self.decay = decay
        self.state = {name: each.detach().clone() for name, each in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Takes a step of the model in."""
        for name, each in model.state_dict().items():
            if each.is_floating_point():
                self.state[name].lerp_(each, 1 - self.decay)
            else:
                self.state[name].copy_(each)


def self_position(
    model: nn.Module,
    base: State,
    states: Sequence[State],
    loss: Callable[[Callable[..., Tensor]], Tensor],
    *,
    steps: int = 100,
    learning_rate: float = 0.05,
) -> tuple[dict[str, Tensor], list[float], float]:
    """Where between models to stand, by gradient (Self Positioning, arXiv:2410.15035).

        theta(alpha, beta) = theta_0 + beta * sum over k of softmax(alpha)_k * (theta_k - theta_0)

    Args:
        model: gives the architecture; its weights are not looked at and stay.
        base, states: theta_0 and the theta_k, each trained on a task of its own from theta_0.
        loss: of a function that embeds as the model would; draw it from a small set with all tasks in equal shares.
        steps, learning_rate: of Adam over alpha and beta, which start at equal shares and at 1.

    Returns the merged state dict, the shares and beta. Only k + 1 numbers are trained. No regulariser: the paper's is
    not published. Cost: k models in memory, and `steps` passes of `loss`.
    """
    _check_alike([base, *states], "self_position")
    names = [name for name, each in base.items() if each.is_floating_point()]
    moves = {name: torch.stack([state[name] - base[name] for state in states]) for name in names}
    alpha = torch.zeros(len(states), requires_grad=True)
    beta = torch.ones((), requires_grad=True)
    optimizer = torch.optim.Adam([alpha, beta], lr=learning_rate)

    def placed() -> dict[str, Tensor]:
        shares = beta * alpha.softmax(0)
        return {
            name: each + torch.tensordot(shares.to(each), moves[name], dims=1) if name in moves else each
            for name, each in base.items()
        }

    for _ in range(steps):
        optimizer.zero_grad()
        state = placed()
        loss(lambda *given, state=state, **named: functional_call(model, state, given, named)).backward()
        optimizer.step()
    with torch.no_grad():
        return placed(), alpha.softmax(0).tolist(), float(beta)


def _check_alike(states: Iterable[State], name: str) -> None:
    first, *others = states
    for other in others:
        if {n: x.shape for n, x in first.items()} != {n: x.shape for n, x in other.items()}:
            raise InvalidArgument(f"{name}: expected models of one architecture; got other names or shapes of weights")
