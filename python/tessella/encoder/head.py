"""What follows the pooling: dense layers, layer norms, normalisation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn.functional import normalize

from tessella.encoder.extras import require
from tessella.encoder.folder import Layer
from tessella.encoder.linear import pack
from tessella.errors import FormatError

ACTIVATIONS: dict[str, type[torch.nn.Module]] = {  # by the last part of the name; nothing is imported by name
    kind.__name__: kind
    for kind in (torch.nn.Identity, torch.nn.Tanh, torch.nn.GELU, torch.nn.ReLU, torch.nn.SiLU, torch.nn.Sigmoid)
}


class Dense(torch.nn.Module):
    """activation(Wx + b), plus x or its projection where the layer has a residual path."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        size, out = int(config["in_features"]), int(config["out_features"])
        name = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
        if name not in ACTIVATIONS:
            raise FormatError(f"load: expected an activation out of {', '.join(ACTIVATIONS)}; got {name}")
        self.linear = torch.nn.Linear(size, out, bias=bool(config.get("bias", True)))
        self.activation = ACTIVATIONS[name]()
        self.use_residual = bool(config.get("use_residual", False))
        if self.use_residual and size != out:
            self.residual = torch.nn.Linear(size, out, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.activation(self.linear(x))
        if not self.use_residual:
            return y
        return y + (self.residual(x) if hasattr(self, "residual") else x)


class LayerNorm(torch.nn.Module):
    """Mean 0 and variance 1 over the coordinates, then a scale and a shift of each."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.norm = torch.nn.LayerNorm(int(config["dimension"]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.norm(x)
        return y


class Normalize(torch.nn.Module):
    """Length 1; a zero vector stays one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return normalize(x, dim=-1)


def load(layers: Sequence[Layer], weights: torch.dtype) -> torch.nn.Sequential:
    """The modules of a head with their weights."""
    head = torch.nn.Sequential(*(_loaded(layer) for layer in layers)).eval().to(weights)
    pack(head)
    return head


def in_dim(head: torch.nn.Sequential) -> int | None:
    """Size of the vectors that the head takes; None where any will do."""
    for module in head:
        if isinstance(module, Dense):
            return int(module.linear.in_features)
        if isinstance(module, LayerNorm):
            return int(module.norm.normalized_shape[0])
    return None


def out_dim(head: torch.nn.Sequential, dim: int) -> int:
    """Size of what the head makes of vectors of size `dim`."""
    for module in head:
        dim = module.linear.out_features if isinstance(module, Dense) else dim
    return dim


def without_last_normalize(head: torch.nn.Sequential) -> torch.nn.Sequential:
    """All but a `Normalize` at the end, which has to wait until vectors are cut."""
    return head[:-1] if len(head) and isinstance(head[-1], Normalize) else head


def headed(head: torch.nn.Sequential, vectors: torch.Tensor) -> torch.Tensor:
    """What the head makes of pooled vectors, computed in the type of its weights."""
    weight = next(head.parameters(), vectors)
    made: torch.Tensor = head(vectors.to(weight.dtype))
    return made


def fits_one_pass(body: torch.nn.Sequential) -> bool:
    """Whether `tessella.pool` does what these modules do: none, or one linear map in float32."""
    return len(body) == 0 or dense_of(body) is not None


def dense_of(body: torch.nn.Sequential) -> tuple[torch.Tensor, torch.Tensor | None] | None:
    """Weight and bias of the one linear map that the modules are, if they are one."""
    only = body[0] if len(body) == 1 else None
    if not isinstance(only, Dense) or only.use_residual or not isinstance(only.activation, torch.nn.Identity):
        return None
    linear = only.linear
    return (linear.weight.detach(), linear.bias) if linear.weight.dtype == torch.float32 else None


def entries(head: torch.nn.Sequential) -> Iterator[tuple[str, dict[str, Any], torch.nn.Module]]:
    """Kind, configuration as sentence-transformers writes it, and module, of each layer."""
    for module in head:
        yield type(module).__name__, _config(module), module


def _loaded(layer: Layer) -> torch.nn.Module:
    if layer.kind == "Normalize":
        return Normalize()
    try:
        module = Dense(layer.config) if layer.kind == "Dense" else LayerNorm(layer.config)
        module.load_state_dict(_weights(layer))
    except FormatError:
        raise
    except Exception as error:  # a missing key, a wrong shape, a file that is no safetensors
        raise FormatError(f"load: {layer.path} holds no {layer.kind} that can be loaded ({error})") from error
    return module


def _weights(layer: Layer) -> dict[str, torch.Tensor]:
    safe = layer.path / "model.safetensors"
    if safe.is_file():
        stored: dict[str, torch.Tensor] = require("safetensors.torch").load_file(safe)
        return stored
    # weights_only refuses whatever is not a tensor, so a pickle runs no code
    old: dict[str, torch.Tensor] = torch.load(layer.path / "pytorch_model.bin", map_location="cpu", weights_only=True)
    return old


def _config(module: torch.nn.Module) -> dict[str, Any]:
    if isinstance(module, Dense):
        linear = module.linear
        config = {"in_features": linear.in_features, "out_features": linear.out_features}
        config |= {"bias": linear.bias is not None, "activation_function": _full_name(module.activation)}
        return config | ({"use_residual": True} if module.use_residual else {})
    if isinstance(module, LayerNorm):
        return {"dimension": module.norm.normalized_shape[0]}
    return {}


def _full_name(module: torch.nn.Module) -> str:
    kind = type(module)
    return f"{kind.__module__}.{kind.__qualname__}"
