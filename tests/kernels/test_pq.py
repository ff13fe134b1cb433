"""Product quantization on every level: codes, sums and integer scans as the reference has them."""

from __future__ import annotations

import numpy as np
import pytest

from tessella import _core
from tessella.errors import InvalidArgument
from tessella.reference import pq as reference
from tessella.reference.pq import Codes
from tests.kernels.cases import ROWS, Array, Floats, assert_close, rows, same_bits

SHAPES = [(1, 1), (2, 2), (12, 4), (96, 12), (100, 5), (63, 7), (64, 8), (384, 96), (35, 35)]  # (d, m)
KINDS = [16, 256]
WIDE = 1100  # pieces, beyond what 16-bit sums hold at once


def bits_of(k: int) -> int:
    return 4 if k == 16 else 8


def codebooks(rng: np.random.Generator, d: int, m: int, k: int) -> Floats:
    return rows(rng, m * (d // m), k).reshape(m, d // m, k)


def encode(x: Floats, books: Floats) -> Codes:
    return np.asarray(_core.pq_encode(x, books, reference.code_biases(books)))


@pytest.mark.parametrize("k", KINDS)
@pytest.mark.parametrize(("d", "m"), SHAPES)
def test_encode(level: str, rng: np.random.Generator, d: int, m: int, k: int) -> None:
    x, books = rows(rng, 67, d), codebooks(rng, d, m, k)
    expected = reference.pack_codes(reference.pq_encode(x, books), bits_of(k))
    assert same_bits(encode(x, books), expected)


@pytest.mark.parametrize("k", KINDS)
@pytest.mark.parametrize("n", ROWS)
def test_encode_sizes(level: str, rng: np.random.Generator, n: int, k: int) -> None:
    x, books = rows(rng, n, 24), codebooks(rng, 24, 6, k)
    assert same_bits(encode(x, books), reference.pack_codes(reference.pq_encode(x, books), bits_of(k)))


@pytest.mark.parametrize("values", ["huge", "tiny", "zeros", "spiky"])
def test_encode_values(level: str, rng: np.random.Generator, values: str) -> None:
    x, books = rows(rng, 40, 32, values), codebooks(rng, 32, 8, 256)
    assert same_bits(encode(x, books), reference.pq_encode(x, books))


@pytest.mark.parametrize("k", KINDS)
def test_ties_go_to_the_smaller_number(level: str, k: int) -> None:
    books = np.ones((3, 4, k), np.float32)
    books[:, :, 5:] = 2
    x = np.array([[2] * 12, [1] * 12, [0] * 12], np.float32)
    numbers = reference.unpack_codes(encode(x, books), 3, bits_of(k))
    assert numbers.tolist() == [[5] * 3, [0] * 3, [0] * 3]


@pytest.mark.parametrize("k", KINDS)
@pytest.mark.parametrize("sweeps", [0, 1, 3])
def test_encode_anisotropic(level: str, rng: np.random.Generator, sweeps: int, k: int) -> None:
    x, books = rows(rng, 67, 36), codebooks(rng, 36, 9, k)
    x[3] = 0
    lengths = np.linalg.norm(x, axis=1)
    inverse = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    got = _core.pq_encode(x, books, reference.code_biases(books), inverse_norms=inverse, weight=3.5, sweeps=sweeps)
    expected = reference.pq_encode_anisotropic(x, books, inverse, 3.5, sweeps)
    assert same_bits(got, reference.pack_codes(expected, bits_of(k)))
    if sweeps == 0:
        assert np.array_equal(expected, reference.pq_encode(x, books))
    else:
        assert anisotropic_loss(x, expected, books) < anisotropic_loss(x, reference.pq_encode(x, books), books)


def anisotropic_loss(x: Floats, numbers: Codes, books: Floats) -> float:
    r = (x - reference.pq_decode(numbers, books)).astype(np.float64)
    along = (r * x).sum(axis=1) / np.maximum(np.linalg.norm(x, axis=1), 1e-30)
    return float((r**2).sum() + 3.5 * (along**2).sum())


@pytest.mark.parametrize("d", [1, 3, 7, 8, 9, 31, 64, 100])
@pytest.mark.parametrize("n", [0, 1, 33, 300])
def test_rotate(level: str, rng: np.random.Generator, n: int, d: int) -> None:
    x, matrix = rows(rng, n, d), rows(rng, d, d)
    assert same_bits(_core.pq_rotate(x, matrix), reference.pq_rotate(x, matrix))


@pytest.mark.parametrize("k", KINDS)
@pytest.mark.parametrize(("d", "m"), [(12, 4), (100, 5), (35, 35), (80, 40)])
def test_update(level: str, rng: np.random.Generator, d: int, m: int, k: int) -> None:
    x = rows(rng, 127, d)
    numbers = rng.integers(0, k, size=(127, m)).astype(np.uint8)
    got = _core.pq_update(x, reference.pack_codes(numbers, bits_of(k)), m, bits_of(k))
    for mine, expected in zip(got, reference.pq_update(x, numbers, k), strict=True):
        assert same_bits(mine, expected)


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("k", KINDS)
@pytest.mark.parametrize(("d", "m"), SHAPES)
def test_tables(level: str, rng: np.random.Generator, d: int, m: int, k: int, metric: str) -> None:
    queries, books = rows(rng, 3, d), codebooks(rng, d, m, k)
    tables = _core.pq_table(queries, books, metric)
    for query, table in zip(queries, tables, strict=True):
        assert same_bits(table, reference.pq_table(query, books, metric))


@pytest.mark.parametrize("m", [1, 2, 7, 8, 9, 96])
def test_packed_tables_follow_the_definition(level: str, rng: np.random.Generator, m: int) -> None:
    table = rows(rng, m, 16)
    entries, step, base = _core.pq_pack(table)
    expected = reference.pq_pack(table)
    assert (np.float32(step), np.float32(base)) == (expected.step, expected.base)
    assert entries.max() == expected.entries.max() == 63


@pytest.mark.parametrize("k", KINDS)
@pytest.mark.parametrize("m", [1, 2, 7, 8, 16, 17, 33, 96])
def test_sums(level: str, rng: np.random.Generator, m: int, k: int) -> None:
    tables = np.stack([rows(rng, m, k) for _ in range(3)])
    numbers = rng.integers(0, k, size=(71, m)).astype(np.uint8)
    codes = reference.pack_codes(numbers, bits_of(k))
    picked = rng.permutation(71)[:9].astype(np.uint32)
    got, some = _core.pq_sum(tables, codes), _core.pq_sum(tables, codes, picked)
    for table, mine in zip(tables, got, strict=True):
        assert same_bits(mine, reference.pq_sum(table, numbers))
    assert same_bits(some, got[:, picked])


def scanned(tables: Floats, numbers: Codes, terms: Floats | None, thresholds: Array) -> list[tuple[Array, Floats]]:
    bits = bits_of(tables.shape[2])
    blocks = reference.pack_blocks(reference.pack_codes(numbers, bits), numbers.shape[1], bits, terms)
    found: list[tuple[Array, Floats]] = _core.pq_scan(
        tables, blocks, len(numbers), terms=terms is not None, thresholds=thresholds.astype(np.float32)
    )
    return found


@pytest.mark.parametrize("nq", [1, 2, 3, 4])
@pytest.mark.parametrize("m", [1, 7, 8, 31, 96, WIDE])
def test_nibble_sums_are_exact(level: str, rng: np.random.Generator, m: int, nq: int) -> None:
    tables = np.stack([rows(rng, m, 16) for _ in range(nq)])
    numbers = rng.integers(0, 16, size=(77, m)).astype(np.uint8)
    for table, (which, got) in zip(tables, scanned(tables, numbers, None, np.full(nq, -np.inf)), strict=True):
        packed = reference.pq_pack(table)
        assert which.tolist() == list(range(77))
        sums = packed.entries[np.arange(m), numbers].sum(axis=1, dtype=np.int64)
        assert np.array_equal(np.rint((got.astype(np.float64) - packed.base) / packed.step), sums)


@pytest.mark.parametrize("k", KINDS)
@pytest.mark.parametrize("n", ROWS[1:])
@pytest.mark.parametrize("with_terms", [False, True])
def test_scans(level: str, rng: np.random.Generator, n: int, with_terms: bool, k: int) -> None:
    """A threshold keeps exactly the rows that reach it; without one every row comes, in order."""
    tables = np.stack([rows(rng, 11, k) for _ in range(4)])
    numbers = rng.integers(0, k, size=(n, 11)).astype(np.uint8)
    terms = rows(rng, n, 1)[:, 0] if with_terms else None
    everything = scanned(tables, numbers, terms, np.full(4, -np.inf))
    for table, (which, got) in zip(tables, everything, strict=True):
        assert which.tolist() == list(range(n))
        step = float(reference.pq_pack(table).step) if k == 16 else 0.0
        less = 0 if terms is None else terms
        expected = reference.pq_sum(table, numbers).astype(np.float64) - less
        assert np.all(np.abs(got - expected) <= 11 * step / 2 + 1e-4)
        if k == 256 and terms is None:
            assert same_bits(got, reference.pq_sum(table, numbers))
    thresholds = np.array([np.sort(got)[n // 2] for _, got in everything])
    for (_, got), threshold, (kept, left) in zip(
        everything, thresholds, scanned(tables, numbers, terms, thresholds), strict=True
    ):
        assert kept.tolist() == np.flatnonzero(got >= threshold).tolist()
        assert same_bits(left, got[kept])


@pytest.mark.parametrize("shift", [0.0, 1e4, -1e7])
@pytest.mark.parametrize("m", [3, 48, 300])
@pytest.mark.parametrize("k", KINDS)
@pytest.mark.parametrize("with_terms", [False, True])
def test_rows_at_the_threshold_are_hits(
    level: str, rng: np.random.Generator, m: int, shift: float, k: int, with_terms: bool
) -> None:
    """Rows are first ruled out by integers: that never drops one whose similarity is the threshold."""
    table = rows(rng, m, k) + np.float32(shift)
    numbers = rng.integers(0, k, size=(300, m)).astype(np.uint8)
    terms = rows(rng, 300, 1)[:, 0] - np.float32(m * shift) if with_terms else None
    ((_, all_of_them),) = scanned(table[None], numbers, terms, np.array([-np.inf]))
    ends = [np.inf, np.nan, np.float32(3e38), np.float32(-3e38)]
    some = np.unique(all_of_them)[:: 1 if m < 300 else 7]
    for threshold in [*some, *np.nextafter(some, np.float32(np.inf)), *ends]:
        ((which, got),) = scanned(table[None], numbers, terms, np.array([threshold]))
        assert which.tolist() == np.flatnonzero(all_of_them >= threshold).tolist()
        assert same_bits(got, all_of_them[which])


@pytest.mark.parametrize("wide", [1.0, 1e3])
@pytest.mark.parametrize("m", [1, 16, 33, 256])
def test_bytes_bound_sums_from_above(level: str, rng: np.random.Generator, m: int, wide: float) -> None:
    table = rows(rng, m, 256)
    table[0] *= wide
    packed = _core.pq_pack(table)
    assert (packed is not None) == (level == "avx512")
    if packed is None:
        return
    numbers = rng.integers(0, 256, size=(2000, m)).astype(np.uint8)
    entries, step, base = packed
    bounds = base + step * entries.reshape(m, 256)[np.arange(m), numbers].sum(axis=1, dtype=np.float64)
    sums = reference.pq_sum(table, numbers)
    assert (bounds >= sums).all() and (bounds - sums).max() < step * (m + 1)


def test_tables_that_bytes_cannot_bound(level: str, rng: np.random.Generator) -> None:
    """Too large, or all alike: rows are found by the floats."""
    numbers = rng.integers(0, 256, size=(90, 4)).astype(np.uint8)
    for table in (np.full((4, 256), 3e37, np.float32), np.zeros((4, 256), np.float32), rows(rng, 300, 256)):
        assert _core.pq_pack(table) is None
    ((which, got),) = scanned(np.ones((1, 4, 256), np.float32), numbers, None, np.array([4.0]))
    assert which.tolist() == list(range(90)) and (got == 4).all()


@pytest.mark.parametrize("m", [1, 8, 31, 96])
@pytest.mark.parametrize("with_terms", [False, True])
def test_exact_scans_score_by_the_table_itself(level: str, rng: np.random.Generator, with_terms: bool, m: int) -> None:
    """Even where one piece is much wider than the others, which rounds these to nothing."""
    tables = np.stack([rows(rng, m, 16) for _ in range(3)])
    tables[:, 0] *= 30
    numbers = rng.integers(0, 16, size=(127, m)).astype(np.uint8)
    terms = rows(rng, 127, 1)[:, 0] if with_terms else None
    blocks = reference.pack_blocks(reference.pack_codes(numbers, 4), m, 4, terms)
    less = np.float32(0) if terms is None else terms
    expected = [reference.pq_sum(table, numbers) - less for table in tables]
    thresholds = np.array([np.sort(each)[-20] for each in expected], np.float32)
    found = _core.pq_scan(tables, blocks, 127, terms=with_terms, thresholds=thresholds, exact=True)
    for (which, got), each, threshold in zip(found, expected, thresholds, strict=True):
        assert set(which) <= set(np.flatnonzero(each >= threshold))
        assert len(which) >= 18
        assert same_bits(got, each[which])


def test_a_table_without_differences_gives_its_base(level: str) -> None:
    table = np.repeat(np.arange(9, dtype=np.float32)[:, None], 16, axis=1)
    ((_, got),) = scanned(table[None], np.zeros((40, 9), np.uint8), None, np.array([-np.inf]))
    assert got.tolist() == [36.0] * 40


def test_sums_are_close_to_products(rng: np.random.Generator) -> None:
    x, query, books = rows(rng, 50, 48), rows(rng, 1, 48)[0], codebooks(rng, 48, 8, 256)
    numbers = reference.pq_encode(x, books)
    decoded = reference.pq_decode(numbers, books).astype(np.float64)
    got = reference.pq_sum(reference.pq_table(query, books, "ip"), numbers)
    assert_close(got, decoded @ query, np.abs(decoded) @ np.abs(query))
    apart = ((decoded - query) ** 2).sum(axis=1)
    assert_close(reference.pq_sum(reference.pq_table(query, books, "l2"), numbers), -apart, apart)


def test_wrong_arguments_are_sentences() -> None:
    x, books = np.zeros((3, 8), np.float32), np.zeros((2, 4, 16), np.float32)
    biases = np.zeros((2, 16), np.float32)
    with pytest.raises(InvalidArgument, match=r"expected codebooks of shape \(m, d/m, 16 or 256\); got \(2, 4, 17\)"):
        _core.pq_encode(x, np.zeros((2, 4, 17), np.float32), biases)
    with pytest.raises(InvalidArgument, match=r"expected rows of shape \(n, 8\); got \(3, 9\)"):
        _core.pq_encode(np.zeros((3, 9), np.float32), books, biases)
    with pytest.raises(InvalidArgument, match="expected metric 'ip' or 'l2'; got 'cosine'"):
        _core.pq_table(x, books, "cosine")
    tables = np.zeros((1, 2, 16), np.float32)
    with pytest.raises(InvalidArgument, match=r"expected blocks of shape \(n, 128\); got \(1, 64\)"):
        _core.pq_scan(tables, np.zeros((1, 64), np.uint8), 1, terms=False, thresholds=np.zeros(1, np.float32))
    with pytest.raises(InvalidArgument, match="expected rows that the blocks hold; got 33"):
        _core.pq_scan(tables, np.zeros((1, 128), np.uint8), 33, terms=False, thresholds=np.zeros(1, np.float32))
    with pytest.raises(InvalidArgument, match="expected row numbers below 3; got 3"):
        _core.pq_sum(tables, np.zeros((3, 1), np.uint8), np.array([3], np.uint32))
