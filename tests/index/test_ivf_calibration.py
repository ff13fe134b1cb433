"""The inverted file's calibration: recall promised and kept, and what is no way to ask for it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import tessella as ts
from tests.index.cases import Floats, drawer, found_share, made

FORMATS = Path(__file__).resolve().parents[1] / "data" / "formats"


@pytest.fixture(scope="module")
def calibrated() -> tuple[ts.Index, Floats, npt.NDArray[np.int64]]:
    """A calibrated index, queries that it has not seen, and their true neighbours among its codes."""
    draw = drawer(np.random.default_rng(4), 48, clusters=150, spread=2.0)
    x, asked, unseen = draw(10_000), draw(4000), draw(4000)
    ix = made("IVF256+SOAR,B1+U8", x)
    ix.calibrate(asked, 10)
    return ix, unseen, ix.search(unseen, 10, nprobe=256, epsilon=4).ids


@pytest.mark.parametrize("target", [0.8, 0.9, 0.95])
def test_calibrated_recall_holds_for_unseen_queries(
    calibrated: tuple[ts.Index, Floats, npt.NDArray[np.int64]], target: float
) -> None:
    ix, q, truth = calibrated
    assert abs(found_share(ix.search(q, 10, recall=target), truth) - target) < 0.01
    curve = ix.calibration
    assert curve is not None and (curve.k, curve.queries) == (10, 4000)
    effort = curve.effort_for(target)
    aim = min(target + math.sqrt(3 * target * (1 - target) / (10 * 4000)), max(curve.recalls))
    assert effort == 1 or curve.recall_at(effort - 1) < aim <= curve.recall_at(effort) + 1e-9
    assert ix.explain(q, 10, recall=target).probed == effort * len(q)


def test_more_recall_takes_more_effort(calibrated: tuple[ts.Index, Floats, npt.NDArray[np.int64]]) -> None:
    ix, q, _ = calibrated
    efforts = [ix.explain(q[:50], 10, recall=recall).probed for recall in (0.5, 0.8, 0.9, 0.95, 0.97)]
    assert efforts == sorted(efforts) and efforts[0] < efforts[-1]
    threshold = float(np.median(ix.search(q[:50], 10).scores[:, -1]))
    few, many = (ix.range_search(q[:50], threshold, recall=recall) for recall in (0.5, 0.97))
    assert len(few.ids) < len(many.ids)


def test_a_recall_out_of_reach_warns_and_does_its_best(rng: np.random.Generator) -> None:
    draw = drawer(rng, 32)
    x, q = draw(2000), draw(100)
    ix = made("IVF16,B1", x)
    truth = made("Flat", x).search(q, 10).ids
    curve = ix.calibrate(q, 10, truth=truth)
    assert not curve.reaches(0.99)
    with pytest.warns(ts.RecallWarning, match=r"recall 0.99 was not reached when 'IVF16,B1' was calibrated; its best"):
        best = ix.search(q, 10, recall=0.99)
    assert found_share(best, truth) == pytest.approx(max(curve.recalls))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ix.search(q, 10, recall=max(curve.recalls))


def test_truth_may_be_given(rng: np.random.Generator) -> None:
    draw = drawer(rng, 32)
    x, q = draw(2000), draw(80)
    ix = made("IVF16,B1+F32", x)
    truth = made("Flat", x).search(q, 7).ids
    curve = ix.calibrate(q, 7, truth=truth)
    assert curve.efforts[0] == 1 and curve.recalls[0] < 1 and curve.k == 7
    for effort, recall in list(zip(curve.efforts, curve.recalls, strict=True))[:3]:
        assert found_share(ix.search(q, 7, nprobe=effort), truth) == pytest.approx(recall)
    few = truth.copy()
    few[:, 3:] = -1  # where there are fewer
    assert ix.calibrate(q, 7, truth=few).recalls[-1] > 0.99
    with pytest.raises(ts.InvalidArgument, match=r"calibrate: expected truth of shape \(80, 7\); got \(80, 6\)"):
        ix.calibrate(q, 7, truth=truth[:, :6])


@pytest.mark.parametrize(("spec", "truth", "told"), [
    ("IVF16", "exact", False), ("IVF16,B1+F16", "exact", False), ("IVF16+SOAR,B1+U8", "own best", False),
    ("IVF16,B1", "own best", True), ("IVF16,PQ8", "own best", True), ("Flat,PQ8x4", "own best", True),
    ("Flat,B1+N4", "own best", True), ("IVF16,PQ8+F32", "exact", False), ("Graph32,U8", "own best", False),
])  # fmt: skip
def test_what_recall_counts_against_is_told(
    rng: np.random.Generator, tmp_path: Path, spec: str, truth: str, told: bool
) -> None:
    draw = drawer(rng, 32)
    x, q = draw(1000), draw(60)
    ix, exact = made(spec, x), made("Flat", x).search(q, 10).ids
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        own = ix.calibrate(q, 10)
        assert [each.filename for each in heard] == [__file__] * told
        given = ix.calibrate(q, 10, truth=exact)
        assert len(heard) == told
    assert not told or str(heard[0].message) == (
        f"calibrate: recall counts against the best that {spec!r} itself finds, not against exact neighbours,"
        " of which its codes lose some; truth= takes those"
    )
    assert (own.truth, given.truth) == (truth, "exact") and f"truth={truth!r}" in repr(own)
    assert not told or max(own.recalls) > max(given.recalls) + 0.01
    for curve in (own, given):
        ix.adopt(curve, 0.5)
        ix.save(tmp_path / "index")
        assert ts.Index.load(tmp_path / "index").calibration == curve


def test_files_of_before_do_not_say_what_recall_counts_against() -> None:
    old = ts.Index.load(FORMATS / "index-v1-ivf4-b1-l2.tessella").calibration
    assert old is not None and (old.k, old.truth) == (5, "unknown")
    again = ts.Calibration.from_config(old.as_config())
    assert again == old
    with pytest.raises(ValueError, match="its calibration counts against 'nothing'"):
        ts.Calibration.from_config(old.as_config() | {"truth": "nothing"})


MISUSE: list[tuple[Callable[[ts.Index, Floats], object], str]] = [
    (lambda ix, q: ix.search(q, 3, nprobe=0), "search: expected nprobe >= 1; got 0"),
    (lambda ix, q: ix.search(q, 3, nprobe=2.5), "search: expected nprobe as an int; got float"),
    (lambda ix, q: ix.search(q, 3, nprobe=2, recall=0.9), "search: expected nprobe or recall; got both"),
    (lambda ix, q: ix.search(q, 3, recall=0.9), "search: expected a calibrated index for recall=0.9"),
    (lambda ix, q: ix.search(q, 3, recall=0.0), "search: expected a recall above 0 and up to 1; got 0.0"),
    (lambda ix, q: ix.search(q, 3, recall=1.1), "search: expected a recall above 0 and up to 1; got 1.1"),
    (lambda ix, q: ix.search(q, 3, recall=float("nan")), "search: expected a recall above 0 and up to 1; got nan"),
    (lambda ix, q: ix.explain(q, 3, recall=0.9), "explain: expected a calibrated index"),
    (lambda ix, q: ix.range_search(q, 0.3, recall=0.9), "range_search: expected a calibrated index"),
    (lambda ix, q: ix.range_search(q, 0.3, nprobe=-1), "range_search: expected nprobe >= 1; got -1"),
    (lambda ix, q: setattr(ix, "nprobe", 0), "nprobe: expected nprobe >= 1; got 0"),
    (lambda ix, q: ix.calibrate(q[:0]), "calibrate: expected queries, and rows in the index; got 0 and 100"),
    (lambda ix, q: ix.calibrate(q, 0), "calibrate: expected k >= 1; got 0"),
    (lambda ix, q: ts.Index("IVF4", dim=6).calibrate(q), "expected queries, and rows in the index; got 5 and 0"),
    (lambda ix, q: ts.Index("Flat", dim=6).search(q, nprobe=2), "expected nprobe with IVF only; 'Flat' has no lists"),
    (lambda ix, q: setattr(ts.Index("Flat,U8", dim=6), "nprobe", 3), "nprobe: expected nprobe with IVF only"),
]


@pytest.mark.parametrize(("mistake", "message"), MISUSE)
def test_misuse_gets_a_sentence(
    rng: np.random.Generator, mistake: Callable[[ts.Index, Floats], object], message: str
) -> None:
    x = rng.standard_normal((100, 6)).astype(np.float32)
    ix = made("IVF4,B1+U8", x)
    with pytest.raises(ts.TessellaError) as caught:
        mistake(ix, x[:5])
    assert message in str(caught.value)


def test_an_exact_index_needs_no_calibration(rng: np.random.Generator) -> None:
    x = rng.standard_normal((50, 6)).astype(np.float32)
    ix = made("Flat", x)
    assert ix.nprobe == 0 and len(ix.list_sizes) == 0
    assert ix.search(x[:2], 3, recall=1.0).ids[:, 0].tolist() == [0, 1]
    assert ix.calibrate(x, 3).recalls == (1.0,)
