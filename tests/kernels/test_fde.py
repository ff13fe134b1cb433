"""Fixed-dimensional encodings: every level against the reference, bit for bit, and what must hold of any encoding."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import tessella as ts
from tessella.reference import fde as reference
from tests.kernels.cases import Array, Floats, rows, same_bits

LENGTHS = (0, 1, 7, 31, 33, 0, 80)
PROJECTIONS = ("countsketch", "dense", "none")
FILLS = ("none", "nearest", "decay")


def documents(
    rng: np.random.Generator, d: int, lengths: tuple[int, ...] = LENGTHS, values: str = "normal"
) -> list[Any]:
    return [rows(rng, t, d, values) for t in lengths]


def unit(x: Floats) -> Floats:
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-30), np.float32)


def expected(fde: ts.FDE, tokens: list[Floats], query: bool) -> Floats:
    """By the reference, from the encoder's own matrices."""
    matrices = fde.matrices()
    projection: Any = matrices.get("projection")
    if "index" in matrices:
        projection = reference.Sketch(matrices["index"], matrices["signs"], fde.projection_dim)
    final = None
    if "final_index" in matrices:
        final = reference.Sketch(matrices["final_index"], matrices["final_signs"], fde.output_dim)
    made = [
        reference.fde_encode(x, matrices["hyperplanes"], projection, final, query=query, fill=fde.fill) for x in tokens
    ]
    return np.stack(made)


def encoded(fde: ts.FDE, tokens: Any, query: bool = False, **options: Any) -> Array:
    encode = fde.encode_queries if query else fde.encode_documents
    return np.asarray(encode(tokens, **options))


# ---- the kernel


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize(
    ("d", "k_sim", "p"), [(1, 1, 1), (7, 3, 5), (33, 2, 8), (64, 4, 16), (100, 0, 3), (128, 3, 32)]
)
def test_encodings_are_the_reference_bit_for_bit(
    level: str, rng: np.random.Generator, projection: str, fill: str, d: int, k_sim: int, p: int
) -> None:
    fde = ts.FDE(d, k_sim, 3, projection=projection, projection_dim=p, fill=fill, seed=d)
    tokens = documents(rng, d)
    assert same_bits(encoded(fde, tokens), expected(fde, tokens, False))
    assert same_bits(encoded(fde, tokens, True), expected(fde, tokens, True))


@pytest.mark.parametrize("values", ["huge", "tiny", "zeros", "spiky"])
def test_values(level: str, rng: np.random.Generator, values: str) -> None:
    fde = ts.FDE(40, 4, 2, projection_dim=8, fill="nearest")
    tokens = documents(rng, 40, values=values)
    assert same_bits(encoded(fde, tokens), expected(fde, tokens, False))


@pytest.mark.parametrize("final", [1, 50, 700])
def test_a_final_sketch_is_the_reference(level: str, rng: np.random.Generator, final: int) -> None:
    fde = ts.FDE(24, 3, 2, projection_dim=8, final_dim=final, fill="nearest")
    tokens = documents(rng, 24)
    assert fde.output_dim == final
    assert same_bits(encoded(fde, tokens), expected(fde, tokens, False))
    halves = encoded(fde, tokens, dtype="float16")
    assert same_bits(halves, expected(fde, tokens, False).astype(np.float16))


def test_many_hyperplanes(level: str, rng: np.random.Generator) -> None:
    """2^12 cells: most are empty, and their nearest tokens lie several bits away."""
    fde = ts.FDE(16, 12, 1, projection_dim=2, fill="decay")
    tokens = documents(rng, 16, (5, 1, 40))
    assert same_bits(encoded(fde, tokens), expected(fde, tokens, False))


@pytest.mark.parametrize("threads", [1, 3])
def test_batches_and_threads_change_nothing(level: str, rng: np.random.Generator, threads: int) -> None:
    fde = ts.FDE(20, 3, 4, projection_dim=8, fill="nearest")
    tokens = documents(rng, 20, tuple(rng.integers(0, 70, 300)))
    alone = np.concatenate([encoded(fde, [x]) for x in tokens])
    assert same_bits(encoded(fde, tokens, threads=threads), alone)


@pytest.mark.parametrize("d", [7, 32, 50])
def test_halves_come_in_and_go_out(level: str, rng: np.random.Generator, d: int) -> None:
    torch = pytest.importorskip("torch", reason="torch is an extra")
    fde = ts.FDE(d, 3, 2, projection_dim=7, fill="nearest")
    halves = [x.astype(np.float16) for x in documents(rng, d)]
    wanted = expected(fde, [x.astype(np.float32) for x in halves], False)
    assert same_bits(encoded(fde, halves), wanted)
    assert same_bits(encoded(fde, halves, dtype="float16"), wanted.astype(np.float16))
    brains = [torch.from_numpy(x.astype(np.float32)).to(torch.bfloat16) for x in halves]
    wanted = expected(fde, [x.float().numpy() for x in brains], False)
    made = fde.encode_documents(brains)
    assert isinstance(made, torch.Tensor) and same_bits(made.numpy(), wanted)


def test_float16_rounds_as_numpy_does(level: str) -> None:
    """A single token of one dimension, one cell: the encoding is the number itself."""
    rng = np.random.default_rng(0)
    values = (rng.standard_normal(3000) * 10.0 ** rng.integers(-9, 6, 3000)).astype(np.float32)
    values[:5] = 65504, 65519.996, 65520, 2.0**-24, 2.0**-25
    fde = ts.FDE(1, 0, 1, projection="none")
    with np.errstate(over="ignore"):
        wanted = values.astype(np.float16)
    made = encoded(fde, (values[:, None], np.arange(3001)), dtype="float16")[:, 0]
    assert same_bits(made, wanted)


# ---- what holds of any encoding


@pytest.mark.parametrize("k_sim", [0, 1, 3, 6, 9])
@pytest.mark.parametrize("seed", range(4))
def test_filled_encodings_never_exceed_maxsim(k_sim: int, seed: int) -> None:
    """Lemma A.3: with fill, unit tokens and no projection, <Fq, Fd> / repetitions <= MaxSim of every pair."""
    rng = np.random.default_rng(seed)
    fde = ts.FDE(24, k_sim, 3, projection="none", fill="nearest", seed=seed)
    queries = [unit(rows(rng, 6, 24)) for _ in range(20)]
    found = [unit(rows(rng, t, 24)) for t in (1, 5, 30) * 6]
    scores = encoded(fde, queries, True) @ encoded(fde, found).T / fde.repetitions
    exact = np.array([[(q @ x.T).max(axis=1).sum() for x in found] for q in queries])
    assert (scores <= exact + 1e-4).all()


def test_more_hyperplanes_come_closer_to_maxsim() -> None:
    rng = np.random.default_rng(1)
    centres = unit(rows(rng, 40, 32))

    def some(t: int) -> Floats:
        return unit(centres[rng.integers(40, size=t)] + 0.1 * rows(rng, t, 32))

    queries, found = [some(8) for _ in range(20)], [some(40) for _ in range(30)]
    exact = np.array([[(q @ x.T).max(axis=1).sum() for x in found] for q in queries])
    gaps = []
    for k_sim in (0, 3, 6, 9):
        fde = ts.FDE(32, k_sim, 20, projection="none", fill="nearest")
        gaps.append((exact - encoded(fde, queries, True) @ encoded(fde, found).T / 20).mean())
    assert gaps == sorted(gaps, reverse=True) and gaps[-1] < 0.6 * gaps[0]


@pytest.mark.parametrize("projection", ["countsketch", "dense"])
def test_projections_keep_inner_products_in_the_mean(projection: str) -> None:
    rng = np.random.default_rng(2)
    x, y = unit(rows(rng, 1, 32)), unit(rows(rng, 1, 32))
    products = []
    for seed in range(800):
        fde = ts.FDE(32, 0, 1, projection=projection, projection_dim=8, seed=seed)
        products.append(float((encoded(fde, [x], True) @ encoded(fde, [y]).T)[0, 0]))
    error = np.std(products) / np.sqrt(len(products))
    assert abs(np.mean(products) - float(x[0] @ y[0])) < 4 * error


def test_queries_are_sums_and_sparse(rng: np.random.Generator) -> None:
    fde = ts.FDE(30, 6, 5, projection_dim=4)
    a, b = rows(rng, 3, 30), rows(rng, 2, 30)
    both = encoded(fde, [np.concatenate([a, b])], True)
    np.testing.assert_allclose(both, encoded(fde, [a], True) + encoded(fde, [b], True), atol=1e-5)
    assert 0 < np.count_nonzero(both) <= 5 * fde.projection_dim * fde.repetitions


@pytest.mark.parametrize("fill", FILLS)
def test_the_order_of_tokens_and_copies_of_them(rng: np.random.Generator, fill: str) -> None:
    """Without fill a document is a set; with it, cells of one nearest token do not look at the order either."""
    fde = ts.FDE(30, 4, 5, projection_dim=8, fill=fill)
    x = rows(rng, 20, 30)
    np.testing.assert_allclose(encoded(fde, [np.repeat(x, 3, axis=0)]), encoded(fde, [x]), atol=1e-5)
    if fill == "none":
        np.testing.assert_allclose(encoded(fde, [x[::-1].copy()]), encoded(fde, [x]), atol=1e-5)


def test_a_single_token_fills_every_cell(rng: np.random.Generator) -> None:
    x = rows(rng, 1, 16)
    fde = ts.FDE(16, 5, 2, projection="none", fill="nearest")
    cells = encoded(fde, [x]).reshape(2, 32, 16)
    assert (cells == x[0]).all()
    decayed = encoded(ts.FDE(16, 5, 2, projection="none", fill="decay"), [x]).reshape(2, 32, 16)
    shares = (decayed / x[0]).mean(axis=2)
    for repetition in shares:  # 1, 5, 10, 10, 5 and 1 cells are so many bits away
        np.testing.assert_array_equal(np.sort(repetition), np.repeat(0.5 ** np.arange(5, -1, -1), [1, 5, 10, 10, 5, 1]))
    assert np.count_nonzero(encoded(ts.FDE(16, 5, 2, projection="none"), [x])) == 2 * 16


def test_zero_vectors_have_no_bits(rng: np.random.Generator) -> None:
    fde = ts.FDE(8, 3, 2, projection="none")
    x = np.stack([np.zeros(8, np.float32), *rows(rng, 3, 8)])
    patterns = reference.token_patterns(x, fde.matrices()["hyperplanes"][0])
    assert patterns[0] == 0
    assert same_bits(encoded(fde, [x]), expected(fde, [x], False))


@pytest.mark.parametrize("fill", FILLS)
def test_no_tokens_are_zeros(level: str, fill: str) -> None:
    fde = ts.FDE(8, 4, 2, fill=fill)
    nothing = np.empty((0, 8), np.float32)
    for query in (False, True):
        made = encoded(fde, [nothing, nothing], query)
        assert made.shape == (2, fde.output_dim) and not made.any()
        assert encoded(fde, (nothing, np.zeros(1, np.int64)), query).shape == (0, fde.output_dim)


def test_neighbouring_cells_differ_in_one_bit() -> None:
    patterns = [p ^ (p >> 1) for p in range(64)]
    assert [reference.cell_of(each) for each in patterns] == list(range(64))
    assert all((a ^ b).bit_count() == 1 for a, b in pairwise(patterns))


# ---- draws


NORMALS = [[-2.131028175, 0.905966401, -0.085330017], [-2.58982515, -0.26601711, -0.47764647]]
PLACES = [[8, 8, 7], [15, 2, 15]]
SIGNS = [[-1, 1, 1], [1, -1, -1]]


def test_draws_are_what_they_were() -> None:
    """Encodings are kept for years: a seed must never come to mean other matrices."""
    matrices = ts.FDE(3, 1, 2, projection_dim=16, seed=42).matrices()
    np.testing.assert_allclose(matrices["hyperplanes"][:, 0], NORMALS, rtol=1e-6)
    assert matrices["index"].tolist() == PLACES and matrices["signs"].tolist() == SIGNS


def test_draws_have_the_right_moments() -> None:
    matrices = ts.FDE(1000, 10, 20, projection_dim=10, seed=7).matrices()
    normals = matrices["hyperplanes"].astype(np.float64)
    assert abs(normals.mean()) < 0.01 and abs(normals.std() - 1) < 0.01 and abs((normals**3).mean()) < 0.03
    assert abs((normals**4).mean() - 3) < 0.1
    assert np.abs(np.bincount(matrices["index"].reshape(-1)) / 2000 - 1).max() < 0.1
    assert abs(matrices["signs"].mean()) < 0.03 and set(np.unique(matrices["signs"])) == {-1.0, 1.0}
    dense = ts.FDE(100, 1, 20, projection="dense", projection_dim=4).matrices()["projection"]
    assert set(np.unique(dense)) == {-0.5, 0.5} and abs(dense.mean()) < 0.03


def test_seeds_differ() -> None:
    one, same, other = (ts.FDE(8, 2, 2, projection_dim=4, seed=seed).matrices() for seed in (1, 1, 2))
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert not any(np.array_equal(one[name], other[name]) for name in one)
