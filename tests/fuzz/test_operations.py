"""Short runs of operations.py; its `--operations` makes them long."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.fuzz.operations import CASES, Pair, run


@pytest.mark.parametrize(("spec", "metric"), CASES, ids=str)
def test_an_index_is_what_numpy_says(tmp_path: Path, spec: str, metric: str) -> None:
    assert "all as NumPy has them" in run(tmp_path, 2_000 if "B1" in spec else 500, spec=spec, metric=metric)


@pytest.mark.parametrize("spec", ["IVF4,PRQ2x2x4", "Flat,OPQ4x4", "IVF7,F32"])
def test_what_numpy_would_not_say_is_told(tmp_path: Path, spec: str) -> None:
    pair = Pair(tmp_path, 1, spec, "l2")
    pair._adds()
    held = pair.x.copy()
    pair.x[0] += 1
    with pytest.raises(AssertionError):
        pair.check_all()
    pair.x = held
    pair.check_all()
    pair.index.remove(pair.ids[:1])
    pair.index.add(pair.x[:1] + np.float32(40), ids=pair.ids[:1])
    with pytest.raises(AssertionError):
        searched(pair, 50)


def searched(pair: Pair, times: int) -> None:
    for _ in range(times):
        pair._searches()
