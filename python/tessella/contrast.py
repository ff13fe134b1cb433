"""Contrastive losses over batches whose matrix of scores would not fit: log-sum-exp of products, and its gradient.

    l_ij = row_scale_i * column_scale_j * <x_i, y_j>, over the first dims[p] dimensions, for each p
    out_i = log sum over counted j of exp(l_ij + hardness_i * stopped(l_ij))
    out_i = sum over counted j of log(1 + exp(l_ij + hardness_i * stopped(l_ij)))      reduce="softplus"

`stopped` is a constant to the gradient, and so is which pairs count. The losses of `tessella.train.losses` are made of
these two functions; `tessella.reference.contrast` says the same in plain NumPy.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tessella import _core
from tessella._arrays import as_float32, as_rows, is_torch, like_input
from tessella._backend import resolve_threads, whole_number
from tessella.errors import InvalidArgument, UnsupportedType

__all__ = ["ContrastGradients", "contrast_backward", "contrast_forward"]

Array = npt.NDArray[Any]
_INT32 = np.iinfo(np.int32)


class ContrastGradients(NamedTuple):
    """Of rows (n, d), columns (c, d), row_scale (p, n) and column_scale (p, c), None where that was not given."""

    rows: Any
    columns: Any
    row_scale: Any
    column_scale: Any


def contrast_forward(
    rows: Any,
    columns: Any,
    row_scale: Any,
    column_scale: Any = None,
    *,
    dims: Sequence[int] | None = None,
    hardness: Any = None,
    row_bound: Any = None,
    ids: Sequence[tuple[Any, Any]] = (),
    groups: tuple[Any, Any] | None = None,
    guide: tuple[Any, Any, Any] | None = None,
    reduce: str = "logsumexp",
    threads: int | None = None,
) -> Any:
    """For each row, the log-sum-exp of its logits with the columns that count.

    Args:
        rows: x (n, d), columns: y (c, d); float32, float16 or bfloat16, NumPy or torch. In CUDA memory everything is
            float32 on one device, ids and groups are whole numbers there, and `threads` says nothing.
        row_scale: (p, n), column_scale: (p, c) or None for 1. A cosine over temperature is row_scale = 1 / (temperature
            * |x|), column_scale = 1 / |y|, with the lengths of the prefix.
        dims: p ascending prefix lengths (Matryoshka); None: (d,). All cost one product, and p exponentials a pair.
        hardness: (n). alpha * temperature for weights exp(alpha * cosine) of negatives (LLaVE).
        row_bound: (p, n). Pairs whose logit is larger do not count (false negatives by the model's own scores).
        ids: up to 8 pairs of whole numbers (n) and (c): a pair with the same number >= 0 on both sides does not count.
        groups: whole numbers (n) and (c): only pairs of one group count.
        guide: (n, g), (c, g) and a bound (n): pairs whose product is larger do not count (GISTEmbed).
        reduce: "logsumexp", or "softplus" for pairwise losses.

    Returns:
        (p, n) float32, in the kind of `rows`; -inf (softplus: 0) for a row without pairs.

    Cost: n * c * d multiply-adds; memory for 1,024 rows at a time, never (n, c).

    >>> import numpy as np
    >>> from tessella.contrast import contrast_forward
    >>> q, d = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)
    >>> contrast_forward(q, d, np.full((1, 3), 20, np.float32)).astype(float).round(4).tolist()
    [[20.0, 20.0, 20.0]]
    >>> own = np.arange(3)
    >>> contrast_forward(q, d, np.full((1, 3), 20, np.float32), ids=[(own, own)]).astype(float).round(4).tolist()
    [[0.6931, 0.6931, 0.6931]]
    """
    if _on_cuda(rows):
        from tessella import _cuda_contrast

        return _cuda_contrast.contrast_forward(
            rows, columns, row_scale, column_scale, dims=dims, hardness=hardness, row_bound=row_bound, reduce=reduce,
            ids=[_cuda_ranks(*each) for each in ids], groups=groups and _cuda_ranks(*groups), guide=guide,
        )  # fmt: skip
    given = _Given(rows, columns, row_scale, column_scale, dims, hardness, row_bound, ids, groups, guide)
    return like_input(_core.contrast_forward(**given.arrays, reduce=reduce, threads=_threads(threads)), rows)


def contrast_backward(
    rows: Any,
    columns: Any,
    row_scale: Any,
    column_scale: Any = None,
    *,
    out: Any,
    out_gradient: Any,
    dims: Sequence[int] | None = None,
    hardness: Any = None,
    row_bound: Any = None,
    ids: Sequence[tuple[Any, Any]] = (),
    groups: tuple[Any, Any] | None = None,
    guide: tuple[Any, Any, Any] | None = None,
    reduce: str = "logsumexp",
    threads: int | None = None,
) -> ContrastGradients:
    """Gradients of the sum of out * out_gradient, of which `out` (p, n) is what `contrast_forward` returned.

    The other arguments are the same as there. Products are computed again: 3 * n * c * d multiply-adds. The result has
    the same bits whatever `threads` is.

    >>> import numpy as np
    >>> from tessella.contrast import contrast_backward, contrast_forward
    >>> x, scale = np.eye(2, dtype=np.float32), np.ones((1, 2), np.float32)
    >>> out = contrast_forward(x, x, scale)
    >>> contrast_backward(x, x, scale, out=out, out_gradient=np.ones_like(out)).rows.astype(float).round(4).tolist()
    [[0.7311, 0.2689], [0.2689, 0.7311]]
    """
    if _on_cuda(rows):
        from tessella import _cuda_contrast

        tensors = _cuda_contrast.contrast_backward(
            rows, columns, row_scale, column_scale, out=out, out_gradient=out_gradient, dims=dims, hardness=hardness,
            row_bound=row_bound, reduce=reduce, ids=[_cuda_ranks(*each) for each in ids],
            groups=groups and _cuda_ranks(*groups), guide=guide,
        )  # fmt: skip
        return ContrastGradients(*tensors)
    given = _Given(rows, columns, row_scale, column_scale, dims, hardness, row_bound, ids, groups, guide)
    found = _core.contrast_backward(
        **given.arrays, reduce=reduce, threads=_threads(threads),
        out=_floats(out, "out", 2), out_gradient=_floats(out_gradient, "out_gradient", 2),
    )  # fmt: skip
    return ContrastGradients(*(None if each is None else like_input(each, rows) for each in found))


class _Given:
    """Arguments as arrays that the kernels read; shapes are checked behind the door, where all are known."""

    def __init__(
        self, rows: Any, columns: Any, row_scale: Any, column_scale: Any, dims: Sequence[int] | None, hardness: Any,
        row_bound: Any, ids: Sequence[tuple[Any, Any]], groups: tuple[Any, Any] | None,
        guide: tuple[Any, Any, Any] | None,
    ) -> None:  # fmt: skip
        self.arrays: dict[str, Any] = {
            "rows": _floats(rows, "rows", 2),
            "columns": _floats(columns, "columns", 2),
            "row_scale": _floats(row_scale, "row_scale", 2),
            "column_scale": _optional(column_scale, "column_scale", 2),
            "hardness": _optional(hardness, "hardness", 1),
            "row_bound": _optional(row_bound, "row_bound", 2),
        }
        lengths = (self.arrays["rows"].shape[1],) if dims is None else dims
        self.arrays["dims"] = np.array([whole_number(m, 1, "dims", "contrast") for m in lengths], np.uint32)
        if ids:
            masks = [_ranks(of_rows, of_columns, "ids") for of_rows, of_columns in ids]
            self.arrays["row_ids"] = _stacked([mask[0] for mask in masks], "row_ids")
            self.arrays["column_ids"] = _stacked([mask[1] for mask in masks], "column_ids")
        if groups is not None:
            self.arrays["row_groups"], self.arrays["column_groups"] = _ranks(*groups, "groups")
        if guide is not None:
            self.arrays["guide_rows"] = _floats(guide[0], "guide_rows", 2)
            self.arrays["guide_columns"] = _floats(guide[1], "guide_columns", 2)
            self.arrays["guide_bound"] = _floats(guide[2], "guide_bound", 1)


def _on_cuda(x: Any) -> bool:
    return is_torch(x) and x.device.type == "cuda"


def _cuda_ranks(of_rows: Any, of_columns: Any) -> tuple[Any, Any]:
    """Both sides as int32 tensors where they are, numbered anew. Below 0 is -1."""
    torch = sys.modules["torch"]
    both = torch.cat([of_rows, of_columns])
    ranks = torch.where(both < 0, -1, torch.unique(both, return_inverse=True)[1]).to(torch.int32)
    return ranks[: len(of_rows)], ranks[len(of_rows) :]


def _threads(threads: int | None) -> int:
    return resolve_threads(threads, "contrast")


def _floats(x: Any, name: str, ndim: int) -> npt.NDArray[np.float32]:
    shape = tuple(getattr(x, "shape", np.shape(x)))
    if len(shape) != ndim:
        wanted = "one dimension" if ndim == 1 else "two dimensions"
        raise InvalidArgument(f"contrast: expected {name} of {wanted}; got {shape}")
    if shape[-1] == 0:
        return np.zeros(shape, np.float32)  # no rows or no columns, which rows of a matrix always have
    taken = as_rows(x, name, "contrast", dtypes=("f32", "f16", "bf16"))
    return as_float32(taken.array, taken.kind).reshape(shape)


def _optional(x: Any, name: str, ndim: int) -> npt.NDArray[np.float32] | None:
    return None if x is None else _floats(x, name, ndim)


def _whole(x: Any, name: str) -> Array:
    array = np.asarray(x.detach().cpu() if is_torch(x) else x)
    if array.dtype.kind not in "iu":
        raise UnsupportedType(f"contrast: expected {name} of an integer type; got {array.dtype}")
    if array.ndim != 1:
        raise InvalidArgument(f"contrast: expected {name} of one dimension; got {array.shape}")
    return array


def _ranks(of_rows: Any, of_columns: Any, name: str) -> tuple[Array, Array]:
    """Both sides as int32: as they are, or numbered anew where they need more bits. Below 0 is -1."""
    left, right = _whole(of_rows, name), _whole(of_columns, name)
    both = np.concatenate([left, right])
    if both.dtype != np.int32 and both.size and int(both.max()) > _INT32.max:
        missing = both < 0
        both = np.where(missing, -1, np.unique(both, return_inverse=True)[1])
    both = np.maximum(both.astype(np.int64), -1).astype(np.int32)
    return both[: len(left)], both[len(left) :]


def _stacked(masks: list[Array], name: str) -> Array:
    lengths = {len(mask) for mask in masks}
    if len(lengths) > 1:
        raise InvalidArgument(f"contrast: expected {name} of one length; got {sorted(lengths)}")
    return np.stack(masks)
