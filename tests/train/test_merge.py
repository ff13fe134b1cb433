"""Soups, slerp, averages, and positions between models that are learnt."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra `train`")

from tessella.errors import InvalidArgument  # noqa: E402
from tessella.train import merge  # noqa: E402
from tests.train.models import Bag  # noqa: E402


def test_soup_is_the_weighted_mean_and_keeps_whole_numbers() -> None:
    states = [
        {"w": torch.tensor([1.0, 2.0]), "n": torch.tensor(3)},
        {"w": torch.tensor([3.0, 6.0]), "n": torch.tensor(9)},
    ]
    assert merge.soup(states)["w"].tolist() == [2.0, 4.0]
    assert merge.soup(states, [3, 1])["w"].tolist() == [1.5, 3.0]
    assert merge.soup(states)["n"].item() == 3
    shares = merge.loss_weights([5.0, 10.0])
    assert shares[0] / shares[1] == pytest.approx(math.e)


def test_slerp_goes_along_the_circle() -> None:
    a, b = {"w": torch.tensor([2.0, 0.0])}, {"w": torch.tensor([0.0, 2.0])}
    assert torch.allclose(merge.slerp(a, b, 1 / 3)["w"], 2 * torch.tensor([math.cos(math.pi / 6), 0.5]))
    assert torch.equal(merge.slerp(a, b, 0.0)["w"], a["w"])
    assert torch.allclose(merge.slerp(a, b, 1.0)["w"], b["w"])
    assert torch.allclose(merge.slerp(a, {"w": 3 * a["w"]}, 0.5)["w"], 2 * a["w"])  # parallel: a straight line


def test_average_follows() -> None:
    model = Bag()
    average = merge.Average(model, 0.75)
    before = model.table.weight.detach().clone()
    with torch.no_grad():
        model.table.weight.add_(4.0)
    average.update(model)
    assert torch.allclose(average.state["table.weight"], before + 1.0)


def test_self_positioning_finds_the_mix_that_serves_both_tasks() -> None:
    """Two models that moved from zero along an axis each; the probe wants twice the one and half the other."""
    base = {"weight": torch.zeros(1, 2)}
    states = [{"weight": torch.tensor([[1.0, 0.0]])}, {"weight": torch.tensor([[0.0, 1.0]])}]
    model = torch.nn.Linear(2, 1, bias=False)

    def loss(embed: Any) -> Any:
        return (embed(torch.eye(2))[:, 0] - torch.tensor([2.0, 0.5])).square().sum()

    kept = model.weight.detach().clone()
    state, shares, beta = merge.self_position(model, base, states, loss, steps=400)
    assert torch.allclose(state["weight"], torch.tensor([[2.0, 0.5]]), atol=1e-2)
    assert shares == pytest.approx([0.8, 0.2], abs=1e-2) and beta == pytest.approx(2.5, abs=1e-2)
    assert torch.equal(model.weight, kept)


def test_what_does_not_fit_is_refused() -> None:
    one, other = {"w": torch.zeros(2)}, {"w": torch.zeros(3)}
    with pytest.raises(InvalidArgument, match="expected models of one architecture"):
        merge.soup([one, other])
    with pytest.raises(InvalidArgument, match="expected a weight for each of 1 models"):
        merge.soup([one], [1, 2])
    with pytest.raises(InvalidArgument, match="expected decay within 0 and 1"):
        merge.Average(Bag(), 1.0)
