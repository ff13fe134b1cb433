"""Scalar codes on every level: the reference's bytes, scales and sums, bit for bit."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tessella import _core
from tessella.errors import InvalidArgument
from tessella.reference import rotate
from tessella.reference import scalar as reference
from tests.kernels.cases import PADDED, ROWS, VALUES, Floats, rows, same_bits

CODES = [*((bits, "uniform") for bits in range(2, 9)), (4, "lloyd")]
# Standard deviation of an estimate in units of |r| |q'| / sqrt(D - 1), for a Gaussian.
ERRORS = {2: 0.367, 3: 0.197, 4: 0.108, 5: 0.0592, 6: 0.0323, 7: 0.0175, 8: 0.0094, "lloyd": 0.0984}


def assert_same_as_reference(r: Floats, query: Floats, bits: int, grid: str) -> None:
    padded = r.shape[1]
    codes, scales, norms2 = _core.scalar_encode(r, bits, grid)
    expected = reference.scalar_encode(r, bits, grid)
    assert same_bits(codes, expected.codes)
    assert same_bits(scales, expected.scales)
    assert same_bits(norms2, expected.norms2)
    assert same_bits(_core.scalar_decode(codes, bits, grid), reference.scalar_decode(codes, padded, bits, grid))
    products = _core.scalar_dot(query[None], codes, bits, grid)
    prepared = reference.scalar_query(query)
    assert same_bits(products[0], reference.scalar_dot(prepared, codes, padded, bits, grid))


@pytest.mark.parametrize(("bits", "grid"), CODES)
@pytest.mark.parametrize("padded", [*PADDED, 4160])
def test_dimensions(level: str, rng: np.random.Generator, padded: int, bits: int, grid: str) -> None:
    assert_same_as_reference(rows(rng, 5, padded), rows(rng, 1, padded)[0], bits, grid)


@pytest.mark.parametrize(("bits", "grid"), CODES)
@pytest.mark.parametrize("n", ROWS)
def test_sizes(level: str, rng: np.random.Generator, n: int, bits: int, grid: str) -> None:
    assert_same_as_reference(rows(rng, n, 128), rows(rng, 1, 128)[0], bits, grid)


@pytest.mark.parametrize(("bits", "grid"), CODES)
@pytest.mark.parametrize("query", VALUES)
@pytest.mark.parametrize("values", VALUES)
def test_values(level: str, rng: np.random.Generator, bits: int, grid: str, values: str, query: str) -> None:
    assert_same_as_reference(rows(rng, 6, 192, values), rows(rng, 1, 192, query)[0], bits, grid)


@pytest.mark.parametrize(("bits", "grid"), CODES)
def test_any_bytes_are_codes(level: str, rng: np.random.Generator, bits: int, grid: str) -> None:
    """Every code of every plane, also those that encoding rarely writes, and the largest possible sums."""
    codes = rng.integers(0, 256, size=(50, 384 * bits // 8)).astype(np.uint8)
    codes[0], codes[1] = 0, 255
    for query in (rows(rng, 1, 384)[0], np.ones(384, np.float32), -np.ones(384, np.float32)):
        products = _core.scalar_dot(query[None], codes, bits, grid)[0]
        assert same_bits(products, reference.scalar_dot(reference.scalar_query(query), codes, 384, bits, grid))


@pytest.mark.parametrize(("bits", "grid"), CODES)
def test_chosen_rows(level: str, rng: np.random.Generator, bits: int, grid: str) -> None:
    codes = _core.scalar_encode(rows(rng, 127, 192), bits, grid)[0]
    queries = rows(rng, 3, 192)
    everything = _core.scalar_dot(queries, codes, bits, grid)
    for count in (0, 1, 5, 200):
        which = rng.integers(127, size=count).astype(np.uint32)
        assert same_bits(_core.scalar_dot(queries, codes, bits, grid, which), everything[:, which])


@pytest.mark.parametrize("padded", [*PADDED, 4160])
@pytest.mark.parametrize("values", ["normal", "huge", "tiny", "spiky"])
def test_queries(level: str, rng: np.random.Generator, padded: int, values: str) -> None:
    query = rows(rng, 1, padded, values)[0]
    words, bytes_, word_step, byte_step = _core.scalar_query(query)
    expected = reference.scalar_query(query)
    high, low = words.view(np.int8).reshape(-1, 2, 64).swapaxes(0, 1).astype(np.int16)  # two digits a word
    assert same_bits((64 * high + low).reshape(-1), expected.words)
    assert max(high.max(), -high.min(), low.max(), -low.min() - 1) <= 31  # four products of 255 fit 16 bits
    assert same_bits(bytes_, expected.bytes_)
    assert (np.float32(word_step), np.float32(byte_step)) == (expected.word_step, expected.byte_step)


@pytest.mark.parametrize(("bits", "grid"), CODES)
def test_estimates_are_unbiased_and_as_good_as_promised(
    level: str, rng: np.random.Generator, bits: int, grid: str
) -> None:
    """Over many rotations of one row and one query, so that the rotation is all there is to chance."""
    d, n = 128, 3000
    x, q = rows(rng, 1, d), rows(rng, 1, d)
    signs = [rotate.rotate_signs(d, seed) for seed in range(0, 100 * n, 100)]
    r = np.concatenate([_core.rotate_forward(x, each) for each in signs])
    turned = np.concatenate([_core.rotate_forward(q, each) for each in signs])
    codes, scales, _ = _core.scalar_encode(r, bits, grid)
    values = _core.scalar_decode(codes, bits, grid)
    estimates = scales.astype(np.float64) * np.einsum("ij,ij->i", values, turned, dtype=np.float64)
    off = estimates - float((x.astype(np.float64) @ q[0])[0])
    along = float(x[0] @ q[0]) ** 2 / float(x[0] @ x[0])
    across = math.sqrt(float(q[0] @ q[0]) - along)  # of q, at a right angle to x
    unit = float(np.linalg.norm(x)) * across / math.sqrt(d - 1)
    expected = ERRORS["lloyd" if grid == "lloyd" else bits] * unit
    assert abs(off.mean()) < 4 * expected / math.sqrt(n)
    assert 0.85 * expected < off.std() < 1.1 * expected


def test_the_steps_are_the_best_for_a_gaussian() -> None:
    """Of steps around kappa_b none has a larger cosine between a Gaussian and its code."""

    def cosine(step: float, bits: int) -> float:
        half = 2 ** (bits - 1)
        edges = [-40.0, *(k * step for k in range(1 - half, half)), 40.0]
        density = [math.exp(-e * e / 2) / math.sqrt(2 * math.pi) for e in edges]
        below = [0.5 * (1 + math.erf(e / math.sqrt(2))) for e in edges]
        v = [k + 0.5 for k in range(-half, half)]
        along = sum(v[i] * (density[i] - density[i + 1]) for i in range(2 * half))
        return along / math.sqrt(sum(v[i] ** 2 * (below[i + 1] - below[i]) for i in range(2 * half)))

    for bits, kappa in reference.KAPPA.items():
        best = cosine(kappa, bits)
        assert best > max(cosine(kappa * 0.99, bits), cosine(kappa * 1.01, bits))
        assert math.sqrt(1 / best**2 - 1) == pytest.approx(ERRORS[bits], rel=0.01)


def test_the_layout_is_the_documented_one() -> None:
    u = np.arange(64, dtype=np.uint8)[None]
    four, two, one = (reference.pack_codes(u % 2**bits, bits)[0] for bits in (4, 2, 3))
    assert four[3] == 3 | (35 % 16) << 4
    assert two[5] == (5 % 4) | (21 % 4) << 2 | (37 % 4) << 4 | (53 % 4) << 6
    assert one[0] == sum((d % 8 >> 1) << shift for d, shift in ((0, 0), (16, 2), (32, 4), (48, 6)))
    assert one[16] == 0b10101010  # the lowest bits of dimensions 0 to 7
    for bits in range(2, 9):
        codes = u & np.uint8(2**bits - 1)
        assert np.array_equal(reference.unpack_codes(reference.pack_codes(codes, bits), 64, bits), codes)


def test_zero_residuals_have_no_scale(level: str) -> None:
    r = np.zeros((2, 64), np.float32)
    r[1] = 1e-42
    for bits, grid in CODES:
        _, scales, norms2 = _core.scalar_encode(r, bits, grid)
        assert scales.tolist() == [0.0, 0.0]
        assert norms2.tolist() == [0.0, 0.0]


def test_wrong_arguments_are_sentences() -> None:
    r = np.zeros((2, 64), np.float32)
    with pytest.raises(InvalidArgument, match="expected 2 to 8 bits for the grid 'uniform'; got 9"):
        _core.scalar_encode(r, 9, "uniform")
    with pytest.raises(InvalidArgument, match="expected 4 to 4 bits for the grid 'lloyd'; got 8"):
        _core.scalar_encode(r, 8, "lloyd")
    with pytest.raises(InvalidArgument, match="a grid 'uniform' or 'lloyd'; got 'log'"):
        _core.scalar_encode(r, 8, "log")
    with pytest.raises(InvalidArgument, match=r"D a multiple of 64; got \(2, 60\)"):
        _core.scalar_encode(np.zeros((2, 60), np.float32), 8, "uniform")
    codes = _core.scalar_encode(r, 8, "uniform")[0]
    with pytest.raises(InvalidArgument, match="expected row numbers below 2; got 2"):
        _core.scalar_dot(r[:1], codes, 8, "uniform", np.array([0, 2], np.uint32))
