"""
tessella's kernels for CUDA devices.
"""

from __future__ import annotations

import typing

__all__: list[str] = [
    "contrast_backward",
    "contrast_forward",
    "contrast_forward_scratch",
    "device_count",
    "device_name",
    "exact_topk",
    "exact_topk_scratch",
    "fde_encode",
    "fde_encode_scratch",
    "graph_link",
    "graph_prune",
    "graph_search",
    "graph_search_scratch",
    "graph_write",
    "kmeans_assign",
    "kmeans_assign_scratch",
    "maxsim_score",
    "pooling_backward",
    "pooling_forward",
    "pq_encode",
    "pq_scan",
    "pq_table",
    "rabitq_encode",
    "rabitq_planes",
    "rabitq_scan",
    "rotate_forward",
    "scalar_encode",
]

def contrast_backward(
    job: dict[str, typing.Any],
    *,
    out: typing.SupportsInt | typing.SupportsIndex,
    out_gradient: typing.SupportsInt | typing.SupportsIndex,
    row_gradient: typing.SupportsInt | typing.SupportsIndex,
    column_gradient: typing.SupportsInt | typing.SupportsIndex,
    row_scale_gradient: typing.SupportsInt | typing.SupportsIndex,
    column_scale_gradient: typing.SupportsInt | typing.SupportsIndex,
    device: typing.SupportsInt | typing.SupportsIndex,
    stream: typing.SupportsInt | typing.SupportsIndex,
) -> None:
    """
    Enqueue the gradients, which are added to what is there.
    """

def contrast_forward(
    job: dict[str, typing.Any],
    *,
    out: typing.SupportsInt | typing.SupportsIndex,
    scratch: typing.SupportsInt | typing.SupportsIndex,
    device: typing.SupportsInt | typing.SupportsIndex,
    stream: typing.SupportsInt | typing.SupportsIndex,
) -> None:
    """
    Enqueue the sums over addresses of device memory; tessella._cuda_contrast checks and calls it.
    """

def contrast_forward_scratch(job: dict[str, typing.Any], *, device: typing.SupportsInt | typing.SupportsIndex) -> int:
    """
    Bytes of scratch that contrast_forward needs.
    """

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
    allowed: typing.SupportsInt | typing.SupportsIndex,
    masks: bool,
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
    masks: bool = False,
    device: typing.SupportsInt | typing.SupportsIndex,
) -> int:
    """
    Bytes of scratch that exact_topk needs.
    """

def fde_encode(
    *,
    tokens: typing.SupportsInt | typing.SupportsIndex,
    type: str,
    count: typing.SupportsInt | typing.SupportsIndex,
    offsets: typing.SupportsInt | typing.SupportsIndex,
    n: typing.SupportsInt | typing.SupportsIndex,
    d: typing.SupportsInt | typing.SupportsIndex,
    repetitions: typing.SupportsInt | typing.SupportsIndex,
    k_sim: typing.SupportsInt | typing.SupportsIndex,
    p: typing.SupportsInt | typing.SupportsIndex,
    hyperplanes: typing.SupportsInt | typing.SupportsIndex,
    matrix: typing.SupportsInt | typing.SupportsIndex,
    index: typing.SupportsInt | typing.SupportsIndex,
    signs: typing.SupportsInt | typing.SupportsIndex,
    queries: bool,
    fill: str,
    out_type: str,
    out: typing.SupportsInt | typing.SupportsIndex,
    scratch: typing.SupportsInt | typing.SupportsIndex,
    device: typing.SupportsInt | typing.SupportsIndex,
    stream: typing.SupportsInt | typing.SupportsIndex,
) -> None:
    """
    Enqueue the encoding over addresses of device memory; tessella._cuda_fde checks and calls it.
    """

def fde_encode_scratch(
    *,
    tokens: typing.SupportsInt | typing.SupportsIndex,
    d: typing.SupportsInt | typing.SupportsIndex,
    repetitions: typing.SupportsInt | typing.SupportsIndex,
    p: typing.SupportsInt | typing.SupportsIndex,
    sketch: bool,
) -> int:
    """
    Bytes of scratch that fde_encode needs.
    """

def graph_link(
    *,
    values: typing.SupportsInt | typing.SupportsIndex,
    n: typing.SupportsInt | typing.SupportsIndex,
    padded: typing.SupportsInt | typing.SupportsIndex,
    degree: typing.SupportsInt | typing.SupportsIndex,
    from_neighbours: typing.SupportsInt | typing.SupportsIndex,
    from_distances: typing.SupportsInt | typing.SupportsIndex,
    from_wanted: typing.SupportsInt | typing.SupportsIndex,
    neighbours: typing.SupportsInt | typing.SupportsIndex,
    distances: typing.SupportsInt | typing.SupportsIndex,
    wanted: typing.SupportsInt | typing.SupportsIndex,
    scratch: typing.SupportsInt | typing.SupportsIndex,
    device: typing.SupportsInt | typing.SupportsIndex,
    stream: typing.SupportsInt | typing.SupportsIndex,
) -> None:
    """
    Enqueue links back; tessella._cuda_graph checks and calls it.
    """

def graph_prune(
    *,
    values: typing.SupportsInt | typing.SupportsIndex,
    n: typing.SupportsInt | typing.SupportsIndex,
    padded: typing.SupportsInt | typing.SupportsIndex,
    candidates: typing.SupportsInt | typing.SupportsIndex,
    lengths: typing.SupportsInt | typing.SupportsIndex,
    count: typing.SupportsInt | typing.SupportsIndex,
    degree: typing.SupportsInt | typing.SupportsIndex,
    neighbours: typing.SupportsInt | typing.SupportsIndex,
    distances: typing.SupportsInt | typing.SupportsIndex,
    wanted: typing.SupportsInt | typing.SupportsIndex,
    device: typing.SupportsInt | typing.SupportsIndex,
    stream: typing.SupportsInt | typing.SupportsIndex,
) -> None:
    """
    Enqueue the choice of neighbours; tessella._cuda_graph checks and calls it.
    """

def graph_search(
    *,
    queries: typing.SupportsInt | typing.SupportsIndex,
    nq: typing.SupportsInt | typing.SupportsIndex,
    adds: typing.SupportsInt | typing.SupportsIndex,
    most: typing.SupportsInt | typing.SupportsIndex,
    padded: typing.SupportsInt | typing.SupportsIndex,
    metric: str,
    records: typing.SupportsInt | typing.SupportsIndex,
    n: typing.SupportsInt | typing.SupportsIndex,
    degree: typing.SupportsInt | typing.SupportsIndex,
    coded: bool,
    values: typing.SupportsInt | typing.SupportsIndex,
    codes: typing.SupportsInt | typing.SupportsIndex,
    scales: typing.SupportsInt | typing.SupportsIndex,
    norms2: typing.SupportsInt | typing.SupportsIndex,
    entries: typing.SupportsInt | typing.SupportsIndex,
    entry_count: typing.SupportsInt | typing.SupportsIndex,
    allowed: typing.SupportsInt | typing.SupportsIndex,
    ef: typing.SupportsInt | typing.SupportsIndex,
    k: typing.SupportsInt | typing.SupportsIndex,
    slack: typing.SupportsFloat | typing.SupportsIndex,
    slots: typing.SupportsInt | typing.SupportsIndex,
    scores: typing.SupportsInt | typing.SupportsIndex,
    found: typing.SupportsInt | typing.SupportsIndex,
    visits: typing.SupportsInt | typing.SupportsIndex,
    scratch: typing.SupportsInt | typing.SupportsIndex,
    device: typing.SupportsInt | typing.SupportsIndex,
    stream: typing.SupportsInt | typing.SupportsIndex,
) -> None:
    """
    Enqueue walks over addresses of device memory; tessella._cuda_graph checks and calls it.
    """

def graph_search_scratch(
    nq: typing.SupportsInt | typing.SupportsIndex,
    slots: typing.SupportsInt | typing.SupportsIndex,
    *,
    device: typing.SupportsInt | typing.SupportsIndex,
) -> int:
    """
    Bytes of scratch that graph_search needs.
    """

def graph_write(
    *,
    values: typing.SupportsInt | typing.SupportsIndex,
    n: typing.SupportsInt | typing.SupportsIndex,
    padded: typing.SupportsInt | typing.SupportsIndex,
    centre: typing.SupportsInt | typing.SupportsIndex,
    neighbours: typing.SupportsInt | typing.SupportsIndex,
    degree: typing.SupportsInt | typing.SupportsIndex,
    coded: bool,
    records: typing.SupportsInt | typing.SupportsIndex,
    device: typing.SupportsInt | typing.SupportsIndex,
    stream: typing.SupportsInt | typing.SupportsIndex,
) -> None:
    """
    Enqueue the writing of records; tessella._cuda_graph checks and calls it.
    """

def kmeans_assign(
    *,
    rows: typing.SupportsInt | typing.SupportsIndex,
    n: typing.SupportsInt | typing.SupportsIndex,
    d: typing.SupportsInt | typing.SupportsIndex,
    centroids: typing.SupportsInt | typing.SupportsIndex,
    offsets: typing.SupportsInt | typing.SupportsIndex,
    k: typing.SupportsInt | typing.SupportsIndex,
    nearest: typing.SupportsInt | typing.SupportsIndex,
    similarity: typing.SupportsInt | typing.SupportsIndex,
    scratch: typing.SupportsInt | typing.SupportsIndex,
    device: typing.SupportsInt | typing.SupportsIndex,
    stream: typing.SupportsInt | typing.SupportsIndex,
) -> None:
    """
    Enqueue the assignment over addresses of device memory; tessella._cuda_kmeans checks and calls it.
    """

def kmeans_assign_scratch(
    n: typing.SupportsInt | typing.SupportsIndex,
    k: typing.SupportsInt | typing.SupportsIndex,
    d: typing.SupportsInt | typing.SupportsIndex,
    *,
    device: typing.SupportsInt | typing.SupportsIndex,
) -> int:
    """
    Bytes of scratch that kmeans_assign needs.
    """

def maxsim_score(
    *,
    queries: typing.SupportsInt | typing.SupportsIndex,
    query_scales: typing.SupportsInt | typing.SupportsIndex,
    query_offsets: typing.SupportsInt | typing.SupportsIndex,
    nq: typing.SupportsInt | typing.SupportsIndex,
    tokens: typing.SupportsInt | typing.SupportsIndex,
    type: str,
    scales: typing.SupportsInt | typing.SupportsIndex,
    begins: typing.SupportsInt | typing.SupportsIndex,
    ends: typing.SupportsInt | typing.SupportsIndex,
    d: typing.SupportsInt | typing.SupportsIndex,
    which: typing.SupportsInt | typing.SupportsIndex,
    count: typing.SupportsInt | typing.SupportsIndex,
    scores: typing.SupportsInt | typing.SupportsIndex,
    device: typing.SupportsInt | typing.SupportsIndex,
    stream: typing.SupportsInt | typing.SupportsIndex,
) -> None:
    """
    Enqueue MaxSim over addresses of device memory; tessella._cuda_maxsim checks and calls it.
    """

def pooling_backward(
    job: dict[str, typing.Any],
    *,
    device: typing.SupportsInt | typing.SupportsIndex,
    stream: typing.SupportsInt | typing.SupportsIndex,
) -> None:
    """
    Enqueue the gradient of the states, which is added to what is there.
    """

def pooling_forward(
    job: dict[str, typing.Any],
    *,
    device: typing.SupportsInt | typing.SupportsIndex,
    stream: typing.SupportsInt | typing.SupportsIndex,
) -> None:
    """
    Enqueue the pass over addresses of device memory; tessella._cuda_pooling checks and calls it.
    """

def pq_encode(
    *,
    rows: typing.SupportsInt | typing.SupportsIndex,
    n: typing.SupportsInt | typing.SupportsIndex,
    d: typing.SupportsInt | typing.SupportsIndex,
    m: typing.SupportsInt | typing.SupportsIndex,
    bits: typing.SupportsInt | typing.SupportsIndex,
    codebooks: typing.SupportsInt | typing.SupportsIndex,
    biases: typing.SupportsInt | typing.SupportsIndex,
    codes: typing.SupportsInt | typing.SupportsIndex,
    device: typing.SupportsInt | typing.SupportsIndex,
    stream: typing.SupportsInt | typing.SupportsIndex,
) -> None:
    """
    Enqueue the encoding over addresses of device memory; tessella._cuda_pq checks and calls it.
    """

def pq_scan(
    *,
    blocks: typing.SupportsInt | typing.SupportsIndex,
    n: typing.SupportsInt | typing.SupportsIndex,
    m: typing.SupportsInt | typing.SupportsIndex,
    bits: typing.SupportsInt | typing.SupportsIndex,
    terms: bool,
    tables: typing.SupportsInt | typing.SupportsIndex,
    nq: typing.SupportsInt | typing.SupportsIndex,
    thresholds: typing.SupportsInt | typing.SupportsIndex,
    hits: typing.SupportsInt | typing.SupportsIndex,
    capacity: typing.SupportsInt | typing.SupportsIndex,
    counts: typing.SupportsInt | typing.SupportsIndex,
    device: typing.SupportsInt | typing.SupportsIndex,
    stream: typing.SupportsInt | typing.SupportsIndex,
) -> None:
    """
    Enqueue a scan over addresses of device memory; tessella._cuda_pq checks and calls it.
    """

def pq_table(
    *,
    queries: typing.SupportsInt | typing.SupportsIndex,
    nq: typing.SupportsInt | typing.SupportsIndex,
    d: typing.SupportsInt | typing.SupportsIndex,
    m: typing.SupportsInt | typing.SupportsIndex,
    bits: typing.SupportsInt | typing.SupportsIndex,
    codebooks: typing.SupportsInt | typing.SupportsIndex,
    metric: str,
    tables: typing.SupportsInt | typing.SupportsIndex,
    device: typing.SupportsInt | typing.SupportsIndex,
    stream: typing.SupportsInt | typing.SupportsIndex,
) -> None:
    """
    Enqueue the tables of queries; tessella._cuda_pq checks and calls it.
    """

def rabitq_encode(
    *,
    residuals: typing.SupportsInt | typing.SupportsIndex,
    n: typing.SupportsInt | typing.SupportsIndex,
    padded: typing.SupportsInt | typing.SupportsIndex,
    bits: typing.SupportsInt | typing.SupportsIndex,
    factors: typing.SupportsInt | typing.SupportsIndex,
    device: typing.SupportsInt | typing.SupportsIndex,
    stream: typing.SupportsInt | typing.SupportsIndex,
) -> None:
    """
    Enqueue the encoding over addresses of device memory; tessella._cuda_rabitq checks and calls it.
    """

def rabitq_planes(
    *,
    queries: typing.SupportsInt | typing.SupportsIndex,
    nq: typing.SupportsInt | typing.SupportsIndex,
    padded: typing.SupportsInt | typing.SupportsIndex,
    words: typing.SupportsInt | typing.SupportsIndex,
    steps: typing.SupportsInt | typing.SupportsIndex,
    sums: typing.SupportsInt | typing.SupportsIndex,
    planes: typing.SupportsInt | typing.SupportsIndex,
    device: typing.SupportsInt | typing.SupportsIndex,
    stream: typing.SupportsInt | typing.SupportsIndex,
) -> None:
    """
    Enqueue the cutting of queries into planes; tessella._cuda_rabitq checks and calls it.
    """

def rabitq_scan(
    *,
    blocks: typing.SupportsInt | typing.SupportsIndex,
    n: typing.SupportsInt | typing.SupportsIndex,
    padded: typing.SupportsInt | typing.SupportsIndex,
    terms: bool,
    words: typing.SupportsInt | typing.SupportsIndex,
    steps: typing.SupportsInt | typing.SupportsIndex,
    sums: typing.SupportsInt | typing.SupportsIndex,
    planes: typing.SupportsInt | typing.SupportsIndex,
    nq: typing.SupportsInt | typing.SupportsIndex,
    factor: typing.SupportsFloat | typing.SupportsIndex,
    adds: typing.SupportsInt | typing.SupportsIndex,
    epsilons: typing.SupportsInt | typing.SupportsIndex,
    thresholds: typing.SupportsInt | typing.SupportsIndex,
    hits: typing.SupportsInt | typing.SupportsIndex,
    capacity: typing.SupportsInt | typing.SupportsIndex,
    counts: typing.SupportsInt | typing.SupportsIndex,
    allowed: typing.SupportsInt | typing.SupportsIndex,
    allowed_stride: typing.SupportsInt | typing.SupportsIndex,
    device: typing.SupportsInt | typing.SupportsIndex,
    stream: typing.SupportsInt | typing.SupportsIndex,
) -> None:
    """
    Enqueue a scan over addresses of device memory; tessella._cuda_rabitq checks and calls it.
    """

def rotate_forward(
    *,
    signs: typing.SupportsInt | typing.SupportsIndex,
    rows: typing.SupportsInt | typing.SupportsIndex,
    n: typing.SupportsInt | typing.SupportsIndex,
    d: typing.SupportsInt | typing.SupportsIndex,
    centre: typing.SupportsInt | typing.SupportsIndex,
    out: typing.SupportsInt | typing.SupportsIndex,
    device: typing.SupportsInt | typing.SupportsIndex,
    stream: typing.SupportsInt | typing.SupportsIndex,
) -> None:
    """
    Enqueue the rotation over addresses of device memory; tessella._cuda_rotate checks and calls it.
    """

def scalar_encode(
    *,
    residuals: typing.SupportsInt | typing.SupportsIndex,
    n: typing.SupportsInt | typing.SupportsIndex,
    padded: typing.SupportsInt | typing.SupportsIndex,
    bits: typing.SupportsInt | typing.SupportsIndex,
    lloyd: bool,
    codes: typing.SupportsInt | typing.SupportsIndex,
    scales: typing.SupportsInt | typing.SupportsIndex,
    norms2: typing.SupportsInt | typing.SupportsIndex,
    device: typing.SupportsInt | typing.SupportsIndex,
    stream: typing.SupportsInt | typing.SupportsIndex,
) -> None:
    """
    Enqueue the encoding over addresses of device memory; tessella._cuda_scalar checks and calls it.
    """

__version__: str
