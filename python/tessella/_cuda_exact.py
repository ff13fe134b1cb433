"""Exact search over torch tensors in CUDA memory: check, allocate, enqueue on torch's current stream."""

from __future__ import annotations

import sys
from typing import Any

from tessella._cuda_tensors import cuda_module, told
from tessella.errors import InvalidArgument, UnsupportedType

KINDS = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "uint8": "u8"}
MAX_K = 2048


def exact_topk(queries: Any, rows: Any, k: int, metric: str, ids: Any = None, allowed: Any = None) -> tuple[Any, Any]:
    """The k best rows of each query: (scores (nq, k) float32, ids (nq, k) int64), tensors on the same device.

    queries (nq, d) and rows (n, d) are CUDA tensors: queries float32, float16 or bfloat16; rows any of these or
    uint8. `metric` is "ip" (larger is better) or "l2" (squared distance, smaller is better); for cosine, scale
    queries and rows to unit length first. `ids` are n distinct int64; without them a row's position is its id.
    `allowed` is a bool tensor, (n,) or (nq, n): the rows that all queries may find, or each query. Equal scores come
    in order of ids; missing slots hold id -1 and score -inf ("ip") or +inf ("l2"). Rows with a NaN are never found.

    Nothing waits: the work is enqueued on torch's current stream of that device. Cost: n * nq * d multiply-adds, less
    those of tiles of rows that no query of a block may find; one pass over the rows for few queries; scratch of at most
    a few hundred megabytes for the length of the call.
    """
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(queries, torch.Tensor) or not isinstance(rows, torch.Tensor):
        raise UnsupportedType(
            "exact_topk: expected queries and rows as torch tensors in CUDA memory;"
            f" got {type(queries).__name__} and {type(rows).__name__}"
        )
    nq, n, d = _checked_shapes(queries, rows)
    _check_arguments(k, metric)
    device = _checked_device(queries, rows)
    if ids is not None:
        ids = _checked_ids(torch, ids, rows)
    words, masks = _checked_mask(torch, allowed, nq, rows)
    queries = _ready(queries.to(torch.float32))
    rows = _ready(rows)
    module = cuda_module("exact_topk")
    scores = torch.empty((nq, k), dtype=torch.float32, device=rows.device)
    found = torch.empty((nq, k), dtype=torch.int64, device=rows.device)
    scratch_bytes = module.exact_topk_scratch(nq, n, d, k, masks=masks, device=device)
    scratch = torch.empty(scratch_bytes, dtype=torch.uint8, device=rows.device)
    module.exact_topk(
        queries=queries.data_ptr(), nq=nq, rows=rows.data_ptr(), type=_kind(rows), n=n, d=d, metric=metric,
        ids=0 if ids is None else ids.data_ptr(), allowed=0 if words is None else words.data_ptr(), masks=masks, k=k,
        scores=scores.data_ptr(), out_ids=found.data_ptr(),
        scratch=scratch.data_ptr(), device=device, stream=torch.cuda.current_stream(rows.device).cuda_stream,
    )  # fmt: skip
    return scores, found


def _kind(tensor: Any) -> str:
    return KINDS.get(str(tensor.dtype).removeprefix("torch."), "")


def _ready(tensor: Any) -> Any:
    return tensor.detach().contiguous()


def _checked_shapes(queries: Any, rows: Any) -> tuple[int, int, int]:
    if not _kind(rows) or not _kind(queries) or _kind(queries) == "u8":
        raise UnsupportedType(
            "exact_topk: expected queries of type float32, float16 or bfloat16 and rows of these or uint8;"
            f" got {queries.dtype} and {rows.dtype}"
        )
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise InvalidArgument(f"exact_topk: expected rows of shape (n, d); got {tuple(rows.shape)}")
    n, d = rows.shape
    if queries.ndim != 2 or queries.shape[1] != d:
        raise InvalidArgument(f"exact_topk: expected queries of shape (nq, {d}); got {tuple(queries.shape)}")
    return queries.shape[0], n, d


def _check_arguments(k: int, metric: str) -> None:
    if not 1 <= k <= MAX_K:
        raise InvalidArgument(f"exact_topk: expected k in 1..{MAX_K}; got {k}")
    if metric not in ("ip", "l2"):
        raise InvalidArgument(f"exact_topk: expected metric 'ip' or 'l2'; got {metric!r}")


def _checked_device(queries: Any, rows: Any) -> int:
    if rows.device.type != "cuda" or queries.device != rows.device:
        raise UnsupportedType(
            "exact_topk: expected queries and rows on one CUDA device;"
            f" got {queries.device} and {rows.device}, which queries.to(rows.device) brings together"
        )
    return int(rows.device.index)


def _checked_ids(torch: Any, ids: Any, rows: Any) -> Any:
    if not isinstance(ids, torch.Tensor) or ids.dtype != torch.int64 or ids.device != rows.device:
        raise UnsupportedType(f"exact_topk: expected ids as an int64 tensor on {rows.device}; got {told(ids)}")
    if tuple(ids.shape) != (rows.shape[0],):
        raise InvalidArgument(f"exact_topk: expected ids of shape ({rows.shape[0]},); got {tuple(ids.shape)}")
    return _ready(ids)


def _checked_mask(torch: Any, allowed: Any, nq: int, rows: Any) -> tuple[Any, bool]:
    """The mask as words of 64 rows, and whether each query has its own."""
    if allowed is None:
        return None, False
    if not isinstance(allowed, torch.Tensor) or allowed.dtype != torch.bool or allowed.device != rows.device:
        raise UnsupportedType(f"exact_topk: expected allowed as a bool tensor on {rows.device}; got {told(allowed)}")
    n = rows.shape[0]
    if tuple(allowed.shape) not in ((n,), (nq, n)):
        raise InvalidArgument(
            f"exact_topk: expected allowed of shape ({n},) or ({nq}, {n}); got {tuple(allowed.shape)}"
        )
    padded = torch.nn.functional.pad(allowed.to(torch.uint8), (0, -n % 64))
    places = torch.arange(8, dtype=torch.uint8, device=rows.device)
    packed = (padded.unflatten(-1, (-1, 8)) << places).sum(-1, dtype=torch.uint8)
    return packed.view(torch.int64).contiguous(), allowed.ndim == 2
