"""An encoder is trained in place: its own layers, with gradients, and encodes as it was trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra `train`")
pytest.importorskip("transformers", reason="transformers is not installed: the extra `train`")

from tessella.encoder import Encoder  # noqa: E402
from tessella.train import Config, Trainer, losses  # noqa: E402
from tessella.train.encoders import EncoderModule  # noqa: E402
from tests.encoder.models import write_transformer  # noqa: E402

TEXTS = ["w1 w2 w3", "w4", "w5 w6 w7 w8 w9 w10", "w3 w1"]


@pytest.fixture
def encoder(tmp_path: Path) -> Encoder:
    return Encoder.load(write_transformer(tmp_path / "m"))


def test_the_module_embeds_as_the_encoder_does(encoder: Encoder) -> None:
    module = EncoderModule(encoder).eval()
    found = module(TEXTS)
    assert found.requires_grad
    assert np.allclose(found.detach().numpy(), encoder.encode(TEXTS), atol=1e-5)


def test_training_moves_the_encoder_and_evaluation_sees_it(encoder: Encoder) -> None:
    before = encoder.encode(TEXTS)
    data = {"query": [f"w{i} w{i + 1}" for i in range(8)], "positive": [f"w{i + 20} w{i}" for i in range(8)]}
    seen: list[type] = []

    def evaluate(model: Encoder) -> dict[str, float]:
        seen.append(type(model))
        return {"norm": float(np.linalg.norm(model.encode(["w1"])))}

    config = Config(steps=30, batch=8, mini_batch=3, learning_rate=3e-3, evaluate_every=15)
    history = Trainer(encoder, losses.InfoNCE(), data, config, evaluate=evaluate).fit()
    assert seen == [Encoder, Encoder]
    assert sum(each["loss"] for each in history[-5:]) < 0.7 * sum(each["loss"] for each in history[:5])
    assert np.abs(encoder.encode(TEXTS) - before).max() > 1e-3
    assert not any(module.training for module in encoder.backbone.modules())
