"""What is asked: queries, the rows each may find, and how many those are.

The names W0 … W14 are those of a list of filters that differ in kind, selectivity and correlation with the query. A
workload has a filter for all queries or one for each; its twin has the same filters over shuffled rows, so that they
admit as many, but never go with the vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

import tessella as ts
from bench.datasets import Dataset, synthetic, unit
from tessella.bitmap import Bitmap, packed, unpacked

Floats: TypeAlias = npt.NDArray[np.float32]
Ids: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]

SEED = 15
MADE_SHARES = (0.0001, 0.001, 0.01, 0.05, 0.1, 0.2, 0.5)
_ANCHORS = 8  # of correlated filters
_NOISE = 0.05  # beside the cosine of a row and an anchor
_LEAST_SECTION = 0.003  # share of the rows, of a section that is taken for its distance
_WINDOWS = (0.0001, 0.001, 0.01, 0.05, 0.1, 0.3, 0.5)


@dataclass(frozen=True)
class Workload:
    """Queries and their filters: query i may find the rows of bitmap `which[i]`."""

    name: str
    says: str
    queries: Floats  # (nq, d)
    words: npt.NDArray[np.uint64]  # (filters, words of 64 rows)
    which: Ids  # (nq,)
    n: int
    texts: tuple[str, ...] = ()  # the filters in SQL, where they are of attributes

    @property
    def counts(self) -> Ids:
        """(filters,) rows that each admits."""
        return np.array([Bitmap.of_words(words, self.n).count for words in self.words], np.int64)

    @property
    def shared(self) -> bool:
        """Whether one filter stands for all queries."""
        return len(self.words) == 1

    @property
    def free(self) -> bool:
        """Whether nothing is filtered."""
        return self.shared and int(self.counts[0]) == self.n

    @property
    def selectivity(self) -> tuple[float, float, float]:
        """Share of the rows: p5, median and p95 of the queries."""
        low, middle, high = np.percentile(self.counts[self.which] / self.n, [5, 50, 95])
        return float(low), float(middle), float(high)

    def mask(self, number: int) -> Mask:
        """(n,) of one filter."""
        return unpacked(self.words[number], self.n)

    def first(self, count: int) -> Workload:
        """The same of fewer queries."""
        numbers, which = np.unique(self.which[:count], return_inverse=True)
        texts = tuple(self.texts[i] for i in numbers) if self.texts else ()
        return replace(
            self, queries=self.queries[:count], words=self.words[numbers], which=which.astype(np.int64), texts=texts
        )

    def twin(self) -> Workload:
        """The same filters over shuffled rows."""
        order = np.random.default_rng(SEED).permutation(self.n)
        words = np.stack([packed(self.mask(i)[order]) for i in range(len(self.words))])
        return replace(self, name=f"{self.name} twin", says=f"{self.says}, shuffled", words=words, texts=())


def of_masks(
    name: str, says: str, queries: Floats, masks: Sequence[Mask], which: npt.ArrayLike | None = None
) -> Workload:
    """From masks (n,), one for all queries or those that `which` names."""
    numbers = np.zeros(len(queries), np.int64) if which is None else np.asarray(which, np.int64)
    return Workload(name, says, queries, np.stack([packed(mask) for mask in masks]), numbers, len(masks[0]))


# ---- Debian ----------------------------------------------------------------------------------------------------------


class Debian:
    """The packages, their attributes, and descriptions of packages that are not among them."""

    def __init__(self, folder: Path, count: int) -> None:
        self.rng = np.random.default_rng(SEED)
        self.x = unit(np.load(folder / "embeddings.npy"))
        frame = pl.read_parquet(folder / "packages.parquet").with_columns(pl.col(pl.Categorical).cast(pl.String))
        self.frame = self._with_days(frame)
        asked = pl.read_parquet(folder / "queries.parquet").with_row_index().filter(pl.col("relevant").list.len() > 0)
        asked = asked.head(count)
        self.queries = unit(np.load(folder / "query_embeddings.npy")[asked["index"].to_numpy()])
        self.section: list[str] = asked["section"].to_list()
        self.own = self.frame[asked["relevant"].list.first().to_list()]  # a package of the same source, row by row
        index = ts.Index("Flat", dim=1)
        index.add(np.zeros((len(self.x), 1)), attributes=self.frame)
        self.index = index

    def _with_days(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Debian has no dates: a day out of thousand by chance, and one that goes with the vectors' first axis."""
        centred = self.x - self.x.mean(axis=0)
        self.axis = np.linalg.eigh(centred[::8].T @ centred[::8])[1][:, -1]
        along = centred @ self.axis
        along += 0.3 * along.std() * self.rng.standard_normal(len(along), dtype=np.float32)
        return frame.with_columns(
            day=pl.Series(self.rng.integers(0, 1000, len(frame)).astype(np.int32)),
            day_corr=pl.Series(along.argsort().argsort().astype(np.int32)),
        )

    def workload(self, name: str, says: str, texts: str | list[str]) -> Workload:
        """From SQL, for all queries or one text for each."""
        each = [texts] if isinstance(texts, str) else texts
        numbers: dict[str, int] = {}
        which = np.array([numbers.setdefault(text, len(numbers)) for text in each], np.int64)
        words = np.stack([self.index.filter(text).bitmap().words for text in numbers])
        if isinstance(texts, str):
            which = np.zeros(len(self.queries), np.int64)
        return Workload(name, says, self.queries, words, which, len(self.x), tuple(numbers))

    def all(self) -> Iterator[Workload]:
        """W0 … W14; after each of W2 … W11 its twin."""
        for workload in [*self.equalities(), *self.labels(), *self.ranges(), *self.joined(), *self.few()]:
            yield workload
            if 2 <= int(workload.name.removeprefix("W").split()[0].rstrip("abcd")) <= 11:
                yield workload.twin()

    def equalities(self) -> Iterator[Workload]:
        yield self.workload("W0", "none", "n_depends >= 0")
        yield self.workload("W1", "architecture = amd64", "architecture = 'amd64'")
        yield self.workload("W2", "section = own", [f"section = '{each}'" for each in self.section])
        yield self.workload(
            "W3", "section = the farthest", [f"section = '{each}'" for each in self.farthest_sections()]
        )
        yield self.workload("W4", "maintainer = own", equal("maintainer", self.own["maintainer"]))
        yield self.workload("W7a", "homepage_domain = own", equal("homepage_domain", self.own["homepage_domain"]))
        yield self.workload("W7b", "source = own", equal("source", self.own["source"]))
        sections = self.frame["section"].unique().sort().to_list()
        for name, few in [("W8a", 3), ("W8b", 10)]:
            texts = [one_of("section", self.rng.choice(sections, few, replace=False)) for _ in self.section]
            yield self.workload(name, f"section IN {few}", texts)

    def farthest_sections(self) -> list[str]:
        """For each query, the section whose centroid is least like it, of those that are not tiny."""
        common = self.frame["section"].value_counts().filter(pl.col("count") >= _LEAST_SECTION * len(self.x))
        names = common["section"].sort().to_list()
        section = self.frame["section"].to_numpy()
        centroids = np.stack([self.x[section == name].mean(axis=0) for name in names])
        return [names[i] for i in (self.queries @ unit(centroids).T).argmin(axis=1)]

    def labels(self) -> Iterator[Workload]:
        tagged = np.flatnonzero(self.frame["tags"].list.len().to_numpy() >= 2)
        near = tagged[(self.queries @ self.x[tagged].T).argmax(axis=1)]  # a like package that has tags
        pairs = [sorted(self.rng.choice(self.frame["tags"][int(row)].to_list(), 2, replace=False)) for row in near]
        yield self.workload("W5", "tags has t", [f"array_has(tags, '{pair[0]}')" for pair in pairs])
        both = [f"array_has(tags, '{one}') AND array_has(tags, '{other}')" for one, other in pairs]
        yield self.workload("W6", "tags has t1 and t2", both)

    def ranges(self) -> Iterator[Workload]:
        for share in _WINDOWS:
            texts = [self.window("installed_kib", share, self.rng.random()) for _ in self.section]
            yield self.workload(f"W9 {share:.2%}", f"installed_kib, {share:.2%} of the rows", texts)
        place = np.searchsorted(np.sort(self.x @ self.axis), self.queries @ self.axis) / len(self.x)
        for share in (0.01, 0.1):
            yield self.workload(f"W10a {share:.0%}", f"day, the last {share:.0%}", f"day >= {1000 - 1000 * share:.0f}")
            across = [self.window("day_corr", share, 1.0 if at < 0.5 else 0.0) for at in place]
            yield self.workload(f"W10b {share:.0%}", f"day_corr, {share:.0%} opposite to the query", across)

    def window(self, column: str, share: float, place: float) -> str:
        """A range of a share of the rows; `place` 0: the least values, 1: the greatest."""
        values = self.frame[column].drop_nulls().sort()
        width = max(1, round(share * len(values)))
        first = round(place * (len(values) - width))
        return f"{column} BETWEEN {values[first]} AND {values[first + width - 1]}"

    def joined(self) -> Iterator[Workload]:
        sizes = self.frame["installed_kib"].drop_nulls().sort().to_numpy()
        texts = []
        for section, architecture, size in zip(
            self.section, self.own["architecture"], self.own["installed_kib"].fill_null(100), strict=True
        ):
            place = np.searchsorted(sizes, size) / len(sizes)
            range_ = self.window("installed_kib", 0.2, float(np.clip((place - 0.1) / 0.8, 0, 1)))
            texts.append(f"section = '{section}' AND architecture = '{architecture}' AND {range_}")
        yield self.workload("W11", "own section and architecture, size about own", texts)
        team = "maintainer LIKE '%Python Team%'"
        for name, text in [
            ("W12a", "section = 'fonts' AND n_depends > 5"),
            ("W12b", "section = 'rust' AND architecture = 'all'"),
            ("W12c", "section = 'haskell' AND installed_kib < 65"),
            ("W12d", f"section = 'python' AND {team}"),
        ]:
            yield self.workload(name, text, text)
        libraries = one_of("section", ["libs", "libdevel", "oldlibs", "perl", "python", "haskell", "rust", "ruby"])
        for name, text in [
            ("W13a", "section = 'games' OR array_has(tags, 'use::gameplaying')"),
            ("W13b", f"NOT ({libraries})"),
            ("W13c", "array_length(tags) = 0"),
            ("W13d", "name LIKE 'python3-%'"),
        ]:
            yield self.workload(name, text, text)

    def few(self) -> Iterator[Workload]:
        yield self.workload("W14a", "essential", "essential")
        yield self.workload("W14b", "one package", "name = 'bash'")
        yield self.workload("W14c", "a contradiction", "n_depends < 0")


def equal(column: str, values: pl.Series) -> list[str]:
    """A text for each value; a null is asked for as such."""
    return [
        f"{column} IS NULL" if each is None else f"{column} = '{each.replace(chr(39), chr(39) * 2)}'" for each in values
    ]


def one_of(column: str, values: Any) -> str:
    return f"{column} IN ({', '.join(repr(str(each)) for each in values)})"


# ---- made ------------------------------------------------------------------------------------------------------------


def made(data: Dataset, count: int) -> Iterator[Workload]:
    """Shares of the rows by chance; nearest to the query's neighbourhood; and farthest from it.

    A neighbourhood is that of one of a few anchors, rows of the set; each query has the one it is most like.
    """
    rng = np.random.default_rng(SEED)
    x, queries = data.base, data.queries[:count]
    anchors = x[rng.choice(len(x), _ANCHORS, replace=False)]
    which = (queries @ anchors.T).argmax(axis=1)
    chance = rng.permutation(len(x))
    near = [
        np.argsort(-(x @ anchor) + _NOISE * rng.standard_normal(len(x), dtype=np.float32)).astype(np.int32)
        for anchor in anchors
    ]
    kinds: list[tuple[str, Callable[[int], list[Mask]]]] = [
        ("by chance", lambda m: [member(chance[:m], len(x))]),
        ("near", lambda m: [member(order[:m], len(x)) for order in near]),
        ("far", lambda m: [member(order[-m:], len(x)) for order in near]),
    ]
    for share in MADE_SHARES:
        m = max(1, round(share * len(x)))
        for kind, masks in kinds:
            some = masks(m)
            yield of_masks(f"{share:.2%} {kind}", kind, queries, some, None if len(some) == 1 else which)
    yield of_masks("100%", "none", queries, [np.ones(len(x), np.bool_)])


def member(rows: npt.NDArray[Any], n: int) -> Mask:
    mask = np.zeros(n, np.bool_)
    mask[rows] = True
    return mask


def made_data(n: int, store: Path) -> Dataset:
    """Vectors of the statistics of sentence embeddings, 384 of them a row; kept in a folder, as they take long."""
    file = store / f"made{n}.npy"
    if file.is_file():
        x = np.load(file)
        return Dataset(file.stem, "cosine", x[:n], x[n:])
    data = synthetic(n=n, d=384, nq=1000)
    np.save(file, np.concatenate([data.base, data.queries]))
    return data
