"""A pooling with weights as a part of an encoder: whether it fits, how it pools flat rows, how it is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tessella.encoder import trainable
from tessella.encoder.extras import require
from tessella.encoder.folder import POOLERS, Layer
from tessella.encoder.linear import pack
from tessella.encoder.pooling import NAMES
from tessella.encoder.tokens import Ids
from tessella.encoder.trainable import Pooled, TrainablePooling
from tessella.errors import FormatError

if TYPE_CHECKING:
    from tessella.encoder.static import Static
    from tessella.encoder.transformer import Transformer

KINDS: dict[str, type[TrainablePooling]] = {name: getattr(trainable, name) for name in POOLERS}
_MODES = {ours: theirs for theirs, ours in NAMES.items()}


def states_of(backbone: Transformer | Static, pooler: TrainablePooling | None) -> Callable[[Sequence[Ids]], Any]:
    """What makes the states that are pooled: those of the last layer (ΣT, dim), or such of each."""
    return backbone.layers if pooler is not None and pooler.layered else backbone


def pooled_by(pooler: TrainablePooling | None, states: Any, lengths: Sequence[int], pooled: Pooled) -> Tensor:
    """Vectors of states by `pooled`, through the weights where there are some."""
    return pooled(states) if pooler is None else pooler.flat(states, lengths, pooled)


def mode_of(pooler: TrainablePooling) -> str:
    """How it makes one vector of tokens, as sentence-transformers calls it."""
    return _MODES[pooler.mode]


def misfit(pooler: TrainablePooling, backbone: Transformer | Static, head_dim: int | None) -> str | None:
    """What of it does not go with the states and the head, as the end of an error's sentence."""
    kind, mine = type(pooler).__name__, pooler.config()
    if pooler.mode not in tuple(_MODES):
        return f"expected a {kind} with a mode of {', '.join(_MODES)}; got one with {pooler.mode!r}"
    for name, wanted in (("dim", backbone.dim), ("layers", backbone.depth)):
        if mine.get(name, wanted) != wanted:
            return f"expected a {kind} with {name}={wanted}, as the model has it; got one with {name}={mine[name]}"
    if head_dim not in (None, backbone.dim):
        return f"expected a head for the {backbone.dim} numbers that a {kind} gives; got one for {head_dim}"
    return None


def ready(pooler: TrainablePooling, backbone: Transformer | Static) -> TrainablePooling:
    """The module where the model is, in the type of its weights, linear layers laid out for the CPU."""
    weight = next(backbone.parameters())
    pack(pooler.eval().to(weight.device, weight.dtype))
    return pooler


def load(layer: Layer) -> TrainablePooling:
    """The module that a folder holds."""
    files = require("safetensors.torch")
    kind, path = KINDS[layer.kind], layer.path
    for name, value in layer.config.items():
        if name != "mode" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise FormatError(f"load: expected {name} of {path} as a whole number of at least 1; got {value!r}")
    try:
        with torch.device("meta"):  # sizes that a damaged file names take no memory
            made = kind(**layer.config)
        made.load_state_dict(files.load_file(path / "model.safetensors"), assign=True)
    except Exception as error:  # an argument too many, a missing key, a wrong shape, a file that is no safetensors
        raise FormatError(f"load: {path} holds no {layer.kind} that can be loaded ({error})") from error
    return made
