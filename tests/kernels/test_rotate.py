"""The rotation on every level: the reference's bits, lengths and angles kept, and the way back."""

from __future__ import annotations

import numpy as np
import pytest

from tessella import _core
from tessella.errors import InvalidArgument
from tessella.reference import rotate as reference
from tests.kernels.cases import DIMS, ROWS, VALUES, assert_close, rows, same_bits


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("d", [*DIMS, 4096, 4160])
def test_every_level_writes_the_reference_bits(level: str, rng: np.random.Generator, d: int, centred: bool) -> None:
    x, centre = rows(rng, 3, d), rows(rng, 1, d)[0] if centred else None
    signs = reference.rotate_signs(reference.padded_dim(d), seed=d)
    y = _core.rotate_forward(x, signs, centre)
    assert same_bits(y, reference.rotate_forward(x, signs, centre))
    back = _core.rotate_inverse(y, signs, d, centre)
    assert same_bits(back, reference.rotate_inverse(y, signs, d, centre))
    assert_close(back, x.astype(np.float64), 4 * np.linalg.norm(y, axis=1, keepdims=True))


@pytest.mark.parametrize("n", ROWS)
@pytest.mark.parametrize("values", VALUES)
def test_sizes_and_values(level: str, rng: np.random.Generator, n: int, values: str) -> None:
    x = rows(rng, n, 100, values)
    signs = reference.rotate_signs(128)
    y = _core.rotate_forward(x, signs)
    assert y.shape == (n, 128)
    assert same_bits(y, reference.rotate_forward(x, signs))
    assert same_bits(_core.rotate_inverse(y, signs, 100), reference.rotate_inverse(y, signs, 100))


@pytest.mark.parametrize("d", [1, 64, 100, 128, 384, 1536])
def test_the_definition_is_orthonormal(rng: np.random.Generator, d: int) -> None:
    x = rng.standard_normal((5, d))
    signs = reference.rotate_signs(reference.padded_dim(d))
    y = reference.rotate_forward(x, signs)
    assert np.allclose(y @ y.T, x @ x.T)
    assert np.allclose(reference.rotate_inverse(y, signs, d), x)


@pytest.mark.parametrize(("nonzeros", "kurtosis"), [(1, 4.0), (8, 3.3), (100, 3.1)])
def test_rotated_rows_look_gaussian(rng: np.random.Generator, nonzeros: int, kurtosis: float) -> None:
    """One coordinate that was all there was is the worst case; a Gaussian has 3."""
    x = np.zeros((300, 384))
    for row in x:
        row[rng.choice(384, nonzeros, replace=False)] = rng.standard_normal(nonzeros)
    y = reference.rotate_forward(x, reference.rotate_signs(384))
    sigma = np.sqrt((y**2).mean(axis=1, keepdims=True))
    assert 2.8 < ((y / sigma) ** 4).mean() < kurtosis


@pytest.mark.parametrize("seed", [0, 0x7E55E11A, 2**64 - 1])
@pytest.mark.parametrize("padded", [64, 384])
def test_signs_are_counted_from_the_seed(padded: int, seed: int) -> None:
    assert same_bits(_core.rotate_signs(padded, seed), reference.rotate_signs(padded, seed))


def test_splitmix64_is_the_published_one() -> None:
    """The first outputs of seed 1234567, as published with the generator, which steps by its gamma."""
    gamma = 0x9E3779B97F4A7C15
    counters = np.array([(1234567 + i * gamma) % 2**64 for i in range(3)], dtype=np.uint64)
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert reference.splitmix64(counters).tolist() == expected


def test_wrong_shapes_are_sentences() -> None:
    signs = reference.rotate_signs(128)
    with pytest.raises(InvalidArgument, match=r"rotate_forward: expected signs of shape \(4, 1\); got \(4, 2\)"):
        _core.rotate_forward(np.zeros((2, 64), np.float32), signs)
    with pytest.raises(InvalidArgument, match=r"expected centre of shape \(100,\); got \(128,\)"):
        _core.rotate_forward(np.zeros((2, 100), np.float32), signs, np.zeros(128, np.float32))
    with pytest.raises(InvalidArgument, match=r"rotate_inverse: expected y of shape \(n, 128\); got \(2, 100\)"):
        _core.rotate_inverse(np.zeros((2, 100), np.float32), signs, 100)
