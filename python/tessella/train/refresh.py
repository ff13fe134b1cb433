"""Negatives that keep up with the model: mined again while it trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

import tessella as ts
from tessella.errors import InvalidArgument
from tessella.train.cache import without_graph
from tessella.train.mining import Floats, MarginPos, PercPos, Rows, mine_hard_negatives, unit
from tessella.train.trainer import Trainer, evaluating

_BLOCK = 8192  # texts whose embeddings are held at once


class RefreshNegatives:
    """A callback: every so many steps the column `negative` is mined anew, by the model as it is then.

    The first time every row gets new ones, where there are enough. With `eased` a row from then on keeps its negatives
    as long as they are hard (Conan, arXiv:2408.15710): it gets new ones when the mean score of the old has fallen so
    that 1.15 * mean < first mean, and abs(mean) < 0.8. With `advance` the i-th ones of a row are the ranks from
    skip + (i - 1) * n on, n of them; Conan's are `skip=10, advance=True`. Without, they are the nearest each time.

    Args:
        documents: the texts that negatives come from.
        positives: of each row of the data the number of its document, or a list of them.
        every: steps between.
        eased: replace only what has become easy; else all rows.
        advance: go on to the next ranks whenever a row gets new ones; ranks are counted among what `keep` admits.
        task: of the data, where there are several.
        keep, skip: as of `mine_hard_negatives`. As many are taken as there are in the data.
        index: spec of the index of documents, by cosine; made anew each time, and trained, where it needs training, on
            the first 8,192 of the documents in a random order.
        batch: texts embedded at once.

    The rows it chose are part of a checkpoint. Cost: embedding the documents and the queries, and a search. Memory: the
    index, and the embeddings of 8,192 texts at a time.
    """

    def __init__(
        self,
        documents: Sequence[str],
        positives: Sequence[Any],
        *,
        every: int = 100,
        eased: bool = True,
        advance: bool = False,
        task: str = "train",
        keep: PercPos | MarginPos | None = None,
        skip: int = 0,
        index: str | ts.IndexConfig = "Flat,F32",
        batch: int = 256,
    ) -> None:
        if every < 1:
            raise InvalidArgument(f"RefreshNegatives: expected every of at least 1; got {every}")
        self.documents, self.positives, self.every, self.eased = list(documents), list(positives), every, eased
        self.task, self.keep, self.skip, self.batch = task, keep, skip, batch
        self.advance, self.index = advance, ts.IndexConfig.parse(index)
        self.rows = np.zeros((0, 0), np.int64)  # chosen documents; -1 where the data's own negatives still stand
        self.first = np.zeros(0, np.float32)  # mean scores when they were chosen
        self.times = np.zeros(0, np.int64)  # how often
        self._given: list[list[str]] = []

    def __call__(self, trainer: Trainer) -> None:
        if trainer.step % self.every == 0:
            self.refresh(trainer)

    def refresh(self, trainer: Trainer) -> int:
        """Mines; returns how many rows got other negatives."""
        columns = trainer.data[self.task]
        if len(self.positives) != len(columns):
            expected, got = len(columns), len(self.positives)
            raise InvalidArgument(f"RefreshNegatives: expected positives of the data's {expected} rows; got {got}")
        self._begin(columns.texts["negative"])
        changed = 0
        with evaluating(trainer.model):
            index = self._indexed(trainer)
            for start in range(0, len(columns), _BLOCK):
                part = slice(start, start + _BLOCK)
                queries = self._embedded(trainer, "query", columns.texts["query"][part])
                changed += self._replace(index, queries, part)
        self._apply(trainer)
        return changed

    def _indexed(self, trainer: Trainer) -> ts.Index:
        """The documents under their numbers, in an order that makes the first of them a fair sample."""
        index: ts.Index | None = None
        order = np.random.default_rng(0).permutation(len(self.documents))
        for start in range(0, len(order), _BLOCK):
            ids = order[start : start + _BLOCK]
            vectors = self._embedded(trainer, "negative", [self.documents[i] for i in ids])
            index = index or ts.Index(self.index, dim=vectors.shape[1], metric="cosine")
            index.add(vectors, ids=ids)
        if index is None:
            raise InvalidArgument("RefreshNegatives: expected one document at least; got none")
        return index

    def _replace(self, index: ts.Index, queries: Floats, part: slice) -> int:
        """Chooses for these rows of the data; returns how many changed."""
        old, take = self.rows[part], self.rows.shape[1]
        window = self.times[part] if self.advance else np.zeros(len(old), np.int64)
        deep = take * (int(window.max()) + 1)
        mined = mine_hard_negatives(
            queries, self.positives[part], index=index, keep=self.keep, take=deep, skip=self.skip
        )
        places = window[:, None] * take + np.arange(take)
        rows = np.take_along_axis(mined.rows, places, axis=1)
        scores = np.take_along_axis(mined.scores, places, axis=1)
        changed = (rows >= 0).all(axis=1) & (rows != old).any(axis=1)
        held = old[:, 0] >= 0
        if self.eased and held.any():
            now = _means(index, queries[held], old[held])
            changed[held] &= (1.15 * now < self.first[part][held]) & (np.abs(now) < 0.8)
        self.rows[part][changed], self.first[part][changed] = rows[changed], scores[changed].mean(axis=1)
        self.times[part][changed] += 1
        return int(changed.sum())

    def state(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        return {name: torch.from_numpy(getattr(self, name)) for name in ("rows", "first", "times")}

    def load_state(self, trainer: Trainer, state: dict[str, Tensor]) -> None:
        """From a checkpoint: the data is again as it was."""
        if len(state["rows"]):
            self._begin(trainer.data[self.task].texts["negative"])
            for name, each in state.items():
                setattr(self, name, each.numpy().copy())
            self._apply(trainer)

    def _begin(self, negatives: Any) -> None:
        if not len(self.rows):
            self._given = [list(row) for row in negatives]
            self.rows = np.full((len(self._given), len(self._given[0])), -1, np.int64)
            self.first = np.full(len(self._given), np.inf, np.float32)
            self.times = np.zeros(len(self._given), np.int64)

    def _apply(self, trainer: Trainer) -> None:
        lists = [
            given if rows[0] < 0 else [self.documents[row] for row in rows]
            for given, rows in zip(self._given, self.rows.tolist(), strict=True)
        ]
        trainer.data[self.task] = trainer.data[self.task].replaced(negative=lists)

    def _embedded(self, trainer: Trainer, column: str, texts: Any) -> Floats:
        prompt = trainer.config.prompts.get(column, "")
        rows = without_graph(trainer.embed, {"text": [prompt + text for text in texts]}, self.batch)["text"].float()
        return unit(rows.cpu().numpy())


def _means(index: ts.Index, queries: Floats, rows: Rows) -> Floats:
    """Mean cosine of each query with its documents (n, k)."""
    documents = unit(index.reconstruct(rows.reshape(-1))).reshape(*rows.shape, -1)
    return np.asarray(np.einsum("ij,ikj->ik", queries, documents).mean(axis=1), np.float32)
