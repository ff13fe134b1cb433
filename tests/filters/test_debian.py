"""The filters of the Debian set: as many rows as its makers counted, and the same in every spelling."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bench.datasets import data_folder
from bench.filters import SPELLINGS, as_sql
from tessella.attributes import Attributes
from tessella.filters import Filters

FOLDER = data_folder() / "debian"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the Debian set is not at {FOLDER}")


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    return pl.read_parquet(FOLDER / "packages.parquet")


@pytest.fixture(scope="module")
def filters(frame: pl.DataFrame) -> Filters:
    return Filters(Attributes(frame))


def test_as_many_rows_as_were_counted(filters: Filters) -> None:
    cases = json.loads((FOLDER / "filters.json").read_text())
    assert len(cases) == 18
    counted = {case["name"]: case["rows"] for case in cases}
    assert {case["name"]: filters.compile(as_sql(case["expr"])).count for case in cases} == counted


def test_the_nearest_rows_that_were_found_are_among_them(filters: Filters) -> None:
    truth = np.load(FOLDER / "gt10_filtered.npz")
    for case in json.loads(Path(FOLDER / "filters.json").read_text()):
        found = truth[case["name"]]
        assert filters.compile(as_sql(case["expr"])).mask()[found[found >= 0]].all()


def test_every_spelling_means_the_same(filters: Filters) -> None:
    rows = [filters.compile(where).rows() for where in SPELLINGS.values()]
    assert len(rows[0]) > 100
    assert all(np.array_equal(rows[0], each) for each in rows)


def test_attributes_take_less_than_the_frame(frame: pl.DataFrame, filters: Filters) -> None:
    table = Attributes(frame)
    table.view()
    plain = frame.with_columns(pl.col(pl.Categorical).cast(pl.String))
    assert table.nbytes < plain.estimated_size()
    assert table.to_frame().equals(plain, null_equal=True)
