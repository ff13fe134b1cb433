"""What determines a training run, beside model, loss and data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch

from tessella.errors import InvalidArgument

_PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
_SCHEDULES = ("linear", "cosine", "constant")


@dataclass(frozen=True)
class Config:
    """All that a run is determined by, beside model, loss and data.

    Args:
        steps: of the optimizer, in all.
        batch: rows of a step, over all processes.
        mini_batch: rows embedded at once, by one process. Fewer than its share of the batch take the memory of that few
            and about a third more time, whatever the loss; None takes all at once.
        learning_rate: at its highest; it rises over the share `warmup` of the steps and falls by `schedule`: "linear",
            "cosine" or "constant".
        weight_decay: of AdamW, on matrices alone, not on biases and norms.
        clip: greatest length of the gradient; None leaves it.
        precision: "float32"; "bfloat16" or "float16" compute the model under autocast, the loss in float32 still.
        tasks: "same": a step's rows are of one task; "balanced": of each task alike.
        prompts: for each column, what is put before its texts; an Encoder pools it as its folder says.
        layers: an Encoder gives a vector for each of its layers, (n, layers, d), for Matryoshka2D and Starbucks.
        average: decay of a moving average of the weights (`Trainer.average`), for instance 0.999.
        evaluate_every, save_every: steps between; None never.
        seed: of all that is drawn.
    """

    steps: int = 1000
    batch: int = 64
    mini_batch: int | None = None
    learning_rate: float = 2e-5
    warmup: float = 0.1
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    weight_decay: float = 0.01
    clip: float | None = 1.0
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    tasks: Literal["same", "balanced"] = "same"
    prompts: Mapping[str, str] = field(default_factory=dict)
    layers: bool = False
    average: float | None = None
    evaluate_every: int | None = None
    save_every: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "mini_batch", "evaluate_every", "save_every"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise InvalidArgument(f"Config: expected {name} of at least 1; got {value}")
        if self.precision not in _PRECISIONS:
            raise InvalidArgument(f"Config: expected precision of {', '.join(_PRECISIONS)}; got {self.precision!r}")
        if self.schedule not in _SCHEDULES:
            raise InvalidArgument(f"Config: expected schedule of {', '.join(_SCHEDULES)}; got {self.schedule!r}")

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        rising = max(1, round(self.warmup * self.steps))
        if step < rising:
            return self.learning_rate * (step + 1) / rising
        left = (self.steps - step) / max(1, self.steps - rising)
        falls = {"constant": 1.0, "linear": left, "cosine": (1 - math.cos(math.pi * left)) / 2}
        return self.learning_rate * falls[self.schedule]

    def autocast_type(self) -> torch.dtype | None:
        """The type that the model computes in under autocast; None without."""
        return _PRECISIONS[self.precision]

    def facts(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "prompts": dict(self.prompts)}
