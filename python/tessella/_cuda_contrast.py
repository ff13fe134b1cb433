"""Contrastive sums of torch tensors in CUDA memory: check, allocate, enqueue on torch's current stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tessella._cuda_tensors import Tensors, check, cuda_module


def contrast_forward(rows: Any, columns: Any, row_scale: Any, column_scale: Any = None, **rules: Any) -> Any:
    """out (p, n), as tessella.contrast.contrast_forward has it; everything float32, or int32, on one device."""
    job = _Job(rows, columns, row_scale, column_scale, **rules)
    module = cuda_module("contrast")
    out = job.tensors.empty("float32", job.p, job.n)
    where = job.tensors.where()
    scratch = job.tensors.empty("uint8", module.contrast_forward_scratch(job.given, device=where["device"]))
    module.contrast_forward(job.given, out=out.data_ptr(), scratch=scratch.data_ptr(), **where)
    return out


def contrast_backward(
    rows: Any, columns: Any, row_scale: Any, column_scale: Any = None, *, out: Any, out_gradient: Any, **rules: Any
) -> tuple[Any, Any, Any, Any]:
    """Gradients of rows, columns, row_scale and column_scale (or None), as tessella.contrast.contrast_backward."""
    job = _Job(rows, columns, row_scale, column_scale, **rules)
    out = job.tensors.take("out", out, "float32", job.p, job.n)
    out_gradient = job.tensors.take("out_gradient", out_gradient, "float32", job.p, job.n)
    found = [job.tensors.empty("float32", *shape).zero_() for shape in ((job.n, job.d), (job.c, job.d), (job.p, job.n))]
    found.append(None if column_scale is None else job.tensors.empty("float32", job.p, job.c).zero_())
    row_gradient, column_gradient, row_scales, column_scales = (
        0 if each is None else each.data_ptr() for each in found
    )
    cuda_module("contrast").contrast_backward(
        job.given, out=out.data_ptr(), out_gradient=out_gradient.data_ptr(), row_gradient=row_gradient,
        column_gradient=column_gradient, row_scale_gradient=row_scales, column_scale_gradient=column_scales,
        **job.tensors.where(),
    )  # fmt: skip
    return found[0], found[1], found[2], found[3]


class _Job:
    """Checked tensors, which it keeps alive, and their addresses as the module wants them."""

    def __init__(
        self, rows: Any, columns: Any, row_scale: Any, column_scale: Any = None, *, dims: Sequence[int] | None = None,
        hardness: Any = None, row_bound: Any = None, ids: Sequence[tuple[Any, Any]] = (),
        groups: tuple[Any, Any] | None = None, guide: tuple[Any, Any, Any] | None = None, reduce: str = "logsumexp",
    ) -> None:  # fmt: skip
        self.tensors = Tensors("contrast")
        rows = self.tensors.take("rows", rows, "float32", "n", "d")
        self.n, self.d = rows.shape
        columns = self.tensors.take("columns", columns, "float32", "c", self.d)
        self.c, lengths = len(columns), [self.d] if dims is None else [int(m) for m in dims]
        self.p = len(lengths)
        rising = all(a < b for a, b in zip([0, *lengths], [*lengths, self.d + 1], strict=True))
        check(1 <= self.p <= 16 and rising, f"contrast: expected dims ascending, from 1 to {self.d}; got {lengths}")
        check(len(ids) <= 8, f"contrast: expected at most 8 masks of ids; got {len(ids)}")
        names = ("logsumexp", "softplus")
        check(reduce in names, f"contrast: expected reduce of 'logsumexp' or 'softplus'; got {reduce!r}")
        row_ids, column_ids = self._ids(ids)
        row_groups, column_groups = groups or (None, None)
        guide_rows, guide_columns, guide_bound = guide or (None, None, None)
        width = 0 if guide_rows is None else int(guide_rows.shape[-1])
        self.kept = {
            "rows": rows,
            "columns": columns,
            "row_scale": self._take("row_scale", row_scale, "float32", self.p, self.n),
            "column_scale": self._take("column_scale", column_scale, "float32", self.p, self.c),
            "hardness": self._take("hardness", hardness, "float32", self.n),
            "row_bound": self._take("row_bound", row_bound, "float32", self.p, self.n),
            "row_ids": row_ids,
            "column_ids": column_ids,
            "row_groups": self._take("row_groups", row_groups, "int32", self.n),
            "column_groups": self._take("column_groups", column_groups, "int32", self.c),
            "guide_rows": self._take("guide_rows", guide_rows, "float32", self.n, width),
            "guide_columns": self._take("guide_columns", guide_columns, "float32", self.c, width),
            "guide_bound": self._take("guide_bound", guide_bound, "float32", self.n),
        }
        self.given: dict[str, Any] = {name: 0 if x is None else x.data_ptr() for name, x in self.kept.items()}
        self.given |= {"n": self.n, "c": self.c, "d": self.d, "dims": lengths, "k_ids": len(ids), "guide_d": width}
        self.given["softplus"] = reduce == "softplus"

    def _take(self, name: str, x: Any, dtype: str, *shape: int) -> Any:
        return None if x is None else self.tensors.take(name, x, dtype, *shape)

    def _ids(self, ids: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
        if not ids:
            return None, None
        torch = self.tensors.torch
        assert torch is not None
        left = [self.tensors.take("ids of rows", each[0], "int32", self.n) for each in ids]
        right = [self.tensors.take("ids of columns", each[1], "int32", self.c) for each in ids]
        return torch.stack(left), torch.stack(right)
