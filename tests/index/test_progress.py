"""Long work tells how far it is, and what its listener raises ends it with the index as it was."""

from __future__ import annotations

import numpy as np
import pytest

import tessella as ts
from tests.index.cases import Floats, assert_same_results

BUILT = [("IVF16,B1+U8", 700), ("Flat,PQ4x4", 700), ("IVF16,OPRQ4x2x4", 700)]
BUILT += [("Graph32,B1+U8", 700), ("Graph32,U8", 5000)]  # one leaf, several


def draw(rng: np.random.Generator, n: int) -> Floats:
    return rng.standard_normal((n, 16), dtype=np.float32)


def assert_a_stop_left_nothing(ix: ts.Index, other: ts.Index, x: Floats) -> None:
    """What a stop interrupted begins anew as if nothing had been."""
    other.train(x)
    for each in (ix, other):
        each.add(x)
    assert_same_results(ix, other, x[:20])


def test_training_tells_its_progress_and_may_be_stopped(rng: np.random.Generator) -> None:
    x = rng.standard_normal((600, 8)).astype(np.float32)
    ix, shares = ts.Index("IVF16,B1+U8", dim=8), list[float]()
    ix.train(x, progress=shares.append)
    assert shares == sorted(shares) and shares[-1] == 1.0

    def stop(share: float) -> None:
        raise LookupError("enough")

    other = ts.Index("IVF16,B1+U8", dim=8)
    with pytest.raises(LookupError, match="enough"):
        other.train(x, progress=stop)
    assert not other.is_trained and len(other.list_sizes) == 0
    assert_a_stop_left_nothing(ix, other, x)


def test_codebooks_of_an_inverted_file_tell_theirs_and_may_be_stopped(rng: np.random.Generator) -> None:
    x, shares = draw(rng, 600), list[float]()
    ix, other = (ts.Index("IVF16,PQ4x4", dim=16) for _ in range(2))
    ix.train(x, progress=shares.append)
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert sum(share < 0.5 for share in shares) > 10 and sum(share > 0.5 for share in shares) > 1

    for stop_at in (shares[0], shares[5], 0.5, shares[-1]):

        def stop(share: float, stop_at: float = stop_at) -> None:
            if share >= stop_at:
                raise LookupError("enough")

        with pytest.raises(LookupError, match="enough"):
            other.train(x, progress=stop)
        assert not other.is_trained and len(other.list_sizes) == 0
    assert_a_stop_left_nothing(ix, other, x)


def test_what_cannot_be_trained_is_told_before_codebooks_are_learnt(rng: np.random.Generator) -> None:
    x, shares = draw(rng, 70_000), list[float]()
    full = ts.Index("IVF4,PQ4x4", dim=16)
    full.add(x[:200])
    for ix, rows, message in [
        (full, x, "train: expected an empty index"),
        (ts.Index("IVF16,PQ4x4", dim=16), x[:9], "train: expected at least as many rows as lists, 16"),
        (ts.Index("IVF16,PQ4x4", dim=16), x[:0], "train: expected at least one row; got 0"),
        (ts.Index("IVF16,PQ4x4", dim=16), np.where(np.arange(70_000)[:, None] == 69_000, np.nan, x), "; row 69000 has"),
    ]:
        with pytest.raises(ts.InvalidArgument, match=message):
            ix.train(rows, progress=shares.append)
    assert shares == []


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("spec", "n"), BUILT)
def test_a_first_add_tells_its_progress(rng: np.random.Generator, spec: str, n: int, threads: int) -> None:
    x, q = draw(rng, n), draw(rng, 20)
    told, silent = (ts.Index(spec, dim=16) for _ in range(2))
    shares: list[float] = []
    told.add(x, progress=shares.append, threads=threads)
    assert len(shares) >= 3
    assert shares == sorted(shares) and shares[0] >= 0.0 and shares[-1] == 1.0
    silent.add(x)
    for one, other in zip(told.search(q), silent.search(q), strict=True):
        np.testing.assert_array_equal(one, other)
    told.add(draw(rng, 50), progress=shares.append)  # short work, which has nothing to tell
    assert shares[-1] == 1.0 and len(told) == n + 50


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("error", [LookupError, KeyboardInterrupt])
@pytest.mark.parametrize(("spec", "n"), BUILT)
def test_an_add_that_is_stopped_adds_nothing(
    rng: np.random.Generator, spec: str, n: int, error: type[BaseException], threads: int
) -> None:
    x, q = draw(rng, n), draw(rng, 20)
    ix, fresh = (ts.Index(spec, dim=16) for _ in range(2))
    heard: list[float] = []
    ix.add(draw(rng, n), progress=heard.append)
    for stop_at in (heard[0], heard[len(heard) // 2], heard[-1]):

        def stop(share: float, stop_at: float = stop_at) -> None:
            if share >= stop_at:
                raise error("enough")

        ix = ts.Index(spec, dim=16)
        with pytest.raises(error, match="enough"):
            ix.add(x, ids=np.arange(n) + 7, progress=stop, threads=threads)
        assert len(ix) == 0 and not ix.is_trained and 7 not in ix
        assert (ix.search(q, 3).ids == -1).all()
    ix.add(x)
    fresh.add(x)
    assert ix.ids.tolist() == list(range(n))  # no id was used up
    for one, other in zip(ix.search(q), fresh.search(q), strict=True):
        np.testing.assert_array_equal(one, other)
