"""
tessella's kernels for CUDA devices.
"""

from __future__ import annotations

import typing

__all__: list[str] = ["device_count", "device_name", "exact_topk", "exact_topk_scratch"]

def device_count() -> int:
    """
    CUDA devices that can be used; 0 without a driver.
    """

def device_name(device: typing.SupportsInt | typing.SupportsIndex) -> str:
    """
    Model of a device.
    """

def exact_topk(
    *,
    queries: typing.SupportsInt | typing.SupportsIndex,
    nq: typing.SupportsInt | typing.SupportsIndex,
    rows: typing.SupportsInt | typing.SupportsIndex,
    type: str,
    n: typing.SupportsInt | typing.SupportsIndex,
    d: typing.SupportsInt | typing.SupportsIndex,
    metric: str,
    ids: typing.SupportsInt | typing.SupportsIndex,
    k: typing.SupportsInt | typing.SupportsIndex,
    scores: typing.SupportsInt | typing.SupportsIndex,
    out_ids: typing.SupportsInt | typing.SupportsIndex,
    scratch: typing.SupportsInt | typing.SupportsIndex,
    device: typing.SupportsInt | typing.SupportsIndex,
    stream: typing.SupportsInt | typing.SupportsIndex,
) -> None:
    """
    Enqueue an exact search over addresses of device memory; tessella._cuda_exact.exact_topk checks and calls it.
    """

def exact_topk_scratch(
    nq: typing.SupportsInt | typing.SupportsIndex,
    n: typing.SupportsInt | typing.SupportsIndex,
    d: typing.SupportsInt | typing.SupportsIndex,
    k: typing.SupportsInt | typing.SupportsIndex,
    *,
    device: typing.SupportsInt | typing.SupportsIndex,
) -> int:
    """
    Bytes of scratch that exact_topk needs.
    """

__version__: str
