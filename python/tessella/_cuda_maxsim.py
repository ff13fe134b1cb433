"""MaxSim of torch tensors in CUDA memory: check, allocate, enqueue on torch's current stream."""

from __future__ import annotations

import sys
from typing import Any

from tessella._cuda_tensors import Tensors, check, cuda_module
from tessella.errors import InvalidArgument, UnsupportedType

_KINDS = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "int8": "i8"}
_MOST_DIMENSIONS, _MOST_QUERIES = 1024, 65_535


def on_cuda(tokens: Any) -> bool:
    """Whether these are tensors in CUDA memory, in any form that token vectors come in."""
    if isinstance(tokens, (list, tuple)):
        return any(on_cuda(each) for each in tokens)
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(tokens, torch.Tensor) and bool(tokens.is_cuda)


def maxsim_score(
    queries: Any, query_offsets: Any, tokens: Any, begins: Any, ends: Any, *, query_scales: Any = None,
    scales: Any = None, which: Any = None, coded: bool = False,
) -> Any:  # fmt: skip
    """Scores (nq, n) float32, or (nq, c) of the documents `which` (nq, c) int64, where -1 is none.

    queries (Q, d) are float32, and those of query i begin at query_offsets (nq + 1) int64; tokens (T, d) are float32,
    float16 or bfloat16, and those of document i lie from begins (n) to ends (n) int64 - 1. Tokens may be int8 with
    `scales` (T), or with `coded` 4-bit codes (T, d / 2) uint8; queries are then int8 with `query_scales` (Q).

    Offsets and numbers are trusted. Nothing waits, and no scratch is needed. At most 1,024 dimensions.
    """
    arguments = Tensors("maxsim_score")
    dtype = str(getattr(tokens, "dtype", "")).removeprefix("torch.")
    kind = "n4" if coded else _KINDS.get(dtype)
    if kind is None or (coded and dtype != "uint8"):
        wanted = "uint8" if coded else "float32, float16, bfloat16 or int8"
        raise UnsupportedType(
            f"maxsim_score: expected tokens as a torch tensor of {wanted}; got {dtype or type(tokens).__name__}"
        )
    whole = kind in ("i8", "n4")
    queries = arguments.take("queries", queries, "int8" if whole else "float32", "Q", "d")
    d = queries.shape[1]
    check(1 <= d <= _MOST_DIMENSIONS, f"maxsim_score: expected 1 to {_MOST_DIMENSIONS} dimensions; got {d}")
    check(kind != "n4" or d % 64 == 0, f"maxsim_score: expected d, a multiple of 64; got {d}")
    tokens = arguments.take("tokens", tokens, dtype, "T", d // 2 if kind == "n4" else d)
    query_offsets = arguments.take("query_offsets", query_offsets, "int64", "nq + 1")
    begins = arguments.take("begins", begins, "int64", "n")
    ends = arguments.take("ends", ends, "int64", len(begins))
    nq, count = len(query_offsets) - 1, len(begins)
    check(0 <= nq <= _MOST_QUERIES, f"maxsim_score: expected at most {_MOST_QUERIES} queries; got {nq}")
    if query_scales is not None:
        query_scales = arguments.take("query_scales", query_scales, "float32", len(queries))
    if scales is not None:
        scales = arguments.take("scales", scales, "float32", len(tokens))
    if which is not None:
        which = arguments.take("which", which, "int64", nq, "c")
        count = which.shape[1]
    scores = arguments.empty("float32", nq, count)

    def address(x: Any) -> int:
        return 0 if x is None else int(x.data_ptr())

    cuda_module("maxsim_score").maxsim_score(
        queries=address(queries), query_scales=address(query_scales), query_offsets=address(query_offsets), nq=nq,
        tokens=address(tokens), type=kind, scales=address(scales), begins=address(begins), ends=address(ends), d=d,
        which=address(which), count=count, scores=address(scores), **arguments.where(),
    )  # fmt: skip
    return scores


def maxsim(
    queries: Any, documents: Any, *, k: int | None, candidates: Any, mask: Any = None, query_mask: Any = None
) -> Any:
    """`tessella.maxsim` over CUDA tensors: scores, or pairs (ids, scores) of the k best, all on the device."""
    torch = sys.modules["torch"]
    tokens, offsets = _flat(torch, documents, mask, "documents")
    asked, starts = _flat(torch, queries, query_mask, "queries")
    query_scales = None
    if tokens.dtype == torch.int8 and asked.dtype != torch.int8:
        asked, query_scales = _quantized(torch, asked.float())
    elif tokens.dtype != torch.int8:
        asked = asked.float()
    which = None
    if candidates is not None:
        which = torch.as_tensor(candidates, dtype=torch.int64, device=tokens.device)
        n, nq = len(offsets) - 1, len(starts) - 1
        check(which.ndim in (1, 2), f"maxsim: expected candidates of shape ({nq}, c) or (c,); got {tuple(which.shape)}")
        check(which.ndim == 1 or len(which) == nq, f"maxsim: expected candidates of {nq} queries; got {len(which)}")
        wrong = bool(((which < -1) | (which >= n)).any())
        check(not wrong, f"maxsim: expected candidates below {n}, or -1")
        which = which.expand(nq, which.shape[-1]).contiguous()
    scores = maxsim_score(asked, starts, tokens, offsets[:-1], offsets[1:], query_scales=query_scales, which=which)
    return scores if k is None else _best(torch, scores, which, k)


def _best(torch: Any, scores: Any, which: Any, k: int) -> tuple[Any, Any]:
    """The k best, equal ones by number; -1 and -inf where there are fewer."""
    numbers = which
    if which is None:
        numbers = torch.arange(scores.shape[1], device=scores.device).expand(scores.shape)
    else:  # a stable sort keeps the order of numbers
        numbers, order = which.sort(dim=1)
        scores = scores.gather(1, order)
    best, order = scores.sort(dim=1, descending=True, stable=True)
    best, ids = best[:, :k], numbers.gather(1, order[:, :k])
    ids = ids.masked_fill(best == -float("inf"), -1)
    missing = k - best.shape[1]
    if missing > 0:
        best = torch.nn.functional.pad(best, (0, missing), value=-float("inf"))
        ids = torch.nn.functional.pad(ids, (0, missing), value=-1)
    return ids, best


def _flat(torch: Any, x: Any, mask: Any, name: str) -> tuple[Any, Any]:
    """Tokens (T, d) and offsets (n + 1) of a list, a pair, a padded array or a single document."""
    if isinstance(x, tuple) and len(x) == 2 and getattr(x[1], "ndim", 0) == 1:
        offsets = torch.as_tensor(x[1], dtype=torch.int64, device=x[0].device)
        rises = bool(offsets[0] == 0) and bool(offsets[-1] == len(x[0])) and bool((offsets.diff() >= 0).all())
        check(rises, f"maxsim: expected offsets that rise from 0 to the number of {name}, {len(x[0])}")
        return x[0], offsets
    if isinstance(x, (list, tuple)):
        check(len(x) > 0, f"maxsim: expected {name} in CUDA memory; got none")
        lengths = torch.tensor([0, *(len(each) for each in x)], device=x[0].device)
        return torch.cat(list(x)), lengths.cumsum(0)
    if x.ndim == 2:
        return x, torch.tensor([0, len(x)], device=x.device)
    if x.ndim != 3:
        raise InvalidArgument(f"maxsim: expected {name} of shape (n, t, d) or (t, d); got {tuple(x.shape)}")
    if mask is None:
        return x.reshape(-1, x.shape[2]), torch.arange(len(x) + 1, device=x.device) * x.shape[1]
    kept = torch.as_tensor(mask, device=x.device).bool()
    check(kept.shape == x.shape[:2], f"maxsim: expected mask of shape {tuple(x.shape[:2])}; got {tuple(kept.shape)}")
    return x[kept], torch.nn.functional.pad(kept.sum(1).cumsum(0), (1, 0))


def _quantized(torch: Any, x: Any) -> tuple[Any, Any]:
    """Bytes and scales of float32 tokens: the largest magnitude of a token becomes 127."""
    largest = x.abs().amax(1) if len(x) else x.new_empty(0)
    inverse = torch.where(largest > 1e-30, 127 / largest, torch.zeros_like(largest))
    return (x * inverse[:, None]).round().to(torch.int8), largest / 127
