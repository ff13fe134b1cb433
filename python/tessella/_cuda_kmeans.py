"""The nearest centroids of torch tensors in CUDA memory: check, allocate, enqueue on torch's current stream."""

from __future__ import annotations

from typing import Any

from tessella._cuda_tensors import Tensors, check, cuda_module


def kmeans_assign(rows: Any, centroids: Any, offsets: Any = None) -> tuple[Any, Any]:
    """argmax over c of <x, c> - offset(c): (nearest (n) int32, similarity (n) float32).

    rows (n, d), centroids (k, d) and offsets (k) are float32 CUDA tensors; offsets |c|^2 / 2 give the smallest squared
    distance, none the largest inner product. Of equally near centroids the one with the smaller number.

    Nothing waits. Cost: n * k * d multiply-adds; scratch of 8 bytes a row for each segment of the centroids, which few
    rows are cut into.
    """
    tensors = Tensors("kmeans_assign")
    rows = tensors.take("rows", rows, "float32", "n", "d")
    centroids = tensors.take("centroids", centroids, "float32", "k", rows.shape[1])
    (n, d), k = rows.shape, len(centroids)
    check(1 <= k < 2**31, f"kmeans_assign: expected 1 to 2**31 - 1 centroids; got {k}")
    if offsets is not None:
        offsets = tensors.take("offsets", offsets, "float32", k)
    module, where = cuda_module("kmeans_assign"), tensors.where()
    nearest, similarity = tensors.empty("int32", n), tensors.empty("float32", n)
    scratch = tensors.empty("uint8", module.kmeans_assign_scratch(n, k, d, device=where["device"]))
    module.kmeans_assign(
        rows=rows.data_ptr(), n=n, d=d, centroids=centroids.data_ptr(),
        offsets=0 if offsets is None else offsets.data_ptr(), k=k, nearest=nearest.data_ptr(),
        similarity=similarity.data_ptr(), scratch=scratch.data_ptr(), **where,
    )  # fmt: skip
    return nearest, similarity
