"""Short runs of operations.py; its `--operations` makes them long."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.operations import SPEC, run


@pytest.mark.parametrize(
    ("spec", "metric"),
    [
        (SPEC, "l2"),
        (SPEC, "ip"),
        ("IVF7,F32", "l2"),
        ("Flat,B1+F32", "ip"),
        ("Graph32,B1+F32", "l2"),
        ("Graph64,F32", "ip"),
    ],
    ids=str,
)
def test_an_index_is_what_numpy_says(tmp_path: Path, spec: str, metric: str) -> None:
    assert "all as NumPy has them" in run(tmp_path, 2_000 if spec == SPEC else 500, spec=spec, metric=metric)
