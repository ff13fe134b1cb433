"""Model folders: old and new files say the same, and damaged ones are refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tessella.encoder import Encoder
from tessella.encoder.folder import describe
from tessella.errors import FormatError, InvalidArgument
from tests.encoder.models import write_json, write_transformer

OLD = "sentence_transformers.models."
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": OLD + "Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": OLD + "Pooling"},
]


def folder(tmp_path: Path, modules: Any = MODULES, pooling: Any = None, **files: Any) -> Path:
    write_json(tmp_path / "modules.json", modules)
    write_json(tmp_path / "1_Pooling" / "config.json", pooling or {})
    for name, content in files.items():
        write_json(tmp_path / f"{name}.json", content)
    return tmp_path


POOLINGS = {
    ("mean",): [{}, {"pooling_mode_mean_tokens": True}, {"pooling_mode": "mean"}],
    ("cls", "mean"): [
        {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
        {"pooling_mode": ["cls", "mean"]},
    ],
    ("lasttoken",): [{"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}],
}


@pytest.mark.parametrize("modes", POOLINGS)
def test_pooling_of_every_age(modes: tuple[str, ...], tmp_path: Path) -> None:
    for config in POOLINGS[modes]:
        assert describe(folder(tmp_path, pooling=config)).pooling.modes == modes


def test_the_least_length_holds(tmp_path: Path) -> None:
    files = {"sentence_roberta_config": {"max_seq_length": 128, "do_lower_case": True}}
    described = describe(folder(tmp_path, **files, tokenizer_config={"model_max_length": 512}))
    assert (described.max_tokens, described.lower_case) == (128, True)
    write_json(tmp_path / "tokenizer_config.json", {"model_max_length": 64})
    assert describe(tmp_path).max_tokens == 64
    write_json(tmp_path / "tokenizer_config.json", {"model_max_length": 1e30})  # transformers' word for none
    assert describe(tmp_path).max_tokens == 128


def test_empty_prompts_are_prompts_and_null_is_none(tmp_path: Path) -> None:
    settings = {"prompts": {"query": "find: ", "document": "", "other": None}, "default_prompt_name": "query"}
    described = describe(folder(tmp_path, config_sentence_transformers=settings))
    assert described.prompts == {"query": "find: ", "document": ""} and described.default_prompt == "query"


def test_a_plain_folder_is_pooled_by_its_architecture(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"architectures": ["BertModel"]})
    assert describe(tmp_path).pooling.modes == ("mean",)
    write_json(tmp_path / "config.json", {"architectures": ["Qwen3ForCausalLM"]})
    assert describe(tmp_path).pooling.modes == ("lasttoken",)
    write_json(tmp_path / "config.json", {"architectures": ["Qwen3ForCausalLM"], "is_causal": False})
    assert describe(tmp_path).pooling.modes == ("mean",)


def test_a_folder_may_say_where_its_vectors_are_cut(tmp_path: Path) -> None:
    """What its `truncate_dim` keeps has length 1, as any prefix; another `dim` may still be asked for."""
    write_transformer(tmp_path / "m")
    modules = [*MODULES, {"path": "2_Normalize", "type": OLD + "Normalize"}]
    whole = Encoder.load(folder(tmp_path / "m", modules))
    texts = ["w1 w2 w3", "w4"]
    cut = Encoder.load(folder(tmp_path / "m", modules, config_sentence_transformers={"truncate_dim": 8}))
    assert (cut.dim, cut.full_dim, whole.dim) == (8, 32, 32)
    for options in ({}, {"dtype": "binary"}, {"dtype": "int8"}):
        assert np.array_equal(cut.encode(texts, **options), whole.encode(texts, dim=8, **options))
    assert np.array_equal(cut.encode(texts, dim=32), whole.encode(texts))
    assert np.array_equal(cut.encode_chunks(texts).embeddings, whole.encode_chunks(texts, dim=8).embeddings)
    cut.save(tmp_path / "saved")
    assert np.array_equal(Encoder.load(tmp_path / "saved").encode(texts), cut.encode(texts))
    with pytest.raises(InvalidArgument, match="expected dim up to 32; got 33"):
        cut.encode(texts, dim=33)
    wide = Encoder.load(folder(tmp_path / "m", modules, config_sentence_transformers={"truncate_dim": 99}))
    assert wide.dim == 32


def test_several_modes_cut_by_the_folder_are_cut_as_one_vector(tmp_path: Path) -> None:
    write_transformer(tmp_path / "m")
    settings = {"truncate_dim": 40}
    modes = {"pooling_mode": ["cls", "mean"]}
    cut = Encoder.load(folder(tmp_path / "m", pooling=modes, config_sentence_transformers=settings))
    assert np.array_equal(cut.encode("w1 w2"), cut.encode("w1 w2", dim=64)[:40])


def test_steps_that_were_fitted_stay_when_others_are(tmp_path: Path) -> None:
    encoder = Encoder.load(write_transformer(tmp_path / "m"))
    encoder.fit_quantizer(["w1 w2", "w3"], dims=[8, 16])
    first = dict(encoder.scales.steps)
    encoder.fit_quantizer(["w4", "w5 w6 w7"], dims=[8])
    assert set(encoder.scales.steps) == {8, 16, 32}
    assert encoder.scales.step(16) == first[16] and encoder.scales.step(8) != first[8]


def test_vectors_without_a_size_fit_no_step(tmp_path: Path) -> None:
    """A step of 0 would make every code one of 0 / 0, and a folder that cannot be read."""
    encoder = Encoder.load(write_transformer(tmp_path / "m"))
    encoder.fit_quantizer(["w1 w2", "w3"], dims=[8])
    first = dict(encoder.scales.steps)
    with torch.no_grad():
        norms = [each for each in encoder.backbone.modules() if isinstance(each, torch.nn.LayerNorm)]
        for value, message in ((0.0, "is 0"), (float("nan"), "is nan")):
            norms[-1].weight.fill_(value)
            with pytest.raises(InvalidArgument, match=f"not all zero; the largest coordinate of theirs {message}"):
                encoder.fit_quantizer(["w1 w2", "w3"], dims=[8])
    assert encoder.scales.steps == first


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown module": ({"modules": [*MODULES, {"path": "2", "type": "x.CNN"}]}, "got CNN"),
    "no first module": ({"modules": []}, "got nothing"),
    "pooling first": ({"modules": MODULES[1:]}, "begin with a Transformer or a StaticEmbedding; got Pooling"),
    "an entry without path": ({"modules": [{"type": "Transformer"}]}, "an entry without type and path"),
    "a path that leads out": ({"modules": [{"type": "Transformer", "path": "../other"}]}, "lies outside it"),
    "modules that are no list": ({"modules": {"a": 1}}, "holds a dict"),
    "unknown mode": ({"pooling": {"pooling_mode": "median"}}, "got 'median'"),
    "a cut": ({"config_sentence_transformers": {"truncate_dim": 0}}, "truncate_dim of .* of at least 1; got 0"),
    "steps": ({"tessella": {"int8_steps": {"384": -1}}}, "steps of int8 above 0"),
    "a step that float32 lacks": ({"tessella": {"int8_steps": {"384": 1e-300}}}, "steps of int8 above 0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_damage_is_named(name: str, tmp_path: Path) -> None:
    given, message = WRONG[name]
    write_transformer(tmp_path)
    with pytest.raises(FormatError, match=message):
        Encoder.load(folder(tmp_path, **given))


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"modules.json or config.json in .*; it has neither"):
        describe(tmp_path)
    with pytest.raises(InvalidArgument, match="is a CrossEncoder"):
        describe(folder(tmp_path, config_sentence_transformers={"model_type": "CrossEncoder"}))
    (tmp_path / "config_sentence_transformers.json").unlink()
    (tmp_path / "modules.json").write_text("[{")
    with pytest.raises(FormatError, match=r"modules.json is no readable JSON"):
        describe(tmp_path)


def test_torn_weights_are_a_format_error(tmp_path: Path) -> None:
    write_transformer(tmp_path)
    weights = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(FormatError, match="no transformer that can be loaded"):
        Encoder.load(tmp_path)


def test_saving_takes_the_place_of_a_model_only(tmp_path: Path) -> None:
    encoder = Encoder.load(write_transformer(tmp_path / "m"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    with pytest.raises(InvalidArgument, match="it holds something else"):
        encoder.save(tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep me"
    encoder.save(tmp_path / "saved")
    encoder.prompts["query"] = "w1 "
    encoder.save(tmp_path / "saved")
    settings = json.loads((tmp_path / "saved" / "config_sentence_transformers.json").read_text())
    assert settings["prompts"] == {"query": "w1 "}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "mine", "saved"]
