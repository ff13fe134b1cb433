"""Every way of attention and positions: texts end to end give what each gives alone, in transformers itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from tessella.encoder import Encoder
from tests.encoder.models import ARCHITECTURES, PADDED, write_transformer


def alone(folder: Path, texts: list[str]) -> np.ndarray:
    """The mean state of each text, by transformers, one text at a time."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return np.stack(
            [model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(dim=0) for text in texts]
        )


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_flat_rows_give_what_single_texts_give(
    name: str, tmp_path: Path, sentences: Callable[[int, int], list[str]]
) -> None:
    folder = write_transformer(tmp_path / name, name)
    texts = sentences(40, 30)
    encoder = Encoder.load(folder)
    assert encoder.padding_free == (name not in PADDED)
    wanted = alone(folder, texts)
    assert wanted.std(axis=0).min() > 1e-3  # the texts differ, or equality would say nothing
    np.testing.assert_allclose(encoder.encode(texts), wanted, atol=2e-5 * np.abs(wanted).max())


def test_texts_longer_than_a_window_of_attention(tmp_path: Path, sentences: Callable[[int, int], list[str]]) -> None:
    folder = write_transformer(tmp_path / "m", "modernbert", local_attention=48)
    texts = sentences(10, 60)
    wanted = alone(folder, texts)
    np.testing.assert_allclose(Encoder.load(folder).encode(texts), wanted, atol=2e-5 * np.abs(wanted).max())


def test_texts_are_cut_where_positions_end(tmp_path: Path) -> None:
    encoder = Encoder.load(write_transformer(tmp_path / "m", "roberta"))
    assert encoder.max_tokens == 63  # position 0 is the padding's
    assert np.isfinite(encoder.encode("w1 " * 200)).all()


def test_half_weights(tmp_path: Path, sentences: Callable[[int, int], list[str]]) -> None:
    folder = write_transformer(tmp_path / "m")
    texts = sentences(10, 20)
    half = Encoder.load(folder, weights="bfloat16")
    assert half.padding_free
    wanted = alone(folder, texts)
    assert np.abs(half.encode(texts) - wanted).max() < 0.05 * np.abs(wanted).max()
