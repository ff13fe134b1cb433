"""Against sentence-transformers, with a real model: the same vectors, whatever the company a text is in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import tessella as ts
from tessella.encoder import Encoder
from tessella.errors import InvalidArgument, UnsupportedType
from tests.encoder.conftest import TEXTS

TOLERANCE = 2e-6


@pytest.fixture(scope="module")
def reference(minilm_folder: Path) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    return np.asarray(SentenceTransformer(str(minilm_folder), device="cpu").encode(TEXTS))


def test_vectors_are_those_of_sentence_transformers(minilm: Encoder, reference: np.ndarray) -> None:
    x = minilm.encode(TEXTS)
    assert x.dtype == np.float32 and x.shape == (len(TEXTS), 384)
    np.testing.assert_allclose(x, reference, atol=TOLERANCE)
    assert ((x * reference).sum(axis=1) > 0.999999).all()


def test_what_it_says_of_itself(minilm: Encoder) -> None:
    assert (minilm.dim, minilm.max_tokens, minilm.normalizes, minilm.padding_free) == (384, 256, True, True)
    assert (minilm.device, minilm.similarity, minilm.prompts) == ("cpu", "cosine", {})


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "binary"])
def test_no_bit_depends_on_the_batch(minilm: Encoder, real_texts: list[str], dtype: str) -> None:
    texts = real_texts[:50]
    whole = minilm.encode(texts, dtype=dtype)
    sevens = [minilm.encode(texts[i : i + 7], dtype=dtype, token_budget=64) for i in range(0, len(texts), 7)]
    np.testing.assert_array_equal(np.concatenate(sevens), whole)
    np.testing.assert_array_equal(np.stack([minilm.encode(text, dtype=dtype) for text in texts[:9]]), whole[:9])


def test_int8_keeps_the_directions(minilm: Encoder, real_texts: list[str]) -> None:
    x = minilm.encode(real_texts[:60])
    codes = minilm.encode(real_texts[:60], dtype="int8").astype(np.float32)
    cosines = (codes * x).sum(axis=1) / np.linalg.norm(codes, axis=1)
    assert codes.min() >= -127 and cosines.min() > 0.9995


def test_a_fitted_step_is_kept_with_the_model(minilm_folder: Path, tmp_path: Path, real_texts: list[str]) -> None:
    encoder = Encoder.load(minilm_folder)
    before = encoder.encode(TEXTS, dim=64, dtype="int8")
    encoder.fit_quantizer(real_texts[:30], dims=[64])
    fitted = encoder.encode(TEXTS, dim=64, dtype="int8")
    assert (fitted != before).any()
    x = encoder.encode(real_texts[:30], dim=64)
    assert encoder.scales.step(64) == pytest.approx(float(np.abs(x).max()) / 127)
    encoder.save(tmp_path / "model")
    np.testing.assert_array_equal(Encoder.load(tmp_path / "model").encode(TEXTS, dim=64, dtype="int8"), fitted)


def test_a_prefix_is_normalised_again(minilm: Encoder, reference: np.ndarray) -> None:
    x = minilm.encode(TEXTS, dim=100)
    wanted = reference[:, :100] / np.linalg.norm(reference[:, :100], axis=1, keepdims=True)
    np.testing.assert_allclose(x, wanted, atol=2 * TOLERANCE)
    assert np.linalg.norm(minilm.encode(TEXTS, normalize=False), axis=1).min() > 1.5


def test_binary_codes_are_those_of_the_quantizer(minilm: Encoder) -> None:
    codes = minilm.encode(TEXTS, dim=60, dtype="binary")
    assert codes.dtype == np.uint8 and codes.shape == (len(TEXTS), 8)
    np.testing.assert_array_equal(codes, ts.BinaryQuantizer(60).encode(minilm.encode(TEXTS, dim=60)))


def test_one_text_is_one_row_and_none_is_no_row(minilm: Encoder) -> None:
    np.testing.assert_array_equal(minilm.encode(TEXTS[0]), minilm.encode(TEXTS)[0])
    assert minilm.encode([]).shape == (0, 384)
    assert minilm.encode([], dtype="binary").shape == (0, 48)


def test_prompts_stand_before_texts(minilm: Encoder) -> None:
    plain = minilm.encode(["find: " + text for text in TEXTS])
    np.testing.assert_array_equal(minilm.encode(TEXTS, prompt="find: "), plain)
    np.testing.assert_array_equal(minilm.encode_queries(TEXTS), minilm.encode(TEXTS))
    with pytest.raises(InvalidArgument, match=r"name of a prompt of this model \(none\); got 'query'"):
        minilm.encode(TEXTS, prompt_name="query")


def test_a_bar_hears_of_every_text(minilm: Encoder) -> None:
    heard: list[int] = []
    minilm.encode(TEXTS, progress=heard.append, token_budget=50)
    assert sum(heard) == len(TEXTS) and len(heard) > 2


def test_texts_may_be_cut_earlier(minilm_folder: Path, minilm: Encoder) -> None:
    short = Encoder.load(minilm_folder, max_tokens=6)
    np.testing.assert_allclose(
        short.encode("one two three four five six"), minilm.encode("one two three four"), atol=TOLERANCE
    )


def test_token_vectors_pool_to_the_text(minilm: Encoder) -> None:
    states = minilm.encode_tokens(TEXTS, special_tokens=True, normalize=False)
    means = np.stack([each.mean(axis=0) for each in states])
    np.testing.assert_allclose(
        means / np.linalg.norm(means, axis=1, keepdims=True), minilm.encode(TEXTS), atol=TOLERANCE
    )
    kept = minilm.encode_tokens(TEXTS)
    assert [len(a) - len(b) for a, b in zip(states, kept, strict=True)] == [2] * len(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(kept[0], axis=1), 1, atol=1e-5)


def test_gradients_reach_the_weights(minilm_folder: Path) -> None:
    encoder = Encoder.load(minilm_folder)
    x = encoder.embed(TEXTS[:3])
    np.testing.assert_allclose(x.detach().numpy(), encoder.encode(TEXTS[:3]), atol=TOLERANCE)
    x[:, 0].sum().backward()
    weight = encoder.backbone.model.encoder.layer[0].attention.self.query.weight
    assert float(weight.grad.abs().sum()) > 0
    before = encoder.encode(TEXTS[0])
    with torch.no_grad():
        weight.mul_(0.5)  # a step of training: the packed copy has to follow
    assert np.abs(encoder.encode(TEXTS[0]) - before).max() > 1e-3


WRONG = {
    "no texts": (lambda e: e.encode(7), UnsupportedType, "expected texts as strings; got int"),
    "a number among texts": (lambda e: e.encode(["a", 7]), UnsupportedType, "got int at place 1"),
    "dim 0": (lambda e: e.encode("a", dim=0), InvalidArgument, "dim as a whole number of at least 1; got 0"),
    "dim too large": (lambda e: e.encode("a", dim=385), InvalidArgument, "dim up to 384; got 385"),
    "dtype": (lambda e: e.encode("a", dtype="int4"), InvalidArgument, "float16, int8, binary; got 'int4'"),
    "budget": (lambda e: e.encode("a", token_budget=0), InvalidArgument, "token_budget"),
    "int8 unfitted": (lambda e: e.encode("a", dtype="int8", normalize=False), InvalidArgument, "fit_quantizer"),
    "no sample": (lambda e: e.fit_quantizer([]), InvalidArgument, "expected texts; got none"),
    "nowhere": (lambda e: Encoder.load("no-such/model"), InvalidArgument, "got no-such/model; download=True"),
    "weights": (lambda e: Encoder.load("minilm", weights="int4"), InvalidArgument, "bfloat16; got 'int4'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_a_sentence(name: str, minilm: Encoder) -> None:
    call, kind, message = WRONG[name]
    with pytest.raises(kind, match=message):
        call(minilm)
