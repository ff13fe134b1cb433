"""Contrastive losses: log-sum-exp, or sum of softplus, of the products of rows with many columns.

    l_ij = row_scale_i * column_scale_j * <x_i, y_j>, over the first dims[p] dimensions, for each p
    out_i = log sum over counted j of exp(l_ij + hardness_i * stopped(l_ij))
    out_i = sum over counted j of log(1 + exp(l_ij + hardness_i * stopped(l_ij)))      reduce="softplus"

`stopped` is a constant to the gradient, and so is which pairs count. Here the matrix of products exists, in float64;
in the kernels it does not. `tessella.contrast` takes the same arguments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]
Bits = npt.NDArray[np.bool_]


class Gradients(NamedTuple):
    """Of rows (n, d), columns (c, d), row_scale (p, n) and column_scale (p, c)."""

    rows: Doubles
    columns: Doubles
    row_scale: Doubles
    column_scale: Doubles


class _Prefix(NamedTuple):
    """One prefix of the dimensions: products, logits, values under the sum (n, c), and which of them count."""

    dim: int
    products: Doubles
    logits: Doubles
    values: Doubles
    counted: Bits


def contrast_forward(
    rows: Array, columns: Array, row_scale: Array, column_scale: Array | None = None, **rules: Any
) -> Doubles:
    """out (p, n) of rows (n, d), columns (c, d), row_scale (p, n) and column_scale (p, c); rules as in `_prefixes`."""
    softplus = rules.pop("reduce", "logsumexp") == "softplus"
    parts = _prefixes(rows, columns, row_scale, column_scale, **rules)
    return np.stack([(_softplus if softplus else _logsumexp)(part.values, part.counted) for part in parts])


def contrast_backward(
    rows: Array,
    columns: Array,
    row_scale: Array,
    column_scale: Array | None = None,
    *,
    out_gradient: Array,
    **rules: Any,
) -> Gradients:
    """Gradients of the sum of out * out_gradient (p, n)."""
    softplus = rules.pop("reduce", "logsumexp") == "softplus"
    x, y = rows.astype(np.float64), columns.astype(np.float64)
    a = row_scale.astype(np.float64)
    b = np.ones((len(a), len(y))) if column_scale is None else column_scale.astype(np.float64)
    found = Gradients(np.zeros_like(x), np.zeros_like(y), np.zeros_like(a), np.zeros_like(b))
    for p, part in enumerate(_prefixes(rows, columns, row_scale, column_scale, **rules)):
        share = _sigmoid(part.values) if softplus else _softmax(part.values, part.counted)
        slope = np.where(part.counted, share, 0.0) * out_gradient[p].astype(np.float64)[:, None]  # d / d logit
        weight = slope * a[p][:, None] * b[p]
        found.rows[:, : part.dim] += weight @ y[:, : part.dim]
        found.columns[:, : part.dim] += weight.T @ x[:, : part.dim]
        found.row_scale[p] = (slope * part.products * b[p]).sum(axis=1)
        found.column_scale[p] = (slope * part.products * a[p][:, None]).sum(axis=0)
    return found


def _prefixes(
    rows: Array,
    columns: Array,
    row_scale: Array,
    column_scale: Array | None,
    *,
    dims: Sequence[int] | None = None,
    hardness: Array | None = None,
    row_bound: Array | None = None,
    ids: Sequence[tuple[Array, Array]] = (),
    groups: tuple[Array, Array] | None = None,
    guide: tuple[Array, Array, Array] | None = None,
) -> Iterator[_Prefix]:
    """dims (p) ascending, None: (d,). hardness (n). row_bound (p, n): pairs with a larger logit do not count.

    ids: pairs of ids (n) and (c); a pair (i, j) with the same id >= 0 does not count. groups (n) and (c): only pairs of
    one group count. guide (n, g), (c, g) and a bound (n): pairs with a larger guide's product do not count.
    """
    x, y = rows.astype(np.float64), columns.astype(np.float64)
    counted = np.ones((len(x), len(y)), np.bool_)
    for of_rows, of_columns in ids:
        counted &= (of_rows[:, None] != of_columns) | (of_rows < 0)[:, None]
    if groups is not None:
        counted &= groups[0][:, None] == groups[1]
    if guide is not None:
        counted &= ~(guide[0].astype(np.float64) @ guide[1].T.astype(np.float64) > guide[2][:, None])
    for p, dim in enumerate(dims or (x.shape[1],)):
        products = x[:, :dim] @ y[:, :dim].T
        logits = products * row_scale[p].astype(np.float64)[:, None]
        if column_scale is not None:
            logits = logits * column_scale[p].astype(np.float64)
        below = np.ones_like(counted) if row_bound is None else ~(logits > row_bound[p][:, None])
        values = logits if hardness is None else logits * (1 + hardness.astype(np.float64))[:, None]
        yield _Prefix(dim, products, logits, values, counted & below)


def _logsumexp(values: Doubles, counted: Bits) -> Doubles:
    """Row by row; -inf where nothing counts."""
    inside = np.where(counted, values, -np.inf)
    top = inside.max(axis=1, initial=-np.inf)
    shift = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.asarray(shift + np.log(np.exp(inside - shift[:, None]).sum(axis=1)))


def _softplus(values: Doubles, counted: Bits) -> Doubles:
    return np.asarray(np.where(counted, np.logaddexp(0.0, values), 0.0).sum(axis=1))


def _softmax(values: Doubles, counted: Bits) -> Doubles:
    total = _logsumexp(values, counted)
    shift = np.where(np.isfinite(total), total, 0.0)
    return np.asarray(np.exp(np.where(counted, values, -np.inf) - shift[:, None]))


def _sigmoid(values: Doubles) -> Doubles:
    return np.asarray(np.exp(-np.logaddexp(0.0, -values)))
