"""Filtered searches: `python -m bench.filtered`, over the Debian set and its filters, beside FAISS with selectors.

Each entry raises its own effort until it finds the recall, for each filter anew, and that is the time reported. Both
sides are given the rows: compiling filters is `bench.filters`. Batches of queries, one thread; the FAISS entries run
where it is installed.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

import tessella as ts
from bench import machine
from bench.datasets import data_folder
from bench.filters import as_sql
from bench.timing import measure

HISTORY = Path(__file__).resolve().parent / "history"
SPECS = ["Flat", "Flat,B1+U8", "IVF512,B1+U8", "Graph32,B1+U8"]
LISTS = [8, 16, 32, 64, 128, 256, 512]
CANDIDATES = [32, 64, 128, 256, 512, 1024, 2048, 4096, 8192]
K = 10

Ids = npt.NDArray[np.int64]
Search = Callable[[], Ids]


class Entry(NamedTuple):
    name: str
    searches: Callable[[Any], Iterator[Search]]  # from a mask of rows: with rising effort


def share_found(found: Ids, true: Ids) -> float:
    """The share of the true rows that were found; 1 where there are none."""
    hits = sum(len(np.intersect1d(row[row >= 0], best[best >= 0])) for row, best in zip(found, true, strict=True))
    return hits / max(1, (true >= 0).sum()) if (true >= 0).any() else 1.0


def ours(x: Any, q: Any) -> Iterator[Entry]:
    for spec in SPECS:
        index = ts.Index(spec, dim=x.shape[1])
        index.add(x)
        knob, efforts = {"I": ("nprobe", LISTS), "G": ("ef", CANDIDATES)}.get(spec[0], ("", [0]))

        def searches(mask: Any, index: Any = index, knob: str = knob, efforts: list[int] = efforts) -> Iterator[Search]:
            where = index.filter(mask)
            for effort in efforts:
                more = {knob: effort} if knob else {}

                def search(more: dict[str, int] = more) -> Ids:
                    found: Ids = index.search(q, K, where=where, threads=1, **more).ids
                    return found

                yield search

        yield Entry(spec, searches)


def theirs(x: Any, q: Any) -> Iterator[Entry]:
    import faiss

    faiss.omp_set_num_threads(1)
    flat, hnsw = faiss.IndexFlatIP(x.shape[1]), faiss.IndexHNSWFlat(x.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    hnsw.hnsw.efConstruction = 100
    ivf = faiss.index_factory(x.shape[1], "IVF512,Flat", faiss.METRIC_INNER_PRODUCT)
    ivf.train(x)
    kinds = [
        ("faiss Flat", flat, [0], lambda sel, _: faiss.SearchParameters(sel=sel)),
        ("faiss IVF512", ivf, LISTS, lambda sel, n: faiss.SearchParametersIVF(sel=sel, nprobe=n)),
        ("faiss HNSW32", hnsw, CANDIDATES, lambda sel, n: faiss.SearchParametersHNSW(sel=sel, efSearch=n)),
    ]
    for name, index, efforts, parameters in kinds:
        index.add(x)

        def searches(
            mask: Any, index: Any = index, efforts: list[int] = efforts, parameters: Any = parameters
        ) -> Iterator[Search]:
            few = np.flatnonzero(mask) if mask.mean() < 0.01 else None  # what it is quickest with
            bits = np.packbits(mask, bitorder="little")
            selector = faiss.IDSelectorBitmap(bits) if few is None else faiss.IDSelectorArray(few)
            for effort in efforts:
                params = parameters(selector, effort)

                def search(params: Any = params) -> Ids:
                    found: Ids = index.search(q, K, params=params)[1]
                    return found

                yield search

        yield Entry(name, searches)


def microseconds(entry: Entry, mask: Any, true: Ids, recall: float) -> float | None:
    """Of a query, at the least effort that finds the recall; None where none does."""
    for search in entry.searches(mask):
        if share_found(search(), true) >= recall:
            return measure(search).median * 1e6 / len(true)
    return None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.filtered", description="Filtered searches.")
    parser.add_argument("--data", help="folder of the real sets (or TESSELLA_DATA)")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--save", action="store_true", help="append the results to bench/history")
    chosen = parser.parse_args()
    folder = data_folder(chosen.data) / "debian"
    x = np.load(folder / "embeddings.npy").astype(np.float32)
    q = np.load(folder / "query_embeddings.npy")[: chosen.queries].astype(np.float32)
    with np.load(folder / "gt10_filtered.npz") as file:
        truth = {name: file[name][: chosen.queries] for name in file}
    table = ts.Index("Flat", dim=1)
    table.add(np.zeros((len(x), 1)), attributes=pl.read_parquet(folder / "packages.parquet"))
    entries = list(ours(x, q)) + (list(theirs(x, q)) if importlib.util.find_spec("faiss") else [])
    print(f"{machine.cpu_model()}; {len(x):,} rows; microseconds a query at recall {chosen.recall}")
    print(f"{'filter':16}{'rows':>8}" + "".join(f"{entry.name:>15}" for entry in entries))
    cases = json.loads((folder / "filters.json").read_text())
    for case in sorted(cases, key=lambda case: case["rows"]):
        mask = table.filter(as_sql(case["expr"])).bitmap().mask()
        times = {entry.name: microseconds(entry, mask, truth[case["name"]], chosen.recall) for entry in entries}
        cells = "".join(f"{'–' if each is None else f'{each:.1f}':>15}" for each in times.values())
        print(f"{case['name']:16}{case['rows']:8,}{cells}", flush=True)
        if chosen.save:
            row = {"time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")}
            row |= {"commit": machine.commit(), "cpu": machine.cpu_model(), "dataset": "debian", "n": len(x)}
            row |= {"filter": case["name"], "rows": case["rows"], "recall": chosen.recall, "us": times}
            row |= {"load_average": machine.load_average()}
            with (HISTORY / f"{datetime.date.today():%Y-%m-%d}-filtered.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
