"""Systems beside one another on similarity, pairs, classes and clusters of texts: a table with baselines and tests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tessella.errors import InvalidArgument
from tessella.eval import bags, metrics, tasks
from tessella.eval.report import Resampled

Array: TypeAlias = npt.NDArray[Any]


class Task(ABC):
    """Examples, what a system says of each, and measures of that."""

    name: str

    @abstractmethod
    def outputs(self, system: Any) -> Array:
        """Of each example what the system, an encoder or vectors, says: (n,)."""

    @abstractmethod
    def baselines(self) -> dict[str, Array]:
        """What words alone say, by name."""

    @abstractmethod
    def measures(self, outputs: Array, rows: Array) -> dict[str, float]:
        """Of the examples of these numbers."""


@dataclass(frozen=True)
class Similarity(Task):
    """Pairs of texts and scores that people gave: Spearman's correlation with cosines. Vectors are a pair (a, b)."""

    a: Sequence[str]
    b: Sequence[str]
    scores: Sequence[float]
    name: str = ""

    def __post_init__(self) -> None:
        _check_lengths("Similarity", a=self.a, b=self.b, scores=self.scores)

    def outputs(self, system: Any) -> Array:
        return _pair_cosines(system, self.a, self.b, len(self.scores), "sts")

    def baselines(self) -> dict[str, Array]:
        return _word_cosines(self.a, self.b)

    def measures(self, outputs: Array, rows: Array) -> dict[str, float]:
        return {"spearman": metrics.spearman(outputs[rows], np.asarray(self.scores, np.float64)[rows])}


@dataclass(frozen=True)
class Pairs(Task):
    """Pairs of texts that belong together (1) or not (0): average precision and best accuracy. Vectors: (a, b)."""

    a: Sequence[str]
    b: Sequence[str]
    labels: Sequence[int]
    name: str = ""

    def __post_init__(self) -> None:
        _check_lengths("Pairs", a=self.a, b=self.b, labels=self.labels)

    def outputs(self, system: Any) -> Array:
        return _pair_cosines(system, self.a, self.b, len(self.labels), "pairs")

    def baselines(self) -> dict[str, Array]:
        return _word_cosines(self.a, self.b)

    def measures(self, outputs: Array, rows: Array) -> dict[str, float]:
        return tasks.pair_measures(outputs[rows], np.asarray(self.labels)[rows] > 0)


@dataclass(frozen=True)
class Classification(Task):
    """Texts and their classes, to learn from and to be asked about: accuracy and macro F1 of a ridge regression.

    Vectors are a pair (x, test_x).
    """

    texts: Sequence[str]
    labels: Sequence[object]
    test_texts: Sequence[str]
    test_labels: Sequence[object]
    ridge: float = 1.0
    name: str = ""

    def __post_init__(self) -> None:
        _check_lengths("Classification", texts=self.texts, labels=self.labels)
        _check_lengths("Classification", test_texts=self.test_texts, test_labels=self.test_labels)

    def outputs(self, system: Any) -> Array:
        return self._guesses(*_vectors(system, self.texts, self.test_texts))

    def baselines(self) -> dict[str, Array]:
        known = bags.baselines(self.texts, bags.MOST_WORDS).items()
        return {name: self._guesses(each.vectors(self.texts), each.vectors(self.test_texts)) for name, each in known}

    def measures(self, outputs: Array, rows: Array) -> dict[str, float]:
        truth, names = np.asarray(self.test_labels, dtype=str), np.asarray(self.labels, dtype=str)
        return tasks.class_measures(truth[rows], outputs[rows], names)

    def _guesses(self, x: Any, test_x: Any) -> Array:
        truth = np.asarray(self.test_labels, dtype=str)
        return tasks.guesses(x, self.labels, test_x, truth, self.ridge)


@dataclass(frozen=True)
class Clustering(Task):
    """Texts and the groups that they are of: the V-measure of k-means with as many clusters. Vectors are an array."""

    texts: Sequence[str]
    labels: Sequence[object]
    seed: int = 0
    name: str = ""

    def __post_init__(self) -> None:
        _check_lengths("Clustering", texts=self.texts, labels=self.labels)

    def outputs(self, system: Any) -> Array:
        return self._clusters(system.encode(list(self.texts)) if _encodes(system) else system)

    def baselines(self) -> dict[str, Array]:
        known = bags.baselines(self.texts, bags.MOST_WORDS).items()
        return {name: self._clusters(each.vectors(self.texts)) for name, each in known}

    def measures(self, outputs: Array, rows: Array) -> dict[str, float]:
        return {"v_measure": metrics.v_measure(self._truth()[rows], outputs[rows])}

    def _clusters(self, x: Any) -> Array:
        return tasks.clusters(x, self._truth(), self.seed)

    def _truth(self) -> Array:
        return np.unique(np.asarray(self.labels, dtype=str), return_inverse=True)[1]


def compare(
    systems: Mapping[str, Any], task: Task, *, baselines: bool = True, rounds: int = 1000, seed: int = 0
) -> Resampled:
    """Measures systems on a task, beside TF-IDF and bags of words.

    Args:
        systems: by name, each an encoder (whatever has `encode`) or its vectors of the task's texts, as the task says.
        task: `Similarity`, `Pairs`, `Classification` or `Clustering`.
        baselines: whether to add what words alone achieve. TF-IDF, where it is there, is what others are compared with,
            else the first system.
        rounds, seed: of the bootstrap that intervals and p-values come from.

    Returns a table: measures, differences, intervals, p-values. Cost: what the systems take, and the measures `rounds`
    times for each. Of classification and clustering the baselines know the 4,096 most frequent words.

    >>> import numpy as np, tessella as ts
    >>> task = ts.eval.Similarity(["a cat", "a dog", "red"], ["cat", "red dog", "blue"], [5, 3, 0])
    >>> vectors = np.eye(3), np.array([[1, 0, 0], [1, 0, 0], [0, 0, -1.0]])
    >>> found = ts.eval.compare({"mine": vectors}, task)
    >>> found.mean("mine", "spearman"), found.mean("TF-IDF", "spearman")
    (1.0, 1.0)
    """
    said = task.baselines() if baselines else {}
    said |= {name: task.outputs(system) for name, system in systems.items()}
    if not said:
        raise InvalidArgument("eval: expected systems; got none")
    first = next(iter(said))
    n = len(said[first])
    draws = np.random.default_rng(seed).integers(0, n, (rounds, n))
    values = {name: task.measures(each, np.arange(n)) for name, each in said.items()}
    drawn = {name: [task.measures(each, rows) for rows in draws] for name, each in said.items()}
    by_measure = {
        name: {measure: np.array([each[measure] for each in found]) for measure in values[name]}
        for name, found in drawn.items()
    }
    return Resampled(values, by_measure, first, task.name)


def _vectors(system: Any, *texts: Sequence[str]) -> list[Any]:
    """Of several lists of texts, from an encoder or as they were given."""
    if _encodes(system):
        return [system.encode(list(each)) for each in texts]
    if isinstance(system, tuple) and len(system) == len(texts):
        return list(system)
    raise InvalidArgument(f"eval: expected an encoder or a pair of arrays of vectors; got {type(system).__name__}")


def _encodes(system: Any) -> bool:
    return hasattr(system, "encode") and not isinstance(system, str)


def _pair_cosines(system: Any, a: Sequence[str], b: Sequence[str], n: int, operation: str) -> Array:
    x, y = _vectors(system, a, b)
    cosines = tasks.cosines_of(x, y, operation)
    if len(cosines) != n:
        raise InvalidArgument(f"{operation}: expected vectors of {n} pairs; got {len(cosines)}")
    return cosines


def _word_cosines(a: Sequence[str], b: Sequence[str]) -> dict[str, Array]:
    return {name: each.cosines(a, b) for name, each in bags.baselines([*a, *b]).items()}


def _check_lengths(name: str, **columns: Sequence[Any]) -> None:
    lengths = [len(each) for each in columns.values()]
    if len(set(lengths)) > 1 or not lengths[0]:
        got = ", ".join(map(str, lengths))
        raise InvalidArgument(f"{name}: expected as many {', '.join(columns)}, one at least; got {got}")
