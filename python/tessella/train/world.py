"""The processes that train together: who this one is, gathering of embeddings, summing of gradients."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, distributed, nn


class World(NamedTuple):
    """This process among those of torch.distributed; one alone where there is no group."""

    rank: int
    size: int
    device: torch.device

    @classmethod
    def found(cls) -> World:
        """As torch.distributed is set up, or as `accelerate launch` and `torchrun` say in the environment."""
        if not distributed.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            from accelerate import PartialState

            device = PartialState().device  # starts the group, on the back end that suits the machine
            return cls(distributed.get_rank(), distributed.get_world_size(), device)
        device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
        if not distributed.is_initialized():
            return cls(0, 1, device)
        return cls(distributed.get_rank(), distributed.get_world_size(), device)

    def share(self, module: nn.Module) -> None:
        """Every process has the first one's weights afterwards."""
        if self.size > 1:
            for each in module.state_dict().values():
                distributed.broadcast(each, 0)

    def mine(self, n: int) -> slice:
        """The rows of n that are this process's share."""
        each = n // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def gathered(self, rows: Tensor) -> Tensor:
        """Rows of all processes, one below the other; gradients reach this one's own."""
        if self.size == 1:
            return rows
        parts = [torch.empty_like(rows) for _ in range(self.size)]
        distributed.all_gather(parts, rows.detach().contiguous())
        parts[self.rank] = rows
        return torch.cat(parts)

    def collected(self, state: Tensor) -> Tensor:
        """What each process has of one shape, stacked on the CPU: (size, …)."""
        if self.size == 1:
            return state[None]
        mine = state.to(self.device)  # where the back end of the group takes tensors from
        parts = [torch.empty_like(mine) for _ in range(self.size)]
        distributed.all_gather(parts, mine)
        return torch.stack(parts).cpu()

    def wait(self) -> None:
        """Until every process has come here."""
        if self.size > 1:
            distributed.barrier()

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Every process has the sum of all gradients afterwards; one message for each type of numbers."""
        if self.size == 1:
            return
        by_type: dict[torch.dtype, list[Tensor]] = {}
        for each in parameters:
            if each.requires_grad:
                if each.grad is None:
                    each.grad = torch.zeros_like(each)
                by_type.setdefault(each.dtype, []).append(each.grad)
        for gradients in by_type.values():
            flat = torch.cat([each.flatten() for each in gradients])
            distributed.all_reduce(flat)
            for each, summed in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                each.copy_(summed.view_as(each))
