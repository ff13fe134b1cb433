"""Negatives mined while a model trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra `train`")

from tessella.train import Config, RefreshNegatives, Trainer, losses  # noqa: E402
from tests.train.models import Bag, pairs  # noqa: E402

N = 16


def made(callback: RefreshNegatives, folder: Path) -> Trainer:
    data = pairs(N)
    data["negative"] = [["elsewhere"]] * N
    config = Config(steps=6, batch=8, learning_rate=1e-2, save_every=3)
    return Trainer(Bag(dropout=0.1), losses.InfoNCE(), data, config, callbacks=[callback], folder=folder)


def refreshing(**settings: Any) -> RefreshNegatives:
    return RefreshNegatives(pairs(N)["positive"], list(range(N)), every=2, **settings)


def test_the_nearest_documents_come_in(tmp_path: Path) -> None:
    callback = refreshing(eased=False)
    trainer = made(callback, tmp_path)
    assert callback.refresh(trainer) == N
    with torch.no_grad():
        vectors = [
            torch.nn.functional.normalize(trainer.model.eval()(pairs(N)[x]), dim=1) for x in ("query", "positive")
        ]
    scores = (vectors[0] @ vectors[1].T).fill_diagonal_(-2)
    nearest = [pairs(N)["positive"][row] for row in scores.argmax(1)]
    assert [row[0] for row in trainer.data["train"].texts["negative"]] == nearest
    assert callback.refresh(trainer) == 0


def test_only_what_has_become_easy_is_replaced(tmp_path: Path) -> None:
    callback = refreshing()
    trainer = made(callback, tmp_path)
    trainer.model.layers = torch.nn.Identity()  # means of random words: no two texts are as near as 0.8
    callback.refresh(trainer)
    callback.first[:] = -2.0  # nothing can have fallen below
    before = callback.rows.copy()
    with torch.no_grad():
        trainer.model.table.weight.copy_(Bag(seed=1).table.weight)
    assert callback.refresh(trainer) == 0 and np.array_equal(callback.rows, before)
    callback.first[:] = 10.0  # everything has
    assert callback.refresh(trainer) > N // 2


def test_a_resumed_run_has_the_negatives_of_the_unbroken_one(tmp_path: Path) -> None:
    unbroken, resumed = refreshing(eased=False), refreshing(eased=False)
    history = made(unbroken, tmp_path).fit()
    again = made(resumed, tmp_path / "elsewhere")
    again.resume(tmp_path / "step-000003")
    assert again.data["train"].texts["negative"][0] != ["elsewhere"]
    assert again.fit() == history
    assert np.array_equal(unbroken.rows, resumed.rows)
