"""The trainer: cached gradients, tasks, precision, resumed runs, evaluation; on a model of a few hundred weights."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra `train`")

from tessella.errors import FormatError, InvalidArgument  # noqa: E402
from tessella.train import Config, Trainer, losses  # noqa: E402
from tests.train.models import Bag, pairs  # noqa: E402

N = 24


def gradients(trainer: Trainer) -> dict[str, Any]:
    trainer.model.train()
    trainer.accumulate()
    return {name: each.grad.clone() for name, each in trainer.model.named_parameters()}


LOSSES: dict[str, tuple[losses.Loss, int]] = {
    "InfoNCE": (losses.InfoNCE(symmetric=True), 0),
    "mined negatives": (losses.Matryoshka(losses.InfoNCE(hardness=5.0), (16, 4)), 3),
    "triplet": (losses.Triplet(margin=1.0), 2),
    "quantised": (losses.QuantizationAware(losses.InfoNCE(), "int8"), 2),
    "sum": (losses.InfoNCE(focal=0.5) + 0.1 * losses.SpreadOut(), 0),
}


@pytest.mark.parametrize("name", LOSSES)
def test_cached_gradients_are_those_of_the_big_batch(name: str) -> None:
    """Without dropout: one pass over all rows, and parts of 5 that are embedded twice."""
    loss, negatives = LOSSES[name]
    found = [
        gradients(Trainer(Bag(), copy.deepcopy(loss), pairs(N, negatives), Config(batch=N, mini_batch=mini_batch)))
        for mini_batch in (None, 5)
    ]
    for one, other in zip(*(each.values() for each in found), strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-6)


def test_cached_gradients_with_dropout_are_those_of_the_graphs_kept() -> None:
    """The same parts in the same order, all their graphs alive at once: the same draws, hence the same gradient."""
    data = pairs(N, 2)
    model = Bag(dropout=0.5)
    cached = gradients(Trainer(model, losses.InfoNCE(), data, Config(batch=N, mini_batch=5, seed=3)))

    whole = Bag(dropout=0.5)
    trainer = Trainer(whole, losses.InfoNCE(), data, Config(batch=N, seed=3))
    batch = trainer.data["train"].take(trainer.batches.at(0)[0].rows)
    whole.train()
    columns: dict[str, Any] = {}
    for name, texts in batch.texts.items():
        parts = [texts[i : i + 5] for i in range(0, N, 5)]
        flat = [[text for row in part for text in ([row] if isinstance(row, str) else row)] for part in parts]
        columns[name] = torch.cat([whole(part) for part in flat])
    columns["negative"] = columns["negative"].unflatten(0, (N, 2))
    ids = {name: torch.as_tensor(each) for name, each in batch.ids().items()}
    losses.InfoNCE()(**columns, **ids).backward()
    for name, each in whole.named_parameters():
        assert torch.allclose(cached[name], each.grad, rtol=1e-5, atol=1e-6)
    other = gradients(Trainer(Bag(dropout=0.5), losses.InfoNCE(), data, Config(batch=N, mini_batch=5, seed=4)))
    assert not torch.allclose(cached["layers.0.weight"], other["layers.0.weight"], rtol=1e-2)


def test_random_numbers_go_on_after_the_replay() -> None:
    """A second pass leaves the generator where the first did."""
    states = []
    for replayed in (True, False):
        trainer = Trainer(Bag(dropout=0.5), losses.InfoNCE(), pairs(N), Config(batch=N, mini_batch=5))
        trainer.model.train()
        if replayed:
            trainer.accumulate()
        else:
            batch = trainer.data["train"].take(trainer.batches.at(0)[0].rows)
            for texts in batch.texts.values():
                for start in range(0, N, 5):
                    trainer.model(texts[start : start + 5])
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_training_learns() -> None:
    config = Config(steps=60, batch=12, learning_rate=1e-2, warmup=0.1)
    history = Trainer(Bag(), losses.InfoNCE(losses.Temperature(0.1)), pairs(N), config).fit()
    assert len(history) == 60
    assert sum(each["loss"] for each in history[-5:]) < 0.3 * sum(each["loss"] for each in history[:5])


def test_a_learnable_temperature_is_trained() -> None:
    temperature = losses.Temperature(0.1)
    Trainer(Bag(), losses.InfoNCE(temperature), pairs(N), Config(steps=5, batch=12, learning_rate=1e-2)).fit()
    assert temperature().item() != pytest.approx(10.0, abs=1e-4)


def weights(trainer: Trainer) -> dict[str, Any]:
    state = {**trainer.model.state_dict(), **trainer.loss_modules.state_dict()}
    assert trainer.average is not None
    return {**state, **{f"average.{name}": each for name, each in trainer.average.state.items()}}


def made(folder: Path) -> Trainer:
    """Dropout, draws within the loss, running ranges, a learnt temperature, an average: all that has a state."""
    mixed = losses.MixedNegatives(losses.InfoNCE(losses.Temperature(0.1)), pairs=2)
    loss = mixed + losses.QuantizationAware(losses.InfoNCE(), "int8")
    config = Config(steps=8, batch=8, mini_batch=3, learning_rate=1e-2, average=0.9, save_every=4)
    return Trainer(Bag(dropout=0.3), loss, pairs(N, 3), config, folder=folder)


def test_a_resumed_run_is_the_unbroken_one_bit_for_bit(tmp_path: Path) -> None:
    unbroken = made(tmp_path)
    history = unbroken.fit()
    resumed = made(tmp_path / "elsewhere")
    resumed.resume(tmp_path / "step-000004")
    assert resumed.step == 4
    assert resumed.fit() == history
    ours, theirs = weights(resumed), weights(unbroken)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(each, theirs[name]) for name, each in ours.items())


def test_damaged_and_foreign_checkpoints_are_refused(tmp_path: Path) -> None:
    trainer = made(tmp_path)
    path = trainer.save()
    before = {name: each.clone() for name, each in weights(trainer).items()}
    with pytest.raises(InvalidArgument, match="expected the same configuration; got other average, batch"):
        Trainer(Bag(), losses.InfoNCE(), pairs(N), Config(steps=9, batch=12)).resume(path)
    other = made(tmp_path)
    other.model = Bag(d=8)
    with pytest.raises(InvalidArgument, match=r"expected the model of the checkpoint; got another in .*weight"):
        other.resume(path)
    whole = (path / "training.safetensors").read_bytes()
    (path / "training.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FormatError, match="checkpoint: expected"):
        trainer.resume(path)
    (path / "training.safetensors").write_bytes(whole)
    (path / "training.json").write_text("{")
    with pytest.raises(FormatError, match="checkpoint: expected"):
        trainer.resume(path)
    assert all(torch.equal(each, before[name]) for name, each in weights(trainer).items())


def test_evaluation_leaves_the_run_as_it_was() -> None:
    seen: list[bool] = []

    def evaluate(model: Any) -> dict[str, float]:
        seen.append(model.training or torch.is_grad_enabled())
        torch.rand(3)  # an evaluator may draw
        return {"figure": float(len(seen))}

    quiet = Trainer(Bag(dropout=0.5), losses.InfoNCE(), pairs(N), Config(steps=6, batch=8))
    asked = Trainer(
        Bag(dropout=0.5), losses.InfoNCE(), pairs(N), Config(steps=6, batch=8, evaluate_every=2), evaluate=evaluate
    )
    plain = [each["loss"] for each in quiet.fit()]
    torch.manual_seed(0)
    history = asked.fit()
    assert [each["loss"] for each in history] == plain
    assert [each["figure"] for each in history if "figure" in each] == [1.0, 2.0, 3.0]
    assert seen == [False] * 3


def test_tasks_have_their_own_losses_and_batches() -> None:
    sts = {"query": ["a b", "c d", "e f", "g h"], "positive": ["a", "c x", "y", "z g"], "score": [5.0, 3.0, 1.0, 2.0]}
    by_task = {"pairs": losses.InfoNCE(), "sts": losses.CoSENT()}
    data = {"pairs": pairs(8), "sts": sts}
    same = Trainer(Bag(), by_task, data, Config(steps=3, batch=4))
    assert sorted(same.batches.at(step)[0].task for step in range(3)) == ["pairs", "pairs", "sts"]
    assert len(same.fit()) == 3
    balanced = Trainer(Bag(), by_task, data, Config(steps=3, batch=4, tasks="balanced"))
    assert [(part.task, len(part.rows)) for part in balanced.batches.at(0)] == [("pairs", 2), ("sts", 2)]
    first = balanced.batches.at(0)
    expected = 0.0
    for task, rows in first:
        batch = balanced.data[task].take(rows)
        columns = {name: balanced.model(each) for name, each in batch.texts.items()}
        numbers = {name: torch.as_tensor(each) for name, each in batch.all_numbers().items()}
        expected += by_task[task](**columns, **numbers).item()
    assert balanced.accumulate() == pytest.approx(expected, rel=1e-5)
    with pytest.raises(InvalidArgument, match="expected a loss for each task, pairs, sts; got pairs"):
        Trainer(Bag(), {"pairs": losses.InfoNCE()}, data)


def test_simcse_takes_the_same_texts_in_two_columns() -> None:
    """Each column is a pass of its own, under dropout of its own; with parts, too."""
    texts = pairs(N)["query"]
    for mini_batch in (None, 5):
        config = Config(steps=30, batch=12, mini_batch=mini_batch, learning_rate=1e-2)
        history = Trainer(Bag(dropout=0.3), losses.SimCSE(), {"query": texts, "positive": texts}, config).fit()
        assert sum(each["loss"] for each in history[-5:]) < 0.6 * sum(each["loss"] for each in history[:5])
    with pytest.raises(InvalidArgument, match="expected two passes under dropout"):
        Trainer(Bag(), losses.SimCSE(), {"query": texts, "positive": texts}, Config(batch=12)).accumulate()


def test_a_function_of_columns_is_a_loss() -> None:
    def squared(query: Any, teacher: Any) -> Any:
        return (query - teacher).square().mean()

    data = {"query": ["a", "b"], "teacher": [[0.0] * 16, [1.0] * 16]}
    history = Trainer(Bag(), squared, data, Config(steps=40, batch=2, learning_rate=1e-2)).fit()
    assert history[-1]["loss"] < 0.3 * history[0]["loss"]


def test_a_guide_drops_false_negatives() -> None:
    """A guide to which all texts are one holds nothing closer than the positive; one that knows duplicates does."""
    data = pairs(4)
    guide = Bag(seed=9)
    trainer = Trainer(Bag(), losses.InfoNCE(), data, Config(batch=4), guide=guide)
    found = trainer.accumulate()
    batch = trainer.data["train"].take(trainer.batches.at(0)[0].rows)
    columns = {name: trainer.model(each) for name, each in batch.texts.items()}
    guided = {f"guide_{name}": guide(each) for name, each in batch.texts.items()}
    assert found == pytest.approx(losses.InfoNCE()(**columns, **guided).item(), rel=1e-6)
    assert found != pytest.approx(losses.InfoNCE()(**columns).item(), rel=1e-3)


def test_equal_texts_are_no_negatives_of_each_other() -> None:
    data = {"query": ["a", "b", "a", "c"], "positive": ["x", "y", "x z", "y"]}
    trainer = Trainer(Bag(), losses.InfoNCE(), data, Config(batch=4))
    ids = trainer.data["train"].ids()
    assert ids["query_id"][0] == ids["query_id"][2] and ids["positive_id"][1] == ids["positive_id"][3]
    batch = trainer.data["train"].take(trainer.batches.at(0)[0].rows)
    columns = {name: trainer.model(each) for name, each in batch.texts.items()}
    assert trainer.accumulate() < losses.InfoNCE()(**columns).item()


def test_prompts_come_before_their_column() -> None:
    seen: list[str] = []

    class Heard(Bag):
        def forward(self, texts: list[str]) -> Any:
            seen.extend(texts)
            return super().forward(texts)

    Trainer(Heard(), losses.InfoNCE(), pairs(2, 1), Config(batch=2, prompts={"query": "q: "})).accumulate()
    assert sorted(text for text in seen if text.startswith("q: ")) == ["q: w0 v0", "q: w1 v1"]
    assert len(seen) == 6


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_keeps_weights_and_loss_in_float32(precision: Any) -> None:
    trainer = Trainer(Bag(), losses.InfoNCE(), pairs(N), Config(steps=4, batch=8, precision=precision))
    assert trainer.embed(["a b"]).dtype == getattr(torch, precision)
    history = trainer.fit()
    assert history[-1]["loss"] != history[0]["loss"]  # a step was taken
    assert {each.dtype for each in trainer.model.parameters()} == {torch.float32}


def test_rates_rise_and_fall() -> None:
    config = Config(steps=10, warmup=0.2, learning_rate=1.0)
    assert [round(config.rate(step), 3) for step in (0, 1, 2, 6, 9)] == [0.5, 1.0, 1.0, 0.5, 0.125]
    assert Config(steps=10, warmup=0.2, schedule="cosine", learning_rate=1.0).rate(6) == pytest.approx(0.5)
    assert Config(schedule="constant", learning_rate=1.0).rate(999) == 1.0


def test_weight_decay_spares_vectors() -> None:
    trainer = Trainer(Bag(), losses.InfoNCE(losses.Temperature()), pairs(4), Config(batch=4))
    decays = {each["weight_decay"]: {p.ndim for p in each["params"]} for each in trainer.optimizer.param_groups}
    assert decays == {0.01: {2}, 0.0: {1}}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "expected steps of at least 1; got 0"),
        ({"precision": "float8"}, "expected precision of float32, bfloat16, float16"),
        ({"schedule": "up"}, "expected schedule of linear, cosine, constant"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        Config(**settings)


def test_wrong_models_and_data_are_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"expected 30 rows at least of each task; got \{'train': 24\}"):
        Trainer(Bag(), losses.InfoNCE(), pairs(N), Config(batch=30))

    class Wrong(torch.nn.Linear):
        def forward(self, texts: Any) -> Any:
            return torch.zeros(1, 2)

    with pytest.raises(InvalidArgument, match=r"expected the model to give a tensor of 4 rows for query; got \(1, 2\)"):
        Trainer(Wrong(2, 2), losses.InfoNCE(), pairs(4), Config(batch=4)).accumulate()
    trainer = Trainer(Bag(), losses.InfoNCE(), pairs(4), Config(batch=4))
    with pytest.raises(InvalidArgument, match="expected a folder, since save_every is given"):
        Trainer(Bag(), losses.InfoNCE(), pairs(4), Config(batch=4, save_every=1))
    with pytest.raises(InvalidArgument, match="expected a folder, here or of the Trainer"):
        trainer.save()
    assert json.dumps(trainer.config.facts())
