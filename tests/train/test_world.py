"""Two processes that train together are one with the whole batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra `train`")
pytest.importorskip("accelerate", reason="accelerate is not installed: the extra `train`")

from tessella.errors import InvalidArgument  # noqa: E402
from tessella.train import Config, Trainer, losses  # noqa: E402
from tests.train.models import Bag, pairs  # noqa: E402

STEPS = 3


def trained(mini_batch: int | None) -> dict[str, Any]:
    """Weights after a few steps on mined negatives, duplicates, and draws within the loss."""
    data = pairs(24, 2)
    data["positive"][5] = data["positive"][6]
    loss = losses.MixedNegatives(losses.InfoNCE(losses.Temperature(0.1), symmetric=True, blocks=("qd", "qq")))
    config = Config(steps=STEPS, batch=8, mini_batch=mini_batch, learning_rate=1e-2)
    trainer = Trainer(Bag(), loss, data, config, guide=Bag(seed=5))
    losses_seen = torch.tensor([each["loss"] for each in trainer.fit()])
    return {**trainer.model.state_dict(), **trainer.loss_modules.state_dict(), "losses": losses_seen}


def resumable(folder: Path) -> Trainer:
    """Dropout in the model, which each process draws for itself."""
    config = Config(steps=6, batch=8, mini_batch=2, learning_rate=1e-2, save_every=3)
    return Trainer(Bag(dropout=0.4), losses.InfoNCE(), pairs(24, 2), config, folder=folder)


def broken_off(folder: Path) -> dict[str, Any]:
    """Weights and losses of an unbroken run, and of one that goes on from its checkpoint."""
    unbroken = resumable(folder / "steps")
    history = unbroken.fit()
    resumed = resumable(folder / "elsewhere")
    resumed.resume(folder / "steps" / "step-000003")
    again = resumed.fit()
    return {
        "unbroken": {**unbroken.model.state_dict(), "losses": torch.tensor([each["loss"] for each in history])},
        "resumed": {**resumed.model.state_dict(), "losses": torch.tensor([each["loss"] for each in again])},
    }


def process(rank: int, port: int, folder: str, breaks: bool) -> None:
    """One of two, started as `torchrun` would: the environment says which."""
    import os

    os.environ.update(
        {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
         "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    )  # fmt: skip
    torch.set_num_threads(1)
    torch.save(broken_off(Path(folder)) if breaks else trained(2), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def by_two(folder: Path, *, breaks: bool) -> list[Any]:
    """What each of two processes found."""
    import socket

    if not torch.distributed.is_gloo_available():
        pytest.skip("this torch was built without gloo")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(process, (port, str(folder), breaks), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_two_processes_are_one_with_the_whole_batch(tmp_path: Path) -> None:
    alone = trained(None)
    both = by_two(tmp_path, breaks=False)
    assert all(torch.equal(both[0][name], both[1][name]) for name in alone)
    for name, each in alone.items():
        assert torch.allclose(each.double(), both[0][name].double(), rtol=1e-5, atol=1e-6), name


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_two_processes_resume_bit_for_bit_each_with_its_own_dropout(tmp_path: Path) -> None:
    for found in by_two(tmp_path, breaks=True):
        for name, each in found["unbroken"].items():
            assert torch.equal(each, found["resumed"][name]), name
    alone = resumable(tmp_path / "alone")
    before = {name: each.clone() for name, each in alone.model.state_dict().items()}
    with pytest.raises(InvalidArgument, match="expected 2 processes, as wrote the checkpoint; got 1"):
        alone.resume(tmp_path / "steps" / "step-000003")
    assert all(torch.equal(each, before[name]) for name, each in alone.model.state_dict().items())
