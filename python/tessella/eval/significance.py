"""Whether a difference could be chance: paired tests over queries."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tessella.errors import InvalidArgument

_BLOCK = 1024  # resamples drawn at a time


def permutation_test(a: npt.ArrayLike, b: npt.ArrayLike, *, rounds: int = 10_000, seed: int = 0) -> float:
    """The two-sided p-value of the mean difference of paired values, by flipping signs at random (Fisher).

    What Smucker et al. (CIKM 2007) recommend for retrieval. At least 1 / (rounds + 1).

    >>> permutation_test([0.9, 0.8, 0.7, 0.9, 0.8, 0.9], [0.1, 0.2, 0.1, 0.2, 0.1, 0.3]) < 0.05
    True
    """
    difference = _paired(a, b)
    observed = abs(difference.mean()) - 1e-12
    extreme = 0
    rng = np.random.default_rng(seed)
    for start in range(0, rounds, _BLOCK):
        signs = rng.integers(0, 2, (min(_BLOCK, rounds - start), len(difference))) * 2 - 1
        extreme += int((np.abs(signs @ difference) / len(difference) >= observed).sum())
    return (extreme + 1) / (rounds + 1)


def bootstrap(
    a: npt.ArrayLike, b: npt.ArrayLike, *, confidence: float = 0.95, rounds: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """The interval that the mean of a - b lies in, by drawing queries again and again (Efron's percentiles)."""
    difference = _paired(a, b)
    rng = np.random.default_rng(seed)
    means = np.concatenate(
        [
            difference[rng.integers(0, len(difference), (min(_BLOCK, rounds - start), len(difference)))].mean(axis=1)
            for start in range(0, rounds, _BLOCK)
        ]
    )
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _paired(a: npt.ArrayLike, b: npt.ArrayLike) -> npt.NDArray[np.float64]:
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if x.ndim != 1 or x.shape != y.shape or not len(x):
        raise InvalidArgument(f"eval: expected two lists of values for the same queries; got {x.shape} and {y.shape}")
    return x - y
