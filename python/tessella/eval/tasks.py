"""Similarity, classes, clusters and pairs: what vectors are worth beyond retrieval, as MTEB asks, but small."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tessella import KMeans
from tessella.errors import InvalidArgument
from tessella.eval import metrics

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.str_]


def sts(a: npt.ArrayLike, b: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Spearman's correlation of cosines with scores that people gave: vectors (n, d), (n, d), scores (n,).

    >>> sts([[1, 0], [1, 0], [1, 0]], [[1, 0], [1, 1], [0, 1]], [5, 3, 0])
    1.0
    """
    cosines = cosines_of(a, b, "sts")
    return metrics.spearman(cosines, _column(scores, len(cosines), "scores", "sts"))


def pairs(a: npt.ArrayLike, b: npt.ArrayLike, labels: npt.ArrayLike) -> dict[str, float]:
    """Average precision of cosines for pairs that belong together (labels 1) or not (0), and the best accuracy.

    >>> pairs([[1, 0], [1, 0]], [[1, 0], [0, 1]], [1, 0])
    {'ap': 1.0, 'accuracy': 1.0}
    """
    cosines = cosines_of(a, b, "pairs")
    return pair_measures(cosines, _column(labels, len(cosines), "labels", "pairs") > 0)


def pair_measures(cosines: Floats, together: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Of cosines (n,) and which pairs belong together."""
    order = np.argsort(-cosines, kind="stable")
    cuts = np.append(np.diff(cosines[order]) != 0, True)  # between equal cosines no threshold can stand
    right = np.where(together[order], 1, -1).cumsum()[cuts] + (~together).sum()
    best = max(int(right.max()), int((~together).sum()))
    return {"ap": metrics.binary_average_precision(cosines, together), "accuracy": best / len(cosines)}


def classification(
    x: npt.ArrayLike,
    labels: Sequence[object],
    test_x: npt.ArrayLike,
    test_labels: Sequence[object],
    *,
    ridge: float = 1.0,
) -> dict[str, float]:
    """Accuracy and macro F1 of a ridge regression onto the classes, trained on x (n, d) and asked about test_x.

    >>> classification([[0, 1], [1, 0]], ["a", "b"], [[0, 2], [2, 0]], ["a", "b"], ridge=0.1)
    {'accuracy': 1.0, 'f1': 1.0}
    """
    truth = np.asarray(test_labels, dtype=str)
    return class_measures(truth, guesses(x, labels, test_x, truth, ridge), np.asarray(labels, dtype=str))


def guesses(
    x: npt.ArrayLike, labels: Sequence[object], test_x: npt.ArrayLike, test_labels: Labels, ridge: float
) -> Labels:
    """What the regression takes each row of test_x for."""
    rows, asked = _matrix(x, "x", "classification"), _matrix(test_x, "test_x", "classification")
    names, places = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    if len(places) != len(rows) or len(test_labels) != len(asked):
        raise InvalidArgument(
            f"classification: expected a label for each row; got {len(places)} for {len(rows)} and {len(test_labels)}"
            f" for {len(asked)}"
        )
    centre = rows.mean(axis=0)
    goals = np.eye(len(names))[places]
    shares = goals.mean(axis=0)
    rows, asked = rows - centre, asked - centre
    weights = np.linalg.solve(rows.T @ rows + ridge * np.eye(rows.shape[1]), rows.T @ (goals - shares))
    return np.asarray(names[(asked @ weights + shares).argmax(axis=1)])


def class_measures(truth: Labels, guessed: Labels, names: Labels) -> dict[str, float]:
    """Of classes (n,) and what they were taken for, out of `names`."""
    f1 = [_f1(truth == name, guessed == name) for name in np.union1d(names, truth)]
    return {"accuracy": float((guessed == truth).mean()), "f1": float(np.mean(f1))}


def clustering(x: npt.ArrayLike, labels: Sequence[object], *, seed: int = 0) -> float:
    """The V-measure of k-means with as many clusters as there are labels: vectors (n, d).

    >>> clustering([[0, 1], [0, 1.1], [1, 0], [1.1, 0]], ["a", "a", "b", "b"])
    1.0
    """
    truth = np.unique(np.asarray(labels, dtype=str), return_inverse=True)[1]
    return metrics.v_measure(truth, clusters(x, truth, seed))


def clusters(x: npt.ArrayLike, truth: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """The cluster of each row, as many as there are numbers in `truth`."""
    rows = _matrix(x, "x", "clustering").astype(np.float32)
    if len(truth) != len(rows):
        raise InvalidArgument(f"clustering: expected {len(rows)} labels; got {len(truth)}")
    means = KMeans(int(truth.max()) + 1, seed=seed)
    means.train(rows)
    return np.asarray(means.assign(rows)[0], np.int64)


def _f1(truth: npt.NDArray[np.bool_], guessed: npt.NDArray[np.bool_]) -> float:
    both = int((truth & guessed).sum())
    return 2 * both / max(int(truth.sum() + guessed.sum()), 1)


def cosines_of(a: npt.ArrayLike, b: npt.ArrayLike, operation: str) -> Floats:
    """Of rows of both, (n,)."""
    x, y = _matrix(a, "a", operation), _matrix(b, "b", operation)
    if x.shape != y.shape:
        raise InvalidArgument(f"{operation}: expected a and b of one shape; got {x.shape} and {y.shape}")
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return np.asarray(np.einsum("ij,ij->i", x, y) / np.maximum(lengths, 1e-12), np.float64)


def _matrix(x: npt.ArrayLike, name: str, operation: str) -> Floats:
    rows = np.asarray(x, np.float64)
    if rows.ndim != 2 or not rows.size:
        raise InvalidArgument(f"{operation}: expected {name} of shape (n, d); got {rows.shape}")
    return rows


def _column(values: npt.ArrayLike, n: int, name: str, operation: str) -> Floats:
    column = np.asarray(values, np.float64)
    if column.shape != (n,):
        raise InvalidArgument(f"{operation}: expected {name} of shape ({n},); got {column.shape}")
    return column
