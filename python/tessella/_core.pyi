"""
tessella's kernels and indexes for the CPU.
"""

from __future__ import annotations

import collections.abc
import typing

import numpy
import numpy.typing

__all__: list[str] = [
    "N4_GRID",
    "FdeMatrices",
    "FlatIndex",
    "GraphIndex",
    "IvfIndex",
    "RowFilter",
    "SmveBlock",
    "active_isa",
    "available_isas",
    "binary_dot",
    "binary_encode",
    "binary_hamming",
    "contrast_backward",
    "contrast_forward",
    "fde_encode",
    "force_way",
    "graph_encode",
    "graph_scan",
    "kmeans_assign",
    "kmeans_train",
    "maxsim_score",
    "num_threads",
    "pin_isa",
    "pooling_backward",
    "pooling_forward",
    "pq_encode",
    "pq_pack",
    "pq_rotate",
    "pq_scan",
    "pq_sum",
    "pq_table",
    "pq_update",
    "rabitq_encode",
    "rabitq_scan",
    "rabitq_table",
    "rotate_forward",
    "rotate_inverse",
    "rotate_signs",
    "scalar_decode",
    "scalar_dot",
    "scalar_encode",
    "scalar_query",
    "set_num_threads",
    "smve_encode",
    "smve_score",
]

class FdeMatrices:
    """
    The matrices of an encoding.
    """
    def __init__(
        self,
        hyperplanes: numpy.typing.NDArray[numpy.float32],
        *,
        p: typing.SupportsInt | typing.SupportsIndex,
        matrix: numpy.typing.NDArray[numpy.float32] | None = None,
        index: numpy.typing.NDArray[numpy.uint32] | None = None,
        signs: numpy.typing.NDArray[numpy.float32] | None = None,
        final_dim: typing.SupportsInt | typing.SupportsIndex = 0,
        final_index: numpy.typing.NDArray[numpy.uint32] | None = None,
        final_signs: numpy.typing.NDArray[numpy.float32] | None = None,
    ) -> None: ...

class RowFilter:
    """
    The rows that a search may return; use tessella.Index.filter.
    """
    def __init__(
        self,
        words: numpy.typing.NDArray[numpy.uint64],
        count: typing.SupportsInt | typing.SupportsIndex,
        copies: bool = False,
    ) -> None: ...
    def count(self) -> int: ...
    def nbytes(self) -> int: ...
    @property
    def words(self) -> numpy.typing.NDArray[numpy.uint64]:
        """
        Bits of the rows (w,).
        """

class SmveBlock:
    """
    Rows of an inverted file: their postings, anchor after anchor.
    """
    def __init__(
        self,
        starts: numpy.typing.NDArray[numpy.int64],
        rows: numpy.typing.NDArray[numpy.uint16],
        weights: numpy.typing.NDArray[numpy.uint8],
        count: typing.SupportsInt | typing.SupportsIndex,
    ) -> None: ...
    def extended(
        self,
        offsets: numpy.typing.NDArray[numpy.int64],
        anchors: numpy.typing.NDArray[numpy.uint32],
        weights: numpy.typing.NDArray[numpy.uint8],
    ) -> SmveBlock:
        """
        A block with more rows: sparse vectors whose weights are bytes.
        """
    @property
    def count(self) -> int:
        """
        Rows of the block.
        """
    @property
    def rows(self) -> numpy.typing.NDArray[numpy.uint16]:
        """
        Rows of the postings.
        """
    @property
    def starts(self) -> numpy.typing.NDArray[numpy.int64]:
        """
        Where the postings of each anchor begin (anchors + 1).
        """
    @property
    def weights(self) -> numpy.typing.NDArray[numpy.uint8]:
        """
        Weights of the postings.
        """

class FlatIndex:
    """
    The flat index's engine; use tessella.Index.
    """
    def __contains__(self, id: typing.SupportsInt | typing.SupportsIndex) -> bool: ...
    def __init__(
        self,
        *,
        dim: typing.SupportsInt | typing.SupportsIndex,
        metric: str,
        codecs: collections.abc.Sequence[str],
        seed: typing.SupportsInt | typing.SupportsIndex,
    ) -> None: ...
    def __len__(self) -> int: ...
    def add(
        self,
        x: numpy.typing.NDArray[numpy.float32],
        ids: numpy.typing.NDArray[numpy.int64] | None,
        threads: typing.SupportsInt | typing.SupportsIndex,
    ) -> None: ...
    def block_bytes(self, column: str) -> int: ...
    def check_new_ids(self, ids: numpy.typing.NDArray[numpy.int64]) -> None: ...
    def check_rows(
        self, x: numpy.typing.NDArray[numpy.float32], first: typing.SupportsInt | typing.SupportsIndex
    ) -> None: ...
    def explain(
        self,
        queries: numpy.typing.NDArray[numpy.float32],
        k: typing.SupportsInt | typing.SupportsIndex,
        epsilon: typing.SupportsFloat | typing.SupportsIndex,
        effort: typing.SupportsInt | typing.SupportsIndex,
        threads: typing.SupportsInt | typing.SupportsIndex,
        filters: collections.abc.Sequence[RowFilter] = [],
        which: numpy.typing.NDArray[numpy.int64] | None = None,
    ) -> tuple[typing.Any, ...]: ...
    def ids(self) -> numpy.typing.NDArray[numpy.int64]: ...
    def nbytes(self) -> int: ...
    def range_search(
        self,
        queries: numpy.typing.NDArray[numpy.float32],
        threshold: typing.SupportsFloat | typing.SupportsIndex,
        epsilon: typing.SupportsFloat | typing.SupportsIndex,
        effort: typing.SupportsInt | typing.SupportsIndex,
        threads: typing.SupportsInt | typing.SupportsIndex,
    ) -> tuple[typing.Any, ...]: ...
    def reconstruct(self, ids: numpy.typing.NDArray[numpy.int64]) -> numpy.typing.NDArray[numpy.float32]: ...
    def remove(self, ids: numpy.typing.NDArray[numpy.int64]) -> None: ...
    def removed_rows(self) -> numpy.typing.NDArray[numpy.int64]: ...
    def restore(self, state: dict[str, typing.Any]) -> None: ...
    def rows_of(self, ids: numpy.typing.NDArray[numpy.int64]) -> numpy.typing.NDArray[numpy.int64]: ...
    def search(
        self,
        queries: numpy.typing.NDArray[numpy.float32],
        k: typing.SupportsInt | typing.SupportsIndex,
        epsilon: typing.SupportsFloat | typing.SupportsIndex,
        effort: typing.SupportsInt | typing.SupportsIndex,
        threads: typing.SupportsInt | typing.SupportsIndex,
    ) -> tuple[typing.Any, ...]: ...
    def set_pq(self, state: dict[str, typing.Any]) -> None: ...
    def snapshot(self) -> dict[str, typing.Any]: ...
    def train(self, x: numpy.typing.NDArray[numpy.float32]) -> None: ...
    def trained(self) -> bool: ...
    def update(
        self,
        ids: numpy.typing.NDArray[numpy.int64],
        x: numpy.typing.NDArray[numpy.float32],
        threads: typing.SupportsInt | typing.SupportsIndex,
    ) -> None: ...

class IvfIndex:
    """
    The inverted file's engine; use tessella.Index.
    """
    def __contains__(self, id: typing.SupportsInt | typing.SupportsIndex) -> bool: ...
    def __init__(
        self,
        *,
        dim: typing.SupportsInt | typing.SupportsIndex,
        metric: str,
        codecs: collections.abc.Sequence[str],
        seed: typing.SupportsInt | typing.SupportsIndex,
        lists: typing.SupportsInt | typing.SupportsIndex,
        spill: bool,
    ) -> None: ...
    def __len__(self) -> int: ...
    def add(
        self,
        x: numpy.typing.NDArray[numpy.float32],
        ids: numpy.typing.NDArray[numpy.int64] | None,
        threads: typing.SupportsInt | typing.SupportsIndex,
    ) -> None: ...
    def block_bytes(self, column: str) -> int: ...
    def centroid_block_bytes(self, column: str) -> int: ...
    def centroids(self) -> numpy.typing.NDArray[numpy.float32]: ...
    def check_new_ids(self, ids: numpy.typing.NDArray[numpy.int64]) -> None: ...
    def check_rows(
        self, x: numpy.typing.NDArray[numpy.float32], first: typing.SupportsInt | typing.SupportsIndex
    ) -> None: ...
    def compact(self, threads: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    def explain(
        self,
        queries: numpy.typing.NDArray[numpy.float32],
        k: typing.SupportsInt | typing.SupportsIndex,
        epsilon: typing.SupportsFloat | typing.SupportsIndex,
        effort: typing.SupportsInt | typing.SupportsIndex,
        threads: typing.SupportsInt | typing.SupportsIndex,
        filters: collections.abc.Sequence[RowFilter] = [],
        which: numpy.typing.NDArray[numpy.int64] | None = None,
    ) -> tuple[typing.Any, ...]: ...
    def ids(self) -> numpy.typing.NDArray[numpy.int64]: ...
    def list_block_bytes(self) -> int: ...
    def list_sizes(self) -> numpy.typing.NDArray[numpy.int64]: ...
    def lists(self) -> int: ...
    def nbytes(self) -> int: ...
    def range_search(
        self,
        queries: numpy.typing.NDArray[numpy.float32],
        threshold: typing.SupportsFloat | typing.SupportsIndex,
        epsilon: typing.SupportsFloat | typing.SupportsIndex,
        effort: typing.SupportsInt | typing.SupportsIndex,
        threads: typing.SupportsInt | typing.SupportsIndex,
    ) -> tuple[typing.Any, ...]: ...
    def reconstruct(self, ids: numpy.typing.NDArray[numpy.int64]) -> numpy.typing.NDArray[numpy.float32]: ...
    def remove(self, ids: numpy.typing.NDArray[numpy.int64]) -> None: ...
    def removed_rows(self) -> numpy.typing.NDArray[numpy.int64]: ...
    def restore(self, state: dict[str, typing.Any]) -> None: ...
    def rows_of(self, ids: numpy.typing.NDArray[numpy.int64]) -> numpy.typing.NDArray[numpy.int64]: ...
    def search(
        self,
        queries: numpy.typing.NDArray[numpy.float32],
        k: typing.SupportsInt | typing.SupportsIndex,
        epsilon: typing.SupportsFloat | typing.SupportsIndex,
        effort: typing.SupportsInt | typing.SupportsIndex,
        threads: typing.SupportsInt | typing.SupportsIndex,
    ) -> tuple[typing.Any, ...]: ...
    def set_pq(self, state: dict[str, typing.Any]) -> None: ...
    def snapshot(self) -> dict[str, typing.Any]: ...
    def train(
        self,
        x: numpy.typing.NDArray[numpy.float32],
        threads: typing.SupportsInt | typing.SupportsIndex,
        progress: typing.Any,
    ) -> None: ...
    def trained(self) -> bool: ...
    def update(
        self,
        ids: numpy.typing.NDArray[numpy.int64],
        x: numpy.typing.NDArray[numpy.float32],
        threads: typing.SupportsInt | typing.SupportsIndex,
    ) -> None: ...

class GraphIndex:
    """
    The graph's engine; use tessella.Index.
    """
    def __contains__(self, id: typing.SupportsInt | typing.SupportsIndex) -> bool: ...
    def __init__(
        self,
        *,
        dim: typing.SupportsInt | typing.SupportsIndex,
        metric: str,
        codecs: collections.abc.Sequence[str],
        seed: typing.SupportsInt | typing.SupportsIndex,
        degree: typing.SupportsInt | typing.SupportsIndex,
    ) -> None: ...
    def __len__(self) -> int: ...
    def add(
        self,
        x: numpy.typing.NDArray[numpy.float32],
        ids: numpy.typing.NDArray[numpy.int64] | None,
        threads: typing.SupportsInt | typing.SupportsIndex,
        progress: typing.Any,
    ) -> None: ...
    def block_bytes(self, column: str) -> int: ...
    def check_new_ids(self, ids: numpy.typing.NDArray[numpy.int64]) -> None: ...
    def check_rows(
        self, x: numpy.typing.NDArray[numpy.float32], first: typing.SupportsInt | typing.SupportsIndex
    ) -> None: ...
    def compact(self, threads: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    def explain(
        self,
        queries: numpy.typing.NDArray[numpy.float32],
        k: typing.SupportsInt | typing.SupportsIndex,
        epsilon: typing.SupportsFloat | typing.SupportsIndex,
        effort: typing.SupportsInt | typing.SupportsIndex,
        threads: typing.SupportsInt | typing.SupportsIndex,
        filters: collections.abc.Sequence[RowFilter] = [],
        which: numpy.typing.NDArray[numpy.int64] | None = None,
    ) -> tuple[typing.Any, ...]: ...
    def ids(self) -> numpy.typing.NDArray[numpy.int64]: ...
    def nbytes(self) -> int: ...
    def range_search(
        self,
        queries: numpy.typing.NDArray[numpy.float32],
        threshold: typing.SupportsFloat | typing.SupportsIndex,
        epsilon: typing.SupportsFloat | typing.SupportsIndex,
        effort: typing.SupportsInt | typing.SupportsIndex,
        threads: typing.SupportsInt | typing.SupportsIndex,
    ) -> tuple[typing.Any, ...]: ...
    def reconstruct(self, ids: numpy.typing.NDArray[numpy.int64]) -> numpy.typing.NDArray[numpy.float32]: ...
    def remove(self, ids: numpy.typing.NDArray[numpy.int64]) -> None: ...
    def removed_rows(self) -> numpy.typing.NDArray[numpy.int64]: ...
    def restore(self, state: dict[str, typing.Any]) -> None: ...
    def rows_of(self, ids: numpy.typing.NDArray[numpy.int64]) -> numpy.typing.NDArray[numpy.int64]: ...
    def search(
        self,
        queries: numpy.typing.NDArray[numpy.float32],
        k: typing.SupportsInt | typing.SupportsIndex,
        epsilon: typing.SupportsFloat | typing.SupportsIndex,
        effort: typing.SupportsInt | typing.SupportsIndex,
        threads: typing.SupportsInt | typing.SupportsIndex,
    ) -> tuple[typing.Any, ...]: ...
    def snapshot(self) -> dict[str, typing.Any]: ...
    def train(self, x: numpy.typing.NDArray[numpy.float32]) -> None: ...
    def trained(self) -> bool: ...
    def update(
        self,
        ids: numpy.typing.NDArray[numpy.int64],
        x: numpy.typing.NDArray[numpy.float32],
        threads: typing.SupportsInt | typing.SupportsIndex,
    ) -> None: ...

def active_isa() -> str:
    """
    The level in use.
    """

def available_isas() -> list[str]:
    """
    Instruction-set levels of this build that this CPU runs, best first.
    """

def binary_dot(
    queries: numpy.typing.NDArray[numpy.float32], codes: numpy.typing.NDArray[numpy.uint8]
) -> numpy.typing.NDArray[numpy.float32]:
    """
    Products of queries (nq, d) with the +-1 values of codes (n, ceil(d/8)) -> (nq, n).
    """

def binary_encode(
    x: numpy.typing.NDArray[numpy.float32], thresholds: numpy.typing.NDArray[numpy.float32] | None = None
) -> numpy.typing.NDArray[numpy.uint8]:
    """
    Rows (n, d) -> their sign bits (n, ceil(d/8)).
    """

def binary_hamming(
    queries: numpy.typing.NDArray[numpy.uint8], codes: numpy.typing.NDArray[numpy.uint8]
) -> numpy.typing.NDArray[numpy.int32]:
    """
    Differing bits of codes (nq, bytes) and codes (n, bytes) -> (nq, n).
    """

def contrast_backward(
    rows: numpy.typing.NDArray[numpy.float32],
    columns: numpy.typing.NDArray[numpy.float32],
    row_scale: numpy.typing.NDArray[numpy.float32],
    column_scale: numpy.typing.NDArray[numpy.float32] | None = None,
    *,
    dims: numpy.typing.NDArray[numpy.uint32],
    hardness: numpy.typing.NDArray[numpy.float32] | None = None,
    row_bound: numpy.typing.NDArray[numpy.float32] | None = None,
    row_ids: numpy.typing.NDArray[numpy.int32] | None = None,
    column_ids: numpy.typing.NDArray[numpy.int32] | None = None,
    row_groups: numpy.typing.NDArray[numpy.int32] | None = None,
    column_groups: numpy.typing.NDArray[numpy.int32] | None = None,
    guide_rows: numpy.typing.NDArray[numpy.float32] | None = None,
    guide_columns: numpy.typing.NDArray[numpy.float32] | None = None,
    guide_bound: numpy.typing.NDArray[numpy.float32] | None = None,
    reduce: str,
    threads: typing.SupportsInt | typing.SupportsIndex,
    out: numpy.typing.NDArray[numpy.float32],
    out_gradient: numpy.typing.NDArray[numpy.float32],
) -> tuple[typing.Any, ...]:
    """
    Gradients of rows (n, d), columns (c, d), row_scale (p, n) and column_scale (p, c) or None.
    """

def contrast_forward(
    rows: numpy.typing.NDArray[numpy.float32],
    columns: numpy.typing.NDArray[numpy.float32],
    row_scale: numpy.typing.NDArray[numpy.float32],
    column_scale: numpy.typing.NDArray[numpy.float32] | None = None,
    *,
    dims: numpy.typing.NDArray[numpy.uint32],
    hardness: numpy.typing.NDArray[numpy.float32] | None = None,
    row_bound: numpy.typing.NDArray[numpy.float32] | None = None,
    row_ids: numpy.typing.NDArray[numpy.int32] | None = None,
    column_ids: numpy.typing.NDArray[numpy.int32] | None = None,
    row_groups: numpy.typing.NDArray[numpy.int32] | None = None,
    column_groups: numpy.typing.NDArray[numpy.int32] | None = None,
    guide_rows: numpy.typing.NDArray[numpy.float32] | None = None,
    guide_columns: numpy.typing.NDArray[numpy.float32] | None = None,
    guide_bound: numpy.typing.NDArray[numpy.float32] | None = None,
    reduce: str,
    threads: typing.SupportsInt | typing.SupportsIndex,
) -> numpy.typing.NDArray[numpy.float32]:
    """
    Log-sum-exp, or sum of softplus, of the logits that count: (p, n).
    """

def fde_encode(
    tokens: numpy.typing.NDArray[numpy.float32] | numpy.typing.NDArray[numpy.uint16],
    kind: str,
    offsets: numpy.typing.NDArray[numpy.int64],
    matrices: FdeMatrices,
    *,
    queries: bool,
    fill: str,
    out: numpy.typing.NDArray[numpy.float32] | numpy.typing.NDArray[numpy.uint16],
    threads: typing.SupportsInt | typing.SupportsIndex,
) -> None:
    """
    Encodings of queries or documents, tokens (T, d) float32, float16 or bfloat16 (as uint16), into out (n, dim), float32 or float16 (as uint16).
    """

def force_way(way: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    For tests: filtered searches go this way from now on; -1: any.
    """

def graph_encode(
    vertex: numpy.typing.NDArray[numpy.float32],
    neighbours: numpy.typing.NDArray[numpy.float32],
    centre: numpy.typing.NDArray[numpy.float32] | None = None,
) -> tuple[typing.Any, ...]:
    """
    Edges from a rotated residual (D,) to others (n, D) -> sign bits (n, D/8), scales and terms (n,). centre (D,), rotated: under inner product; none under squared distance.
    """

def graph_scan(
    query: numpy.typing.NDArray[numpy.float32],
    blocks: numpy.typing.NDArray[numpy.uint8],
    visits: numpy.typing.NDArray[numpy.uint32],
    metric: str,
    *,
    adds: numpy.typing.NDArray[numpy.float32],
    threshold: typing.SupportsFloat | typing.SupportsIndex,
) -> tuple[typing.Any, ...]:
    """
    A rotated query (D,) visits vertices (v,), one after another, whose blocks (n, degree/32, bytes) it is given: estimates (v, degree) and, as bits (v, degree/32), which of them reach the threshold.
    """

def kmeans_assign(
    x: numpy.typing.NDArray[numpy.float32],
    centroids: numpy.typing.NDArray[numpy.float32],
    *,
    spherical: bool,
    threads: typing.SupportsInt | typing.SupportsIndex,
) -> tuple[typing.Any, ...]:
    """
    Nearest centroid of each row (n,) and its similarity, <x, c> - |c|^2 / 2 or (spherical) <x, c>.
    """

def kmeans_train(
    x: numpy.typing.NDArray[numpy.float32],
    *,
    k: typing.SupportsInt | typing.SupportsIndex,
    iterations: typing.SupportsInt | typing.SupportsIndex,
    spherical: bool,
    seed: typing.SupportsInt | typing.SupportsIndex,
    sample: typing.SupportsInt | typing.SupportsIndex,
    in_parts: bool,
    threads: typing.SupportsInt | typing.SupportsIndex,
    progress: typing.Any,
) -> tuple[typing.Any, ...]:
    """
    Rows (n, d) -> centroids (k, d) and the mean cost before each iteration.
    """

def maxsim_score(
    queries: numpy.ndarray,
    query_scales: numpy.typing.NDArray[numpy.float32] | None,
    query_offsets: numpy.typing.NDArray[numpy.int64],
    tokens: numpy.ndarray,
    type: str,
    scales: numpy.typing.NDArray[numpy.float32] | None,
    begins: numpy.typing.NDArray[numpy.int64],
    ends: numpy.typing.NDArray[numpy.int64],
    which: numpy.typing.NDArray[numpy.int64] | None,
    *,
    threads: typing.SupportsInt | typing.SupportsIndex,
) -> numpy.typing.NDArray[numpy.float32]:
    """
    MaxSim (nq, count) of queries (Q, d) and documents of tokens (T, d): all, or of each query those in `which`.
    """

def num_threads() -> int:
    """
    Threads a call uses when it does not say.
    """

def pin_isa(isa: str) -> None:
    """
    Use this level from now on.
    """

def pooling_backward(
    hidden: numpy.ndarray,
    *,
    kind: str,
    segments: numpy.typing.NDArray[numpy.uint64],
    mask: numpy.typing.NDArray[numpy.uint8] | None = None,
    modes: collections.abc.Sequence[str],
    pooled_gradient: numpy.typing.NDArray[numpy.float32],
    threads: typing.SupportsInt | typing.SupportsIndex,
) -> numpy.typing.NDArray[numpy.float32]:
    """
    Gradient of the states (tokens, d), given that of the pooled numbers (n, modes * d).
    """

def pooling_forward(
    hidden: numpy.ndarray,
    *,
    kind: str,
    segments: numpy.typing.NDArray[numpy.uint64],
    mask: numpy.typing.NDArray[numpy.uint8] | None = None,
    modes: collections.abc.Sequence[str],
    weight: numpy.typing.NDArray[numpy.float32] | None = None,
    bias: numpy.typing.NDArray[numpy.float32] | None = None,
    dim: typing.SupportsInt | typing.SupportsIndex,
    normalize: bool,
    dtype: str,
    scale: numpy.typing.NDArray[numpy.float32],
    threads: typing.SupportsInt | typing.SupportsIndex,
) -> numpy.ndarray:
    """
    States (tokens, d) and segments (n, 3) -> (n, width) of the dtype; binary: (n, ceil(width / 8)) bytes.
    """

def pq_encode(
    rows: numpy.typing.NDArray[numpy.float32],
    codebooks: numpy.typing.NDArray[numpy.float32],
    biases: numpy.typing.NDArray[numpy.float32],
    *,
    inverse_norms: numpy.typing.NDArray[numpy.float32] | None = None,
    weight: typing.SupportsFloat | typing.SupportsIndex = 0.0,
    sweeps: typing.SupportsInt | typing.SupportsIndex = 0,
    threads: typing.SupportsInt | typing.SupportsIndex | None = None,
) -> numpy.typing.NDArray[numpy.uint8]:
    """
    Rows (n, d), codebooks (m, d/m, 2^bits) and biases -|c|^2/2 -> codes (n, m) or, at 4 bits, (n, ceil(m/2)).
    """

def pq_pack(table: numpy.typing.NDArray[numpy.float32]) -> typing.Any:
    """
    A table (m, 16) in 6-bit entries as the level in use lays them out: entries, step, base. One of (m, 256) in bytes that bound its sums from above, or None where the level has no use for them.
    """

def pq_rotate(
    rows: numpy.typing.NDArray[numpy.float32],
    rotation: numpy.typing.NDArray[numpy.float32],
    *,
    threads: typing.SupportsInt | typing.SupportsIndex | None = None,
) -> numpy.typing.NDArray[numpy.float32]:
    """
    Rows (n, d) times a rotation (d, d).
    """

def pq_scan(
    tables: numpy.typing.NDArray[numpy.float32],
    blocks: numpy.typing.NDArray[numpy.uint8],
    n: typing.SupportsInt | typing.SupportsIndex,
    *,
    terms: bool,
    thresholds: numpy.typing.NDArray[numpy.float32],
    exact: bool = False,
) -> list[typing.Any]:
    """
    One pass of 1 to 4 queries' tables (nq, m, 2^bits) over blocks: (rows, similarities) of each.
    """

def pq_sum(
    tables: numpy.typing.NDArray[numpy.float32],
    codes: numpy.typing.NDArray[numpy.uint8],
    which: numpy.typing.NDArray[numpy.uint32] | None = None,
) -> numpy.typing.NDArray[numpy.float32]:
    """
    Sums of table entries over all codes, or over codes `which` -> (nq, count).
    """

def pq_table(
    queries: numpy.typing.NDArray[numpy.float32], codebooks: numpy.typing.NDArray[numpy.float32], metric: str
) -> numpy.typing.NDArray[numpy.float32]:
    """
    Queries (nq, d) -> inner products with, or minus squared distances to, every codeword (nq, m, 2^bits).
    """

def pq_update(
    rows: numpy.typing.NDArray[numpy.float32],
    codes: numpy.typing.NDArray[numpy.uint8],
    m: typing.SupportsInt | typing.SupportsIndex,
    bits: typing.SupportsInt | typing.SupportsIndex,
    *,
    threads: typing.SupportsInt | typing.SupportsIndex | None = None,
) -> tuple[typing.Any, ...]:
    """
    Sums (m, 2^bits, d/m) and counts (m, 2^bits) of the rows of each codeword.
    """

def rabitq_encode(residuals: numpy.typing.NDArray[numpy.float32]) -> tuple[typing.Any, ...]:
    """
    Rotated residuals (n, D) -> sign bits (n, D/8), scales, errors and squared norms (n,).
    """

def rabitq_scan(
    queries: numpy.typing.NDArray[numpy.float32],
    blocks: numpy.typing.NDArray[numpy.uint8],
    n: typing.SupportsInt | typing.SupportsIndex,
    metric: str,
    *,
    adds: numpy.typing.NDArray[numpy.float32],
    epsilons: numpy.typing.NDArray[numpy.float32],
    thresholds: numpy.typing.NDArray[numpy.float32],
) -> list[typing.Any]:
    """
    One pass of 1 to 4 rotated queries (nq, D) over blocks: (rows, estimates, upper bounds) of each.
    """

def rabitq_table(query: numpy.typing.NDArray[numpy.float32]) -> tuple[typing.Any, ...]:
    """
    Look-up tables of a rotated query (D,) as the level in use lays them out: entries, step, base.
    """

def rotate_forward(
    x: numpy.typing.NDArray[numpy.float32],
    signs: numpy.typing.NDArray[numpy.uint64],
    centre: numpy.typing.NDArray[numpy.float32] | None = None,
) -> numpy.typing.NDArray[numpy.float32]:
    """
    R(x - centre): (n, d) -> (n, D).
    """

def rotate_inverse(
    y: numpy.typing.NDArray[numpy.float32],
    signs: numpy.typing.NDArray[numpy.uint64],
    d: typing.SupportsInt | typing.SupportsIndex,
    centre: numpy.typing.NDArray[numpy.float32] | None = None,
) -> numpy.typing.NDArray[numpy.float32]:
    """
    R^-1 y + centre: (n, D) -> (n, d).
    """

def rotate_signs(
    padded: typing.SupportsInt | typing.SupportsIndex, seed: typing.SupportsInt | typing.SupportsIndex
) -> numpy.typing.NDArray[numpy.uint64]:
    """
    Sign bits (4, D/64) of a rotation of D = padded dimensions.
    """

def scalar_decode(
    codes: numpy.typing.NDArray[numpy.uint8], bits: typing.SupportsInt | typing.SupportsIndex, grid: str
) -> numpy.typing.NDArray[numpy.float32]:
    """
    Codes (n, D*bits/8) -> values before the scale (n, D).
    """

def scalar_dot(
    queries: numpy.typing.NDArray[numpy.float32],
    codes: numpy.typing.NDArray[numpy.uint8],
    bits: typing.SupportsInt | typing.SupportsIndex,
    grid: str,
    which: numpy.typing.NDArray[numpy.uint32] | None = None,
) -> numpy.typing.NDArray[numpy.float32]:
    """
    Products of rotated queries (nq, D) with values of all rows, or of rows `which` -> (nq, count).
    """

def scalar_encode(
    residuals: numpy.typing.NDArray[numpy.float32], bits: typing.SupportsInt | typing.SupportsIndex, grid: str
) -> tuple[typing.Any, ...]:
    """
    Rotated residuals (n, D) -> codes (n, D*bits/8), scales (n,), squared norms (n,).
    """

def scalar_query(query: numpy.typing.NDArray[numpy.float32]) -> tuple[typing.Any, ...]:
    """
    A rotated query (D,) in integers: words, bytes, word_step, byte_step.
    """

def set_num_threads(threads: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    Set the default number of threads.
    """

def smve_encode(
    tokens: numpy.typing.NDArray[numpy.float32],
    offsets: numpy.typing.NDArray[numpy.int64],
    signs: numpy.typing.NDArray[numpy.uint64],
    *,
    kept: typing.SupportsInt | typing.SupportsIndex,
    queries: bool,
    threads: typing.SupportsInt | typing.SupportsIndex,
) -> tuple[typing.Any, ...]:
    """
    Sparse vectors (offsets, anchors, weights) of queries or documents, tokens (T, d).
    """

def smve_score(
    blocks: collections.abc.Sequence[SmveBlock],
    scales: numpy.typing.NDArray[numpy.float32],
    offsets: numpy.typing.NDArray[numpy.int64],
    query_anchors: numpy.typing.NDArray[numpy.uint32],
    query_weights: numpy.typing.NDArray[numpy.uint32],
    *,
    threads: typing.SupportsInt | typing.SupportsIndex,
) -> numpy.typing.NDArray[numpy.float32]:
    """
    Scores (nq, n) of the rows of all blocks.
    """

N4_GRID: str = "lloyd"
__version__: str
