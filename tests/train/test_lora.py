"""Low-rank adapters: what learns, what a merge leaves, what a resumed run has."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra `train`")
pytest.importorskip("peft", reason="peft is not installed: the extra `lora`")

from tessella.errors import InvalidArgument  # noqa: E402
from tessella.train import Config, Trainer, add_lora, losses, merge_lora  # noqa: E402
from tests.train.models import Bag, pairs  # noqa: E402

TEXTS = ["w1 v1", "w2 v2 y"]


def test_adapters_learn_alone_and_merge_into_the_weights() -> None:
    model, untouched = Bag(), Bag()
    add_lora(model, rank=2, layers=["layers.0", "layers.3"])
    assert torch.equal(model(TEXTS), untouched(TEXTS))  # adapters start at zero
    learning = {name for name, each in model.named_parameters() if each.requires_grad}
    assert len(learning) == 4 and all("lora_" in name for name in learning)
    Trainer(model, losses.InfoNCE(), pairs(16), Config(steps=8, batch=8, learning_rate=1e-2)).fit()
    trained = model(TEXTS).detach()
    assert not torch.allclose(trained, untouched(TEXTS), atol=1e-3)
    merge_lora(model)
    assert model.state_dict().keys() == untouched.state_dict().keys()
    assert torch.allclose(model(TEXTS), trained, atol=1e-5)
    assert torch.equal(model.table.weight, untouched.table.weight)
    assert all(each.requires_grad for each in model.parameters())


def test_an_encoder_that_has_encoded_before_encodes_by_the_merged_weights(tmp_path: Path) -> None:
    """Its linear layers keep a copy laid out for inference, which a merge has to replace."""
    pytest.importorskip("transformers", reason="transformers is not installed: the extra `encoder`")
    from tessella.encoder import Encoder
    from tests.encoder.models import write_transformer

    encoder = Encoder.load(write_transformer(tmp_path / "model"))
    texts = ["w1 w2 w3", "w4"]
    before = encoder.encode(texts)
    add_lora(encoder.backbone, rank=2, layers=["query", "value"])
    with torch.no_grad():
        for name, each in encoder.backbone.named_parameters():
            if "lora_B" in name:
                each.normal_()
    adapted = encoder.encode(texts)
    merge_lora(encoder.backbone)
    merged = encoder.encode(texts)
    assert abs(merged - before).max() > 1e-2
    assert abs(merged - adapted).max() < 1e-5
    encoder.save(tmp_path / "merged")
    assert (merged == Encoder.load(tmp_path / "merged").encode(texts)).all()


# peft asks a model of transformers what that calls deprecated
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_an_encoder_follows_a_merge_by_peft_itself(tmp_path: Path) -> None:
    """peft writes to `weight.data`, which torch does not count."""
    pytest.importorskip("transformers", reason="transformers is not installed: the extra `encoder`")
    from peft import LoraConfig, get_peft_model

    from tessella.encoder import Encoder
    from tests.encoder.models import write_transformer

    encoder = Encoder.load(write_transformer(tmp_path / "model"))
    texts = ["w1 w2 w3", "w4"]
    before = encoder.encode(texts)
    adapted = get_peft_model(encoder.backbone.model, LoraConfig(r=2, target_modules=["query", "dense"]))
    with torch.no_grad():
        for name, each in adapted.named_parameters():
            if "lora_B" in name:
                each.normal_()
    wanted = encoder.encode(texts)
    assert adapted.merge_and_unload() is encoder.backbone.model
    merged = encoder.encode(texts)
    assert abs(merged - before).max() > 1e-2
    assert abs(merged - wanted).max() < 1e-5


def test_names_that_no_layer_has_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="expected names of linear layers"):
        add_lora(Bag(), layers=["query"])
