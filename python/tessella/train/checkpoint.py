"""A training run on disk: tensors as safetensors, the rest as JSON, read back bit for bit."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tessella.errors import FormatError, InvalidArgument
from tessella.train.cache import RandomState
from tessella.train.world import World

_TENSORS, _FACTS = "training.safetensors", "training.json"


def write(folder: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Writes beside `folder` and renames: a checkpoint is there as a whole or not at all."""
    from safetensors.torch import save_file

    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    # safetensors refuses tensors that share memory, as tied weights do
    save_file({name: each.detach().cpu().contiguous().clone() for name, each in tensors.items()}, beside / _TENSORS)
    (beside / _FACTS).write_text(json.dumps(facts, indent=1, sort_keys=True))
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)


def read(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write` wrote; a FormatError where it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(folder / _TENSORS), dict(json.loads((folder / _FACTS).read_text()))
    except (OSError, SafetensorError, ValueError) as error:
        raise FormatError(f"checkpoint: expected {_TENSORS} and {_FACTS} in {folder}; {error}") from error


def named(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under `prefix.`."""
    return {f"{prefix}.{name}": each for name, each in state.items()}


def part(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under `prefix.`, by their own names."""
    return {name[len(prefix) + 1 :]: each for name, each in tensors.items() if name.startswith(f"{prefix}.")}


def check_fits(module: torch.nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Raises where a module has other tensors than a state, before anything of it is loaded."""
    mine = module.state_dict()
    odd = sorted(mine.keys() ^ state.keys())
    # a running range has no size before it has seen a batch
    odd += [name for name in mine if name in state and mine[name].numel() and mine[name].shape != state[name].shape]
    if odd:
        raise InvalidArgument(
            f"Trainer.resume: expected the {what} of the checkpoint; got another in {', '.join(odd[:3])}"
        )


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Moments and counts, by the number of the parameter."""
    state = optimizer.state_dict()["state"]
    return {f"{number}.{key}": torch.as_tensor(each) for number, by in state.items() for key, each in by.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Moments and counts, into an optimizer of the same parameters."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, each in tensors.items():
        number, key = name.split(".", 1)
        state.setdefault(int(number), {})[key] = each
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def random_tensors(world: World) -> dict[str, Tensor]:
    """Where the generators of every process stand, a row for each: each drops out differently."""
    now = RandomState.now()
    tensors = {"cpu": world.collected(now.cpu)}
    return {**tensors, "cuda": world.collected(torch.stack(now.cuda))} if now.cuda else tensors


def random_state(tensors: Mapping[str, Tensor], rank: int) -> RandomState:
    """That of one process."""
    # copies: torch misreads a state that is a view into a larger tensor
    mine = {name: each[rank].clone() for name, each in part("random", tensors).items()}
    return RandomState(mine["cpu"], [each.clone() for each in mine["cuda"]] if "cuda" in mine else [])
