"""The study of losses: every row of it computes, and is compared with one that is there."""

from __future__ import annotations

import argparse

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra `train`")
pytest.importorskip("transformers", reason="transformers is not installed: the extra `train`")

from bench.train.__main__ import COMPARED, FIGURES, LOSSES, SETTINGS, figures, of_settings  # noqa: E402
from bench.train.model import Data  # noqa: E402


@pytest.mark.parametrize("layers", [2, 4])
@pytest.mark.parametrize("name", LOSSES)
def test_each_way_takes_what_its_model_gives(name: str, layers: int) -> None:
    way = LOSSES[name]
    torch.manual_seed(0)
    shape = (6, layers, 384) if way.each_layer else (6, 384)
    names = ["query", "positive", *(["guide_query", "guide_positive"] if way.guided else [])]
    columns = {each: torch.randn(shape if "guide" not in each else (6, 384)) for each in names}
    if way.mined:
        columns["negative"] = torch.randn(6, 1, 384)
    assert torch.isfinite(way.loss(layers)(**columns))


def test_rows_are_compared_with_rows_that_there_are() -> None:
    for figure, name, (other, its) in COMPARED:
        assert {name, other} <= {*LOSSES, "start"} and {figure, its} <= set(FIGURES)


def test_the_cut_is_half_of_the_layers_and_64_dimensions() -> None:
    """Where the second of four layers alone finds the document, by its first 64 numbers alone."""
    data = Data([], [f"q{i}" for i in range(20)], [f"d{i}" for i in range(20)], [{i} for i in range(20)])

    class Model:
        def encode_layers(self, texts: list[str]) -> np.ndarray:
            kind = np.random.default_rng(ord(texts[0][0]))
            x = kind.standard_normal((len(texts), 4, 384))
            x[:, 1, :64] = 5 * np.random.default_rng(0).standard_normal((len(texts), 64))
            return x

    found = figures(Model(), data)  # type: ignore[arg-type]
    assert found["cut"].mean() == 1 > 0.5 > found["full"].mean()


def test_runs_of_other_settings_are_kept_apart() -> None:
    given = dict.fromkeys(SETTINGS, 1)
    one, other = (argparse.Namespace(dataset="medquad", **given | {"layers": layers}) for layers in (2, 4))
    assert of_settings(one) != of_settings(other)
