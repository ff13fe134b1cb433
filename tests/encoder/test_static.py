"""Static embeddings, of both makers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from tessella.encoder import Encoder
from tessella.errors import FormatError
from tests.encoder.models import WORDS, tokenizer, write_json

Sentences = Callable[[int, int], list[str]]


def write_model2vec(folder: Path, tensors: dict[str, np.ndarray], normalize: bool = True) -> Path:
    folder.mkdir()
    tokenizer().save(str(folder / "tokenizer.json"))
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    write_json(folder / "config.json", {"model_type": "model2vec", "normalize": normalize})
    return folder


def means(table: np.ndarray, texts: list[str]) -> np.ndarray:
    return np.stack([table[[WORDS.index(word) for word in text.split()]].mean(axis=0) for text in texts])


def test_model2vec(tmp_path: Path, sentences: Sentences, rng: np.random.Generator) -> None:
    table = rng.standard_normal((len(WORDS), 24)).astype(np.float32)
    encoder = Encoder.load(write_model2vec(tmp_path / "m", {"embeddings": table}, normalize=False))
    texts = sentences(30, 9)
    np.testing.assert_allclose(encoder.encode(texts), means(table, texts), atol=1e-6)
    assert (encoder.dim, encoder.max_tokens, encoder.normalizes) == (24, None, False)
    assert not encoder.encode(["", "w1"])[0].any()


def test_shared_and_weighted_rows(tmp_path: Path, sentences: Sentences, rng: np.random.Generator) -> None:
    stored = rng.standard_normal((10, 8)).astype(np.float16)
    mapping = rng.integers(0, 10, len(WORDS))
    weights = rng.random(len(WORDS)).astype(np.float32)
    tensors = {"embeddings": stored, "mapping": mapping, "weights": weights}
    texts = sentences(20, 9)
    wanted = means(stored.astype(np.float32)[mapping] * weights[:, None], texts)
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    encoder = Encoder.load(write_model2vec(tmp_path / "m", tensors))
    np.testing.assert_allclose(encoder.encode(texts), wanted, atol=1e-5)


def test_sentence_transformers_reads_what_we_save(
    tmp_path: Path, sentences: Sentences, rng: np.random.Generator
) -> None:
    from sentence_transformers import SentenceTransformer

    table = rng.standard_normal((len(WORDS), 24)).astype(np.float32)
    ours = Encoder.load(write_model2vec(tmp_path / "m", {"embeddings": table}))
    ours.save(tmp_path / "saved")
    texts = sentences(20, 9)
    theirs = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    np.testing.assert_allclose(theirs.encode(texts), ours.encode(texts), atol=1e-6)
    np.testing.assert_array_equal(Encoder.load(tmp_path / "saved").encode(texts), ours.encode(texts))


WRONG = {
    "no table": ({"other": np.zeros((64, 4), np.float32)}, "embedding.weight or embeddings"),
    "few rows": ({"embeddings": np.zeros((5, 4), np.float32)}, "has 5 vectors for 64 tokens"),
    "mapping": (
        {"embeddings": np.zeros((5, 4), np.float32), "mapping": np.full(64, 5)},
        "mapping or weights that do not fit",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_a_sentence(name: str, tmp_path: Path) -> None:
    tensors, message = WRONG[name]
    with pytest.raises(FormatError, match=message):
        Encoder.load(write_model2vec(tmp_path / "m", tensors))
