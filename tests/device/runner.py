"""Runs the shared cases on a real CUDA device through tessella's Python door."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.device.exact_cases import Array, Search

POISON_BYTES = 256 << 20


def poison(torch: Any) -> None:
    """Leaves NaN bytes in the memory that torch hands out next, so that an unwritten output shows."""
    torch.full((POISON_BYTES,), 0xFF, dtype=torch.uint8, device="cuda")


def search_with(torch: Any, exact_topk: Callable[..., Any]) -> Search:
    """`exact_topk` over NumPy arrays; uint16 rows are bfloat16 patterns."""

    def on_device(x: Array) -> Any:
        if x.dtype == "uint16":
            return torch.from_numpy(x.view("int16")).cuda().view(torch.bfloat16)
        return torch.from_numpy(x).cuda()

    def search(queries: Array, rows: Array, k: int, metric: str, ids: Array | None) -> tuple[Array, Array]:
        arguments = on_device(queries), on_device(rows), k, metric, None if ids is None else on_device(ids)
        poison(torch)
        scores, found = exact_topk(*arguments)
        return scores.cpu().numpy(), found.cpu().numpy()

    return search
