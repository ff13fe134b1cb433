"""A pooling with weights in an encoder: as the module says over padded rows, trained, saved, read back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch.nn.functional import normalize

from tessella.encoder import Encoder
from tessella.encoder.folder import Pooling
from tessella.encoder.head import Dense
from tessella.encoder.trainable import LatentAttention, LayerPooling, TrainablePooling, WeightedLayers
from tessella.errors import FormatError, InvalidArgument
from tessella.train import Config, Trainer, losses
from tessella.train.encoders import EncoderModule
from tests.encoder import models
from tests.encoder.test_static import write_model2vec

Sentences = Callable[[int, int], list[str]]
KINDS: dict[str, Callable[[], TrainablePooling]] = {
    "LatentAttention": lambda: LatentAttention(32, latents=7, heads=2, head_dim=12),
    "LayerPooling": lambda: LayerPooling(32, layers=2, latents=5, heads=2, head_dim=12, mode="last"),
    "WeightedLayers": lambda: WeightedLayers(2, mode="max"),
}
TEXTS = ["w1 w2 w3", "w4", "w5 w6 w7 w8 w9 w10", "w3 w1 w2"]


def made(kind: str) -> TrainablePooling:
    """With weights that all show in the vectors."""
    torch.manual_seed(3)
    module = KINDS[kind]()
    with torch.no_grad():
        for each in module.parameters():
            each.add_(0.1 * torch.randn_like(each))
    return module


@pytest.fixture
def encoder(tmp_path: Path) -> Encoder:
    return Encoder.load(models.write_transformer(tmp_path / "m"))


def padded(encoder: Encoder, module: Any, texts: list[str], counts: Callable[[int], slice]) -> Any:
    """What the module makes of padded rows; `counts` says which tokens of a text of that length have a part."""
    ids = encoder.backbone.tokens(texts)
    longest = max(map(len, ids))
    layers = torch.full((encoder.backbone.depth, len(ids), longest, encoder.backbone.dim), 9.0)
    mask = torch.zeros(len(ids), longest)
    with torch.no_grad():
        for i, each in enumerate(ids):
            layers[:, i, : len(each)] = torch.stack(list(encoder.backbone.layers([each])))
            mask[i, : len(each)][counts(len(each))] = 1
        return module(list(layers) if module.layered else layers[-1], mask, normalize=False)


@pytest.mark.parametrize("architecture", ["bert", "mpnet"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_pools_as_the_module_does(kind: str, architecture: str, tmp_path: Path) -> None:
    encoder, module = Encoder.load(models.write_transformer(tmp_path / "m", architecture)), made(kind)
    wanted = padded(encoder, module, TEXTS, lambda n: slice(n))
    encoder.set_pooling(module)
    np.testing.assert_allclose(encoder.encode(TEXTS), wanted.numpy(), atol=2e-5)
    short = normalize(wanted[:, :9], dim=1).numpy()
    np.testing.assert_allclose(encoder.encode(TEXTS, dim=9, normalize=True), short, atol=2e-6)
    np.testing.assert_allclose(encoder.embed(TEXTS).detach().numpy(), wanted.numpy(), atol=2e-5)
    tokens = encoder.encode_tokens(TEXTS[0], normalize=False)
    bare = Encoder.load(tmp_path / "m").encode_tokens(TEXTS[0], normalize=False)
    assert np.array_equal(tokens, bare), "tokens are those before pooling"


@pytest.mark.parametrize("kind", KINDS)
def test_no_bit_depends_on_the_batch(kind: str, encoder: Encoder, sentences: Sentences) -> None:
    encoder.set_pooling(made(kind))
    texts = sentences(60, 20)
    whole = encoder.encode(texts)
    assert encoder.padding_free
    assert np.array_equal(encoder.encode(texts, token_budget=40), whole)
    assert np.array_equal(np.stack([encoder.encode(text) for text in texts]), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_without_padding_stay_so(kind: str, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder.set_pooling(made(kind))
    monkeypatch.setattr(encoder.backbone, "_padded", None)
    seen: list[tuple[int, ...]] = []

    def kept(states: Any, lengths: Any, pooled: Any) -> Any:
        return flat(states, lengths, lambda x: (seen.append(tuple(x.shape)), pooled(x))[1])

    flat = encoder.pooler.flat  # type: ignore[union-attr]
    monkeypatch.setattr(encoder.pooler, "flat", kept)
    encoder.encode(TEXTS)
    assert set(seen) == {(sum(len(text.split()) + 2 for text in TEXTS), 32)}


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_are_pooled_by_it(kind: str, encoder: Encoder) -> None:
    module = made(kind)
    wanted = [padded(encoder, module, [TEXTS[2]], lambda _, a=a: slice(a + 1, a + 4))[0] for a in (0, 3)]
    encoder.set_pooling(module)
    found = encoder.encode_chunks(TEXTS[2], chunk_tokens=3).embeddings
    np.testing.assert_allclose(found, torch.stack(wanted).numpy(), atol=2e-5)
    assert encoder.encode_chunks("").embeddings.shape == (0, 32)


@pytest.mark.parametrize("kind", KINDS)
def test_an_instruction_has_no_part_where_that_is_said(kind: str, encoder: Encoder) -> None:
    module, prompt = made(kind), "w9 w8 "
    texts = [prompt + text for text in TEXTS]
    wanted = {skip: padded(encoder, module, texts, lambda n, skip=skip: slice(skip, n)).numpy() for skip in (0, 3)}
    for include, skip in ((True, 0), (False, 3)):
        encoder.set_pooling(module, include_prompt=include)
        np.testing.assert_allclose(encoder.encode(TEXTS, prompt=prompt), wanted[skip], atol=2e-5)
    encoder.set_pooling(made(kind))
    assert encoder.pooling.include_prompt is False, "it stays as it was"


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_it(kind: str, encoder: Encoder) -> None:
    encoder.set_pooling(made(kind))
    weights = torch.randn(len(TEXTS), 32, generator=torch.Generator().manual_seed(0))
    (encoder.embed(TEXTS) * weights).sum().backward()
    grads = {name: each.grad for name, each in encoder.pooler.named_parameters()}  # type: ignore[union-attr]
    assert all(each is not None and bool(each.isfinite().all()) for each in grads.values())
    assert any(bool(each.abs().max() > 1e-4) for each in grads.values() if each is not None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_trainer_trains_it(kind: str, encoder: Encoder, tmp_path: Path) -> None:
    """By itself, where the rest is held; and what is saved is what was trained."""
    encoder.set_pooling(made(kind))
    encoder.backbone.requires_grad_(False)
    before, states = encoder.encode(TEXTS), encoder.encode_tokens(TEXTS)
    data = {"query": [f"w{i} w{i + 1}" for i in range(8)], "positive": [f"w{i + 20} w{i}" for i in range(8)]}

    def loss() -> float:
        return float(losses.InfoNCE()(*(torch.from_numpy(encoder.encode(texts)) for texts in data.values())))

    first = loss()
    trainer = Trainer(encoder, losses.InfoNCE(), data, Config(steps=20, batch=8, mini_batch=3, learning_rate=1e-2))
    assert len(trainer.parameters) == len(list(encoder.pooler.parameters()))  # type: ignore[union-attr]
    trainer.fit()
    trained = encoder.encode(TEXTS)
    assert loss() < 0.95 * first
    assert np.abs(trained - before).max() > 1e-3
    assert all(np.array_equal(a, b) for a, b in zip(states, encoder.encode_tokens(TEXTS), strict=True))
    encoder.save(tmp_path / "saved")
    assert np.array_equal(Encoder.load(tmp_path / "saved").encode(TEXTS), trained)


def with_head(path: Path) -> Path:
    models.write_transformer(path)
    names = ("", "1_Pooling", "2_Dense", "3_Normalize")
    modules = [{"path": name, "type": name.partition("_")[2] or "Transformer"} for name in names]
    models.write_json(path / "modules.json", modules)
    models.write_json(path / "2_Dense" / "config.json", {"in_features": 32, "out_features": 20})
    torch.manual_seed(1)
    weights = {"linear.weight": torch.randn(20, 32), "linear.bias": torch.randn(20)}
    safetensors.torch.save_file(weights, path / "2_Dense" / "model.safetensors")
    return path


@pytest.mark.parametrize("weights", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_is_read_back(kind: str, weights: str, tmp_path: Path) -> None:
    """A folder of the layout of sentence-transformers, with one for the pooling, and the head behind it."""
    encoder = Encoder.load(with_head(tmp_path / "m"), weights=weights)
    encoder.set_pooling(made(kind), include_prompt=False)
    wanted = encoder.encode(TEXTS)
    for _ in range(2):  # the second folder takes the place of the first
        encoder.save(tmp_path / "saved")
    modules = json.loads((tmp_path / "saved" / "modules.json").read_text())
    assert [each["path"] for each in modules] == ["", f"1_{kind}", "2_Dense", "3_Normalize"]
    assert modules[1]["type"] == f"tessella.encoder.trainable.{kind}"
    assert sorted(path.name for path in (tmp_path / "saved" / f"1_{kind}").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    again = Encoder.load(tmp_path / "saved", weights=weights)
    assert type(again.pooler).__name__ == kind and again.pooling == encoder.pooling
    assert again.full_dim == 20 and wanted.shape == (len(TEXTS), 20)
    assert np.array_equal(again.encode(TEXTS), wanted)
    assert again.pooler is not None and encoder.pooler is not None
    assert again.pooler.config() == encoder.pooler.config()
    assert all(each.requires_grad for each in again.pooler.parameters())


def test_static_embeddings_take_one_too(tmp_path: Path, rng: np.random.Generator) -> None:
    table = rng.standard_normal((len(models.WORDS), 32)).astype(np.float32)
    encoder = Encoder.load(write_model2vec(tmp_path / "m", {"embeddings": table}))
    before = encoder.encode(TEXTS)
    encoder.set_pooling(made("LatentAttention"))
    wanted = encoder.encode(TEXTS)
    assert np.abs(wanted - before).max() > 1e-2 and not encoder.encode("").any()
    encoder.save(tmp_path / "saved")
    assert np.array_equal(Encoder.load(tmp_path / "saved").encode(TEXTS), wanted)


def test_layers_by_themselves(encoder: Encoder, tmp_path: Path) -> None:
    """One of the last layer alone pools each layer; one of all layers has nothing to say of a single one."""
    encoder.set_pooling(made("LatentAttention"))
    found = EncoderModule(encoder, layers=True).eval()(TEXTS).detach().numpy()
    np.testing.assert_allclose(found[:, 1], encoder.encode(TEXTS), atol=2e-5)
    encoder.save(tmp_path / "latent")
    np.testing.assert_allclose(found[:, 0], Encoder.load(tmp_path / "latent", layers=1).encode(TEXTS), atol=2e-5)
    for kind in ("LayerPooling", "WeightedLayers"):
        encoder.set_pooling(made(kind))
        with pytest.raises(InvalidArgument, match=f"pooling takes one layer, for layers=True; got {kind}"):
            EncoderModule(encoder, layers=True)
        encoder.save(tmp_path / kind)
        with pytest.raises(InvalidArgument, match="layers=1, as the model has it; got one with layers=2"):
            Encoder.load(tmp_path / kind, layers=1)


REFUSED: dict[str, tuple[Any, str]] = {
    "a module of torch": (lambda: torch.nn.Linear(32, 32), "expected a module LatentAttention, .*; got Linear"),
    "other states": (lambda: LatentAttention(16, 4, 2), "expected a LatentAttention with dim=32, .* with dim=16"),
    "other layers": (lambda: WeightedLayers(12), "expected a WeightedLayers with layers=2, .* with layers=12"),
    "an unknown mode": (lambda: WeightedLayers(2, "median"), "expected a .* with a mode of .*; got one with 'median'"),
    "two modes": (lambda: WeightedLayers(2, ["mean"]), r"expected .* a mode of .*; got one with \['mean'\]"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name: str, encoder: Encoder) -> None:
    make, message = REFUSED[name]
    encoder.fit_quantizer(TEXTS)
    before, steps = encoder.encode(TEXTS, dtype="int8"), encoder.scales
    with pytest.raises(InvalidArgument, match=f"^set_pooling: {message}"):
        encoder.set_pooling(make())
    assert encoder.pooler is None and encoder.scales is steps
    assert np.array_equal(encoder.encode(TEXTS, dtype="int8"), before)


def test_a_head_for_several_modes_is_refused(encoder: Encoder) -> None:
    encoder.pooling = Pooling(("mean", "cls"))
    encoder.head.append(Dense({"in_features": 64, "out_features": 8}))
    with pytest.raises(InvalidArgument, match=r"expected a head for the 32 numbers .*; got one for 64"):
        encoder.set_pooling(made("WeightedLayers"))


def test_steps_of_other_vectors_are_dropped(encoder: Encoder) -> None:
    encoder.fit_quantizer(TEXTS)
    encoder.set_pooling(made("LatentAttention"))
    assert not encoder.scales.steps


def saved(path: Path, kind: str = "WeightedLayers") -> Path:
    encoder = Encoder.load(models.write_transformer(path / "m"))
    encoder.set_pooling(made(kind))
    encoder.save(path / "saved")
    return path / "saved"


CONFIGS: dict[str, tuple[str, dict[str, Any], str]] = {
    "other layers": ("WeightedLayers", {"layers": 3}, "size mismatch"),
    "no layers": ("WeightedLayers", {"layers": 0}, "expected layers of .* of at least 1; got 0"),
    "a mode of another kind": ("WeightedLayers", {"mode": ["mean"]}, r"with a mode of .*; got one with \['mean'\]"),
    "an unknown mode": ("WeightedLayers", {"mode": "median"}, "with a mode of .*; got one with 'median'"),
    "an argument of others": ("WeightedLayers", {"layer_start": 4}, "no WeightedLayers that can be loaded"),
    "sizes without end": ("LatentAttention", {"latents": 1 << 40}, "size mismatch"),
    "heads below none": ("LatentAttention", {"heads": -2, "head_dim": -12}, "heads of .* of at least 1; got -2"),
    "a number as text": ("LatentAttention", {"dim": "32"}, "dim of .* of at least 1; got '32'"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_damaged_configuration_is_named(name: str, tmp_path: Path) -> None:
    kind, changes, message = CONFIGS[name]
    path = saved(tmp_path, kind) / f"1_{kind}" / "config.json"
    models.write_json(path, json.loads(path.read_text()) | changes)
    with pytest.raises(FormatError, match=f"(?s)^load: .*{message}"):
        Encoder.load(tmp_path / "saved")


def torn(path: Path) -> None:
    whole = (path / "1_LatentAttention" / "model.safetensors").read_bytes()
    (path / "1_LatentAttention" / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def without_weights(path: Path) -> None:
    (path / "1_LatentAttention" / "model.safetensors").unlink()


def of_another_kind(path: Path) -> None:
    rewritten(path, lambda modules: [{**each, "type": "elsewhere.LayerPooling"} if i else each for i, each in modules])


def pooled_twice(path: Path) -> None:
    rewritten(path, lambda modules: [each for i, each in modules for _ in range(1 + i)])


def behind_the_head(path: Path) -> None:
    normalizing = {"idx": 1, "name": "1", "path": "2", "type": "Normalize"}
    rewritten(path, lambda modules: [modules[0][1], normalizing, modules[1][1]])


def of_another_model(path: Path) -> None:
    config = json.loads((path / "config.json").read_text()) | {"hidden_size": 16}
    models.write_transformer(path, hidden_size=16, num_attention_heads=config["num_attention_heads"])


def rewritten(path: Path, change: Callable[[Any], Any]) -> None:
    modules = json.loads((path / "modules.json").read_text())
    models.write_json(path / "modules.json", change(list(enumerate(modules))))


FILES: dict[Callable[[Path], None], str] = {
    torn: "holds no LatentAttention that can be loaded",
    without_weights: "holds no LatentAttention that can be loaded",
    of_another_kind: "holds no LayerPooling that can be loaded",
    pooled_twice: "pool once, right behind its Transformer; got LatentAttention, LatentAttention",
    behind_the_head: "pool once, right behind its Transformer; got Normalize, LatentAttention",
    of_another_model: "expected a LatentAttention with dim=16, as the model has it; got one with dim=32",
}


@pytest.mark.parametrize("damage", FILES, ids=lambda damage: damage.__name__)
def test_damaged_and_foreign_folders_are_named(damage: Callable[[Path], None], tmp_path: Path) -> None:
    damage(saved(tmp_path, "LatentAttention"))
    with pytest.raises(FormatError, match=f"^load: .*{FILES[damage]}"):
        Encoder.load(tmp_path / "saved")
