"""Encodings beside other libraries: google/graph-mining's from the seed alone, others' from their matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import tessella as ts
from tests.kernels.cases import Floats, rows


@dataclass(frozen=True)
class Setting:
    """What both sides are told."""

    query: bool
    k_sim: int
    p: int | None = None
    fill: bool = False
    final: int | None = None
    d: int = 32
    tokens: int = 23
    repetitions: int = 3
    seed: int = 1

    def ours(self, tokens: Floats) -> Floats:
        fde = ts.FDE(
            self.d, self.k_sim, self.repetitions, projection="none" if self.p is None else "countsketch",
            projection_dim=self.p or 1, final_dim=self.final, fill="nearest" if self.fill else "none", seed=self.seed,
            scheme="google",
        )  # fmt: skip
        made = fde.encode_queries([tokens]) if self.query else fde.encode_documents([tokens])
        return np.asarray(made[0], np.float32)

    def theirs(self, tokens: Floats, muvfde: Any) -> Floats:
        config = muvfde.fixed_dimensional_encoding_config()
        config.set_num_repetitions(self.repetitions)
        config.set_num_simhash_projections(self.k_sim)
        config.set_seed(self.seed)
        config.enable_fill_empty(self.fill)
        kinds = muvfde.encoding_type
        config.set_encoding_type(kinds.DEFAULT_SUM if self.query else kinds.AVERAGE)
        types = muvfde.projection_type
        config.set_projection_type(types.DEFAULT_IDENTITY if self.p is None else types.AMS_SKETCH)
        if self.p is not None:
            config.set_projection_dimension(self.p)
        if self.final is not None:
            config.set_final_projection_dimension(self.final)
        return np.asarray(muvfde.generate_fixed_dimensional_encoding(tokens, config), np.float32)


SEVEN = (
    Setting(True, 3),
    Setting(False, 3),
    Setting(False, 4, fill=True),
    Setting(True, 4, 8),
    Setting(False, 5, 8, fill=True),
    Setting(False, 4, fill=True, final=64),
    Setting(False, 0),
)


def drawn(seed: int) -> Setting:
    draw = np.random.default_rng(seed)
    query = bool(draw.integers(2))
    d, k_sim = int(draw.integers(2, 200)), int(draw.integers(0, 8))
    p = None if draw.random() < 0.3 else int(draw.integers(1, 40))
    final = None if draw.random() < 0.6 else int(draw.integers(1, 300))
    return Setting(
        query, k_sim, p, not query and bool(draw.integers(2)), final, d, int(draw.integers(1, 90)),
        int(draw.integers(1, 6)), int(draw.integers(0, 100_000)),
    )  # fmt: skip


def assert_same(setting: Setting) -> None:
    muvfde = pytest.importorskip("muvfde", reason="muvfde has wheels for few platforms")
    tokens = rows(np.random.default_rng(setting.seed), setting.tokens, setting.d)
    tokens /= np.linalg.norm(tokens, axis=1, keepdims=True)
    made, wanted = setting.ours(tokens), setting.theirs(tokens, muvfde)
    assert made.shape == wanted.shape
    np.testing.assert_allclose(made, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("setting", SEVEN, ids=str)
def test_a_seed_means_what_it_means_to_google(level: str, setting: Setting) -> None:
    assert_same(setting)


@pytest.mark.parametrize("number", range(50))
def test_fifty_drawn_settings(number: int) -> None:
    assert_same(drawn(number))


@pytest.mark.parametrize("k_sim", [2, 5])
def test_the_matrices_of_fastembed(k_sim: int) -> None:
    """Cells are counted from the other end there, hence the turned hyperplanes and the order of the blocks."""
    postprocess = pytest.importorskip("fastembed.postprocess", reason="fastembed is for benchmarks")
    rng, d, p, repetitions = np.random.default_rng(3), 24, 8, 4
    peer = postprocess.Muvera(d, k_sim, p, repetitions, random_seed=5)
    planes = np.stack([each.simhash_vectors.T for each in peer.simhash_projections])  # bit 0 first
    dense = np.stack([m.T for m in peer.dim_reduction_projections]) / np.sqrt(p)
    fde = ts.FDE.from_matrices(planes[:, ::-1], dense)
    query = rows(rng, 9, d)
    theirs = np.asarray(peer.process_query(query)).reshape(repetitions, 1 << k_sim, p)
    patterns = [cell ^ (cell >> 1) for cell in range(1 << k_sim)]
    ours = fde.encode_queries([query]).reshape(theirs.shape)
    np.testing.assert_allclose(ours, theirs[:, patterns], rtol=0, atol=1e-5)
