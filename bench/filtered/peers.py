"""Peers under filters, each with the effort it has. All are given the bitmaps.

FAISS takes one selector a call: where each query has its own filter, it is called once for each, as its users do. Its
flat index gets a list of ids or a bitmap, whichever is quicker. hnswlib and usearch, and the rules of two servers over
hnswlib's graph, run in harness.cpp.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.filtered import harness
from bench.filtered.truth import K
from bench.filtered.workloads import Floats, Ids, Workload

CANDIDATES = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
LISTS = (4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)

Search = Callable[[], Ids]


@dataclass(frozen=True)
class Entry:
    """`prepare(workload)` gives a search of all its queries by effort."""

    name: str
    efforts: Sequence[int]
    prepare: Callable[[Workload], Callable[[int], Ids]]
    nbytes: int = 0


class Built:
    """Where indexes are kept between a run that builds them and one that times them."""

    def __init__(self, folder: Path, name: str, threads: int) -> None:
        self.folder, self.name, self.threads = folder, name, threads
        folder.mkdir(parents=True, exist_ok=True)

    def file(self, peer: str) -> Path:
        return self.folder / f"{self.name}-{peer}.index"


def of_faiss(x: Floats, kept: Built, wanted: Callable[[str], bool]) -> Iterator[Entry]:
    try:
        import faiss
    except ModuleNotFoundError:
        raise harness.Missing("faiss is not installed (pip install faiss-cpu)") from None

    lists = 512 if len(x) < 200_000 else 2048
    graph = "HNSW32" if len(x) < 200_000 else "HNSW16"
    kinds: list[tuple[str, str, Sequence[int], Callable[[Any, int], Any]]] = [
        ("faiss Flat ids", "Flat", (0,), lambda sel, _: faiss.SearchParameters(sel=sel)),
        ("faiss Flat bitmap", "Flat", (0,), lambda sel, _: faiss.SearchParameters(sel=sel)),
        (
            f"faiss IVF{lists}",
            f"IVF{lists},Flat",
            LISTS,
            lambda sel, n: faiss.SearchParametersIVF(sel=sel, nprobe=n),
        ),
        (
            f"faiss IVF{lists} PQfs",
            f"IVF{lists},PQ192x4fsr,RFlat",
            LISTS,
            lambda sel, n: faiss.IndexRefineSearchParameters(
                k_factor=8.0, base_index_params=faiss.SearchParametersIVF(sel=sel, nprobe=n)
            ),
        ),
        (
            f"faiss {graph}",
            graph,
            CANDIDATES,
            lambda sel, n: faiss.SearchParametersHNSW(sel=sel, efSearch=n),
        ),
    ]
    made: dict[str, Any] = {}
    for name, spec, efforts, parameters in kinds:
        if not wanted(name):
            continue
        if spec not in made:
            made[spec] = faiss_index(faiss, spec, x, kept)
        faiss.omp_set_num_threads(1)
        yield Entry(name, efforts, selected(faiss, made[spec], parameters, name == "faiss Flat ids"))


def faiss_index(faiss: Any, spec: str, x: Floats, kept: Built) -> Any:
    file = kept.file(f"faiss-{spec.replace(',', '-')}")
    if file.is_file():
        return faiss.read_index(str(file))
    faiss.omp_set_num_threads(kept.threads)
    index = faiss.index_factory(x.shape[1], spec, faiss.METRIC_INNER_PRODUCT)
    if "HNSW" in spec:
        index.hnsw.efConstruction = 100
    index.train(x[:: max(1, len(x) // 200_000)])
    index.add(x)
    if spec != "Flat":
        faiss.write_index(index, str(file))
    return index


def selected(
    faiss: Any, index: Any, parameters: Callable[[Any, int], Any], by_ids: bool
) -> Callable[[Workload], Callable[[int], Ids]]:
    """One call for the queries of each filter."""

    def prepare(workload: Workload) -> Callable[[int], Ids]:
        queries, selectors, places = [], [], []
        kept = []  # what selectors point to: alive as long as `search`, which names it
        for number in range(len(workload.words)):
            place = np.flatnonzero(workload.which == number)
            mask = workload.mask(number)
            data = np.flatnonzero(mask) if by_ids else np.packbits(mask, bitorder="little")
            selector = faiss.IDSelectorArray(data) if by_ids else faiss.IDSelectorBitmap(data)
            kept.append(data)
            places.append(place)
            queries.append(np.ascontiguousarray(workload.queries[place]))
            selectors.append(None if workload.free else selector)

        def search(effort: int) -> Ids:
            ids = np.full((len(workload.queries), K), -1, np.int64)
            for q, selector, place, _ in zip(queries, selectors, places, kept, strict=True):
                ids[place] = index.search(q, K, params=parameters(selector, effort))[1]
            return ids

        return search

    return prepare


RULES = {"hnswlib": ("hnswlib", "qdrant", "qdrant+acorn", "lucene"), "usearch": ("usearch",)}


def of_harness(library: str, x: Floats, kept: Built, wanted: Callable[[str], bool]) -> Iterator[Entry]:
    rules = [each for each in RULES[library] if wanted(each)]
    if not rules:
        return
    graph = harness.Graph(library, x, kept.folder, kept.file(library), m=16, efc=100, threads=kept.threads)
    for rule in rules:

        def prepare(workload: Workload, rule: str = rule) -> Callable[[int], Ids]:
            counts = workload.counts
            return lambda effort: graph.search(rule, workload, counts, effort)

        yield Entry(rule if rule == library else f"{rule} rules", CANDIDATES, prepare)


def all_peers(x: Floats, kept: Built, wanted: Callable[[str], bool], say: Callable[[str], None]) -> Iterator[Entry]:
    """Those that are here; the others with a reason."""
    for name, make in [
        ("faiss", lambda: of_faiss(x, kept, wanted)),
        ("hnswlib", lambda: of_harness("hnswlib", x, kept, wanted)),
        ("usearch", lambda: of_harness("usearch", x, kept, wanted)),
    ]:
        try:
            yield from make()
        except harness.Missing as reason:
            say(f"{name} is left out: {reason}")
