"""RaBitQ's 1-bit codes of torch tensors in CUDA memory: check, allocate, enqueue on torch's current stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tessella._cuda_tensors import Tensors, check, cuda_module

BLOCK_ROWS = 32
MOST_DIMENSIONS = 32768  # of a scan


@dataclass(frozen=True)
class RabitqPlanes:
    """Queries in bit planes: words (nq, D/32, planes) int32, steps (nq) float32, sums (nq) int32, on the device."""

    words: Any
    steps: Any
    sums: Any


def rabitq_encode(residuals: Any) -> tuple[Any, Any]:
    """Rotated residuals (n, D) float32 -> bits (n, D/8) uint8, factors (n, 3) float32: scale, error, squared norm."""
    tensors = Tensors("rabitq_encode")
    residuals = tensors.take("residuals", residuals, "float32", "n", "D")
    n, padded = _padded("rabitq_encode", residuals)
    bits, factors = tensors.empty("uint8", n, padded // 8), tensors.empty("float32", n, 3)
    cuda_module("rabitq_encode").rabitq_encode(
        residuals=residuals.data_ptr(), n=n, padded=padded, bits=bits.data_ptr(), factors=factors.data_ptr(),
        **tensors.where(),
    )  # fmt: skip
    return bits, factors


def rabitq_planes(queries: Any, planes: int = 8) -> RabitqPlanes:
    """Rotated queries (nq, D) float32 in 8 bit planes, or in 4: half the work of a scan for 2 % more variance."""
    tensors = Tensors("rabitq_planes")
    queries = tensors.take("queries", queries, "float32", "nq", "D")
    check(planes in (4, 8), f"rabitq_planes: expected 4 or 8 planes; got {planes}")
    nq, padded = _padded("rabitq_planes", queries)
    words = tensors.empty("int32", nq, padded // 32, planes)
    steps, sums = tensors.empty("float32", nq), tensors.empty("int32", nq)
    cuda_module("rabitq_planes").rabitq_planes(
        queries=queries.data_ptr(), nq=nq, padded=padded, words=words.data_ptr(), steps=steps.data_ptr(),
        sums=sums.data_ptr(), planes=planes, **tensors.where(),
    )  # fmt: skip
    return RabitqPlanes(words, steps, sums)


def rabitq_scan(
    blocks: Any, n: int, planes: RabitqPlanes, *, terms: bool, factor: float, adds: Any, epsilons: Any,
    thresholds: Any, capacity: int, allowed: Any | None = None,
) -> tuple[Any, Any]:  # fmt: skip
    """The rows whose upper bound reaches the query's threshold: (hits (nq, capacity, 3) int32, counts (nq) int32).

    A hit is a row and the patterns of two float32, its estimate and its upper bound; hits come in no order, and those
    beyond `capacity` are counted alone. blocks (ceil(n/32), bytes) uint8 are those of the CPU; similarity = add +
    factor * scale * <s, q'> - term, upper = similarity + epsilon * error, a number a query of each. `allowed`, bool
    (n,) or (nq, n), says which rows may be hits; blocks in which no query may find one are passed over.
    """
    tensors = Tensors("rabitq_scan")
    words = tensors.take("planes", planes.words, "int32", "nq", "D/32", "planes")
    nq, padded, count = words.shape[0], 32 * words.shape[1], words.shape[2]
    check(padded <= MOST_DIMENSIONS, f"rabitq_scan: expected at most {MOST_DIMENSIONS} dimensions; got {padded}")
    width = BLOCK_ROWS * (padded // 8 + (8 if terms else 4))
    blocks = tensors.take("blocks", blocks, "uint8", -(-n // BLOCK_ROWS), width)
    each = [("adds", adds), ("epsilons", epsilons), ("thresholds", thresholds)]
    numbers = {name: tensors.take(name, x, "float32", nq) for name, x in each}
    bits, stride = _bitmaps(tensors, allowed, nq, n)
    hits, counts = tensors.empty("int32", nq, capacity, 3), tensors.empty("int32", nq)
    cuda_module("rabitq_scan").rabitq_scan(
        blocks=blocks.data_ptr(), n=n, padded=padded, terms=terms, words=words.data_ptr(),
        steps=planes.steps.data_ptr(), sums=planes.sums.data_ptr(), planes=count, nq=nq, factor=factor,
        **{name: x.data_ptr() for name, x in numbers.items()}, hits=hits.data_ptr(), capacity=capacity,
        counts=counts.data_ptr(), allowed=0 if bits is None else bits.data_ptr(), allowed_stride=stride,
        **tensors.where(),
    )  # fmt: skip
    return hits, counts


def _bitmaps(tensors: Tensors, allowed: Any | None, nq: int, n: int) -> tuple[Any, int]:
    """A word for each block of rows, and how many words each query has of its own."""
    if allowed is None:
        return None, 0
    each = getattr(allowed, "ndim", 1) == 2
    allowed = tensors.take("allowed", allowed, "bool", *((nq, n) if each else (n,)))
    torch: Any = tensors.torch
    padded = torch.nn.functional.pad(allowed.to(torch.uint8), (0, -n % BLOCK_ROWS))
    places = torch.arange(8, dtype=torch.uint8, device=allowed.device)
    packed = (padded.unflatten(-1, (-1, 8)) << places).sum(-1, dtype=torch.uint8)
    words = packed.view(torch.int32).contiguous()
    return words, words.shape[-1] if each else 0


def _padded(operation: str, x: Any) -> tuple[int, int]:
    n, padded = x.shape
    check(padded > 0 and padded % 64 == 0, f"{operation}: expected D to be a multiple of 64; got {padded}")
    return n, padded
