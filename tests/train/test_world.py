"""Two processes that train together are one with the whole batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra `train`")
pytest.importorskip("accelerate", reason="accelerate is not installed: the extra `train`")

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


def process(rank: int, port: int, folder: str) -> None:
    """One of two, started as `torchrun` would: the environment says which."""
    import os

    os.environ.update(
        {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
         "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    )  # fmt: skip
    torch.set_num_threads(1)
    torch.save(trained(2), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_two_processes_are_one_with_the_whole_batch(tmp_path: Path) -> None:
    import socket

    if not torch.distributed.is_gloo_available():
        pytest.skip("this torch was built without gloo")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    alone = trained(None)
    torch.multiprocessing.spawn(process, (port, str(tmp_path)), nprocs=2)
    both = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert all(torch.equal(both[0][name], both[1][name]) for name in alone)
    for name, each in alone.items():
        assert torch.allclose(each.double(), both[0][name].double(), rtol=1e-5, atol=1e-6), name
