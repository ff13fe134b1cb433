"""The demo: real package descriptions, compressed, searched, saved, loaded and compared."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tessella import Index
from tessella.cli import measure, report, texts
from tessella.cli.extras import require
from tessella.errors import InvalidArgument, TessellaError

Array: TypeAlias = npt.NDArray[Any]

SPEC = "Flat,B1+U8"
LISTS = "IVF+SOAR,B1+U8"
GRAPH = "Graph32,B1+U8"
COMPARED = ("Flat", SPEC, "Flat,B1+N4", LISTS, GRAPH)
DRAWN = (
    "Flat",
    "Flat,F16",
    "Flat,U8",
    "Flat,R6",
    "Flat,N4",
    "Flat,R3",
    "Flat,R2",
    "Flat,B1",
    SPEC,
    "Flat,B1+N4",
)
SHOWN = (0, 30, 150)  # queries printed with their hits
WHERE = "section = 'science' AND installed_kib < 4096"
KNOWN = ("section", "installed_kib")  # columns of a package that filters go by
FILES = ("packages.parquet", "embeddings.npy", "queries.parquet", "query_embeddings.npy")
K = 10
RECALL = 0.98  # of lists and graph, so that they stand beside the flat index


@dataclass(frozen=True, slots=True)
class Sample:
    x: Array  # (n, d) float16, embeddings of the descriptions
    q: Array  # (nq, d) float16, embeddings of the held-out queries
    names: list[str]
    descriptions: list[str]
    queries: list[str]
    known: dict[str, list[Any]]  # by column, of each package


def run(data: Path, drawing: Path, queries: Sequence[str] = ()) -> None:
    """The demo; the caller's own queries are encoded by the model that made the sample's vectors."""
    sample = read(data)
    own = texts.queries(queries, texts.MINILM) if queries else np.empty((0, sample.x.shape[1]), np.float32)
    out = report.console()
    out.print(f"{len(sample.x):,} descriptions of Debian packages, {len(sample.q):,} queries held out from them.\n")
    index = build(SPEC, sample.x)
    show_hits(index, sample)
    for text, q in zip(queries, own, strict=True):
        show(index, sample, text, q)
    show_filter(sample)
    compare(sample)
    show_file(index, sample.q)
    draw(sample, drawing)


def read(data: Path) -> Sample:
    missing = [name for name in FILES if not (data / name).is_file()]
    if missing:
        raise InvalidArgument(
            f"demo: expected the sample in {data}, which lacks {missing[0]}; run it in tessella's source"
            " tree, or name the folder with --data"
        )
    parquet = require("pyarrow.parquet")
    packages = parquet.read_table(data / "packages.parquet", columns=["name", "short", *KNOWN]).to_pydict()
    queries = parquet.read_table(data / "queries.parquet", columns=["text"]).to_pydict()
    x, q = np.load(data / "embeddings.npy"), np.load(data / "query_embeddings.npy")
    known = {name: packages[name] for name in KNOWN}
    return Sample(x, q, packages["name"], packages["short"], queries["text"], known)


def build(spec: str, x: Array) -> Index:
    index = Index(spec, dim=x.shape[1], metric="cosine")
    index.train(x)
    index.add(x)
    return index


def show_hits(index: Index, sample: Sample) -> None:
    for number in SHOWN:
        show(index, sample, sample.queries[number], sample.q[number])


def show(index: Index, sample: Sample, text: str, q: Array) -> None:
    ids, scores = index.search(q, k=5)
    pairs = zip(ids[0], scores[0], strict=True)
    rows = [(f"{score:.3f}", sample.names[row], sample.descriptions[row][:80]) for row, score in pairs]
    report.console().print(report.table(f"“{text}”", [">score", "package", "what it is"], rows), "")


def show_filter(sample: Sample) -> None:
    """One query among some of the packages, and how the index went about it."""
    require("polars")
    index = Index(LISTS, dim=sample.x.shape[1], metric="cosine")
    index.add(sample.x, attributes=sample.known)
    q = sample.q[SHOWN[0]]
    hits = index.search(q, k=5, where=WHERE, with_attributes=KNOWN)
    rows = [
        (f"{score:.3f}", sample.names[row], str(values["section"]), f"{values['installed_kib']:,} KiB")
        for row, score, values in zip(hits.ids[0], hits.scores[0], hits.attributes.to_dicts(), strict=True)
    ]
    title = f"“{sample.queries[SHOWN[0]]}”, where {WHERE}"
    report.console().print(report.table(title, [">score", "package", "section", ">size"], rows))
    told = index.explain(q, k=5, where=WHERE)
    plans = ", ".join(f"{way} {cost:g} µs" for way, cost in told.estimates.items())
    report.console().print(
        f"explain: {told.matched:,} of {told.rows:,} rows match, {told.scanned:,} were looked at; "
        f"chosen: {next(iter(told.plans))}; estimated: {plans}\n"
    )


def compare(sample: Sample) -> None:
    """Recall, bytes and speed of exact search, four compressed indexes and plain NumPy, on the same cores.

    Half of the queries are put by: they tell how far to look in lists and graph, the other half what that brings.
    """
    exact = build("Flat", sample.x)
    known, asked = sample.q[::2], sample.q[1::2]
    x, q = (np.asarray(part, dtype=np.float32) for part in (sample.x, asked))
    searches: dict[str, tuple[Callable[[], Array], float]] = {"NumPy": (partial(numpy_search, x, q), x.nbytes)}
    indexes = {spec: build(spec, sample.x) for spec in COMPARED}
    truth = exact.search(known, K).ids
    for spec in (LISTS, GRAPH):
        indexes[spec].adopt(indexes[spec].calibrate(known, K, truth=truth), RECALL)
    for spec, index in indexes.items():
        searches[spec] = (partial(index_search, index, asked), index.nbytes)
    rows = []
    for name, (search, nbytes) in searches.items():
        found = measure.recall(exact, asked, search())
        rate = measure.speed(search, len(q), repeats=11)
        rows.append((name, f"{found:.4f}", f"{nbytes / len(x):.1f}", str(rate)))
    title = f"{len(q)} queries in one batch, {report.threads()}, median of 11 runs"
    columns = ["", f">recall@{K}", ">bytes/vector", ">queries/s"]
    report.console().print(report.table(title, columns, rows), "")
    lists, graph = indexes[LISTS], indexes[GRAPH]
    print(
        f"{LISTS} looks into {lists.nprobe} of its {len(lists.list_sizes)} lists, and {GRAPH} keeps {graph.ef} rows"
        f" in mind on its walks:\nthat took a recall of {RECALL} on {len(known)} other queries."
        " What they save grows with the set.\n"
    )


def index_search(index: Index, q: Array) -> Array:
    return np.asarray(index.search(q, K).ids)


def numpy_search(x: Array, q: Array) -> Array:
    """The same work with NumPy: a matrix product, a partition, a sort of what is left."""
    scores = q @ x.T
    ids = np.argpartition(scores, -K, axis=1)[:, -K:]
    order = np.argsort(-np.take_along_axis(scores, ids, axis=1), axis=1)
    return np.take_along_axis(ids, order, axis=1)


def show_file(index: Index, q: Array) -> None:
    """Saves, maps, and searches again: the same ids and the same scores."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "packages.tessella"
        index.save(path)
        loaded = Index.load(path, mmap=True, verify=True)
        for before, after in zip(index.search(q, K), loaded.search(q, K), strict=True):
            if not np.array_equal(before, after):
                raise TessellaError("demo: the loaded index gives other results than the saved one")
        size = report.file_size(path.stat().st_size)
    print(f"Saved as {size}, mapped again: the same {len(q):,} × {K} hits, bit for bit.")


def draw(sample: Sample, drawing: Path) -> None:
    exact = build("Flat", sample.x)
    points = []
    for spec in DRAWN:
        index = build(spec, sample.x)
        found = measure.recall(exact, sample.q, index_search(index, sample.q))
        points.append((spec.removeprefix("Flat,"), index.nbytes / len(index), found))
    report.draw_recall(drawing, points, f"{len(sample.x):,} Debian package descriptions, {sample.x.shape[1]} d")
    print(f"Recall against bytes per vector is drawn in {drawing}.")
