"""The face that encoders of token sets share: what comes in, what goes out, files, and mistakes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tessella as ts
from tests.kernels.cases import Floats, rows, same_bits

VARIANTS: dict[str, dict[str, Any]] = {
    "sketch": {},
    "dense": {"projection": "dense", "fill": "decay"},
    "plain": {"projection": "none", "fill": "nearest"},
    "final": {"final_dim": 40},
    "google": {"scheme": "google", "seed": 9},
}


def made(**options: Any) -> ts.FDE:
    return ts.FDE(12, 3, 2, projection_dim=4, **options)


def some(rng: np.random.Generator, lengths: tuple[int, ...] = (3, 0, 8)) -> list[Floats]:
    return [rows(rng, t, 12) for t in lengths]


def test_tokens_come_in_any_form(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch", reason="torch is an extra")
    fde, tokens = made(), some(rng)
    wanted = fde.encode_documents(tokens)
    padded, mask = np.full((3, 9, 12), 7, np.float32), np.zeros((3, 9), bool)
    for i, x in enumerate(tokens):
        padded[i, : len(x)], mask[i, : len(x)] = x, True
    flat = np.concatenate(tokens)
    forms: list[Any] = [
        (flat, np.array([0, 3, 3, 11])),
        [torch.from_numpy(x) for x in tokens],
        [x.astype(float) for x in tokens],
    ]
    for form in forms:
        result = fde.encode_documents(form)
        assert same_bits(np.asarray(result), wanted)
    assert same_bits(fde.encode_documents(padded, mask=mask), wanted)
    assert isinstance(fde.encode_documents(forms[1]), torch.Tensor)
    whole = [np.round(10 * x).astype(np.int8) for x in tokens]
    assert same_bits(fde.encode_documents(whole), fde.encode_documents([x.astype(np.float32) for x in whole]))


@pytest.mark.parametrize("dtype", ["float32", "float16", "binary"])
def test_results_go_where_they_are_wanted(rng: np.random.Generator, dtype: str) -> None:
    torch = pytest.importorskip("torch", reason="torch is an extra")
    fde, tokens = made(), some(rng)
    fresh = fde.encode_documents(tokens, dtype=dtype)
    out = np.empty_like(fresh)
    assert fde.encode_documents(tokens, dtype=dtype, out=out) is out and same_bits(out, fresh)
    tensor = torch.empty(fresh.shape, dtype=getattr(torch, {"binary": "uint8"}.get(dtype, dtype)))
    assert fde.encode_documents(tokens, dtype=dtype, out=tensor) is tensor and same_bits(tensor.numpy(), fresh)


def test_one_bit_codes_are_those_of_the_quantizer(rng: np.random.Generator) -> None:
    fde, tokens = ts.FDE(12, 4, 20, projection_dim=8), some(rng, (9, 30, 30, 7))
    codes = fde.encode_documents(tokens, dtype="binary")
    rows32 = fde.encode_documents(tokens)
    assert same_bits(codes, fde.binary_quantizer.encode(rows32))
    queries = fde.encode_queries(tokens)
    estimates = fde.binary_quantizer.inner_product(queries, codes)
    bound = fde.binary_quantizer.error_bound(queries, codes, epsilon=5)
    assert (np.abs(estimates - queries @ rows32.T) <= bound).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_files_hold_the_matrices(rng: np.random.Generator, tmp_path: Path, variant: str) -> None:
    fde, tokens = made(**VARIANTS[variant]), some(rng)
    fde.save(tmp_path / "fde")
    other = ts.FDE.load(tmp_path / "fde")
    assert repr(other) == repr(fde) and other.fill == fde.fill
    assert same_bits(other.encode_documents(tokens), fde.encode_documents(tokens))
    assert same_bits(other.encode_queries(tokens), fde.encode_queries(tokens))
    again = ts.FDE.from_state(*fde.state())
    assert same_bits(again.encode_documents(tokens), fde.encode_documents(tokens))
    safetensors = pytest.importorskip("safetensors.numpy", reason="safetensors is an extra")
    assert set(fde.matrices()) <= set(safetensors.load_file(tmp_path / "fde"))


def test_damaged_states_are_refused(tmp_path: Path) -> None:
    settings, arrays = made(final_dim=40).state()
    damage: list[Callable[[dict[str, Any], dict[str, Any]], None]] = [
        lambda s, a: s.pop("fill"),
        lambda s, a: s.update(fill="other"),
        lambda s, a: s.update(projection_dim=3),
        lambda s, a: s.update(final_dim=39),
        lambda s, a: s.update(seed=-1),
        lambda s, a: a.pop("hyperplanes"),
        lambda s, a: a.pop("signs"),
        lambda s, a: a.update(hyperplanes=a["hyperplanes"][0]),
        lambda s, a: a.update(hyperplanes=a["hyperplanes"][:, :2]),
        lambda s, a: a.update(hyperplanes=a["hyperplanes"] * np.float32(np.nan)),
        lambda s, a: a.update(index=a["index"] + 4),
        lambda s, a: a.update(final_index=a["final_index"][:-1]),
    ]
    for spoil in damage:
        own, spoilt = dict(settings), dict(arrays)
        spoil(own, spoilt)
        with pytest.raises((KeyError, TypeError, ValueError)):
            ts.FDE.from_state(own, spoilt)
    ts.RaBitQuantizer(8).save(tmp_path / "other")
    with pytest.raises(ts.FormatError, match="of the kind 'rabitq'; expected 'fde'"):
        ts.FDE.load(tmp_path / "other")


def test_a_spoilt_file_is_a_format_error(rng: np.random.Generator, tmp_path: Path) -> None:
    """Unless the bit lies in the room between tensors."""
    fde = made()
    fde.save(tmp_path / "fde")
    whole = (tmp_path / "fde").read_bytes()
    refused = 0
    for _ in range(60):
        spoilt = bytearray(whole)
        spoilt[int(rng.integers(len(whole)))] ^= 1 << int(rng.integers(8))
        (tmp_path / "spoilt").write_bytes(spoilt)
        try:
            loaded = ts.FDE.load(tmp_path / "spoilt").matrices()
        except ts.FormatError:
            refused += 1
        else:
            assert all(same_bits(x, loaded[name]) for name, x in fde.matrices().items())
    assert refused > 40


@pytest.mark.parametrize(
    ("bytes", "dtype"), [(64, "binary"), (320, "binary"), (1280, "binary"), (9999, "float16"), (2560, "binary")]
)
def test_budgets_are_kept(bytes: int, dtype: str) -> None:
    fde = ts.FDE.for_budget(128, bytes, dtype=dtype)
    spent = fde.output_dim * {"binary": 1, "float16": 16}[dtype] / 8
    assert 0.85 * bytes <= spent <= bytes


def test_the_defaults() -> None:
    fde = ts.FDE(128)
    assert (fde.dim, fde.k_sim, fde.repetitions, fde.projection_dim, fde.output_dim) == (128, 5, 20, 16, 10_240)


def test_mistakes_get_a_sentence(rng: np.random.Generator) -> None:
    fde, tokens = made(), some(rng)
    nan = [x.copy() for x in tokens]
    nan[2][5, 1] = np.nan
    out = np.zeros((3, fde.output_dim), np.float32)
    planes, places = np.ones((2, 3, 4)), np.ones((2, 4), int)
    mistakes: list[tuple[Callable[[], object], str]] = [
        (lambda: ts.FDE(0), "fde: expected dim >= 1; got 0"),
        (lambda: ts.FDE(8, 17), "fde: expected k_sim in 0..16; got 17"),
        (lambda: ts.FDE(8, 16, 1 << 20), r"fde: expected repetitions \* 2\^k_sim \* projection_dim in 1..2\*\*31 - 1"),
        (lambda: ts.FDE(8, projection="sparse"), "fde: expected projection of countsketch, dense, none; got 'sparse'"),
        (lambda: ts.FDE(8, fill="mean"), "fde: expected fill of none, nearest, decay; got 'mean'"),
        (lambda: ts.FDE(8, scheme="other"), "fde: expected scheme of tessella, google; got 'other'"),
        (lambda: ts.FDE(8, projection="dense", scheme="google"), "with scheme 'google'; got 'dense'"),
        (lambda: ts.FDE.for_budget(8, 7), "for_budget: expected at least 8 bytes for binary; got 7"),
        (lambda: ts.FDE.for_budget(8, 64, dtype="int8"), "for_budget: expected dtype"),
        (
            lambda: ts.FDE.from_matrices(np.ones((2, 3))),
            r"fde: expected hyperplanes of shape \(repetitions, k_sim, dim\)",
        ),
        (lambda: ts.FDE.from_matrices(planes, np.ones((2, 5, 3))), "fde: expected a projection of shape"),
        (
            lambda: ts.FDE.from_matrices(planes, (places, np.ones((2, 4)), 1)),
            "below 1; got 1",
        ),
        (lambda: fde.encode_documents(nan), "expected finite tokens; token 5 of number 2 has a NaN or an infinity"),
        (lambda: fde.encode_documents(nan, out=out), "expected finite tokens"),
        (lambda: fde.encode_documents([x[:, :11] for x in tokens]), "encode_documents: expected tokens of 12 numbers"),
        (lambda: fde.encode_documents(tokens, dtype="int8"), "encode_documents: expected dtype"),
        (lambda: fde.encode_queries(tokens, dtype="binary"), "encode_queries: expected float32 or float16"),
        (lambda: fde.encode_documents(tokens, out=out[:2]), r"encode_documents: expected out of shape \(3, 64\)"),
        (lambda: fde.encode_documents(tokens, out=out.astype(float)), "encode_documents: expected out of shape"),
        (lambda: fde.encode_documents(tokens, threads=0), "encode_documents: expected threads >= 1; got 0"),
    ]
    for mistake, sentence in mistakes:
        with pytest.raises(ts.InvalidArgument, match=sentence):
            mistake()
    assert not out.any()
    with pytest.raises(ts.UnsupportedType, match="expected out as a NumPy array"):
        fde.encode_documents(tokens, out=[1])
