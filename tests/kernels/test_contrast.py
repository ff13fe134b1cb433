"""Contrastive losses: every level against the reference, and the reference against plain definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tessella.reference import contrast as reference
from tests.kernels.cases import Array


def drawn(rng: np.random.Generator, n: int, c: int, d: int, p: int = 1) -> dict[str, Array]:
    """Rows, columns and scales such that logits are of order 1 to 10."""
    return {
        "rows": rng.standard_normal((n, d)).astype(np.float32),
        "columns": rng.standard_normal((c, d)).astype(np.float32),
        "row_scale": rng.uniform(0.5, 3.0, (p, n)).astype(np.float32) / np.float32(np.sqrt(d)),
        "column_scale": rng.uniform(0.5, 1.5, (p, c)).astype(np.float32),
    }


def every_rule(rng: np.random.Generator, n: int, c: int, d: int, p: int = 1) -> dict[str, Any]:
    """Each rule at once; about half of the pairs count."""
    dims = sorted({max(1, d * (i + 1) // p) for i in range(p)})
    return {
        "dims": dims,
        "hardness": rng.uniform(0.0, 0.5, n).astype(np.float32),
        "row_bound": rng.uniform(1.0, 2.0, (len(dims), n)).astype(np.float32),
        "ids": [(rng.integers(-1, 9, n), rng.integers(-1, 9, c)), (np.arange(n), np.arange(c))],
        "groups": (rng.integers(0, 2, n), rng.integers(0, 2, c)),
        "guide": (
            rng.standard_normal((n, 3)).astype(np.float32),
            rng.standard_normal((c, 3)).astype(np.float32),
            rng.uniform(0.5, 1.5, n).astype(np.float32),
        ),
    }


@pytest.mark.parametrize("reduce", ["logsumexp", "softplus"])
@pytest.mark.parametrize("ruled", [False, True])
def test_the_reference_is_what_torch_differentiates(rng: np.random.Generator, reduce: str, ruled: bool) -> None:
    torch = pytest.importorskip("torch", reason="torch is an extra")
    n, c, d, p = 7, 9, 12, 3 if ruled else 1
    given = drawn(rng, n, c, d, p)
    rules = every_rule(rng, n, c, d, p) if ruled else {}
    leaves = {name: torch.tensor(x, dtype=torch.float64, requires_grad=True) for name, x in given.items()}
    outs = []
    for i, dim in enumerate(rules.get("dims", [d])):
        products = leaves["rows"][:, :dim] @ leaves["columns"][:, :dim].T
        logits = products * leaves["row_scale"][i][:, None] * leaves["column_scale"][i]
        counted = torch.ones(n, c, dtype=torch.bool)
        values = logits
        if ruled:
            for of_rows, of_columns in rules["ids"]:
                counted &= torch.tensor((of_rows[:, None] != of_columns[None]) | (of_rows[:, None] < 0))
            counted &= torch.tensor(rules["groups"][0][:, None] == rules["groups"][1][None])
            left, right, bound = (torch.tensor(x, dtype=torch.float64) for x in rules["guide"])
            counted &= ~(left @ right.T > bound[:, None])
            counted &= ~(logits.detach() > torch.tensor(rules["row_bound"][i], dtype=torch.float64)[:, None])
            values = logits + torch.tensor(rules["hardness"], dtype=torch.float64)[:, None] * logits.detach()
        if reduce == "softplus":
            outs.append((torch.nn.functional.softplus(values) * counted).sum(1))
        else:
            outs.append(torch.logsumexp(values.masked_fill(~counted, -torch.inf), 1))
    out = torch.stack(outs)
    np.testing.assert_allclose(
        reference.contrast_forward(**given, reduce=reduce, **rules), out.detach().numpy(), rtol=1e-12
    )
    alive = torch.isfinite(out.detach())
    assert int(alive.sum()) > 0
    weights = torch.tensor(rng.standard_normal(out.shape))
    (torch.where(alive, out, 0.0) * torch.where(alive, weights, 0.0)).sum().backward()
    found = reference.contrast_backward(**given, out_gradient=weights.numpy(), reduce=reduce, **rules)
    for name, gradient in zip(given, found, strict=True):
        wanted = torch.nan_to_num(leaves[name].grad).numpy()
        np.testing.assert_allclose(gradient, wanted, rtol=1e-9, atol=1e-12, err_msg=name)


def test_a_row_without_pairs_is_minus_infinity_and_has_no_gradient(rng: np.random.Generator) -> None:
    given = drawn(rng, 4, 5, 3)
    ids = [(np.array([7, 1, 2, 3]), np.full(5, 7))]
    out = reference.contrast_forward(**given, ids=ids)
    assert out[0, 0] == -np.inf and np.isfinite(out[0, 1:]).all()
    found = reference.contrast_backward(**given, out_gradient=np.ones((1, 4)), ids=ids)
    assert all(np.isfinite(x).all() for x in found)
    assert not found.rows[0].any() and found.rows[1:].all()
