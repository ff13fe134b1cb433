"""PQ codecs inside an index: recall, bounds, what a spec may say, and the codebooks' way into a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import tessella as ts
from tests.index.damage import rewritten

METRICS = ["cosine", "ip", "l2"]
ALL_CODES = [(codec, metric) for codec in ("PQ12", "PQ24x4", "OPQ12", "PRQ12x2x8", "PRQ3x3x4") for metric in METRICS]
ALL_CODES += [("APQ24x4", "cosine"), ("APQ24x4", "ip")]  # anisotropic codes are for inner products


def clustered(rng: np.random.Generator, n: int, dim: int = 48) -> npt.NDArray[np.float32]:
    centres = np.random.default_rng(5).standard_normal((60, dim))
    return (centres[rng.integers(60, size=n)] + 0.6 * rng.standard_normal((n, dim))).astype(np.float32)


def recall(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> float:
    return float(np.mean([len(set(x) & set(y)) / len(y) for x, y in zip(a, b, strict=True)]))


@pytest.mark.parametrize(("codec", "metric"), ALL_CODES)
@pytest.mark.parametrize("structure", ["Flat", "IVF4", "IVF4+SOAR"])
def test_a_second_codec_makes_up_for_pq(rng: np.random.Generator, structure: str, codec: str, metric: str) -> None:
    """The error bound decides what is refined; it loses about as much as B1's does."""
    x, q = clustered(rng, 4000), clustered(rng, 50)
    exact = ts.Index("Flat", dim=48, metric=metric)
    exact.add(x)
    truth = exact.search(q, 10).ids
    alone, refined = (ts.Index(f"{structure},{codec}{more}", dim=48, metric=metric) for more in ("", "+F32"))
    for ix in (alone, refined):
        ix.add(x)
    assert recall(refined.search(q, 10).ids, truth) > 0.95 > recall(alone.search(q, 10).ids, truth) > 0.2
    assert refined.explain(q, 10).refined < 0.7 * refined.explain(q, 10).scanned
    assert recall(refined.search(q, 10, epsilon=20).ids, truth) == 1.0


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("codec", ["PQ12", "PRQ12x2x8", "PRQ3x3x4", "OPRQ6x2x4"])
def test_scores_are_those_of_the_quantizer(level: str, rng: np.random.Generator, codec: str, metric: str) -> None:
    x, q = clustered(rng, 700), clustered(rng, 5)
    if metric == "cosine":
        x, q = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, q))
    ix = ts.Index(f"Flat,{codec}", dim=48, metric=metric)
    ix.add(x)
    ix.remove(range(5))  # codes move, and with them what scores take off
    hits = ix.search(q, 20)
    rows = ix.reconstruct(hits.ids.ravel()).reshape(5, 20, 48)
    expected = ((rows - q[:, None]) ** 2).sum(2) if metric == "l2" else np.einsum("qd,qkd->qk", q, rows)
    np.testing.assert_allclose(hits.scores, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "settings"), [
    ("PRQ12x2x8", {"bits": 8, "residual_levels": 2}),
    ("PRQ12x3x4", {"bits": 4, "residual_levels": 3}),
    ("OPRQ12x2x4", {"bits": 4, "residual_levels": 2, "opq": True}),
    ("APQ12", {"bits": 8, "anisotropic": 0.2}),
    ("APQ12x4", {"bits": 4, "anisotropic": 0.2}),
])  # fmt: skip
def test_rows_are_kept_as_the_quantizer_keeps_them(
    rng: np.random.Generator, name: str, settings: dict[str, Any]
) -> None:
    x = clustered(rng, 600)
    quantizer = ts.ProductQuantizer(48, 12, **settings)
    quantizer.train(x)
    expected = quantizer.decode(quantizer.encode(x))
    for structure in ("Flat", "IVF4+SOAR"):
        ix = ts.Index(f"{structure},{name}", dim=48, metric="ip")
        ix.add(x)
        # an anisotropic code may fall either way where two codewords are as good to the last bit of a norm
        alike = np.isclose(ix.reconstruct(range(600)), expected, rtol=1e-4, atol=1e-4).all(axis=1)
        assert alike.mean() > (0.98 if name.startswith("A") else 0.9999)


def test_levels_and_the_loss_of_inner_products_find_more(rng: np.random.Generator) -> None:
    x, q = clustered(rng, 4000), clustered(rng, 50)
    exact = ts.Index("Flat", dim=48)
    exact.add(x)
    truth = exact.search(q, 10).ids
    found = {}
    for codec in ("PQ12", "PRQ12x2x8", "APQ12", "APQ24x4", "PQ24x4"):
        ix = ts.Index(f"IVF4,{codec}", dim=48)
        ix.add(x)
        found[codec] = recall(ix.search(q, 10, nprobe=4).ids, truth)
    assert found["PRQ12x2x8"] > found["PQ12"] + 0.1
    assert found["APQ12"] > found["PQ12"] + 0.02 and found["APQ24x4"] > found["PQ24x4"] + 0.02


@pytest.mark.parametrize("spec", ["Flat,PQ12", "Flat,PQ24x4+U8", "IVF4+SOAR,OPQ12x4", "IVF4,PQ12+F16",
                                  "IVF4+SOAR,PRQ3x2x4", "Flat,PRQ12x2x8"])  # fmt: skip
def test_results_depend_on_neither_threads_nor_batches_nor_levels(
    level: str, rng: np.random.Generator, spec: str
) -> None:
    x, q = clustered(rng, 1500), clustered(rng, 9)
    ix = ts.Index(spec, dim=48, metric="l2")
    ix.add(x)
    whole = ix.search(q, 10, threads=1)
    np.testing.assert_array_equal(ix.search(q, 10, threads=3).ids, whole.ids)
    for i in range(len(q)):
        one = ix.search(q[i], 10, threads=2)
        np.testing.assert_array_equal(one.ids[0], whole.ids[i])
        np.testing.assert_array_equal(one.scores[0], whole.scores[i])


def test_what_a_spec_may_say() -> None:
    for spec, sentence in {
        "Flat,PQ7": "expected pieces that divide dim 48; got 'PQ7'",
        "Flat,PQ0": "expected a codec",
        "Flat,PQ12x5": "expected a codec",
        "Flat,PRQ12": "expected a codec",
        "Flat,PRQ12x17x8": "expected a codec",
        "Flat,PRQ7x2x8": "expected pieces that divide dim 48",
        "Flat,APRQ12x2x8": "expected a codec",
        "Flat,U8+PQ12": "expected B1 or PQ first",
        "Flat,B1+PQ12": "expected B1 or PQ first",
    }.items():
        with pytest.raises(ts.InvalidArgument, match=sentence):
            ts.Index(spec, dim=48)
    assert ts.Index("Flat,PQ12x8+U8", dim=48).spec == "Flat,PQ12x8+U8"
    with pytest.raises(ts.InvalidArgument, match="anisotropic codes are for inner products"):
        ts.Index("Flat,APQ12", dim=48, metric="l2")


@pytest.mark.parametrize("spec", ["Flat,OPQ12", "IVF4+SOAR,PQ24x4", "IVF4,PRQ12x2x4"])
def test_damaged_codebooks_are_refused(rng: np.random.Generator, tmp_path: Path, spec: str) -> None:
    ix = ts.Index(spec, dim=48)
    ix.add(clustered(rng, 300))
    path = tmp_path / "a"
    ix.save(path)
    whole = path.read_bytes()
    changes: list[tuple[str, Callable[[Any], Any]]] = [
        ("pq.codebooks", lambda array: array[:, :-1]),
        ("pq.codebooks", lambda array: np.full_like(array, np.nan)),
        ("pq.codebooks", lambda array: None),  # left out
        ("pq.rotation", lambda array: np.zeros((3, 3), np.float32)),
        ("pq.error", lambda array: np.array([-1, 0], np.float32)),
        ("pq.error", lambda array: np.array([np.nan, 0], np.float32)),
    ]
    for name, change in changes:
        path.write_bytes(whole)
        rewritten(path, {name: change})
        with pytest.raises(ts.FormatError):
            ts.Index.load(path)
