"""Contrastive losses: every level against the reference, and the reference against plain definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tessella as ts
from tessella.contrast import contrast_backward, contrast_forward
from tessella.reference import contrast as reference
from tessella.testing import tolerance
from tests.kernels.cases import Array, same_bits

SIZES = [(1, 1, 1, 1), (7, 33, 2, 2), (31, 7, 65, 3), (33, 127, 12, 4), (127, 300, 100, 5), (300, 31, 64, 1)]


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


def close(got: Array, wanted: Array, what: str) -> None:
    """Within a few float32 roundings of the largest value; logits of 10 make e^10 of a rounding."""
    finite = np.isfinite(wanted)
    assert got.dtype == np.float32 and np.array_equal(np.isfinite(got), finite), what
    expected = wanted[finite]
    allowed = 4 * tolerance("float32") * np.abs(expected).max(initial=1e-30)
    off = np.abs(got[finite] - expected).max(initial=0.0)
    assert off <= allowed, f"{what}: off by {off / allowed:.2f} times what is allowed"


def assert_equals_reference(rng: np.random.Generator, given: dict[str, Array], **rules: Any) -> None:
    out = contrast_forward(**given, **rules)
    close(out, reference.contrast_forward(**given, **rules), "out")
    weights = rng.standard_normal(out.shape).astype(np.float32)
    found = contrast_backward(**given, out=out, out_gradient=weights, **rules)
    wanted = reference.contrast_backward(**given, out_gradient=weights, **rules)
    for name, got, expected in zip(wanted._fields, found, wanted, strict=True):
        if got is None:
            assert name == "column_scale" and given.get("column_scale") is None
        else:
            close(got, expected, name)


@pytest.mark.parametrize("reduce", ["logsumexp", "softplus"])
@pytest.mark.parametrize("size", SIZES)
def test_every_level_equals_the_reference(
    level: str, rng: np.random.Generator, size: tuple[int, ...], reduce: str
) -> None:
    given = drawn(rng, *size[:3])
    assert_equals_reference(rng, given, reduce=reduce)
    assert_equals_reference(rng, given | {"column_scale": None}, reduce=reduce)
    rules = every_rule(rng, *size)
    assert_equals_reference(rng, drawn(rng, *size[:3], len(rules["dims"])), reduce=reduce, **rules)


@pytest.mark.parametrize("rule", ["hardness", "row_bound", "ids", "groups", "guide"])
def test_each_rule_alone(level: str, rng: np.random.Generator, rule: str) -> None:
    rules = every_rule(rng, 40, 150, 24)
    given = drawn(rng, 40, 150, 24)
    assert_equals_reference(rng, given, **{rule: rules[rule]})
    if rule == "guide":
        assert np.isfinite(contrast_forward(**given, guide=rules["guide"])).all()


def test_pieces_of_the_work_do_not_depend_on_threads(level: str, rng: np.random.Generator) -> None:
    given = drawn(rng, 1100, 700, 20)
    outs = [contrast_forward(**given, threads=threads) for threads in (1, 2, 5)]
    weights = rng.standard_normal(outs[0].shape).astype(np.float32)
    found = [contrast_backward(**given, out=outs[0], out_gradient=weights, threads=threads) for threads in (1, 2, 5)]
    for out, gradients in zip(outs[1:], found[1:], strict=True):
        assert same_bits(out, outs[0])
        assert all(same_bits(a, b) for a, b in zip(gradients, found[0], strict=True))
    for got, wanted in zip(found[0], reference.contrast_backward(**given, out_gradient=weights), strict=True):
        close(got, wanted, "gradient")


def test_no_rows_and_no_columns_are_no_work(level: str, rng: np.random.Generator) -> None:
    some = drawn(rng, 3, 4, 5)
    no_rows = some | {"rows": some["rows"][:0], "row_scale": some["row_scale"][:, :0]}
    assert contrast_forward(**no_rows).shape == (1, 0)
    no_columns = some | {"columns": some["columns"][:0], "column_scale": some["column_scale"][:, :0]}
    out = contrast_forward(**no_columns)
    assert (out == -np.inf).all() and not contrast_forward(**no_columns, reduce="softplus").any()
    found = contrast_backward(**no_columns, out=out, out_gradient=np.ones_like(out))
    assert not found.rows.any() and found.columns.shape == (0, 5)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 500.0, 1e6])
def test_small_and_large_logits(level: str, rng: np.random.Generator, scale: float) -> None:
    """Far beyond what an exponential holds: only the largest logit is left, and nothing overflows."""
    given = drawn(rng, 33, 70, 16) | {"column_scale": None}
    given["row_scale"] = np.full((1, 33), scale, np.float32)
    out = contrast_forward(**given)
    close(out, reference.contrast_forward(**given), "out")
    found = contrast_backward(**given, out=out, out_gradient=np.ones_like(out))
    assert all(np.isfinite(x).all() for x in found[:3])


def test_a_row_that_has_nothing_left(level: str, rng: np.random.Generator) -> None:
    given = drawn(rng, 9, 140, 8)
    ids = [(np.array([5] + [1] * 8), np.full(140, 5))]
    out = contrast_forward(**given, ids=ids)
    assert out[0, 0] == -np.inf and np.isfinite(out[0, 1:]).all()
    found = contrast_backward(**given, out=out, out_gradient=np.ones_like(out), ids=ids)
    assert not found.rows[0].any() and not found.row_scale[0, 0] and all(np.isfinite(x).all() for x in found)


def test_what_does_not_count_has_no_gradient_at_all(level: str, rng: np.random.Generator) -> None:
    given = drawn(rng, 20, 30, 8)
    column_ids = np.arange(30)
    column_ids[7:12] = 100
    ids = [(np.full(20, 100), column_ids)]
    out = contrast_forward(**given, ids=ids)
    found = contrast_backward(**given, out=out, out_gradient=np.ones_like(out), ids=ids)
    assert not found.columns[7:12].any() and found.columns[:7].all()


def test_prefixes_are_calls_of_their_own(level: str, rng: np.random.Generator) -> None:
    dims = (8, 24, 25, 60)
    given = drawn(rng, 50, 140, 60, len(dims))
    out = contrast_forward(**given, dims=dims)
    weights = rng.standard_normal(out.shape).astype(np.float32)
    found = contrast_backward(**given, out=out, out_gradient=weights, dims=dims)
    rows = np.zeros_like(given["rows"])
    for p, dim in enumerate(dims):
        one: dict[str, Array] = {
            "rows": given["rows"][:, :dim], "columns": given["columns"][:, :dim],
            "row_scale": given["row_scale"][p : p + 1], "column_scale": given["column_scale"][p : p + 1],
        }  # fmt: skip
        close(out[p : p + 1], contrast_forward(**one).astype(np.float64), "out")
        part = contrast_backward(**one, out=out[p : p + 1], out_gradient=weights[p : p + 1])
        rows[:, :dim] += part.rows
        close(found.row_scale[p], part.row_scale[0].astype(np.float64), "row_scale")
    close(found.rows, rows.astype(np.float64), "rows")


def test_dimensions_behind_the_last_prefix_have_no_part(level: str, rng: np.random.Generator) -> None:
    given = drawn(rng, 5, 6, 40)
    out = contrast_forward(**given, dims=(24,))
    found = contrast_backward(**given, out=out, out_gradient=np.ones_like(out), dims=(24,))
    assert found.rows[:, :24].all() and not found.rows[:, 24:].any() and not found.columns[:, 24:].any()
    cut = given | {"rows": given["rows"][:, :24], "columns": given["columns"][:, :24]}
    assert same_bits(out, contrast_forward(**cut))


def test_infonce_is_cross_entropy(level: str, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch", reason="torch is an extra")
    n, d, temperature = 130, 48, 0.05
    q, k = (torch.nn.functional.normalize(torch.tensor(rng.standard_normal((n, d))), dim=1) for _ in range(2))
    q, k = q.requires_grad_(), k.requires_grad_()
    loss = torch.nn.functional.cross_entropy(q @ k.T / temperature, torch.arange(n), reduction="sum")
    loss.backward()
    x, y = (t.detach().numpy().astype(np.float32) for t in (q, k))
    scale = np.full((1, n), 1 / temperature, np.float32)
    out = contrast_forward(x, y, scale)
    positive = (x * y).sum(1) / temperature
    assert float((out[0] - positive).sum()) == pytest.approx(loss.item(), rel=1e-5)
    found = contrast_backward(x, y, scale, out=out, out_gradient=np.ones_like(out))
    np.testing.assert_allclose(found.rows - y / np.float32(temperature), q.grad.numpy(), atol=1e-5 / temperature)
    np.testing.assert_allclose(found.columns - x / np.float32(temperature), k.grad.numpy(), atol=1e-5 / temperature)


def test_pairwise_losses_are_products_of_two_dimensions(level: str, rng: np.random.Generator) -> None:
    """CoSENT and RankNet over all pairs in order, as the contract's table says."""
    scores, labels, temperature = rng.standard_normal(60), rng.integers(0, 4, 60), 0.5
    x = np.stack([-scores, np.ones(60)], 1).astype(np.float32)
    y = np.stack([np.ones(60), scores], 1).astype(np.float32)
    scale = np.full((1, 60), 1 / temperature, np.float32)
    order = labels[:, None].astype(np.float32)
    guide = (np.ones((60, 1), np.float32), order, order[:, 0] - np.float32(0.5))  # counts where label_j < label_i
    pairs = labels[:, None] > labels[None, :]
    logits = (scores[None, :] - scores[:, None]) / temperature
    out = contrast_forward(x, y, scale, guide=guide)[0].astype(np.float64)
    top = out.max()
    cosent = np.logaddexp(0.0, top + np.log(np.exp(out - top).sum()))
    assert cosent == pytest.approx(np.log1p(np.exp(logits[pairs]).sum()), rel=1e-5)
    ranknet = contrast_forward(x, y, scale, guide=guide, reduce="softplus").sum()
    assert ranknet == pytest.approx(np.logaddexp(0.0, logits[pairs]).sum(), rel=1e-5)


@pytest.mark.parametrize("kind", ["float16", "float64", "torch", "bfloat16"])
def test_inputs_of_any_kind(rng: np.random.Generator, kind: str) -> None:
    given: dict[str, Any] = drawn(rng, 6, 9, 4)
    given["rows"], given["columns"] = (np.round(given[name] * 8) / 8 for name in ("rows", "columns"))
    plain = contrast_forward(**given, ids=[(np.arange(6), np.arange(9))])
    own: tuple[Any, Any] = (np.arange(6), np.arange(9))
    if kind in ("torch", "bfloat16"):
        torch = pytest.importorskip("torch", reason="torch is an extra")
        given |= {name: torch.tensor(given[name]) for name in ("rows", "columns")}
        own = (torch.arange(6), torch.arange(9))
    for name in ("rows", "columns"):
        given[name] = given[name].bfloat16() if kind == "bfloat16" else given[name]
        given[name] = given[name].astype(kind) if kind.startswith("float") else given[name]
    got = contrast_forward(**given, ids=[own])
    assert type(got) is type(given["rows"]) and same_bits(np.asarray(got), plain)


def test_ids_may_be_large(rng: np.random.Generator) -> None:
    given = drawn(rng, 4, 5, 3)
    small = [(np.array([0, 1, 2, -1]), np.array([2, 1, 0, -1, 3]))]
    far = [tuple(np.where(each < 0, -7 - each, each + (1 << 60)) for each in small[0])]
    assert same_bits(contrast_forward(**given, ids=small), contrast_forward(**given, ids=far))


def test_mistakes_get_a_sentence(rng: np.random.Generator) -> None:
    given = drawn(rng, 4, 5, 3)
    four, five = np.arange(4), np.arange(5)
    mistakes: list[tuple[dict[str, Any], str]] = [
        ({"columns": given["columns"][:, :2]}, r"expected columns of shape \(n, 3\); got \(5, 2\)"),
        ({"row_scale": given["row_scale"][0]}, r"expected row_scale of two dimensions; got \(4,\)"),
        ({"row_scale": given["row_scale"][:, :3]}, r"expected row_scale of shape \(1, 4\); got \(1, 3\)"),
        ({"column_scale": np.ones((1, 4))}, r"expected column_scale of shape \(1, 5\); got \(1, 4\)"),
        ({"dims": (4,)}, r"expected dims ascending, from 1 to 3; got 4"),
        ({"dims": (2, 2)}, r"expected dims ascending, from 1 to 3; got 2"),
        ({"dims": ()}, r"expected 1 to 16 dims"),
        ({"ids": [(five, five)]}, r"expected row_ids of shape \(1, 4\); got \(1, 5\)"),
        ({"ids": [(four, five)] * 9}, r"expected at most 8 masks of ids; got 9"),
        ({"groups": (four, four)}, r"expected column_groups of shape \(5,\); got \(4,\)"),
        ({"hardness": np.ones(3)}, r"expected hardness of shape \(4,\); got \(3,\)"),
        ({"guide": (np.ones((4, 2)), np.ones((5, 3)), np.ones(4))}, r"expected guide_columns of shape \(5, 2\)"),
        ({"reduce": "mean"}, r"expected reduce of 'logsumexp' or 'softplus'; got 'mean'"),
        ({"threads": 0}, r"contrast: expected threads >= 1; got 0"),
    ]
    for wrong, message in mistakes:
        with pytest.raises(ts.TessellaError, match=message):
            contrast_forward(**{**given, **wrong})
    with pytest.raises(ts.UnsupportedType, match="expected ids of an integer type"):
        contrast_forward(**given, ids=[(np.ones(4), five)])
    with pytest.raises(ts.InvalidArgument, match=r"expected out of shape \(1, 4\); got \(1, 3\)"):
        contrast_backward(**given, out=np.ones((1, 3)), out_gradient=np.ones((1, 4)))
