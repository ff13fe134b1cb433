"""Losses over pairs in order: the forms that keep no matrix against the plain ones, value and gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra `train`")

from tessella.train import losses, pairwise, plain  # noqa: E402

LABELS = {
    "grades": lambda *shape: torch.randint(4, shape).double() / 3,
    "all different": lambda *shape: torch.randn(*shape).double(),
    "all alike": lambda *shape: torch.ones(*shape).double(),
    "some missing": lambda *shape: torch.where(torch.rand(*shape) < 0.3, -math.inf, torch.randint(3, shape).double()),
}


def differentiated(loss: Callable[..., Any], scores: Any, labels: Any) -> tuple[Any, Any]:
    leaf = scores.detach().clone().requires_grad_()
    value = loss(leaf, labels.to(leaf.dtype))
    value.backward()
    return value.detach(), leaf.grad


@pytest.mark.parametrize("scale", [0.1, 20.0, 300.0])
@pytest.mark.parametrize("labels", ["grades", "all different", "all alike"])
@pytest.mark.parametrize("n", [1, 2, 7, 130])
def test_cosent_by_sorting(n: int, labels: str, scale: float) -> None:
    torch.manual_seed(n)
    scores, grades = scale * torch.randn(n).double(), LABELS[labels](n)
    found, wanted = (differentiated(each.cosent, scores, grades) for each in (pairwise, plain))
    assert found[0].item() == pytest.approx(wanted[0].item(), rel=1e-12)
    torch.testing.assert_close(found[1], wanted[1], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("shape", [(3, 64), (5, 70), (2, 300), (7, 64)])
def test_ranknet_over_the_kernel(shape: tuple[int, int], labels: str) -> None:
    torch.manual_seed(shape[1])
    scores, grades = (10 * torch.randn(*shape)).float(), LABELS[labels](*shape)
    wanted = differentiated(plain.rank_net, scores.double(), grades)
    found = differentiated(pairwise.rank_net, scores, grades.float())
    assert found[0].item() == pytest.approx(wanted[0].item(), rel=1e-6)
    torch.testing.assert_close(found[1].double(), wanted[1], rtol=0, atol=2e-6 * float(wanted[1].abs().max()))


@pytest.mark.parametrize("n", [3, 200])
def test_gradients_by_differences(n: int) -> None:
    """The gradient of float64 against values alone."""
    torch.manual_seed(0)
    scores, labels = torch.randn(n).double(), torch.randint(5, (n,)).double()
    assert torch.autograd.gradcheck(lambda s: pairwise.cosent(s, labels), scores.requires_grad_())


def test_memory_is_that_of_the_scores() -> None:
    """The matrix of 65,536 pairs would take 17 GB."""
    torch.manual_seed(0)
    query, positive = torch.randn(1 << 16, 4).requires_grad_(), torch.randn(1 << 16, 4)
    value = losses.CoSENT()(query, positive, torch.randint(6, (1 << 16,)).float())
    value.backward()
    assert math.isfinite(value.item()) and torch.isfinite(query.grad).all() and (query.grad != 0).any()


def test_short_lists_take_the_plain_form() -> None:
    torch.manual_seed(1)
    scores, labels = torch.randn(40, 16), torch.randint(3, (40, 16)).float()
    assert torch.equal(pairwise.rank_net(scores, labels), plain.rank_net(scores, labels))
