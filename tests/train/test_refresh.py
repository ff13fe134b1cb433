"""Negatives mined while a model trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra `train`")

import tessella as ts  # noqa: E402
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


def ranked(trainer: Trainer) -> Any:
    """Of each query all documents but its own, by cosine, nearest first."""
    with torch.no_grad():
        both = [torch.nn.functional.normalize(trainer.model.eval()(pairs(N)[x]), dim=1) for x in ("query", "positive")]
    return (both[0] @ both[1].T).fill_diagonal_(-2).argsort(1, descending=True).numpy()


def test_each_time_the_next_ranks_come_in(tmp_path: Path) -> None:
    """Conan's window: ranks (i - 1) n + skip up to i n + skip at a row's i-th replacement, until there are no more."""
    callback = refreshing(eased=False, advance=True, skip=3)
    data = pairs(N, 2)
    trainer = Trainer(Bag(), losses.InfoNCE(), data, Config(steps=6, batch=8), callbacks=[callback])
    ranks = ranked(trainer)
    for i in range(6):
        assert callback.refresh(trainer) == N
        assert np.array_equal(callback.rows, ranks[:, 3 + 2 * i : 5 + 2 * i])
    assert callback.refresh(trainer) == 0  # 12 of 15 are used up behind the first 3
    assert np.array_equal(callback.times, [6] * N)
    texts = [[pairs(N)["positive"][row] for row in rows] for rows in callback.rows]
    assert trainer.data["train"].texts["negative"] == texts


def test_only_rows_that_got_others_advance(tmp_path: Path) -> None:
    callback = refreshing(advance=True)
    trainer = made(callback, tmp_path)
    trainer.model.layers = torch.nn.Identity()
    ranks = ranked(trainer)
    callback.refresh(trainer)
    callback.first[:] = np.where(np.arange(N) % 2, 10.0, -2.0)  # every other row has become easy
    assert callback.refresh(trainer) == N // 2
    assert callback.times.tolist() == [1, 2] * (N // 2)
    assert np.array_equal(callback.rows[:, 0], ranks[np.arange(N), np.arange(N) % 2])


@pytest.mark.parametrize("index", ["Flat,F32", "Flat,F16", "IVF2,F32"])
def test_documents_pass_in_blocks_through_an_index_of_any_spec(
    index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, blocks = refreshing(eased=False), refreshing(index=index)
    whole.refresh(made(whole, tmp_path))
    seen: list[int] = []
    trainer = made(blocks, tmp_path)
    embed = trainer.model.forward
    monkeypatch.setattr(trainer.model, "forward", lambda texts: (seen.append(len(texts)), embed(texts))[1])
    monkeypatch.setattr("tessella.train.refresh._BLOCK", 6)
    assert blocks.refresh(trainer) == N
    assert seen == [6, 6, 4] * 2  # documents, queries
    assert np.array_equal(blocks.rows, whole.rows)
    blocks.first[:] = 10.0
    assert blocks.refresh(trainer) == 0  # easy by now, and still the nearest


def test_what_cannot_be_mined_is_refused_before_it_is_too_late(tmp_path: Path) -> None:
    with pytest.raises(ts.InvalidArgument, match="spec: expected a structure"):
        refreshing(index="Tree,F32")
    callback = RefreshNegatives(pairs(N)["positive"], [0, 1])
    trainer = made(callback, tmp_path)
    with pytest.raises(ts.InvalidArgument, match="expected positives of the data's 16 rows; got 2"):
        callback.refresh(trainer)
    assert not len(callback.rows)


@pytest.mark.parametrize("advance", [False, True])
def test_a_resumed_run_has_the_negatives_of_the_unbroken_one(advance: bool, tmp_path: Path) -> None:
    unbroken, resumed = (refreshing(eased=False, advance=advance) for _ in range(2))
    history = made(unbroken, tmp_path).fit()
    again = made(resumed, tmp_path / "elsewhere")
    again.resume(tmp_path / "step-000003")
    assert again.data["train"].texts["negative"][0] != ["elsewhere"]
    assert again.fit() == history
    assert np.array_equal(unbroken.rows, resumed.rows) and np.array_equal(unbroken.times, resumed.times)
