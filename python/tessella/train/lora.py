"""Low-rank adapters by peft, put into a model where it stands, and merged into its weights when they have learnt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.autograd.graph import increment_version

from tessella.errors import InvalidArgument


def add_lora(
    model: nn.Module, *, rank: int = 16, alpha: float = 32.0, dropout: float = 0.0, layers: Sequence[str] | str
) -> nn.Module:
    """Adapters beside the linear layers of these names; all else of the model stops learning (Hu et al., 2106.09685).

    Args:
        model: changed in place, and returned.
        rank, alpha, dropout: y = W x + alpha / rank * B A dropout(x), A and B of `rank` rows and columns.
        layers: ends of names, such as ["query", "value"], or "all-linear".

    A Trainer made afterwards trains, and its checkpoints keep, what is left to learn. Needs the extra `lora`.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ImportError('add_lora: expected peft; `pip install "tessella[lora]"` brings it') from error
    wanted = layers if isinstance(layers, str) else list(layers)
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=wanted)
    try:
        injected: nn.Module = inject_adapter_in_model(config, model)
    except ValueError as error:
        raise InvalidArgument(f"add_lora: expected names of linear layers of the model; {error}") from error
    return injected


def merge_lora(model: nn.Module) -> nn.Module:
    """W + alpha / rank * B A in place of each layer with adapters: the architecture is that of before.

    peft adds to `weight.data`, which torch does not count as a change. Here it is counted, so that an `Encoder` lays
    its weights out anew whatever the adapters changed; uncounted, it would go by a sample of each weight.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted: list[tuple[str, Any]] = [
        (name, each) for name, each in model.named_modules() if isinstance(each, BaseTunerLayer)
    ]
    for name, layer in adapted:
        layer.merge()
        for changed in layer.get_base_layer().parameters(recurse=False):
            increment_version(changed)
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, layer.get_base_layer())
    model.requires_grad_(True)
    return model
