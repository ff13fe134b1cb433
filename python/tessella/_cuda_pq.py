"""Product quantization of torch tensors in CUDA memory: check, allocate, enqueue on torch's current stream."""

from __future__ import annotations

from typing import Any

from tessella._cuda_tensors import Tensors, check, cuda_module

BLOCK_ROWS = 32
BITS = {16: 4, 256: 8}  # of a codebook's length


def pq_encode(rows: Any, codebooks: Any, biases: Any) -> Any:
    """rows (n, d) -> codes (n, m) uint8, or (n, ceil(m/2)) where codebooks (m, d/m, k) have k = 16 and not 256.

    biases (m, k) are -|c|^2 / 2. Of equally near codewords the one with the smaller number. Cost: n * d * k
    multiply-adds.
    """
    tensors = Tensors("pq_encode")
    codebooks, bits = _codebooks(tensors, codebooks)
    m, dims, k = codebooks.shape
    rows = tensors.take("rows", rows, "float32", "n", m * dims)
    biases = tensors.take("biases", biases, "float32", m, k)
    codes = tensors.empty("uint8", len(rows), -(-m * bits // 8))
    cuda_module("pq_encode").pq_encode(
        rows=rows.data_ptr(), n=len(rows), d=m * dims, m=m, bits=bits, codebooks=codebooks.data_ptr(),
        biases=biases.data_ptr(), codes=codes.data_ptr(), **tensors.where(),
    )  # fmt: skip
    return codes


def pq_table(queries: Any, codebooks: Any, metric: str) -> Any:
    """queries (nq, d) -> tables (nq, m, k): inner products ("ip"), or minus squared distances ("l2"), to codewords."""
    tensors = Tensors("pq_table")
    codebooks, bits = _codebooks(tensors, codebooks)
    m, dims, k = codebooks.shape
    queries = tensors.take("queries", queries, "float32", "nq", m * dims)
    tables = tensors.empty("float32", len(queries), m, k)
    cuda_module("pq_table").pq_table(
        queries=queries.data_ptr(), nq=len(queries), d=m * dims, m=m, bits=bits, codebooks=codebooks.data_ptr(),
        metric=metric, tables=tables.data_ptr(), **tensors.where(),
    )  # fmt: skip
    return tables


def pq_scan(blocks: Any, n: int, tables: Any, *, terms: bool, thresholds: Any, capacity: int) -> tuple[Any, Any]:
    """The rows whose similarity reaches the query's threshold: (hits (nq, capacity, 3) int32, counts (nq) int32).

    A hit is a row and twice the pattern of its similarity, a float32; hits come in no order, and those beyond
    `capacity` are counted alone. blocks (ceil(n/32), bytes) uint8 are those of the CPU, tables (nq, m, k) of pq_table.
    """
    tensors = Tensors("pq_scan")
    tables = tensors.take("tables", tables, "float32", "nq", "m", "k")
    nq, m, k = tables.shape
    bits = _bits("pq_scan", k)
    columns = m if bits == 8 else -(-m // 8) * 4
    blocks = tensors.take("blocks", blocks, "uint8", -(-n // BLOCK_ROWS), BLOCK_ROWS * (columns + (4 if terms else 0)))
    thresholds = tensors.take("thresholds", thresholds, "float32", nq)
    hits, counts = tensors.empty("int32", nq, capacity, 3), tensors.empty("int32", nq)
    cuda_module("pq_scan").pq_scan(
        blocks=blocks.data_ptr(), n=n, m=m, bits=bits, terms=terms, tables=tables.data_ptr(), nq=nq,
        thresholds=thresholds.data_ptr(), hits=hits.data_ptr(), capacity=capacity, counts=counts.data_ptr(),
        **tensors.where(),
    )  # fmt: skip
    return hits, counts


def _codebooks(tensors: Tensors, codebooks: Any) -> tuple[Any, int]:
    codebooks = tensors.take("codebooks", codebooks, "float32", "m", "d/m", "k")
    return codebooks, _bits(tensors.operation, codebooks.shape[2])


def _bits(operation: str, k: int) -> int:
    check(k in BITS, f"{operation}: expected 16 or 256 codewords a piece; got {k}")
    return BITS[k]
