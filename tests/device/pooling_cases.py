"""The pooling family's test body, for whatever runs it: the emulator in CI, a real device where there is one.

A runner has `pool(hidden, mask, segments, modes, dense, dim, dtype) -> result` and `gradient(hidden, mask, segments,
modes, pooled_gradient) -> float32 (n, t, d)` over NumPy arrays: hidden (n, t, d) of float32, float16 or (uint16)
bfloat16 patterns, segments (k, 3), tokens counted through all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tessella.reference import pooling as reference

Array = npt.NDArray[Any]
MODES = ("mean", "mean_sqrt", "weighted_mean", "max", "cls", "last")  # as PoolMode counts
DTYPES = ("float32", "float16", "int8", "binary")  # as PoolType counts


@dataclass(frozen=True)
class Case:
    n: int
    t: int
    d: int
    modes: tuple[str, ...] = ("mean",)
    kind: str = "float32"
    dtype: str = "float32"
    dim: int | None = None
    dense: int = 0  # rows of the projection
    holes: bool = False
    skip: int = 0
    seed: int = 0

    def __str__(self) -> str:
        extras = f"-to{self.dim}" if self.dim else ""
        return f"n{self.n}-t{self.t}-d{self.d}-{'+'.join(self.modes)}-{self.kind}-{self.dtype}-w{self.dense}{extras}"


@dataclass(frozen=True)
class GradientCase:
    n: int
    t: int
    d: int
    modes: tuple[str, ...] = ("mean",)
    kind: str = "float32"
    skip: int = 0
    spans: bool = False  # three a sequence, which share tokens
    ties: bool = False
    seed: int = 0

    def __str__(self) -> str:
        extras = ("-spans" if self.spans else "") + ("-ties" if self.ties else "")
        return f"gradient-n{self.n}-t{self.t}-d{self.d}-{'+'.join(self.modes)}-{self.kind}{extras}"


def check(case: Case | GradientCase, runner: Any) -> None:
    """Runs one case; raises AssertionError with the case's name where the result is wrong."""
    if isinstance(case, Case):
        check_pool(case, runner.pool)
    else:
        check_gradient(case, runner.gradient)


def check_pool(case: Case, pool: Callable[..., Array]) -> None:
    """One case of the forward pass."""
    rng = np.random.default_rng([case.seed, case.n, case.t, case.d])
    hidden, stored = _states(rng, case)
    lengths = rng.integers(0, case.t + 1, case.n)
    lengths[0] = case.t
    mask = np.arange(case.t) < lengths[:, None]
    if case.holes:
        mask[:, 1:] &= rng.random((case.n, case.t - 1)) < 0.7  # the first stays: a row begins where a token counts
    stored = np.where(mask[:, :, None], stored, stored.dtype.type(0x7FC0 if case.kind == "uint16" else np.nan))
    starts = np.arange(case.n) * case.t
    segments = np.stack([starts, starts + np.minimum(case.skip, lengths), starts + lengths], 1).astype(np.uint64)
    inputs, dim = len(case.modes) * case.d, case.dim or case.dense or case.d
    dense = None
    if case.dense:
        dense = (rng.standard_normal((case.dense, inputs)).astype(np.float32), hidden.ravel()[: case.dense].copy())
    got = pool(stored, mask.astype(np.uint8), segments, case.modes, dense, dim, case.dtype)
    flat = np.where(mask[:, :, None], hidden, 0).reshape(-1, case.d)
    pooled = reference.pooling_forward(flat, mask.reshape(-1), [tuple(map(int, each)) for each in segments], case.modes)
    if dense is None:
        pooled = pooled.reshape(case.n, len(case.modes), case.d)[:, :, :dim].reshape(case.n, -1)
    y = reference.finish(pooled, *(dense or (None, None)), dim if dense else None)
    _check_cast(case, got, y)


def _states(rng: np.random.Generator, case: Case | GradientCase) -> tuple[Array, Array]:
    """Numbers in float32, and as they are stored."""
    hidden = rng.standard_normal((case.n, case.t, case.d)).astype(np.float32)
    if case.kind == "uint16":
        stored = (hidden.view(np.uint32) >> 16).astype(np.uint16)
        return (stored.astype(np.uint32) << 16).view(np.float32), stored
    halves = hidden.astype(np.float16 if case.kind == "float16" else np.float32)
    return halves.astype(np.float32), halves


def check_gradient(case: GradientCase, gradient: Callable[..., Array]) -> None:
    """One case of the gradient."""
    rng = np.random.default_rng([case.seed, case.n, case.t, case.d, 1])
    hidden, stored = _states(rng, case)
    if case.ties:
        hidden = stored = np.round(hidden).astype(np.float32)
    lengths = rng.integers(0, case.t + 1, case.n)
    lengths[0] = case.t
    mask = np.arange(case.t) < lengths[:, None]
    mask[:, 1:] &= rng.random((case.n, case.t - 1)) < 0.7
    stored = np.where(mask[:, :, None], stored, stored.dtype.type(0x7FC0 if case.kind == "uint16" else np.nan))
    starts = np.arange(case.n) * case.t
    segments = np.stack([starts, starts + np.minimum(case.skip, lengths), starts + lengths], 1)
    if case.spans:
        cuts = np.sort(rng.integers(0, case.t + 1, (3 * case.n, 2)), axis=1) + np.repeat(starts, 3)[:, None]
        segments = np.stack([cuts[:, 0], cuts[:, 0], cuts[:, 1]], 1)
    pooled = rng.standard_normal((len(segments), len(case.modes) * case.d)).astype(np.float32)
    got = gradient(stored, mask.astype(np.uint8), segments.astype(np.uint64), case.modes, pooled)
    flat = np.where(mask[:, :, None], hidden, 0).reshape(-1, case.d)
    triples = [tuple(map(int, each)) for each in segments]
    wanted = reference.pooling_backward(flat, mask.reshape(-1), triples, case.modes, pooled).reshape(got.shape)
    off = np.abs(got - wanted).max()
    assert off <= 4e-6 * max(1.0, np.abs(wanted).max()), f"{case}: off by {off:.1e}"
    assert not got[~mask].any(), f"{case}: a token that does not count has a gradient"


def _check_cast(case: Case, got: Array, y: Array) -> None:
    if case.dtype == "float32":
        assert np.abs(got - y).max() <= 2e-6, f"{case}: off by {np.abs(got - y).max():.1e}"
    if case.dtype == "float16":
        assert np.abs(got.astype(np.float64) - y).max() <= 6e-4, f"{case}: more than a half's last place"
    if case.dtype == "int8":
        assert np.abs(got - y * 127).max() <= 0.5 + 4e-4, f"{case}: not the nearest code"
    if case.dtype == "binary":
        bits = np.unpackbits(got, axis=1, count=y.shape[1], bitorder="little")
        assert (bits == (y > 0))[np.abs(y) > 1e-6].all(), f"{case}: bits differ"


def small_cases() -> Iterator[Case | GradientCase]:
    """Odd sizes around warps and blocks; seconds on the emulator."""
    yield from _small_gradients()
    for mode in MODES:
        yield Case(3, 7, 31, (mode,), holes=True)
    yield Case(7, 33, 129, MODES, skip=2, holes=True)
    yield Case(2, 5, 1100, ("mean", "max"))  # more columns than a block has
    for kind in ("float16", "uint16"):
        yield Case(3, 9, 64, ("mean", "last"), kind=kind)
    for dtype in DTYPES:
        yield Case(4, 6, 100, ("mean", "cls"), dtype=dtype, dim=37)
        yield Case(3, 6, 64, dtype=dtype, dense=33, dim=20)


def _small_gradients() -> Iterator[GradientCase]:
    for mode in MODES:
        yield GradientCase(3, 7, 31, (mode,))
    yield GradientCase(5, 70, 129, MODES, skip=2)  # more tokens than groups, more columns than a block has
    yield GradientCase(4, 9, 64, MODES, skip=40)  # nothing but instructions
    yield GradientCase(3, 40, 33, ("max", "mean"), ties=True)
    yield GradientCase(4, 30, 40, MODES, spans=True)
    for kind in ("float16", "uint16"):
        yield GradientCase(3, 9, 64, ("mean", "max"), kind=kind)


def large_cases() -> Iterator[Case | GradientCase]:
    """Sizes that fill a device."""
    yield Case(500, 128, 1024)
    yield Case(300, 64, 768, ("mean", "max"), kind="uint16", dense=384, dtype="int8")
    yield GradientCase(500, 128, 1024, ("mean", "max"))
    yield GradientCase(200, 64, 768, MODES, kind="uint16", spans=True)
