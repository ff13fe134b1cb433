"""Training of an embedding model: the loop in one screen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from tessella.errors import InvalidArgument
from tessella.train import checkpoint
from tessella.train.batches import Batches
from tessella.train.cache import Embedded, RandomState, without_graph
from tessella.train.columns import Columns
from tessella.train.config import Config
from tessella.train.encoders import Prompted, as_module
from tessella.train.losses import Loss
from tessella.train.losses._loss import parameters_of
from tessella.train.merge import Average
from tessella.train.world import World

Callback: TypeAlias = "Callable[[Trainer], None]"
Figures: TypeAlias = Callable[[Any], Mapping[str, float]]


class Trainer:
    """Trains a model by a loss on named columns of texts.

    Args:
        model: an `Encoder`, whose weights are trained in place, or any `nn.Module` from a list of n texts to (n, d).
        loss: a `Loss`, or any function of named columns; for several tasks a dict of them, or one for all.
        data: what `Columns.of` takes; for several tasks a dict of names and such.
        config: see there.
        evaluate: called with the model in evaluation mode, without gradients; gives figures by name.
        guide: another model, whose embeddings of the same texts the loss gets as guide_query, guide_positive, ….
        callbacks: called with the trainer after each step. One with `state()`, a dict of tensors, and
            `load_state(trainer, state)` is part of checkpoints.
        folder: of checkpoints, `step-000100` and so on.

    Under `torchrun` or `accelerate launch` each process embeds its share of a batch, embeddings are gathered, the loss
    sees all of them, and gradients are summed: the result is that of one process with the whole batch.

    See also: docs/howto/train.md, docs/concepts/losses.md.
    """

    def __init__(
        self,
        model: Any,
        loss: Loss | Mapping[str, Loss],
        data: Any,
        config: Config | None = None,
        *,
        evaluate: Figures | None = None,
        guide: Callable[[list[str]], Tensor] | None = None,
        callbacks: Sequence[Callback] = (),
        folder: str | Path | None = None,
    ) -> None:
        self.given, self.config = model, config or Config()
        self.model = as_module(model, layers=self.config.layers)
        self.evaluate, self.guide = evaluate, guide
        self.callbacks, self.folder = list(callbacks), None if folder is None else Path(folder)
        if self.config.save_every and self.folder is None:
            raise InvalidArgument("Trainer: expected a folder, since save_every is given; got none")
        self.world = World.found()
        self.data, self.losses = by_task(data, loss)
        self.loss_modules = nn.ModuleList(self.losses.values())
        sizes = {task: len(columns) for task, columns in self.data.items()}
        self.batches = Batches(sizes, self.config.batch, tasks=self.config.tasks, seed=self.config.seed)
        if self.batches.each % self.world.size:
            got = f"{self.batches.each} for {self.world.size}"
            raise InvalidArgument(f"Trainer: expected rows of a step that the processes can share; got {got}")
        self.world.share(self.model.to(self.world.device))
        self.world.share(self.loss_modules.to(self.world.device))
        self.parameters = [each for each in self.model.parameters() if each.requires_grad]
        self.optimizer = torch.optim.AdamW(self._groups(), lr=self.config.learning_rate)
        self.scaler = torch.amp.GradScaler(self.world.device.type, enabled=self.config.precision == "float16")
        self.average = Average(self.model, self.config.average) if self.config.average else None
        self.step = 0
        self.history: list[dict[str, float]] = []
        # Each process drops out differently, and a run depends on its seed alone.
        torch.manual_seed(self.config.seed + 7919 * self.world.rank)

    def fit(self) -> list[dict[str, float]]:
        """Trains up to `config.steps`; returns the history: step, loss, rate, and figures where evaluated."""
        config = self.config
        self.model.train()
        self.loss_modules.train()
        while self.step < config.steps:
            for group in self.optimizer.param_groups:
                group["lr"] = config.rate(self.step)
            loss = self.accumulate()
            self.world.sum_gradients(self.parameters)
            self.scaler.unscale_(self.optimizer)
            if config.clip is not None:
                nn.utils.clip_grad_norm_([*self.parameters, *self.loss_modules.parameters()], config.clip)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad(set_to_none=True)
            if self.average is not None:
                self.average.update(self.model)
            self.history.append({"step": self.step, "loss": loss, "rate": config.rate(self.step)})
            self.step += 1
            for callback in self.callbacks:
                callback(self)
            if config.evaluate_every and self.step % config.evaluate_every == 0:
                self.history[-1].update(self.figures())
            if config.save_every and self.step % config.save_every == 0:
                self.save()
        self.model.eval()
        return self.history

    def accumulate(self) -> float:
        """Adds the gradients of this step's rows to those of model and losses; returns the loss."""
        total = 0.0
        for task, rows in self.batches.at(self.step):
            batch, mine = self.data[task].take(rows), self.data[task].take(rows[self.world.mine(len(rows))])
            texts = prompted(mine, self.config.prompts)
            embedded = Embedded(self.embed, texts, self.config.mini_batch or len(mine))
            columns = {name: self.world.gathered(each) for name, each in embedded.columns.items()}
            loss = self.losses[task](**columns, **self._guided(texts), **self._numbers(batch))
            self.scaler.scale(loss).backward()
            embedded.backward()
            total += loss.item()
        return total

    def embed(self, texts: list[str]) -> Tensor:
        """The model's embeddings, under autocast where the configuration says so."""
        kind = self.config.autocast_type()
        with torch.autocast(self.world.device.type, dtype=kind, enabled=kind is not None):
            out: Tensor = self.model(texts)
            return out

    def figures(self) -> dict[str, float]:
        """What `evaluate` says now; training goes on with the random numbers it would have had."""
        if self.evaluate is None:
            return {}
        with evaluating(self.model):
            return dict(self.evaluate(self.given))

    def save(self, folder: str | Path | None = None) -> Path:
        """Writes all that `resume` needs. Every process has to call it; the first one writes, the others wait."""
        if folder is None:
            if self.folder is None:
                raise InvalidArgument("Trainer.save: expected a folder, here or of the Trainer; got none")
            folder = self.folder / f"step-{self.step:06d}"
        path = Path(folder)
        tensors, facts = self._state()
        if self.world.rank == 0:
            checkpoint.write(path, tensors, facts)
        self.world.wait()
        return path

    def resume(self, folder: str | Path) -> None:
        """Goes on from a checkpoint of a Trainer made alike, bit for bit as a run without a break.

        As many processes have to resume as there were: each has random numbers of its own. An InvalidArgument where
        their number, the configuration, the model or the losses differ; nothing is changed then.
        """
        tensors, facts = checkpoint.read(Path(folder))
        if facts["processes"] != self.world.size:
            expected, got = facts["processes"], self.world.size
            raise InvalidArgument(f"Trainer.resume: expected {expected} processes, as wrote the checkpoint; got {got}")
        theirs, mine = (
            {**each, "save_every": 0, "evaluate_every": 0} for each in (facts["config"], self.config.facts())
        )
        if theirs != mine:
            differ = sorted(name for name in mine if theirs.get(name) != mine[name])
            raise InvalidArgument(f"Trainer.resume: expected the same configuration; got other {', '.join(differ)}")
        model, loss = checkpoint.part("model", tensors), checkpoint.part("loss", tensors)
        checkpoint.check_fits(self.model, model, "model")
        checkpoint.check_fits(self.loss_modules, loss, "loss")
        self.model.load_state_dict(model)
        self.loss_modules.load_state_dict(loss)
        checkpoint.load_optimizer(self.optimizer, checkpoint.part("optimizer", tensors))
        if self.average is not None:
            self.average.state = checkpoint.part("average", tensors)
        for i, callback in enumerate(self.callbacks):
            if hasattr(callback, "load_state"):
                callback.load_state(self, checkpoint.part(f"callback{i}", tensors))
        self.scaler.load_state_dict(facts["scaler"])
        self.step, self.history = int(facts["step"]), list(facts["history"])
        checkpoint.random_state(tensors, self.world.rank).back()

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {
            **checkpoint.named("model", self.model.state_dict()),
            **checkpoint.named("loss", self.loss_modules.state_dict()),
            **checkpoint.named("optimizer", checkpoint.optimizer_tensors(self.optimizer)),
            **checkpoint.named("average", self.average.state if self.average is not None else {}),
            **checkpoint.named("random", checkpoint.random_tensors(self.world)),
        }
        for i, callback in enumerate(self.callbacks):
            if hasattr(callback, "state"):
                tensors.update(checkpoint.named(f"callback{i}", callback.state()))
        facts = {"config": self.config.facts(), "step": self.step, "history": self.history}
        facts["processes"] = self.world.size
        return tensors, {**facts, "scaler": self.scaler.state_dict()}

    def _guided(self, texts: dict[str, Any]) -> dict[str, Tensor]:
        if self.guide is None:
            return {}
        columns = without_graph(self.guide, texts, self.config.mini_batch or self.config.batch)
        return {f"guide_{name}": self.world.gathered(each) for name, each in columns.items()}

    def _numbers(self, batch: Columns) -> dict[str, Tensor]:
        numbers = {name: torch.as_tensor(each, device=self.world.device) for name, each in batch.all_numbers().items()}
        return {name: each.float() if each.is_floating_point() else each for name, each in numbers.items()}

    def _groups(self) -> list[dict[str, Any]]:
        """Weight decay for matrices; none for vectors and the losses' own parameters."""
        matrices = [each for each in self.parameters if each.ndim > 1]
        vectors = [*(each for each in self.parameters if each.ndim <= 1), *self.loss_modules.parameters()]
        decay = self.config.weight_decay
        groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
        return [group for group in groups if group["params"]]


class FunctionLoss(Loss):
    """A plain function of named columns as a loss."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def columns(self) -> dict[str, bool]:
        return parameters_of(self.function)

    def value(self, **columns: Tensor) -> Tensor:
        return self.function(**columns)


def by_task(data: Any, loss: Any) -> tuple[dict[str, Columns], dict[str, nn.Module]]:
    """Columns and loss of each task; a single one is called `train`."""
    several = isinstance(data, Mapping) and not any(isinstance(each, list | tuple) for each in data.values())
    tasks = {str(name): Columns.of(each) for name, each in data.items()} if several else {"train": Columns.of(data)}
    if isinstance(loss, Mapping) and set(loss) != set(tasks):
        expected, got = ", ".join(sorted(tasks)), ", ".join(sorted(loss))
        raise InvalidArgument(f"Trainer: expected a loss for each task, {expected}; got {got}")
    losses = {task: loss[task] if isinstance(loss, Mapping) else loss for task in tasks}
    return tasks, {task: each if isinstance(each, nn.Module) else FunctionLoss(each) for task, each in losses.items()}


def prompted(columns: Columns, prompts: Mapping[str, str]) -> dict[str, Any]:
    """Texts with the prompt of their column before them."""

    def put(prompt: str, texts: Any) -> Any:
        return Prompted(prompt, texts) if isinstance(texts, str) else [put(prompt, each) for each in texts]

    return {name: put(prompts[name], each) if prompts.get(name) else each for name, each in columns.texts.items()}


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; mode and random numbers are afterwards what they were."""
    state, training = RandomState.now(), model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
        state.back()
