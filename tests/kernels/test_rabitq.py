"""B1 on every level: codes, factors and integer sums as the reference has them, bounds that hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tessella import _core
from tessella.errors import InvalidArgument
from tessella.reference import rabitq as reference
from tests.kernels.cases import PADDED, ROWS, VALUES, Array, Floats, assert_close, rows, same_bits

Hits = list[tuple[npt.NDArray[np.int64], Floats, Floats]]
WIDE = 4160  # beyond what 16-bit sums hold at once


def scan(queries: Floats, codes: reference.RabitqCodes, metric: str, **each: Any) -> Hits:
    """Scans with one add, epsilon and threshold for each query; by default nothing is dropped."""
    fill = {"adds": 0.0, "epsilons": 0.0, "thresholds": -np.inf} | each
    numbers = {key: np.broadcast_to(np.float32(value), len(queries)).copy() for key, value in fill.items()}
    blocks = reference.pack_blocks(codes, metric)
    hits: Hits = _core.rabitq_scan(queries, blocks, len(codes.bits), metric, **numbers)
    return hits


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("padded", PADDED)
def test_encode(level: str, rng: np.random.Generator, padded: int, values: str) -> None:
    r = rows(rng, 33, padded, values)
    got, expected = _core.rabitq_encode(r), reference.rabitq_encode(r)
    for mine, name in zip(got, ("bits", "scales", "errors", "norms2"), strict=True):
        assert same_bits(mine, getattr(expected, name)), name


@pytest.mark.parametrize("n", ROWS)
def test_encode_sizes(level: str, rng: np.random.Generator, n: int) -> None:
    r = rows(rng, n, 128)
    assert same_bits(_core.rabitq_encode(r)[0], reference.rabitq_encode(r).bits)


@pytest.mark.parametrize("nq", [1, 2, 3, 4])
@pytest.mark.parametrize("padded", [*PADDED, WIDE])
def test_sums_are_exact(level: str, rng: np.random.Generator, padded: int, nq: int) -> None:
    """With scale 1 and no bound an estimate is step * sum + base, from which the integer sum is read back."""
    bits = rng.integers(0, 256, size=(77, padded // 8)).astype(np.uint8)
    ones, zeros = np.ones(77, np.float32), np.zeros(77, np.float32)
    queries = rows(rng, nq, padded)
    found = scan(queries, reference.RabitqCodes(bits, ones, zeros, zeros), "ip")
    for query, (which, estimates, uppers) in zip(queries, found, strict=True):
        table = reference.rabitq_table(query)
        assert which.tolist() == list(range(77))
        sums = np.rint((estimates.astype(np.float64) - table.base) / table.step)
        assert np.array_equal(sums, reference.rabitq_sums(table, bits))
        assert same_bits(uppers, estimates)


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("n", ROWS[1:])
@pytest.mark.parametrize("padded", [64, 384])
def test_estimates_and_bounds(level: str, rng: np.random.Generator, padded: int, n: int, metric: str) -> None:
    codes, queries = reference.rabitq_encode(rows(rng, n, padded)), rows(rng, 3, padded)
    adds, epsilons = rows(rng, 3, 1)[:, 0], np.abs(rows(rng, 3, 1)[:, 0])
    found = scan(queries, codes, metric, adds=adds, epsilons=epsilons)
    for q, (which, estimates, uppers) in enumerate(found):
        expected, bound, magnitude = estimated(queries[q], codes, metric, adds[q], epsilons[q])
        assert which.tolist() == list(range(n))
        assert_close(estimates, expected, magnitude)
        assert_close(uppers, expected + bound, magnitude + bound)


def estimated(
    query: Floats, codes: reference.RabitqCodes, metric: str, add: np.float32, epsilon: np.float32
) -> tuple[Array, Array, Array]:
    """Estimates, bounds, and the magnitude of what was summed, from the factors as blocks hold them."""
    table = reference.rabitq_table(query)
    factor = 2.0 if metric == "l2" else 1.0
    scales = codes.scales.astype(np.float16).astype(np.float64) * factor
    products = float(table.step) * reference.rabitq_sums(table, codes.bits) + float(table.base)
    less = codes.norms2.astype(np.float64) if metric == "l2" else np.zeros(len(scales))
    bounds = factor * float(epsilon) * reference.float16_up(codes.errors).astype(np.float64)
    magnitude = scales * np.abs(query).sum(dtype=np.float64) + abs(float(add)) + less
    return scales * products + float(add) - less, bounds, magnitude


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_a_threshold_keeps_exactly_the_rows_that_reach_it(level: str, rng: np.random.Generator, metric: str) -> None:
    codes, queries = reference.rabitq_encode(rows(rng, 127, 128)), rows(rng, 4, 128)
    everything = scan(queries, codes, metric, epsilons=1.0)
    thresholds = np.array([np.sort(uppers)[80] for _, _, uppers in everything])  # met by the 80th itself
    kept = scan(queries, codes, metric, epsilons=1.0, thresholds=thresholds)
    for (_, estimates, uppers), threshold, (which, kept_estimates, _) in zip(everything, thresholds, kept, strict=True):
        assert which.tolist() == np.flatnonzero(uppers >= threshold).tolist()
        assert same_bits(kept_estimates, estimates[which])


def test_a_query_of_zeros_finds_nothing_to_tell_rows_apart(level: str, rng: np.random.Generator) -> None:
    codes = reference.rabitq_encode(rows(rng, 40, 64))
    ((_, estimates, _),) = scan(np.zeros((1, 64), np.float32), codes, "ip", adds=3.0)
    assert estimates.tolist() == [3.0] * 40


def test_tables_follow_the_definition(level: str, rng: np.random.Generator) -> None:
    query = rows(rng, 1, 384)[0]
    entries, step, base = _core.rabitq_table(query)
    expected = reference.rabitq_table(query)
    assert (np.float32(step), np.float32(base)) == (expected.step, expected.base)
    assert entries.max() == expected.entries.max() == 63


def test_the_bound_holds_for_all_but_a_few(rng: np.random.Generator) -> None:
    """1.9 standard deviations: about 6 % of the rows of any data stand outside, half of them below."""
    r, queries = rows(rng, 2000, 384), rows(rng, 20, 384)
    codes = reference.rabitq_encode(r)
    estimates = codes.scales * (queries @ reference.sign_values(codes.bits).T)
    bound = 1.9 * np.linalg.norm(queries, axis=1)[:, None] * codes.errors
    off = (queries @ r.T - estimates) / bound
    assert 0.04 < (np.abs(off) > 1).mean() < 0.08
    assert abs(off.mean()) < 0.02


def test_float16_factors_keep_the_bound(rng: np.random.Generator) -> None:
    errors = np.concatenate([10.0 ** rng.uniform(-9, 4.8, 2000), [0.0, 1.0, 65504.0]]).astype(np.float32)
    up = reference.float16_up(errors)
    assert np.all(up.astype(np.float64) >= errors)
    assert np.all(np.nextafter(up, np.float16(-1)).astype(np.float64) < errors)


def test_wrong_arguments_are_sentences() -> None:
    numbers = {key: np.zeros(1, np.float32) for key in ("adds", "epsilons", "thresholds")}
    query, blocks = np.zeros((1, 64), np.float32), np.zeros((1, 384), np.uint8)
    with pytest.raises(InvalidArgument, match="expected metric 'ip' or 'l2'; got 'cosine'"):
        _core.rabitq_scan(query, blocks, 1, "cosine", **numbers)
    with pytest.raises(InvalidArgument, match=r"expected blocks of shape \(n, 512\); got \(1, 384\)"):
        _core.rabitq_scan(query, blocks, 1, "l2", **numbers)
    with pytest.raises(InvalidArgument, match="expected rows that the blocks hold; got 33"):
        _core.rabitq_scan(query, blocks, 33, "ip", **numbers)
    with pytest.raises(InvalidArgument, match="expected 1 to 4 queries; got 5"):
        _core.rabitq_scan(np.zeros((5, 64), np.float32), blocks, 1, "ip", **numbers)
