"""Named columns from what data comes in, and the rows of each step."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: the extra `train`")

from tessella.errors import InvalidArgument
from tessella.train import Columns
from tessella.train.batches import Batches

DATA: dict[str, list[Any]] = {
    "query": ["a", "b"],
    "positive": ["c", "d"],
    "negative_2": ["g", "h"],
    "negative_1": ["e", "f"],
    "score": [0.5, 1.0],
}


class Hub:
    """As a `datasets.Dataset` is read: names and columns."""

    column_names = list(DATA)

    def __getitem__(self, name: str) -> list[Any]:
        return DATA[name]


def rows() -> list[dict[str, Any]]:
    return [dict(zip(DATA, row, strict=True)) for row in zip(*DATA.values(), strict=True)]


def jsonl(folder: Path) -> Path:
    path = folder / "pairs.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows())
    return path


def parquet(folder: Path) -> Path:
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    parts = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    parts.write_table(arrow.table(DATA), folder / "pairs.parquet")
    return folder / "pairs.parquet"


def module(name: str) -> Any:
    return pytest.importorskip(name, reason=f"{name} is not installed")


SOURCES = {
    "dict": lambda folder: DATA,
    "rows": lambda folder: rows(),
    "Arrow": lambda folder: module("pyarrow").table(DATA),
    "polars": lambda folder: module("polars").DataFrame(DATA),
    "pandas": lambda folder: module("pandas").DataFrame(DATA),
    "datasets": lambda folder: Hub(),
    "jsonl": jsonl,
    "parquet": parquet,
}


@pytest.mark.parametrize("source", SOURCES)
def test_columns_of(source: str, tmp_path: Path) -> None:
    columns = Columns.of(SOURCES[source](tmp_path))
    assert columns.texts == {"query": ["a", "b"], "positive": ["c", "d"], "negative": [["e", "g"], ["f", "h"]]}
    assert columns.numbers["score"].tolist() == [0.5, 1.0]


def test_take_and_ids() -> None:
    columns = Columns.of({"query": ["a", "b", "a"], "positive": ["x", "a", "y"]}).take([2, 0])
    assert columns.texts == {"query": ["a", "a"], "positive": ["y", "x"]}
    ids = columns.ids()
    assert ids["query_id"][0] == ids["query_id"][1] and ids["positive_id"][0] != ids["positive_id"][1]
    given = Columns.of({"query": ["a"], "query_id": [7]})
    assert given.ids() == {} and given.all_numbers()["query_id"].tolist() == [7]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"query": ["a"], "positive": ["b", "c"]}, "expected columns of one length"),
        ({"score": [1.0]}, "expected a column of texts; got score"),
        ({"query": ["a", 3]}, "expected query to hold texts alone"),
        (
            {"query": ["a", "b"], "negative": [["c"], ["d", "e"]]},
            r"as many texts in each row of negative; got \[1, 2\]",
        ),
        ({"query": ["a"], "negative": [["b"]], "negative_1": ["c"]}, "expected negative or negative_1"),
        ({"query": ["a"], "odd": [{}]}, "expected odd to be texts or numbers"),
        ([], "expected rows as dicts of the same names"),
        (3, "expected a dict, a list of dicts"),
        ("pairs.csv", "expected a file named .parquet, .jsonl or .jsonl.gz"),
    ],
)
def test_other_data_is_refused(data: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        Columns.of(data)


def test_an_epoch_of_one_task_at_a_time_has_every_full_batch_once() -> None:
    batches = Batches({"a": 10, "b": 4}, 3, seed=1)
    assert batches.epoch == 4
    for epoch in range(3):
        parts = [part for step in range(4) for part in batches.at(4 * epoch + step)]
        assert Counter(part.task for part in parts) == {"a": 3, "b": 1}
        of_a = np.concatenate([part.rows for part in parts if part.task == "a"])
        assert len(set(of_a.tolist())) == 9
    orders = {tuple(batches.at(4 * epoch + step)[0].task for step in range(4)) for epoch in range(9)}
    assert len(orders) > 1


def test_steps_may_be_asked_for_in_any_order() -> None:
    one, other = Batches({"a": 10, "b": 4}, 3), Batches({"a": 10, "b": 4}, 3)
    forward = [one.at(step)[0] for step in range(8)]
    backward = [other.at(step)[0] for step in reversed(range(8))][::-1]
    for x, y in zip(forward, backward, strict=True):
        assert x.task == y.task and np.array_equal(x.rows, y.rows)


def test_balanced_steps_have_each_task_alike() -> None:
    batches = Batches({"a": 8, "b": 4}, 4, tasks="balanced")
    assert batches.epoch == 4
    parts = [batches.at(step) for step in range(4)]
    assert all([part.task for part in step] == ["a", "b"] and len(step[1].rows) == 2 for step in parts)
    assert sorted(np.concatenate([step[0].rows for step in parts]).tolist()) == list(range(8))
    assert sorted(np.concatenate([step[1].rows for step in parts]).tolist()) == sorted([*range(4), *range(4)])


@pytest.mark.parametrize(
    ("tasks", "batch", "message"),
    [
        ("mixed", 2, "expected tasks to be 'same' or 'balanced'"),
        ("balanced", 3, "expected a multiple of 2"),
        ("same", 5, "expected 5 rows at least of each task; got {'b': 4}"),
    ],
)
def test_wrong_batches_are_refused(tasks: Any, batch: int, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        Batches({"a": 8, "b": 4}, batch, tasks=tasks)
