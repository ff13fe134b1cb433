"""Pooling and heads against sentence-transformers' own modules, in every mode."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, LayerNorm, Normalize, Pooling, Transformer

from tessella.encoder import Encoder
from tests.encoder.models import write_transformer

MODES = ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken", ("cls", "mean", "lasttoken")]


def built(folder: Path, *head: torch.nn.Module, mode: object = "mean", include_prompt: bool = True) -> None:
    """Makes a sentence-transformers folder of the Hugging Face one."""
    transformer = Transformer(str(folder))
    model = SentenceTransformer(
        modules=[transformer, Pooling(32, mode, include_prompt), *head],
        device="cpu",
        prompts={"query": "w1 w2 w3 ", "document": ""},
    )
    model.save_pretrained(str(folder), create_model_card=False)


@pytest.mark.parametrize("include_prompt", [True, False])
@pytest.mark.parametrize("mode", MODES, ids=str)
def test_modes(mode: object, include_prompt: bool, tmp_path: Path, sentences: Callable[[int, int], list[str]]) -> None:
    folder = write_transformer(tmp_path / "m")
    built(folder, mode=mode, include_prompt=include_prompt)
    texts = sentences(20, 12)
    theirs, ours = SentenceTransformer(str(folder), device="cpu"), Encoder.load(folder)
    assert ours.dim == (32 if isinstance(mode, str) else 96)
    for name in ("query", "document"):
        wanted = theirs.encode(texts, prompt_name=name)
        np.testing.assert_allclose(ours.encode(texts, prompt_name=name), wanted, atol=1e-5 * np.abs(wanted).max())
    np.testing.assert_array_equal(ours.encode_queries(texts), ours.encode(texts, prompt_name="query"))
    np.testing.assert_array_equal(ours.encode_documents(texts), ours.encode(texts, prompt="", prompt_name=None))


HEADS: dict[str, Callable[[], list[torch.nn.Module]]] = {
    "dense": lambda: [Dense(32, 16), Normalize()],
    "dense without bias": lambda: [Dense(32, 24, bias=False, activation_function=torch.nn.GELU())],
    "residual": lambda: [Dense(32, 32, use_residual=True), Dense(32, 8, use_residual=True), Normalize()],
    "layer norm": lambda: [LayerNorm(32)],
    "normalised, then dense": lambda: [Normalize(), Dense(32, 16, activation_function=torch.nn.Identity())],
}


@pytest.mark.parametrize("name", HEADS)
def test_heads_and_folders_that_we_wrote(name: str, tmp_path: Path, sentences: Callable[[int, int], list[str]]) -> None:
    """The same vectors from their folder, from the one we save of it, and by them from that one."""
    torch.manual_seed(3)
    folder = write_transformer(tmp_path / "m")
    built(folder, *HEADS[name]())
    texts = sentences(12, 12)
    wanted = SentenceTransformer(str(folder), device="cpu").encode(texts, prompt_name="query")
    ours = Encoder.load(folder)
    x = ours.encode_queries(texts)
    assert ours.dim == wanted.shape[1]
    np.testing.assert_allclose(x, wanted, atol=1e-5 * np.abs(wanted).max())
    ours.save(tmp_path / "again")
    np.testing.assert_array_equal(Encoder.load(tmp_path / "again").encode_queries(texts), x)
    theirs = SentenceTransformer(str(tmp_path / "again"), device="cpu")
    np.testing.assert_allclose(theirs.encode(texts, prompt_name="query"), wanted, atol=1e-6 * np.abs(wanted).max())
