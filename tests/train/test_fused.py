"""InfoNCE over the kernels against the plain composition in float64: every rule, values and gradients."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra `train`")

from tessella.train import fused, plain  # noqa: E402
from tessella.train.losses import InfoNCE, Temperature  # noqa: E402

N, K, D = 33, 3, 20
RULES: list[dict[str, Any]] = [
    {},
    {"blocks": ("qd", "qq", "dd", "dq"), "symmetric": True},
    {"hardness": 9.0, "margin": 0.1},
    {"hardness": 5.0, "hardness_on": "mined", "focal": 0.5},
    {"dims": (20, 7, 3), "weights": (1.0, 0.5, 0.25), "margin": 0.05, "blocks": ("qd", "qq")},
    {"own_negatives": True, "blocks": ()},
    {"normalized": False, "dims": (8, 20)},
    {"guide_margin": 0.1, "guide_relative": True, "blocks": ("qd", "qq", "dd")},
]


def triple(*, d: int = D) -> list[Any]:
    query = torch.randn(N, d)
    return [query, query + torch.randn(N, d), query[:, None] + torch.randn(N, K, d)]


def found(rules: dict[str, Any], mined: bool, double: bool) -> list[Any]:
    """Loss and gradients, by the kernels, or by the definition in float64."""
    torch.manual_seed(0)
    embeddings, guide = triple(), triple(d=5)
    ids = plain.Ids(torch.arange(N) % 30, torch.arange(N) % 31, torch.randint(-1, 40, (N, K)))
    if not mined:
        embeddings, guide, ids = embeddings[:2], guide[:2], ids._replace(negative=None)
    temperature = Temperature(0.1)
    if double:
        embeddings, guide = ([each.double() for each in part] for part in (embeddings, guide))
        temperature = temperature.double()
    leaves = [each.requires_grad_() for each in embeddings]
    contrast = plain.Contrast(**rules)
    call = plain.info_nce if double else fused.info_nce
    guided = plain.Triple(*guide) if "guide_margin" in rules else None
    weight = torch.linspace(0.5, 1.5, N, dtype=leaves[0].dtype)
    loss = call(plain.Triple(*leaves), temperature(), contrast, ids, guided, weight)
    return [loss.detach(), *torch.autograd.grad(loss, [*leaves, temperature.log_scale])]


@pytest.mark.parametrize("mined", [True, False])
@pytest.mark.parametrize("rules", RULES, ids=str)
def test_equals_the_definition(rules: dict[str, Any], mined: bool) -> None:
    if rules.get("blocks") == () and not mined:
        rules = {**rules, "blocks": ("qd",)}
    for ours, theirs in zip(found(rules, mined, False), found(rules, mined, True), strict=True):
        # the temperature's gradient is a small difference of large sums
        assert torch.allclose(ours.double(), theirs, rtol=0, atol=1e-5 * theirs.abs().max().item() + 1e-6)


@pytest.mark.parametrize("noise", [0.3, 1.0])
def test_gradients_keep_their_digits_where_the_positive_is_nearly_certain(noise: float) -> None:
    """One less the positive's probability would leave a few digits of the gradient."""
    torch.manual_seed(0)
    query = torch.randn(300, 64)
    leaves = [query, query + noise * torch.randn(300, 64)]
    gradients = []
    for call, kind in ((fused.info_nce, torch.float32), (plain.info_nce, torch.float64)):
        sides = [each.to(kind).requires_grad_() for each in leaves]
        loss = call(plain.Triple(*sides), 20.0, plain.Contrast(), plain.Ids())
        gradients.append(torch.autograd.grad(loss, sides))
    for ours, theirs in zip(*gradients, strict=True):
        assert (ours.double() - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def test_rows_without_negatives_have_no_loss_and_no_gradient() -> None:
    query = torch.randn(4, 8, requires_grad=True)
    ids = plain.Ids(positive=torch.zeros(4, dtype=torch.int64))
    loss = fused.info_nce(plain.Triple(query, torch.randn(4, 8)), 20.0, plain.Contrast(), ids)
    (gradient,) = torch.autograd.grad(loss, query)
    assert loss.item() == 0.0 and (gradient == 0).all()


def test_which_losses_go_to_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Float32 on the CPU at some size does; float64, small batches and the squared form do not."""
    calls: list[int] = []
    real = fused.contrast_forward

    def counted(*given: Any, **named: Any) -> Any:
        calls.append(1)
        return real(*given, **named)

    monkeypatch.setattr(fused, "contrast_forward", counted)
    x = torch.randn(128, 8)
    InfoNCE()(x, x)
    assert len(calls) == 1
    InfoNCE()(x.double(), x.double())
    InfoNCE()(x[:9], x[:9])
    InfoNCE(squared=0.1)(x, x)
    assert len(calls) == 1
