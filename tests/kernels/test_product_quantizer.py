"""ProductQuantizer: what it promises about codes, estimates, training, inputs and files."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

import tessella as ts
from tessella import _core
from tests.fuzz.mutations import join, repaired, split
from tests.kernels.cases import Floats, rows

DIM = 24
KINDS: dict[str, dict[str, Any]] = {
    "8 bits": {"m": 6},
    "4 bits": {"m": 8, "bits": 4},
    "odd": {"m": 3, "bits": 4},
    "opq": {"m": 6, "bits": 4, "opq": True},
    "residual": {"m": 3, "bits": 4, "residual_levels": 3},
    "anisotropic": {"m": 6, "bits": 4, "anisotropic": 0.4},
}
_TRAINED: dict[str, ts.ProductQuantizer] = {}


def clustered(rng: np.random.Generator, n: int, d: int = DIM) -> Floats:
    """Rows with a structure to learn: a low-dimensional signal, mixed into every coordinate, and noise."""
    mixing = np.random.default_rng(1).standard_normal((8, d), dtype=np.float32)
    return np.asarray(rows(rng, n, 8) @ mixing + 0.3 * rows(rng, n, d) + np.float32(0.5))


def trained(name: str) -> ts.ProductQuantizer:
    """Trained once; nobody changes it."""
    if name not in _TRAINED:
        _TRAINED[name] = ts.ProductQuantizer(DIM, **KINDS[name])
        _TRAINED[name].train(clustered(np.random.default_rng(2), 1500), iterations=6)
    return _TRAINED[name]


def error(quantizer: ts.ProductQuantizer, x: Floats) -> float:
    """Mean squared error, as a share of the rows' variance."""
    off = quantizer.decode(quantizer.encode(x)) - x
    return float((off**2).sum() / ((x - x.mean(axis=0)) ** 2).sum())


@pytest.mark.parametrize("name", KINDS)
def test_estimates_are_those_of_decoded_rows(level: str, rng: np.random.Generator, name: str) -> None:
    x, q, quantizer = clustered(rng, 300), clustered(rng, 7), trained(name)
    codes = quantizer.encode(x)
    assert codes.shape == (300, quantizer.code_bytes)
    assert codes.dtype == np.uint8
    decoded = quantizer.decode(codes).astype(np.float64)
    size = np.abs(q) @ np.abs(decoded).T
    assert np.all(np.abs(quantizer.inner_product(q, codes) - q @ decoded.T) <= 1e-5 * size)
    apart = ((q[:, None] - decoded) ** 2).sum(axis=2)
    assert np.all(np.abs(quantizer.squared_distance(q, codes) - apart) <= 1e-4 * (apart + size))
    between = ((decoded[:5, None] - decoded) ** 2).sum(axis=2)
    assert np.all(np.abs(quantizer.symmetric_distance(codes[:5], codes) - between) <= 1e-3 * (1 + between))


@pytest.mark.parametrize("name", KINDS)
def test_a_code_is_complete_in_itself(rng: np.random.Generator, name: str) -> None:
    x, quantizer = clustered(rng, 300), trained(name)
    codes = quantizer.encode(x)
    assert np.array_equal(quantizer.encode(x[257:258]), codes[257:258])
    assert np.array_equal(quantizer.encode(x[257]), codes[257:258])
    q, picked = clustered(rng, 3), rng.permutation(300)[:40]
    everything = quantizer.inner_product(q, codes)
    assert np.array_equal(quantizer.inner_product(q, codes[picked]), everything[:, picked])


@pytest.mark.parametrize("name", KINDS)
def test_results_do_not_depend_on_threads_or_level(rng: np.random.Generator, name: str) -> None:
    x, results = clustered(rng, 700), set()
    before = ts.get_num_threads()
    for isa in ts.testing.available_isas():
        for threads in (1, 2):
            ts.set_num_threads(threads)
            with ts.testing.pinned_isa(isa):
                quantizer = ts.ProductQuantizer(DIM, **KINDS[name])
                quantizer.train(x, iterations=2)
                results.add(quantizer.codebooks.tobytes() + quantizer.encode(x).tobytes())
    ts.set_num_threads(before)
    assert len(results) == 1


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[int | None]]:
    """How many threads each kernel was told to take; None for as many as there are by default."""
    told: dict[str, set[int | None]] = {}

    def counting(name: str) -> Callable[..., Any]:
        kernel = getattr(_core, name)

        def called(*given: Any, **named: Any) -> Any:
            told.setdefault(name, set()).add(named.get("threads"))
            return kernel(*given, **named)

        return called

    for name in ("pq_encode", "pq_rotate", "pq_update"):
        monkeypatch.setattr(_core, name, counting(name))
    return told


@pytest.mark.parametrize("name", KINDS)
def test_a_call_takes_the_threads_that_it_is_given(
    rng: np.random.Generator, counted: dict[str, set[int | None]], name: str
) -> None:
    x, results = clustered(rng, 700), set()
    for threads in (1, 3):
        counted.clear()
        quantizer = ts.ProductQuantizer(DIM, **KINDS[name])
        quantizer.train(x, iterations=2, threads=threads)
        codes = quantizer.encode(x, threads=threads)
        results.add(
            quantizer.codebooks.tobytes() + codes.tobytes() + quantizer.decode(codes, threads=threads).tobytes()
        )
        assert {"pq_encode", "pq_update"} <= set(counted) and all(used == {threads} for used in counted.values())
    assert len(results) == 1
    counted.clear()
    quantizer.encode(x)
    assert counted["pq_encode"] == {ts.get_num_threads()}


@pytest.mark.parametrize("spec", ["Flat,PQ4x4", "IVF4,OPRQ4x2x4", "IVF4,APQ4"])
@pytest.mark.parametrize("trained", [True, False])
def test_an_index_passes_its_threads_on(
    rng: np.random.Generator, counted: dict[str, set[int | None]], spec: str, trained: bool
) -> None:
    x, made = clustered(rng, 700), []
    for threads in (1, 3):
        counted.clear()
        ix = ts.Index(spec, dim=DIM)
        if trained:
            ix.train(x, threads=threads)
        ix.add(x, threads=threads)
        assert "pq_encode" in counted and all(used == {threads} for used in counted.values())
        made.append(ix)
    np.testing.assert_array_equal(made[0].reconstruct(range(700)), made[1].reconstruct(range(700)))


def test_kernels_take_threads(rng: np.random.Generator) -> None:
    x, books = clustered(rng, 700), rng.standard_normal((3, 8, 16), dtype=np.float32)
    turn = np.linalg.qr(rng.standard_normal((DIM, DIM)))[0].astype(np.float32)
    one, many = (
        (
            _core.pq_rotate(x, turn, threads=threads),
            codes := _core.pq_encode(x, books, np.zeros((3, 16), np.float32), threads=threads),
            *_core.pq_update(x, codes, 3, 4, threads=threads),
        )
        for threads in (1, 5)
    )
    for each, other in zip(one, many, strict=True):
        np.testing.assert_array_equal(each, other)


def test_seeds_change_codebooks(rng: np.random.Generator) -> None:
    x = clustered(rng, 400)
    made = [ts.ProductQuantizer(DIM, 6, bits=4, seed=seed) for seed in (1, 1, 2)]
    for quantizer in made:
        quantizer.train(x, iterations=2)
    assert np.array_equal(made[0].codebooks, made[1].codebooks)
    assert not np.array_equal(made[0].codebooks, made[2].codebooks)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("n", [0, 1, 7, 31, 33, 127])
def test_sizes(rng: np.random.Generator, name: str, n: int) -> None:
    x, quantizer = clustered(rng, n), trained(name)
    codes = quantizer.encode(x)
    assert codes.shape == (n, quantizer.code_bytes)
    assert quantizer.decode(codes).shape == (n, DIM)
    assert quantizer.inner_product(x, codes).shape == (n, n)
    assert quantizer.squared_distance(x[:0], codes).shape == (0, n)
    assert quantizer.symmetric_distance(codes, codes[:1]).shape == (n, min(n, 1))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("n", [1, 7, 33])
def test_few_rows_train_a_quantizer_that_knows_them(rng: np.random.Generator, name: str, n: int) -> None:
    x, quantizer = clustered(rng, n), ts.ProductQuantizer(DIM, **KINDS[name])
    quantizer.train(x)
    assert np.isfinite(quantizer.codebooks).all()
    if n <= 7:
        assert np.allclose(quantizer.decode(quantizer.encode(x)), x, atol=1e-3)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("value", [0.0, 2.5])
def test_constant_rows_are_kept(name: str, value: float) -> None:
    x, quantizer = np.full((50, DIM), value, np.float32), ts.ProductQuantizer(DIM, **KINDS[name])
    quantizer.train(x, iterations=3)
    assert np.allclose(quantizer.decode(quantizer.encode(x)), x, atol=0.01)


def test_every_codeword_is_used_where_rows_allow(rng: np.random.Generator) -> None:
    """Half the first codewords coincide; they are moved to where rows are."""
    x = rows(rng, 3000, 4)
    x[:2800] = x[0]
    quantizer = ts.ProductQuantizer(4, 1, bits=4)
    quantizer.train(x)
    assert len(np.unique(quantizer.encode(x))) == 16


def test_more_bytes_less_error(rng: np.random.Generator) -> None:
    x = clustered(rng, 2000)
    errors = []
    for m, bits in ((3, 4), (6, 4), (12, 4), (12, 8)):
        quantizer = ts.ProductQuantizer(DIM, m, bits)
        quantizer.train(x, iterations=8)
        errors.append(error(quantizer, x))
    assert errors == sorted(errors, reverse=True)
    assert errors[0] < 0.45
    assert errors[3] < 0.02


def test_recall(rng: np.random.Generator) -> None:
    x, q = clustered(rng, 3000), clustered(rng, 50)
    quantizer = ts.ProductQuantizer(DIM, 12)
    quantizer.train(x, iterations=8)
    true = ((q[:, None] - x) ** 2).sum(axis=2).argsort(axis=1)[:, :10]
    found = quantizer.squared_distance(q, quantizer.encode(x)).argsort(axis=1)[:, :10]
    assert np.mean([len(np.intersect1d(a, b)) for a, b in zip(true, found, strict=True)]) > 8.5


def test_a_rotation_helps_where_coordinates_hang_together(rng: np.random.Generator) -> None:
    x = clustered(rng, 2000)
    plain, opq = (ts.ProductQuantizer(DIM, 6, bits=4, opq=opq) for opq in (False, True))
    for quantizer in (plain, opq):
        quantizer.train(x, iterations=10)
    assert error(opq, x) < 0.85 * error(plain, x)
    rotation = opq.rotation
    assert plain.rotation is None
    assert rotation is not None
    assert np.allclose(rotation.T @ rotation, np.eye(DIM), atol=1e-4)


def test_residual_levels_beat_plain_codes_of_the_same_bytes(rng: np.random.Generator) -> None:
    """Where pieces depend on each other, a second look at all of a row is worth more than shorter pieces."""
    x = clustered(rng, 2000)
    plain, residual = ts.ProductQuantizer(DIM, 6, 4), ts.ProductQuantizer(DIM, 2, 4, residual_levels=3)
    for quantizer in (plain, residual):
        quantizer.train(x, iterations=10)
    assert plain.code_bytes == residual.code_bytes == 3
    assert error(residual, x) < error(plain, x)


def test_the_anisotropic_loss_falls(rng: np.random.Generator) -> None:
    x, losses = clustered(rng, 2000), []
    for threshold in (None, 0.4):
        quantizer = ts.ProductQuantizer(DIM, 6, bits=4, anisotropic=threshold)
        quantizer.train(x, iterations=10)
        off = quantizer.decode(quantizer.encode(x)).astype(np.float64) - x
        along2 = (off * x).sum(axis=1) ** 2 / (x.astype(np.float64) ** 2).sum(axis=1)
        eta = (DIM - 1) * 0.4**2 / (1 - 0.4**2)
        losses.append(((off**2).sum(axis=1) + (eta - 1) * along2).mean())
    assert losses[1] < 0.9 * losses[0]


def test_progress_counts_to_the_end(rng: np.random.Generator) -> None:
    for kind in KINDS.values():
        seen: list[float] = []
        quantizer = ts.ProductQuantizer(DIM, **kind)
        quantizer.train(clustered(rng, 200), iterations=5, progress=seen.append)
        assert seen == sorted(set(seen))
        assert seen[0] > 0
        assert seen[-1] == 1


@pytest.mark.parametrize("name", ["8 bits", "opq"])
def test_kinds_of_input(rng: np.random.Generator, name: str) -> None:
    """Other types, strides, orders and owners: the same rows, the same codes, in the kind of the input."""
    whole, quantizer = rng.integers(0, 128, size=(20, DIM)), trained(name)
    expected = quantizer.encode(whole.astype(np.float32))
    spread = np.zeros((40, 2 * DIM), np.float32)
    spread[::2, ::2] = whole
    for same in (
        whole.astype(np.float64), whole.astype(np.float16), whole.astype(np.uint8), whole, spread[::2, ::2],
        whole.astype(ml_dtypes.bfloat16), np.asfortranarray(whole.astype(np.float32)),
    ):  # fmt: skip
        assert np.array_equal(quantizer.encode(same), expected)
    codes = quantizer.encode(torch.from_numpy(whole.astype(np.float32)))
    assert isinstance(codes, torch.Tensor)
    assert np.array_equal(codes.numpy(), expected)
    for result in (
        quantizer.decode(codes),
        quantizer.inner_product(torch.zeros(2, DIM, dtype=torch.bfloat16), codes),
        quantizer.symmetric_distance(codes, codes),
    ):
        assert isinstance(result, torch.Tensor)


@pytest.mark.parametrize("name", KINDS)
def test_files_and_pickles_keep_a_quantizer(tmp_path: Path, rng: np.random.Generator, name: str) -> None:
    x, quantizer = clustered(rng, 50), trained(name)
    quantizer.save(tmp_path / "quantizer")
    for again in (ts.ProductQuantizer.load(tmp_path / "quantizer"), pickle.loads(pickle.dumps(quantizer))):
        assert np.array_equal(again.encode(x), quantizer.encode(x))
        assert np.array_equal(again.codebooks, quantizer.codebooks)
        assert repr(again) == repr(quantizer)
    untrained = ts.ProductQuantizer(DIM, **KINDS[name])
    untrained.save(tmp_path / "untrained")
    again = ts.ProductQuantizer.load(tmp_path / "untrained")
    assert not again.is_trained
    again.train(clustered(np.random.default_rng(2), 1500), iterations=6)
    assert np.array_equal(again.codebooks, quantizer.codebooks)


def test_damaged_files_are_format_errors(tmp_path: Path) -> None:
    path, quantizer = tmp_path / "quantizer", trained("opq")
    quantizer.save(path)
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], whole[:100], whole + b"\0", whole[:-8] + b"\xff" * 8):
        path.write_bytes(damaged)
        with pytest.raises(ts.FormatError):
            ts.ProductQuantizer.load(path)
    path.write_bytes(whole)
    with pytest.raises(ts.FormatError, match="kind"):
        ts.BinaryQuantizer.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"dim": 9}, {"dim": 16}, {"m": 0}, {"m": 4}, {"bits": 8}, {"bits": 5}, {"residual_levels": 2}, {"seed": -1},
        {"residual_levels": 1 << 40}, {"anisotropic": 2}, {"anisotropic": "0.2"}, {"dim": "8"}, {"dim": None},
        {"dim": 1 << 62}, {"anisotropic": True}, {"rotation": np.nan}, {"rotation": 0.0}, {"codebooks": np.inf},
    ],
    ids=str,
)  # fmt: skip
def test_files_that_describe_no_quantizer(tmp_path: Path, rng: np.random.Generator, change: dict[str, Any]) -> None:
    """Checksums are right, what they cover is not: settings that fit no tensors, numbers that are none."""
    path, quantizer = tmp_path / "file", ts.ProductQuantizer(8, 2, bits=4, opq=True)
    quantizer.train(rows(rng, 40, 8), iterations=1)
    quantizer.save(path)
    header, data = split(path.read_bytes())
    for key, value in change.items():
        if key in header:
            start, end = header[key]["data_offsets"]
            data = data[:start] + np.full((end - start) // 4, value, "<f4").tobytes() + data[end:]
        else:
            config = json.loads(header["__metadata__"]["config"]) | {key: value}
            header["__metadata__"]["config"] = json.dumps(config)
    path.write_bytes(repaired(join(header, data)))
    with pytest.raises(ts.FormatError):
        ts.ProductQuantizer.load(path)


Mistake = tuple[Callable[[], object], type[Exception], str]
BAD: list[Mistake] = [
    (lambda: ts.ProductQuantizer(24, 7), ts.InvalidArgument, "pq: expected m to divide dim; got m=7 for dim=24"),
    (lambda: ts.ProductQuantizer(24, 0), ts.InvalidArgument, "pq: expected m >= 1; got 0"),
    (lambda: ts.ProductQuantizer(24, 6.0), ts.UnsupportedType, "pq: expected m as an int; got float"),
    (lambda: ts.ProductQuantizer(24, 6, 5), ts.InvalidArgument, "pq: expected 4 or 8 bits; got 5"),
    (lambda: ts.ProductQuantizer(24, 6, residual_levels=17), ts.InvalidArgument, r"residual_levels in 1\.\.16; got 17"),
    (lambda: ts.ProductQuantizer(24, 6, anisotropic=1.5), ts.InvalidArgument, "between 0 and 1; got 1.5"),
    (lambda: ts.ProductQuantizer(24, 6, anisotropic="a"), ts.UnsupportedType, "as a float or None; got str"),
    (lambda: ts.ProductQuantizer(24, 6, anisotropic=0.2, residual_levels=2), ts.InvalidArgument, "one residual level"),
    (lambda: ts.ProductQuantizer(24, 6).encode(np.zeros((1, 24))), ts.InvalidArgument,
     r"encode: expected a trained quantizer; train\(x\) comes first"),
    (lambda: ts.ProductQuantizer(24, 6).train(np.zeros((0, 24))), ts.InvalidArgument,
     "train: expected x with at least one row"),
    (lambda: ts.ProductQuantizer(24, 6).train(np.full((3, 24), np.nan)), ts.InvalidArgument, "row 0 has a NaN"),
    (lambda: ts.ProductQuantizer(24, 6).train(np.zeros((3, 24)), iterations=0), ts.InvalidArgument,
     "train: expected iterations >= 1; got 0"),
    (lambda: ts.ProductQuantizer(24, 6).train(np.zeros((3, 24)), threads=0), ts.InvalidArgument,
     "train: expected threads >= 1; got 0"),
    (lambda: trained("8 bits").encode(np.zeros((3, 24)), threads=1.5), ts.UnsupportedType,
     "encode: expected threads as an int; got float"),
    (lambda: trained("8 bits").encode(np.zeros((3, 23))), ts.InvalidArgument, r"encode: expected x of shape \(n, 24\)"),
    (lambda: trained("8 bits").decode(np.zeros((3, 5), np.uint8)), ts.InvalidArgument,
     r"decode: expected codes of shape \(n, 6\); got \(3, 5\)"),
    (lambda: trained("8 bits").decode(np.zeros((3, 6))), ts.UnsupportedType, "decode: expected codes of type uint8"),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(BAD)))
def test_mistakes_are_sentences(case: int) -> None:
    call, kind, sentence = BAD[case]
    with pytest.raises(kind, match=sentence):
        call()
