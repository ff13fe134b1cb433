"""Low-rank adapters: what learns, what a merge leaves, what a resumed run has."""

from __future__ import annotations

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


def test_names_that_no_layer_has_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="expected names of linear layers"):
        add_lora(Bag(), layers=["query"])
