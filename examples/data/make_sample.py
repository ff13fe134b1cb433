"""Cuts the demo's sample out of the full set of Debian package descriptions and their embeddings.

    python examples/data/make_sample.py path/to/debian

The folder holds packages.parquet, embeddings.npy, queries.parquet, query_embeddings.npy and gt100_ids.npy.
The same input gives the same sample: seeds are fixed, and README.md beside this file says what is in it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

ROWS = 8_000
QUERIES = 300
NEIGHBOURS = 10
SEED = 2024
ADDRESS = r"[\w.+-]+@[\w-]+(\.[\w-]+)+"
COLUMNS = ["name", "section", "priority", "architecture", "essential", "installed_kib", "homepage_domain"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("full", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    cut(arguments.full, arguments.out)
    files = sorted(path for path in arguments.out.iterdir() if path.suffix in {".npy", ".parquet"})
    for path in files:
        print(f"{path.stat().st_size:>9,}  {path.name}")
    print(f"{sum(path.stat().st_size for path in files):>9,}  in all")


def cut(full: Path, out: Path) -> None:
    packages = pq.read_table(full / "packages.parquet")
    queries = pq.read_table(full / "queries.parquet")
    vectors = np.load(full / "embeddings.npy")
    query_vectors = np.load(full / "query_embeddings.npy")
    chosen = choose_queries(queries)
    rows = choose_rows(np.load(full / "gt100_ids.npy")[chosen], len(vectors))

    kept = packages.select(COLUMNS).take(rows)
    kept = kept.append_column("short", packages["short"].take(rows))
    long = pc.replace_substring_regex(packages["long"].take(rows), ADDRESS, "(address)")
    kept = kept.append_column("long", long)
    write(kept, out / "packages.parquet")
    write(queries.select(["text", "name", "section"]).take(chosen), out / "queries.parquet")
    np.save(out / "embeddings.npy", vectors[rows])
    np.save(out / "query_embeddings.npy", query_vectors[chosen])
    ids, scores = exact(vectors[rows], query_vectors[chosen])
    np.save(out / "gt10_ids.npy", ids)
    np.save(out / "gt10_scores.npy", scores)


def choose_queries(queries: pa.Table) -> npt.NDArray[np.int64]:
    """Synopses of packages that were taken out of the set and have relatives left in it."""
    kinds = queries["kind"].to_pylist()
    relevant = queries["relevant"].to_pylist()
    fit = [i for i, (kind, rows) in enumerate(zip(kinds, relevant, strict=True)) if kind == "synopsis" and rows]
    return np.sort(np.random.default_rng(SEED).choice(fit, QUERIES, replace=False))


def choose_rows(neighbours: npt.NDArray[np.int32], n: int) -> npt.NDArray[np.int64]:
    """The queries' own neighbourhoods, as dense as in the full set, then rows drawn evenly from the rest."""
    near = np.unique(neighbours[:, :NEIGHBOURS])
    rest = np.setdiff1d(np.arange(n), near)
    drawn = np.random.default_rng(SEED).choice(rest, ROWS - len(near), replace=False)
    return np.sort(np.concatenate([near, drawn]))


def exact(
    x: npt.NDArray[np.float16], q: npt.NDArray[np.float16]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Exact inner products of the stored values; the smaller row number wins a tie."""
    scores = (q.astype(np.float64) @ x.astype(np.float64).T).astype(np.float32)
    ids = np.argsort(-scores, axis=1, kind="stable")[:, :NEIGHBOURS].astype(np.int32)
    return ids, np.take_along_axis(scores, ids, axis=1)


def write(table: pa.Table, path: Path) -> None:
    plain = pa.table({name: decode(table[name]) for name in table.column_names})
    pq.write_table(plain, path, compression="zstd", compression_level=19, version="2.6", store_schema=False)


def decode(column: pa.ChunkedArray) -> pa.ChunkedArray:
    is_dictionary = pa.types.is_dictionary(column.type)
    return column.cast(column.type.value_type) if is_dictionary else column


if __name__ == "__main__":
    main()
