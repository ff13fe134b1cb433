"""`Index`: rows in, nearest rows out."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tessella import _files
from tessella._arrays import Input, as_float32, as_ids, as_rows, is_plain, like_input, row_slices
from tessella._backend import resolve_threads, whole_number
from tessella._filtering import Filtering, Restriction, new_table, sorted_rows
from tessella._progress import Progress, counted, shown
from tessella._structures import RAW, Found, make_structure, summed_up
from tessella.calibration import Calibration, Truth, check_recall, measure, share_found
from tessella.config import METRICS, IndexConfig
from tessella.errors import InvalidArgument, RecallWarning
from tessella.filters import Filter, Where
from tessella.hits import Explanation, Hits, RangeHits

if TYPE_CHECKING:
    from tessella.attributes import Attributes
    from tessella.building import BuildReport

_SLICE_ROWS = 65_536  # rows converted, or searched, between two looks at Ctrl-C
_SLICE_QUERIES = 4_096
_TRAIN_ROWS = 1 << 20  # of a first add, at most
_SEED = 0x7E55E11A
_FINE = ("U8", "R8")  # codecs whose best k are nearly the exact ones
_LARGEST_FLOAT = float(np.finfo(np.float32).max)
_SURE_EPSILON = 4.0  # error bounds that a search for the truth keeps


class Index:
    """Vectors with ids, compressed as the spec says, and the nearest of them for a query.

    Args:
        spec: what is stored of a row, coarse to fine, and in what structure (`IndexConfig`, or a string; see
            docs/howto/choose-a-spec.md): `Flat` (float32), `Flat,F16`, `Flat,B1+U8` (1-bit scan, 8-bit refine),
            `Flat,B1+N4`, `IVF1024,B1+U8` (1,024 inverted lists), `IVF+SOAR,B1+U8` (as many lists as suit the
            training rows, each row in two of them), `Graph32,B1+U8` (32 links a row), …
        dim: length of a row.
        metric: `cosine` (rows and queries are normalised; zero rows score 0), `ip` (inner product) or `l2`
            (squared Euclidean distance). Scores are best-first: descending, for `l2` ascending.
        seed: of the random rotation that codes need.

    Rows are float32, float16, bfloat16, uint8 (or anything that converts to float32) as NumPy arrays, CPU torch
    tensors or objects with `__dlpack__`, of shape (n, dim); one row may be one-dimensional. NaN and infinities are
    refused. Equal scores are ordered by id, smaller first. Searches may run from many threads at once, beside one
    writer.

    >>> import numpy as np
    >>> ix = Index("Flat", dim=2, metric="l2")
    >>> ix.add([[0.0, 0.0], [3.0, 4.0]], ids=[10, 20])
    >>> hits = ix.search([[3.0, 3.0]], k=2)
    >>> hits.ids, hits.scores
    (array([[20, 10]]), array([[ 1., 18.]], dtype=float32))
    """

    def __init__(
        self, spec: str | IndexConfig = "Flat", *, dim: int, metric: str = "cosine", seed: int = _SEED
    ) -> None:
        self._config = IndexConfig.parse(spec)
        self._dim = whole_number(dim, 1, "dim", "Index")
        self._metric = metric
        self._seed = whole_number(seed, 0, "seed", "Index")
        if metric not in METRICS:
            raise InvalidArgument(f"Index: expected metric {', '.join(map(repr, METRICS))}; got {metric!r}")
        self._structure = make_structure(self._config, dim=self._dim, metric=metric, seed=self._seed)
        self._engine = self._structure.engine
        self._effort = self._structure.default_effort
        self._filtering = Filtering(self._engine)
        self._calibration: Calibration | None = None
        self.report: BuildReport | None = None  # of `build`: what it tried

    @classmethod
    def build(
        cls,
        x: object,
        *,
        metric: str = "cosine",
        recall: float = 0.95,
        memory: int | None = None,
        queries: object | None = None,
        ids: object | None = None,
        attributes: object | None = None,
        sort_by: str | None = None,
        k: int = 10,
        seed: int | None = None,
        progress: Progress = False,
        threads: int | None = None,
    ) -> Index:
        """An index over rows `x` (n, dim) whose spec and effort are chosen by measurement.

        Specs are tried on up to 50,000 of the rows; the fastest that reaches the recall is built over all of them and
        calibrated. `ix.report` tells what was tried and which recall to expect: that of each half of the queries at the
        effort that the other half asks for.

        Args:
            recall: the share of the true `k` best that a search with the defaults should find.
            memory: bytes that the index may take, at most; leaner codes are tried where it is given.
            queries: (nq, dim) of the kind that will be asked, a thousand or more. Without them rows stand in, each
                looking for its neighbours; real queries are often harder, and then recall falls short of the target:
                a `RecallWarning` and the report say so. Graphs are tried with real queries only: rows know their way
                in one.
            ids, attributes: (n,) and n rows, as for `add`.
            sort_by: a column of `attributes`. Rows are stored by its values, nulls last, so that those of a range lie
                together: a search under it reads one slice of the store. Ids stay with their rows, and are by default
                the places in `x`. Rows that are added later lie behind, and removals move some; costs a copy of `x`.

        A target that nothing within the memory reaches is a `RecallWarning`; too little memory for any spec is an
        InvalidArgument. Cost: a few builds over the sample, one over the rows, and an exact search for the queries.

        >>> import numpy as np
        >>> drawn = np.random.default_rng(0).standard_normal((3500, 32), dtype=np.float32)
        >>> ix = Index.build(drawn[:3000], recall=0.9, queries=drawn[3000:])
        >>> len(ix), ix.report.recall >= 0.89
        (3000, True)
        """
        from tessella.building import build

        table = None if attributes is None else new_table(attributes, as_rows(x, "x", "build").n, "build")
        if sort_by is not None:
            x, ids, table = sorted_rows(x, ids, table, sort_by)
        index = build(
            x,
            metric=metric,
            recall=recall,
            memory=memory,
            queries=queries,
            ids=ids,
            k=k,
            seed=seed,
            progress=progress,
            threads=threads,
        )
        if table is not None:
            index._filtering.restored(table)
        return index

    # ---- what it is

    @property
    def spec(self) -> str:
        """The spec string this index was made with, in its shortest form."""
        return self._config.spec

    @property
    def config(self) -> IndexConfig:
        """The spec as an object."""
        return self._config

    @property
    def dim(self) -> int:
        """Length of a row."""
        return self._dim

    @property
    def metric(self) -> str:
        """`cosine`, `ip` or `l2`."""
        return self._metric

    @property
    def is_trained(self) -> bool:
        """Whether the centre that codes are taken about, centroids and codebooks are fixed; `Flat` needs none."""
        return bool(self._engine.trained())

    @property
    def nbytes(self) -> int:
        """Bytes of memory that rows, ids and tables take, spare room included."""
        return int(self._engine.nbytes())

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """The ids (n,), in the order rows are stored: as added, but a removal moves the last row to the gap."""
        ids: npt.NDArray[np.int64] = self._engine.ids()
        return ids

    @property
    def nprobe(self) -> int:
        """Inverted lists a search looks into when it does not say; may be set. 0 where there are none."""
        return self._effort if self._structure.knob == "nprobe" else 0

    @nprobe.setter
    def nprobe(self, value: int) -> None:
        self._effort = self._checked_effort(value, "nprobe", "nprobe")

    @property
    def ef(self) -> int:
        """Candidates a walk over a graph keeps when it does not say; may be set. 0 where there is no graph."""
        return self._effort if self._structure.knob == "ef" else 0

    @ef.setter
    def ef(self, value: int) -> None:
        self._effort = self._checked_effort(value, "ef", "ef")

    @property
    def knob(self) -> str:
        """What the structure calls its effort, `nprobe` or `ef`; empty for `Flat`."""
        return self._structure.knob

    @property
    def effort(self) -> int:
        """`nprobe` or `ef`, whichever the structure has; 0 for `Flat`."""
        return self._effort

    @property
    def attributes(self) -> Attributes | None:
        """What is known of each row, in the order of `ids`; to be read. None until something was added with some."""
        return self._filtering.attributes

    @property
    def list_sizes(self) -> npt.NDArray[np.int64]:
        """Rows in each inverted list, spilled ones included; empty where there are none and before training."""
        if self._config.structure != "IVF":
            return np.empty(0, np.int64)
        sizes: npt.NDArray[np.int64] = self._engine.list_sizes()
        return sizes

    @property
    def most_effort(self) -> int:
        """`nprobe` or `ef` at which a search looks at every row; 0 for `Flat`, which always does."""
        return self._structure.most_effort

    @property
    def calibration(self) -> Calibration | None:
        """Recall by effort as `calibrate` measured it; what `search(recall=…)` goes by."""
        return self._calibration

    def __len__(self) -> int:
        return len(self._engine)

    def __contains__(self, id: int) -> bool:
        return id in self._engine

    def __repr__(self) -> str:
        per_row = f", {self.nbytes / len(self):.0f} bytes a row" if len(self) else ""
        return f"Index({self.spec!r}, dim={self.dim}, metric={self.metric!r}: {len(self):,} rows{per_row})"

    # ---- what goes in

    def train(self, x: object, *, progress: Progress = False, threads: int | None = None) -> None:
        """Fixes the centre as the mean of `x` (n, dim) and, for IVF, the centroids. Only while empty.

        Without it the first `add` does so with its own rows. IVF wants 40 rows or more for each list and looks at
        256; more are sampled. `progress=True` draws a bar (needs `rich`); a function is called with the share done.
        """
        rows = self._rows(x, "train")
        count = resolve_threads(threads, "train")
        with shown(progress, "training") as report:
            self._structure.train(as_float32(rows.array, rows.kind), count, report)

    def add(
        self,
        x: object,
        *,
        ids: object | None = None,
        attributes: object | None = None,
        progress: Progress = False,
        threads: int | None = None,
    ) -> None:
        """Adds rows (n, dim); all of them or, on an error, none.

        `ids` (n,) are integers >= 0 that are not here yet; by default the next free numbers, from 0. What has to
        be converted is converted in slices, so a memory-mapped or float64 matrix is never copied whole; but the first
        rows of a graph are, since they are linked all at once. `progress`, as for `train`, shows what takes long in a
        first `add`: its training, or the linking of a graph.

        `attributes` are what filters go by: a polars or pandas DataFrame, an Arrow table, a dict of columns or a list
        of dicts, one row each (needs `tessella[filters]`; see docs/concepts/filters.md). Columns that a table lacks
        are null.
        """
        rows = self._rows(x, "add")
        count = resolve_threads(threads, "add")
        own = None if ids is None else as_ids(ids, rows.n, "add")
        if own is not None:
            self._engine.check_new_ids(own)
        table = self._filtering.fitted(attributes, rows.n, "add")
        with shown(progress if rows.n and not len(self) else False, "adding") as report, self._filtering.adding:
            before = len(self)
            try:
                self._add(rows, own, count, report)
            finally:
                self._filtering.added(table, len(self) - before)

    def _add(
        self,
        rows: Input,
        own: npt.NDArray[np.int64] | None,
        count: int,
        report: Callable[[float], None] | None,
    ) -> None:
        add = self._structure.add
        if self._structure.built_at_once and not len(self):
            add(as_float32(rows.array, rows.kind), own, count, report)
            return
        if rows.n and not self.is_trained:
            self._train_first(rows, count, report)
        flags = rows.source.flags
        if rows.source.dtype == np.float32 and flags.c_contiguous and flags.aligned:
            add(rows.array, own, count, None)
            return
        # Nothing is stored before every slice and every id has been looked at.
        for start, piece in self._slices(rows):
            self._engine.check_rows(piece, start)
        for start, piece in self._slices(rows):
            add(piece, None if own is None else own[start : start + len(piece)], count, None)

    def _add_encoded(
        self, batches: Iterable[npt.NDArray[np.float32]], ids: npt.NDArray[np.int64], table: Any, threads: int
    ) -> None:
        """Adds rows that come a batch at a time, with checked ids and fitted attributes; all or, on an error, none."""
        with self._filtering.adding:
            before = len(self)
            try:
                for x in batches:
                    done = len(self) - before
                    self._structure.add(x, ids[done : done + len(x)], threads, None)
            except BaseException:
                done = len(self) - before
                self._filtering.added(table, done)
                if done:
                    self.remove(ids[:done])
                raise
            self._filtering.added(table, len(self) - before)

    def add_batches(
        self,
        batches: Iterable[Any],
        *,
        total: int | None = None,
        progress: bool | Callable[[int], None] = False,
        threads: int | None = None,
    ) -> None:
        """Adds arrays (n_i, dim), or pairs (ids, array), one after another, so that they never lie in memory together.

        `progress=True` draws a bar (needs `rich`; `total` rows make it a bar with an end); a function is called
        with the number of rows after each batch.
        """
        with counted(progress, total, "adding") as report:
            for batch in batches:
                ids, x = batch if isinstance(batch, tuple) else (None, batch)
                before = len(self)
                self.add(x, ids=ids, threads=threads)
                report(len(self) - before)

    def remove(self, ids: object) -> int:
        """Removes rows by id and returns how many. An unknown id is an error, and then nothing is removed."""
        which = as_ids(ids, None, "remove")
        with self._filtering.changing():
            self._engine.remove(which)
        return len(which)

    def update(
        self,
        ids: object,
        x: object | None = None,
        *,
        attributes: object | None = None,
        threads: int | None = None,
    ) -> None:
        """Gives the rows of these ids new values `x` (n, dim), new attributes, or both.

        Columns that `attributes` lack keep their values. An unknown id is an error, and nothing changes.
        """
        if x is None and attributes is None:
            raise InvalidArgument("update: expected x, attributes, or both; got neither")
        count = resolve_threads(threads, "update")
        rows = None if x is None else self._rows(x, "update")
        which = as_ids(ids, None if rows is None else rows.n, "update")
        table = self._filtering.fitted(attributes, len(which), "update")
        self._filtering.check(which, "update")
        with self._filtering.changing():
            if rows is not None:
                self._engine.update(which, as_float32(rows.array, rows.kind), count)
        self._filtering.update(which, table)

    def compact(self, *, threads: int | None = None) -> None:
        """Gives back memory that changes have left behind, and evens out the inverted lists; ids stay as they are.

        Lists that have grown far beyond the others are split, those that have all but emptied are given up. A graph
        gives up the rows that were removed, and links those that led to them anew.
        """
        count = resolve_threads(threads, "compact")
        if self._config.structure != "Flat":
            with self._filtering.changing():
                self._engine.compact(count)

    def merge_from(self, other: Index, *, threads: int | None = None) -> None:
        """Moves all rows of `other` here, with their ids; `other` is empty afterwards.

        Rows are added as `other` decodes them, so nothing is lost where its finest codec is a raw one, and little
        with U8. Ids must be new here; otherwise neither index changes.
        """
        if not isinstance(other, Index) or other is self:
            raise InvalidArgument("merge_from: expected another Index")
        if (other.dim, other.metric) != (self.dim, self.metric):
            raise InvalidArgument(
                f"merge_from: expected an index of dim {self.dim} and metric {self.metric!r};"
                f" got {other.dim} and {other.metric!r}"
            )
        self._engine.check_new_ids(other.ids)
        for _, rows in other.batches():  # nothing is moved before everything has been looked at
            self._engine.check_rows(rows, 0)
        if other.attributes is not None and other.attributes.types:
            self._filtering.fitted(other.attributes.to_frame(), len(other), "merge_from")
        for ids, rows in other.batches():
            self.add(rows, ids=ids, attributes=other._filtering.known(ids), threads=threads)
        other.remove(other.ids)

    # ---- what comes out

    def search(
        self,
        q: object,
        k: int = 10,
        *,
        nprobe: int | None = None,
        ef: int | None = None,
        recall: float | None = None,
        where: Where = None,
        with_attributes: Sequence[str] | None = None,
        threads: int | None = None,
        epsilon: float = 1.9,
    ) -> Hits:
        """The k best rows for each query of `q` (nq, dim).

        Args:
            k: 1 to 16,384. Where there are fewer rows, ids are -1 and scores -inf (`l2`: inf).
            nprobe: inverted lists to look into, default `ix.nprobe`; IVF only.
            ef: candidates that a walk keeps, at least k, default `ix.ef`; Graph only.
            recall: instead, the effort that reached this share of the true k best, and a standard error more, when the
                index was calibrated (see `calibrate`). Where none did, the best there is, and a `RecallWarning`.
            where: only rows that this admits: SQL text, a condition on `ts.field(…)`, a dict, an expression, a mask,
                ids, a FAISS selector, or what `filter` made; or a list of those, one for each query. min(k, matches)
                rows come back, however few match and wherever they lie.
            with_attributes: columns to return with the hits, as `hits.attributes`.
            threads: default `ts.get_num_threads()`; results do not depend on it.
            epsilon: how many error bounds B1 keeps before it lets a row go. 1.9 loses about one true neighbour in a
                thousand; 0 trusts the estimate. A graph, which is not scanned, has no use for it.
        Returns:
            `Hits(ids, scores)`, in the kind of `q` (NumPy or torch).

        Cost: `Flat` n*dim multiply-adds a query; with B1, n*dim/8 bytes read and a few refinements. IVF: the same
        for the rows of its centroids and of nprobe lists. Graph: fewer than ef visits, each of a record of 1-bit codes.
        Under a filter: whatever is cheapest for so many matches, at most that of scoring each of them; see `explain`.
        """
        if where is None and with_attributes is None and is_plain(q, self._dim) and len(q) <= _SLICE_QUERIES:
            # What most callers pass, often one query at a time: a longer look would take as long as the search.
            effort = self._effort_of(nprobe, ef, recall, "search")
            wanted = whole_number(k, 1, "k", "search")
            count = 0 if threads is None else whole_number(threads, 1, "threads", "search")
            found = self._engine.search(q, wanted, _bound(epsilon, "search"), effort, count)
            return tuple.__new__(Hits, found)  # the way through a NamedTuple's own takes three times as long
        rows = as_rows(q, "q", "search", self._dim)
        effort = self._effort_of(nprobe, ef, recall, "search")
        if where is None and with_attributes is None:
            return self._hits(self._search(rows, k, threads, epsilon, effort), rows)
        with self._filtering.turns.reading():
            restriction = self._filtering.restriction(where, rows.n)
            hits = self._hits(self._search(rows, k, threads, epsilon, effort, "search", restriction), rows)
            if with_attributes is not None:
                hits.attributes = self._filtering.values(np.asarray(hits.ids).ravel(), with_attributes)
        return hits

    def filter(self, where: Where, *, materialize: bool = False) -> Filter:
        """A filter looked at once, to be passed as `where` again and again; `count` says how many rows it admits.

        It follows the index: after a change it is compiled anew. What one search finds out about it spares the next:
        which rows these are, and in which inverted lists they lie.

        Args:
            materialize: the filter keeps 1-bit codes of its rows, copied one behind another, and searches may scan
                these instead (`explain` calls it `copies`): worth it for a filter that is asked often, admits
                thousands of rows and seldom changes. Takes dim/8 + 8 bytes a row, `l2` 4 more (`nbytes` says how
                many in all). The first search makes them, and so does the first after a change, for about 1 µs a row.
                Needs a spec with B1.

        >>> ix = Index("Flat", dim=2)
        >>> ix.add([[1.0, 0.0], [0.0, 1.0]], attributes={"section": ["python", "math"]})
        >>> python = ix.filter("section = 'python'")
        >>> python.count, ix.search([[1.0, 1.0]], k=2, where=python).ids
        (1, array([[ 0, -1]]))
        """
        codecs = self._config.codecs
        if materialize and ("B1" not in codecs or (codecs == ("B1",) and self._config.structure != "Flat")):
            raise InvalidArgument(
                "filter: expected a spec with B1, and with a finer codec unless it is Flat, for materialize=True;"
                f" got {self.spec!r}"
            )
        return Filter(where, self._filtering.kept, lambda: self.ids, lambda: self._filtering.version, materialize)

    def explain(
        self,
        q: object,
        k: int = 10,
        *,
        nprobe: int | None = None,
        ef: int | None = None,
        recall: float | None = None,
        where: Where = None,
        epsilon: float = 1.9,
    ) -> Explanation:
        """Runs the search on one thread and tells what it cost: rows scanned, refined and re-scored, lists probed.

        Under a filter also how many rows it admits, which plan was chosen and what each was estimated to cost:
        `gather` scores every match by itself, `scan` looks through all rows by estimates, `lists` into inverted lists
        until they held enough matches, `walk` walks the graph, `copies` scans what a materialised filter keeps.

        >>> ix = Index("Flat", dim=2)
        >>> ix.add([[1.0, 0.0], [0.0, 1.0]])
        >>> ix.explain([[1.0, 1.0]], k=1)
        Explanation(spec='Flat', queries=1, rows=2, scanned=2, refined=0, rescored=2, probed=0, matched=2, plans={}, \
estimates={})
        """
        rows = as_rows(q, "q", "explain", self._dim)
        effort = self._effort_of(nprobe, ef, recall, "explain")
        with self._filtering.still(where):
            restriction = self._filtering.restriction(where, rows.n)
            parts = self._search(rows, k, 1, epsilon, effort, "explain", restriction)
        scanned, refined, rescored, probed = (sum(each) for each in zip(*(part[2] for part in parts), strict=True))
        matched = len(self) * rows.n if restriction is None else restriction.matched(rows.n)
        plans, estimates = summed_up([part[3] for part in parts])
        return Explanation(self.spec, rows.n, len(self), scanned, refined, rescored, probed, matched, plans, estimates)

    def calibrate(
        self, queries: object, k: int = 10, *, truth: object | None = None, threads: int | None = None
    ) -> Calibration:
        """Measures recall at rising effort on `queries` (nq, dim), for `search(recall=…)` to go by; kept in files.

        `truth` (nq, k) are the ids of the true k best, -1 where there are fewer. Without it they are what this index
        itself finds when it looks at everything: then 1.0 stands for the best that its codecs can do, and the
        calibration's `truth` is `own best`. Codes of 8 bits lose about a point to the exact neighbours; where the
        finest codec is a coarser one, such as `B1` or a product code alone, that is a `RecallWarning`. Raw codecs find
        the `exact` ones by themselves. Take queries of the kind that will be asked, a few hundred or more: rows of the
        index are easier than real queries.
        """
        rows = as_rows(queries, "queries", "calibrate", self._dim)
        most, wanted = self._structure.most_effort, whole_number(k, 1, "k", "calibrate")
        if rows.n == 0 or len(self) == 0:
            raise InvalidArgument(
                f"calibrate: expected queries, and rows in the index; got {rows.n} and {len(self)} of them"
            )
        if truth is None:
            own = self._search(rows, wanted, threads, _SURE_EPSILON, most, "calibrate")
            true_ids = np.concatenate([part[0] for part in own])
        else:
            true_ids = np.asarray(truth, dtype=np.int64)
            if true_ids.shape != (rows.n, wanted):
                raise InvalidArgument(f"calibrate: expected truth of shape ({rows.n}, {wanted}); got {true_ids.shape}")

        def recall_at(effort: int) -> float:
            parts = self._search(rows, wanted, threads, 1.9, effort, "calibrate")
            return share_found(np.concatenate([part[0] for part in parts]), true_ids)

        counted: Truth = "exact" if truth is not None or self._config.codecs[-1] in RAW else "own best"
        self._calibration = measure(recall_at, self._structure.span(wanted), k=wanted, queries=rows.n, truth=counted)
        if counted == "own best" and self._config.codecs[-1] not in _FINE:
            warnings.warn(
                f"calibrate: recall counts against the best that {self.spec!r} itself finds, not against exact"
                " neighbours, of which its codes lose some; truth= takes those",
                RecallWarning,
                stacklevel=2,
            )
        return self._calibration

    def adopt(self, calibration: Calibration, recall: float) -> None:
        """Takes a calibration measured elsewhere, and the effort that reaches `recall` as the default."""
        self._calibration = calibration
        if self._structure.knob:
            self._effort = max(1, calibration.effort_for(check_recall(recall, "adopt")))

    def range_search(
        self,
        q: object,
        threshold: float,
        *,
        nprobe: int | None = None,
        ef: int | None = None,
        recall: float | None = None,
        where: Where = None,
        threads: int | None = None,
        epsilon: float = 1.9,
    ) -> RangeHits:
        """All rows that score at least `threshold` (`l2`: at most), for each query of `q` (nq, dim).

        IVF looks into the `nprobe` nearest lists, or as many as `recall` took for the k best. A graph is walked with
        `ef` candidates, and with more as long as most of those count. Of what is found, rows that `where` admits are
        returned.
        """
        rows = as_rows(q, "q", "range_search", self._dim)
        count = resolve_threads(threads, "range_search")
        limit = float(threshold)
        if limit != limit:
            raise InvalidArgument("range_search: expected a threshold; got NaN")
        effort, bound = (
            self._effort_of(nprobe, ef, recall, "range_search"),
            _bound(epsilon, "range_search"),
        )
        with self._filtering.still(where):
            found = self._engine.range_search(as_float32(rows.array, rows.kind), limit, bound, effort, count)
            if where is not None:
                found = self._filtering.admitted(where, *found)
        return RangeHits(*(like_input(array, rows) for array in found))

    def reconstruct(self, ids: object) -> npt.NDArray[np.float32]:
        """The stored values (n, dim) float32 of these ids, from the finest codec; cosine's are unit vectors."""
        values: npt.NDArray[np.float32] = self._engine.reconstruct(as_ids(ids, None, "reconstruct"))
        return values

    def batches(self, rows: int = _SLICE_ROWS) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        """Yields (ids, values) of all rows, at most `rows` at a time; `add_batches` takes them as they come."""
        size = whole_number(rows, 1, "rows", "batches")
        ids = self.ids
        for start in range(0, len(ids), size):
            piece = ids[start : start + size]
            yield piece, self.reconstruct(piece)

    # ---- files and copies

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the index to one file, a valid safetensors file, replacing it in one step once it is whole."""
        _files.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, mmap: bool = False, verify: bool | None = None) -> Index:
        """Reads an index from a file.

        Args:
            mmap: leave the rows in the file and map it; only what a search touches is read. Adding, removing and
                updating work and copy what they touch; the file is never written to.
            verify: check the checksums; by default all of them, but when mapping only those of small parts.
        Raises:
            FormatError: when the file is not a whole, undamaged index of a version this library knows.
        """
        return _files.load(cls, path, mmap, verify)

    def __reduce__(self) -> tuple[Any, ...]:
        return _files.reduced(self)

    # ---- behind the door

    def _search(
        self,
        rows: Input,
        k: int,
        threads: int | None,
        epsilon: float,
        effort: int,
        operation: str = "search",
        restriction: Restriction | None = None,
    ) -> list[Found]:
        wanted = whole_number(k, 1, "k", operation)
        count = resolve_threads(threads, operation)
        bound = _bound(epsilon, operation)
        found, first = [], 0
        pieces = [rows.array] if rows.n <= _SLICE_QUERIES else row_slices(rows, _SLICE_QUERIES)
        for piece in pieces:
            some = () if restriction is None else restriction.of(first, first + len(piece))
            found.append(self._engine.explain(as_float32(piece, rows.kind), wanted, bound, effort, count, *some))
            first += len(piece)
        return found

    def _hits(self, parts: list[Found], rows: Input) -> Hits:
        ids, scores = parts[0][:2] if len(parts) == 1 else map(np.concatenate, list(zip(*parts, strict=True))[:2])
        return Hits(like_input(ids, rows), like_input(scores, rows)) if rows.torch else Hits(ids, scores)

    def _checked_effort(self, effort: int, knob: str, operation: str) -> int:
        if type(effort) is int and 0 < effort <= 1 << 32 and self._structure.knob == knob:  # what most callers pass
            return effort
        value = whole_number(effort, 1, knob, operation)
        if self._structure.knob != knob:
            lacks = "IVF only; {} has no lists to probe" if knob == "nprobe" else "Graph only; {} is not walked"
            raise InvalidArgument(f"{operation}: expected {knob} with {lacks.format(repr(self.spec))}")
        return min(value, 1 << 32)

    def _effort_of(self, nprobe: int | None, ef: int | None, recall: float | None, operation: str) -> int:
        if recall is None:
            effort = self._effort
            if nprobe is not None:
                effort = self._checked_effort(nprobe, "nprobe", operation)
            if ef is not None:
                effort = self._checked_effort(ef, "ef", operation)
            return effort
        for knob, value in (("nprobe", nprobe), ("ef", ef)):
            if value is not None:
                raise InvalidArgument(f"{operation}: expected {knob} or recall; got both")
        target = check_recall(recall, operation)
        if self._config.spec == "Flat":
            return self._effort  # exact
        if self._calibration is None:
            raise InvalidArgument(
                f"{operation}: expected a calibrated index for recall={recall};"
                " ix.calibrate(queries) measures what it takes"
            )
        if not self._calibration.reaches(target):
            best = max(self._calibration.recalls)
            warnings.warn(
                f"{operation}: recall {recall} was not reached when {self.spec!r} was calibrated;"
                f" its best is {best:.4f}",
                RecallWarning,
                stacklevel=3,
            )
        return self._calibration.effort_for(target)

    def _train_first(self, rows: Input, threads: int, report: Callable[[float], None] | None) -> None:
        """Trains on the rows of a first `add`, or on some of them where there are very many."""
        source = rows.source
        if rows.n > _TRAIN_ROWS:
            source = source[np.sort(np.random.default_rng(0).permutation(rows.n)[:_TRAIN_ROWS])]
        some = as_rows(source, "x", "add") if rows.kind != "bf16" else Input(source, "bf16", False, False)
        for start, piece in self._slices(rows):
            self._engine.check_rows(piece, start)
        self._structure.train(as_float32(some.array, some.kind), threads, report)

    def _rows(self, x: object, operation: str) -> Input:
        return as_rows(x, "x", operation, self._dim)

    def _slices(self, rows: Input) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        start = 0
        for piece in row_slices(rows, _SLICE_ROWS):
            yield start, as_float32(piece, rows.kind)
            start += len(piece)


def _bound(epsilon: float, operation: str) -> float:
    value = float(epsilon)
    if not 0.0 <= value <= _LARGEST_FLOAT:  # the engine counts in float32
        raise InvalidArgument(f"{operation}: expected a finite epsilon >= 0; got {value}")
    return value
