"""The public quantizers: what they promise about codes, estimates, inputs and files."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

import tessella as ts
from tests.kernels.cases import Floats, rows

DIM = 100
ROTATED: dict[str, Callable[[], Any]] = {
    **{f"rabitq{bits}": lambda bits=bits: ts.RaBitQuantizer(DIM, bits) for bits in range(1, 9)},
    **{f"scalar{bits}": lambda bits=bits: ts.ScalarQuantizer(DIM, bits) for bits in (4, 8)},
}
ALL: dict[str, Callable[[], Any]] = {**ROTATED, "binary": lambda: ts.BinaryQuantizer(DIM)}
# Standard deviation of an estimate in units of |q| |x - centre| / sqrt(dim)
ERRORS = {
    "rabitq1": 0.76,
    "rabitq2": 0.37,
    "rabitq3": 0.20,
    "rabitq4": 0.11,
    "rabitq5": 0.06,
    "rabitq6": 0.034,
    "rabitq7": 0.018,
    "rabitq8": 0.0095,
    "scalar4": 0.099,
    "scalar8": 0.0095,
}


def shifted(rng: np.random.Generator, n: int) -> Floats:
    """Rows whose mean is far from zero."""
    return rows(rng, n, DIM) + np.float32(1.5)


@pytest.mark.parametrize("name", ROTATED)
@pytest.mark.parametrize("trained", [False, True])
def test_estimates(level: str, rng: np.random.Generator, name: str, trained: bool) -> None:
    shift = np.float32(1.5 if trained else 0)
    x, q = rows(rng, 500, DIM) + shift, rows(rng, 20, DIM) + shift
    quantizer = ROTATED[name]()
    if trained:
        quantizer.train(x)
        assert np.allclose(quantizer.centre, x.mean(axis=0), atol=1e-5)
    codes = quantizer.encode(x)
    assert codes.shape == (500, quantizer.code_bytes)
    assert codes.dtype == np.uint8
    centre = quantizer.centre.astype(np.float64)
    lengths = np.linalg.norm(x - centre, axis=1)
    unit = ERRORS[name] * lengths / np.sqrt(DIM)
    off = (quantizer.inner_product(q, codes) - q @ x.T) / (np.linalg.norm(q, axis=1)[:, None] * unit)
    distances = ((q[:, None, :].astype(np.float64) - x) ** 2).sum(axis=2)
    apart = np.linalg.norm(q - centre, axis=1)[:, None]
    off_l2 = (quantizer.squared_distance(q, codes) - distances) / (2 * apart * unit)
    assert 0.7 < off.std() < 1.1
    assert 0.7 < off_l2.std() < 1.1
    # decoded rows stand for the same estimates; the query is rounded on one side only
    decoded = quantizer.decode(codes)
    allowed = np.linalg.norm(q, axis=1).max() * np.linalg.norm(decoded - centre, axis=1).max()
    assert np.abs(quantizer.inner_product(q, codes) - q @ decoded.T).max() < 6e-3 * allowed


@pytest.mark.parametrize("bits", range(1, 9))
def test_error_bounds_hold_for_all_but_a_few(rng: np.random.Generator, bits: int) -> None:
    x, q = shifted(rng, 1000), shifted(rng, 20)
    quantizer = ts.RaBitQuantizer(DIM, bits)
    quantizer.train(x)
    codes = quantizer.encode(x)
    off = np.abs(quantizer.inner_product(q, codes) - q.astype(np.float64) @ x.T)
    within = off <= quantizer.error_bound(q, codes, epsilon=1.9)
    assert 0.90 < within.mean() < 0.98
    assert np.array_equal(
        quantizer.error_bound(q, codes, epsilon=0.95) * 2, quantizer.error_bound(q, codes, epsilon=1.9)
    )


@pytest.mark.parametrize("name", ALL)
def test_a_code_is_complete_in_itself(rng: np.random.Generator, name: str) -> None:
    """Encoding depends on the row alone, and rows of codes may be picked, reordered and stored."""
    x = rows(rng, 300, DIM)
    quantizer = ALL[name]()
    codes = quantizer.encode(x)
    assert np.array_equal(quantizer.encode(x[257:258]), codes[257:258])
    assert np.array_equal(quantizer.encode(x[257]), codes[257:258])
    q = rows(rng, 3, DIM)
    picked = rng.permutation(300)[:40]
    everything = quantizer.inner_product(q, codes)
    assert np.array_equal(quantizer.inner_product(q, codes[picked]), everything[:, picked])
    assert np.array_equal(quantizer.decode(codes[::-3]), quantizer.decode(codes)[::-3])


@pytest.mark.parametrize("name", ALL)
def test_results_do_not_depend_on_threads_or_level(rng: np.random.Generator, name: str) -> None:
    x, quantizer = rows(rng, 700, DIM), ALL[name]()
    results = set()
    before = ts.get_num_threads()
    for isa in ts.testing.available_isas():
        for threads in (1, 2):
            ts.set_num_threads(threads)
            with ts.testing.pinned_isa(isa):
                results.add(quantizer.encode(x).tobytes())
    ts.set_num_threads(before)
    assert len(results) == 1


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("n", [0, 1, 7, 33])
def test_sizes(rng: np.random.Generator, name: str, n: int) -> None:
    x, quantizer = rows(rng, n, DIM), ALL[name]()
    codes = quantizer.encode(x)
    assert codes.shape == (n, quantizer.code_bytes)
    assert quantizer.decode(codes).shape == (n, DIM)
    assert quantizer.inner_product(x, codes).shape == (n, n)
    assert quantizer.inner_product(x[:0], codes).shape == (0, n)


@pytest.mark.parametrize("name", ALL)
def test_kinds_of_input(rng: np.random.Generator, name: str) -> None:
    """Other types, strides, orders and owners: the same rows, the same codes, in the kind of the input."""
    whole = rng.integers(0, 256, size=(20, DIM))
    quantizer = ALL[name]()
    expected = quantizer.encode(whole.astype(np.float32))
    small = whole % 128  # exact in bfloat16
    expected_small = quantizer.encode(small.astype(np.float32))
    spread = np.zeros((40, 2 * DIM), np.float32)
    spread[::2, ::2] = whole
    frozen = whole.astype(np.float32)
    frozen.setflags(write=False)
    for same in (
        whole.astype(np.float64), whole.astype(np.float16), whole.astype(np.uint8), whole, spread[::2, ::2],
        np.asfortranarray(whole.astype(np.float32)), whole.astype(np.float32)[::-1][::-1], frozen,
        whole.astype(">f4"),
    ):  # fmt: skip
        assert np.array_equal(quantizer.encode(same), expected)
    assert np.array_equal(quantizer.encode(small.astype(ml_dtypes.bfloat16)), expected_small)
    codes = quantizer.encode(torch.from_numpy(whole.astype(np.float32)))
    assert isinstance(codes, torch.Tensor)
    assert codes.dtype == torch.uint8
    assert np.array_equal(codes.numpy(), expected)
    assert isinstance(quantizer.inner_product(torch.zeros(2, DIM, dtype=torch.bfloat16), codes), torch.Tensor)
    assert isinstance(quantizer.decode(codes), torch.Tensor)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("trained", [False, True])
def test_files_and_pickles_keep_a_quantizer(tmp_path: Path, rng: np.random.Generator, name: str, trained: bool) -> None:
    x, quantizer = shifted(rng, 50), ALL[name]()
    if trained:
        quantizer.train(x)
    quantizer.save(tmp_path / "quantizer")
    for again in (type(quantizer).load(tmp_path / "quantizer"), pickle.loads(pickle.dumps(quantizer))):
        assert np.array_equal(again.encode(x), quantizer.encode(x))
        assert again.is_trained is trained
        assert repr(again) == repr(quantizer)


def test_seeds_and_means_change_codes(rng: np.random.Generator) -> None:
    x = shifted(rng, 50)
    codes = {ts.ScalarQuantizer(DIM, seed=seed).encode(x).tobytes() for seed in (0, 1, 2**63 - 1)}
    trained = ts.ScalarQuantizer(DIM, seed=0)
    trained.train(x)
    assert len(codes | {trained.encode(x).tobytes()}) == 4


@pytest.mark.parametrize("name", ALL)
def test_damaged_files_are_format_errors(tmp_path: Path, name: str) -> None:
    path, quantizer = tmp_path / "quantizer", ALL[name]()
    quantizer.save(path)
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], whole[:100], whole + b"\0", whole[:-8] + b"\xff" * 8):
        path.write_bytes(damaged)
        with pytest.raises(ts.FormatError):
            type(quantizer).load(path)
    other = ts.RaBitQuantizer if name == "binary" else ts.BinaryQuantizer
    path.write_bytes(whole)
    with pytest.raises(ts.FormatError, match="kind"):
        other.load(path)


Mistake = tuple[Callable[[Any], object], type[Exception], str]
BAD: list[Mistake] = [
    (lambda z: z.encode(np.zeros((3, 99))), ts.InvalidArgument, r"encode: expected x of shape \(n, 100\)"),
    (lambda z: z.encode(np.zeros((3, DIM), complex)), ts.UnsupportedType, "encode: expected x of type"),
    (lambda z: z.encode("text"), ts.UnsupportedType, "encode: expected x"),
    (lambda z: z.encode(np.full((3, DIM), np.nan)), ts.InvalidArgument, "row 0 has a NaN or an infinity"),
    (lambda z: z.encode(np.full((3, DIM), 3e38)), ts.InvalidArgument, "row 0 has a squared norm beyond"),
    (lambda z: z.train(np.zeros((0, DIM))), ts.InvalidArgument, "train: expected x with at least one row"),
    (lambda z: z.decode(np.zeros((3, 1), np.uint8)), ts.InvalidArgument, "decode: expected codes of shape"),
    (lambda z: z.decode(np.zeros((3, z.code_bytes))), ts.UnsupportedType, "expected codes of type uint8"),
    (lambda z: z.inner_product(np.zeros(3), z.encode(np.zeros(DIM))), ts.InvalidArgument,
     r"inner_product: expected queries of shape \(n, 100\); got \(3,\)"),
    (lambda z: type(z)(0), ts.InvalidArgument, "expected dim >= 1; got 0"),
    (lambda z: type(z)(2.5), ts.UnsupportedType, "expected dim as an int; got float"),
]  # fmt: skip


@pytest.mark.parametrize("name", ["rabitq1", "rabitq3", "scalar4", "binary"])
@pytest.mark.parametrize("case", range(len(BAD)))
def test_mistakes_are_sentences(name: str, case: int) -> None:
    call, error, sentence = BAD[case]
    with pytest.raises(error, match=sentence):
        call(ALL[name]())


def test_the_first_bad_row_is_named_across_slices() -> None:
    x = np.zeros((40_000, 2), np.float32)
    x[33_333, 1] = np.inf
    with pytest.raises(ts.InvalidArgument, match="row 33333 has a NaN or an infinity"):
        ts.ScalarQuantizer(2).encode(x)


def test_bits_and_epsilon_have_their_ranges() -> None:
    with pytest.raises(ts.InvalidArgument, match=r"rabitq: expected bits in 1\.\.8; got 9"):
        ts.RaBitQuantizer(8, bits=9)
    with pytest.raises(ts.InvalidArgument, match="scalar: expected 8 or 4 bits; got 5"):
        ts.ScalarQuantizer(8, bits=5)
    quantizer = ts.RaBitQuantizer(8)
    codes = quantizer.encode(np.zeros((1, 8)))
    with pytest.raises(ts.InvalidArgument, match="expected a finite epsilon >= 0; got -1"):
        quantizer.error_bound(np.zeros(8), codes, epsilon=-1)
