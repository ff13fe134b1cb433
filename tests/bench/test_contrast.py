"""The benchmark of contrastive losses compares like with like."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: the extra `train`")

import tessella as ts
from bench import contrast

N, D = 160, 24  # enough pairs for the kernels to be taken


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = ts.get_num_threads()
    yield
    ts.set_num_threads(before)


def test_every_way_has_the_gradient_of_what_it_is_beside() -> None:
    x, y = contrast.pairs(N, D)
    work = contrast.ways(x, y, 1)
    plain = contrast.exact(x, y)
    cosine = tuple(contrast.through_length(each, rows) for each, rows in zip(plain, (x, y), strict=True))
    for way in ("torch", "tessella", "torch, cosine", "InfoNCE"):
        wanted = cosine if contrast.beside(way)[0] == "torch, cosine" else plain
        assert contrast.off(work[way](), wanted) < 2e-5, way
    assert contrast.off(plain, cosine) > 0.05


def test_masks_and_prefixes_are_held_against_the_same_without_them() -> None:
    assert contrast.beside("InfoNCE, ids") == ("torch, cosine", "InfoNCE")
    assert contrast.beside("tessella, 5 dims") == ("torch", "tessella")
    assert contrast.beside("torch, cosine") == ("torch, cosine", "torch, cosine")
    work = contrast.ways(*contrast.pairs(N, D), 1)
    kernels, shipped = (work[f"{own}, ids"]()[0] for own in ("tessella", "InfoNCE"))
    assert not np.allclose(kernels, work["tessella"]()[0], rtol=1e-3)
    x, _ = contrast.pairs(N, D)
    assert np.abs(shipped - contrast.through_length(kernels, x)).max() < 1e-5  # the same mask in both
