"""Sign bits on every level: bits and counts exactly, float products within float32."""

from __future__ import annotations

import numpy as np
import pytest

from tessella import _core
from tessella.errors import InvalidArgument
from tessella.reference import binary as reference
from tests.kernels.cases import DIMS, ROWS, VALUES, assert_close, rows, same_bits


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("d", DIMS)
def test_encode(level: str, rng: np.random.Generator, d: int, values: str) -> None:
    x = rows(rng, 9, d, values)
    x[0] = -0.0  # not above 0
    assert same_bits(_core.binary_encode(x), reference.binary_encode(x))
    thresholds = rows(rng, 1, d, values)[0]
    x[1] = thresholds  # not above themselves
    assert same_bits(_core.binary_encode(x, thresholds), reference.binary_encode(x, thresholds))


@pytest.mark.parametrize("n", ROWS)
@pytest.mark.parametrize("d", DIMS)
def test_hamming(level: str, rng: np.random.Generator, d: int, n: int) -> None:
    queries, codes = (reference.binary_encode(rows(rng, count, d)) for count in (3, n))
    assert same_bits(_core.binary_hamming(queries, codes), reference.binary_hamming(queries, codes))


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("d", DIMS)
def test_dot(level: str, rng: np.random.Generator, d: int, values: str) -> None:
    queries, codes = rows(rng, 4, d, values), reference.binary_encode(rows(rng, 33, d))
    magnitude = np.abs(queries).sum(axis=1, dtype=np.float64)[:, None]
    assert_close(_core.binary_dot(queries, codes), reference.binary_dot(queries, codes), magnitude)


@pytest.mark.parametrize("n", ROWS)
def test_dot_of_whole_numbers_is_exact(level: str, rng: np.random.Generator, n: int) -> None:
    queries = rng.integers(-9, 10, size=(5, 100)).astype(np.float32)
    codes = rng.integers(0, 256, size=(n, 13)).astype(np.uint8)  # spare bits are not looked at
    assert np.array_equal(_core.binary_dot(queries, codes), reference.binary_dot(queries, codes))


def test_hamming_is_the_distance_of_signs(rng: np.random.Generator) -> None:
    """<a, b> = d - 2 h(a, b) for vectors of +1 and -1."""
    codes = reference.binary_encode(rows(rng, 20, 77))
    signs = reference.binary_decode(codes, 77)
    assert np.array_equal(77 - 2 * reference.binary_hamming(codes, codes), signs @ signs.T)


def test_wrong_shapes_are_sentences() -> None:
    with pytest.raises(InvalidArgument, match=r"expected thresholds of shape \(3,\); got \(4,\)"):
        _core.binary_encode(np.zeros((2, 3), np.float32), np.zeros(4, np.float32))
    with pytest.raises(InvalidArgument, match=r"binary_dot: expected codes of shape \(n, 2\); got \(5, 1\)"):
        _core.binary_dot(np.zeros((2, 9), np.float32), np.zeros((5, 1), np.uint8))
    with pytest.raises(InvalidArgument, match=r"binary_hamming: expected codes of shape \(n, 2\); got \(5, 1\)"):
        _core.binary_hamming(np.zeros((2, 2), np.uint8), np.zeros((5, 1), np.uint8))
