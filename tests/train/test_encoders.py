"""An encoder is trained in place: its own layers, with gradients, and encodes as it was trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra `train`")
pytest.importorskip("transformers", reason="transformers is not installed: the extra `train`")

from tessella.encoder import Encoder  # noqa: E402
from tessella.encoder.folder import Pooling  # noqa: E402
from tessella.encoder.head import Dense  # noqa: E402
from tessella.errors import InvalidArgument  # noqa: E402
from tessella.train import Config, Trainer, losses  # noqa: E402
from tessella.train.encoders import EncoderModule  # noqa: E402
from tests.encoder.models import write_transformer  # noqa: E402
from tests.encoder.test_static import write_model2vec  # noqa: E402

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


@pytest.mark.parametrize("architecture", ["bert", "qwen3", "mpnet"])
def test_a_vector_for_each_layer(architecture: str, tmp_path: Path) -> None:
    encoder = Encoder.load(write_transformer(tmp_path / "m", architecture))
    found = EncoderModule(encoder, layers=True).eval()(TEXTS)
    assert found.shape == (len(TEXTS), 2, 32)
    assert np.allclose(found[:, -1].detach().numpy(), encoder.encode(TEXTS), atol=1e-5)
    if architecture == "bert":  # others have a norm behind their last layer, wherever that is
        cut = Encoder.load(tmp_path / "m", layers=1)
        assert np.allclose(found[:, 0].detach().numpy(), cut.encode(TEXTS), atol=1e-5)
        cut.save(tmp_path / "saved")
        assert np.array_equal(Encoder.load(tmp_path / "saved").encode(TEXTS), cut.encode(TEXTS))
    assert np.array_equal(Encoder.load(tmp_path / "m", layers=2).encode(TEXTS), encoder.encode(TEXTS))
    with pytest.raises(InvalidArgument, match="expected layers up to 2; got 3"):
        Encoder.load(tmp_path / "m", layers=3)


LAYERED = {
    "2D Matryoshka": lambda: losses.Matryoshka2D(losses.InfoNCE(), (8, 16)),
    "Starbucks": lambda: losses.Starbucks(losses.InfoNCE(), ((1, 8), (2, 16))),
}


@pytest.mark.parametrize("name", LAYERED)
def test_losses_over_layers_train_an_encoder(name: str, encoder: Encoder) -> None:
    """The first layer's first dimensions learn, which plain training leaves as they are."""
    queries, documents = ([f"w{i + by} w{i}" for i in range(24)] for by in (1, 20))
    data = {"query": queries, "positive": documents}

    def found(dim: int) -> float:
        """Share of queries whose own document is the first by the first layer's first dimensions."""
        module = EncoderModule(encoder, layers=True).eval()
        with torch.no_grad():
            x, y = (torch.nn.functional.normalize(module(each)[:, 0, :dim], dim=1) for each in (queries, documents))
        return float(((x @ y.T).argmax(1) == torch.arange(len(x))).float().mean())

    before = found(8)
    config = Config(steps=40, batch=24, mini_batch=10, learning_rate=3e-3, layers=True)
    history = Trainer(encoder, LAYERED[name](), data, config).fit()
    assert np.isfinite([each["loss"] for each in history]).all()
    assert found(8) >= before + 0.25


def test_texts_without_a_token_are_as_wide_as_others(tmp_path: Path) -> None:
    """Even where a mini-batch has no others, and the head changes the width."""
    table = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)
    static = Encoder.load(write_model2vec(tmp_path / "static", {"embeddings": table}, normalize=False))
    static.head.append(Dense({"in_features": 32, "out_features": 20}))
    module = EncoderModule(static)
    assert module(["", "w1"]).shape == (2, 20) and module(["", ""]).shape == (2, 20)


def test_layers_want_an_encoder() -> None:
    with pytest.raises(InvalidArgument, match="expected an Encoder, for layers=True; got Linear"):
        Trainer(torch.nn.Linear(2, 2), losses.InfoNCE(), {"query": ["a"], "positive": ["b"]}, Config(layers=True))


@pytest.mark.parametrize("include", [True, False])
def test_an_instruction_is_pooled_in_training_as_in_encoding(include: bool, encoder: Encoder) -> None:
    encoder.pooling = Pooling(("mean",), include_prompt=include)
    seen: list[torch.Tensor] = []

    def loss(query: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
        seen.extend([query.detach(), positive.detach()])
        return losses.InfoNCE()(query, positive)

    wanted = [encoder.encode(TEXTS, prompt="w9 w8 "), encoder.encode(TEXTS)]
    for module in encoder.backbone.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    config = Config(steps=1, batch=4, mini_batch=3, prompts={"query": "w9 w8 "})
    trainer = Trainer(encoder, loss, {"query": TEXTS, "positive": TEXTS}, config)
    trainer.fit()
    order = trainer.batches.at(0)[0][1]
    for found, rows in zip(seen, wanted, strict=True):
        assert np.allclose(found.numpy(), rows[np.asarray(order)], atol=1e-5)
