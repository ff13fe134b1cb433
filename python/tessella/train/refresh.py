"""Negatives that keep up with the model: mined again while it trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tessella.errors import InvalidArgument
from tessella.train.cache import without_graph
from tessella.train.mining import MarginPos, PercPos, mine_hard_negatives
from tessella.train.trainer import Trainer, evaluating


class RefreshNegatives:
    """A callback: every so many steps the column `negative` is mined anew, by the model as it is then.

    The first time every row gets new ones, where there are enough. With `eased` a row from then on keeps its negatives
    as long as they are hard (Conan, arXiv:2408.15710): it gets new ones when the mean score of the old has fallen so
    that 1.15 * mean < first mean, and abs(mean) < 0.8.

    Args:
        documents: the texts that negatives come from.
        positives: of each row of the data the number of its document, or a list of them.
        every: steps between.
        eased: replace only what has become easy; else all rows.
        task: of the data, where there are several.
        keep, skip: as of `mine_hard_negatives`. As many are taken as there are in the data.
        batch: texts embedded at once.

    The rows it chose are part of a checkpoint. Cost: embedding the documents and the queries, and a search.
    """

    def __init__(
        self,
        documents: Sequence[str],
        positives: Sequence[Any],
        *,
        every: int = 100,
        eased: bool = True,
        task: str = "train",
        keep: PercPos | MarginPos | None = None,
        skip: int = 0,
        batch: int = 256,
    ) -> None:
        if every < 1:
            raise InvalidArgument(f"RefreshNegatives: expected every of at least 1; got {every}")
        self.documents, self.positives, self.every, self.eased = list(documents), list(positives), every, eased
        self.task, self.keep, self.skip, self.batch = task, keep, skip, batch
        self.rows = np.zeros((0, 0), np.int64)  # chosen documents; -1 where the data's own negatives still stand
        self.first = np.zeros(0, np.float32)  # mean scores when they were chosen
        self._given: list[list[str]] = []

    def __call__(self, trainer: Trainer) -> None:
        if trainer.step % self.every == 0:
            self.refresh(trainer)

    def refresh(self, trainer: Trainer) -> int:
        """Mines; returns how many rows got other negatives."""
        columns = trainer.data[self.task]
        prompts = trainer.config.prompts
        with evaluating(trainer.model):
            queries = self._embedded(trainer, prompts.get("query", ""), columns.texts["query"])
            documents = self._embedded(trainer, prompts.get("negative", ""), self.documents)
        self._begin(columns.texts["negative"])
        take = self.rows.shape[1]
        mined = mine_hard_negatives(queries, self.positives, documents, keep=self.keep, take=take, skip=self.skip)
        means = mined.scores.mean(axis=1)
        changed = mined.full & (mined.rows != self.rows).any(axis=1)
        if self.eased:
            now = np.einsum("ij,ikj->ik", queries, documents[self.rows]).mean(axis=1)
            changed &= (self.rows[:, 0] < 0) | ((1.15 * now < self.first) & (np.abs(now) < 0.8))
        self.rows[changed], self.first[changed] = mined.rows[changed], means[changed]
        self._apply(trainer)
        return int(changed.sum())

    def state(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        return {"rows": torch.from_numpy(self.rows), "first": torch.from_numpy(self.first)}

    def load_state(self, trainer: Trainer, state: dict[str, Tensor]) -> None:
        """From a checkpoint: the data is again as it was."""
        if len(state["rows"]):
            self._begin(trainer.data[self.task].texts["negative"])
            self.rows, self.first = state["rows"].numpy().copy(), state["first"].numpy().copy()
            self._apply(trainer)

    def _begin(self, negatives: Any) -> None:
        if not len(self.rows):
            self._given = [list(row) for row in negatives]
            self.rows = np.full((len(self._given), len(self._given[0])), -1, np.int64)
            self.first = np.full(len(self._given), np.inf, np.float32)

    def _apply(self, trainer: Trainer) -> None:
        lists = [
            given if rows[0] < 0 else [self.documents[row] for row in rows]
            for given, rows in zip(self._given, self.rows.tolist(), strict=True)
        ]
        trainer.data[self.task] = trainer.data[self.task].replaced(negative=lists)

    def _embedded(self, trainer: Trainer, prompt: str, texts: Any) -> Any:
        rows = without_graph(trainer.embed, {"text": [prompt + text for text in texts]}, self.batch)["text"].float()
        return torch.nn.functional.normalize(rows, dim=1).cpu().numpy()
