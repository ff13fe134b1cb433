"""Encodings a second on one core, beside the other libraries that make them: muvfde (Google's C++), muvera-python
(Rust) and fastembed, where they are installed.

Documents of 80 tokens and queries of 32, 128 dimensions, drawn unit vectors: for speed alone. Libraries take turns
within each round and the median is told; the roof is the time of the multiply-adds of our kernel at the machine's
product peak. What differs: muvfde's and muvera-python's sketches are ours, fastembed projects by a dense matrix; all
fill empty cells here, as only one of them can be kept from it.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.roofs import roofs

Floats = npt.NDArray[np.float32]
Encode = Callable[[list[Floats]], object]

SETTINGS = ((20, 4, 8), (20, 5, 16))  # repetitions, k_sim, projection_dim
DIM, TOKENS, QUERY_TOKENS = 128, 80, 32
DOCUMENTS = 400  # a call of ours or muvera-python's; peers that go one by one get fewer
FEW = 40


@dataclass(frozen=True)
class Side:
    """One library's encoders."""

    documents: Encode
    queries: Encode
    count: int  # documents or queries of a call


def tessella(r: int, k_sim: int, p: int) -> Iterator[tuple[str, Side]]:
    import tessella as ts

    for name, fill, scheme in (
        ("", "nearest", "tessella"),
        (", no fill", "none", "tessella"),
        (", google", "nearest", "google"),
    ):
        fde = ts.FDE(DIM, k_sim, r, projection_dim=p, fill=fill, scheme=scheme)
        yield (
            f"tessella{name}",
            Side(
                lambda x, fde=fde: fde.encode_documents(x, threads=1),
                lambda x, fde=fde: fde.encode_queries(x, threads=1),
                DOCUMENTS,
            ),
        )


def muvfde(r: int, k_sim: int, p: int) -> Iterator[tuple[str, Side]]:
    module = importlib.import_module("muvfde")

    def config(query: bool) -> Any:
        made = module.fixed_dimensional_encoding_config()
        made.set_num_repetitions(r)
        made.set_num_simhash_projections(k_sim)
        made.set_projection_type(module.projection_type.AMS_SKETCH)
        made.set_projection_dimension(p)
        made.enable_fill_empty(not query)
        kinds = module.encoding_type
        made.set_encoding_type(kinds.DEFAULT_SUM if query else kinds.AVERAGE)
        return made

    def encode(query: bool) -> Encode:
        made = config(query)
        return lambda x: [module.generate_fixed_dimensional_encoding(each, made) for each in x]

    yield "muvfde", Side(encode(False), encode(True), FEW)


def muvera_python(r: int, k_sim: int, p: int) -> Iterator[tuple[str, Side]]:
    made = importlib.import_module("muvera").Muvera(r, k_sim, DIM, "ams_sketch", p, True, None, 42)
    yield "muvera-python", Side(made.encode_documents, made.encode_queries, DOCUMENTS)


def fastembed(r: int, k_sim: int, p: int) -> Iterator[tuple[str, Side]]:
    made = importlib.import_module("fastembed.postprocess").Muvera(DIM, k_sim, p, r)
    yield (
        "fastembed",
        Side(
            lambda x: [made.process_document(each) for each in x],
            lambda x: [made.process_query(each) for each in x],
            FEW,
        ),
    )


def sides(r: int, k_sim: int, p: int) -> tuple[dict[str, Side], dict[str, str]]:
    """Libraries that are here, and why the others are not."""
    made: dict[str, Side] = {}
    absent = {}
    for library in (tessella, muvfde, muvera_python, fastembed):
        try:
            made.update(library(r, k_sim, p))
        except ImportError as error:
            absent[library.__name__] = str(error)
    return made, absent


def unit_tokens(count: int, tokens: int, seed: int) -> list[Floats]:
    x = np.random.default_rng(seed).standard_normal((count, tokens, DIM), dtype=np.float32)
    return list(x / np.linalg.norm(x, axis=2, keepdims=True))


def roof_us(tokens: int, r: int, k_sim: int, gflops: float) -> float:
    """Microseconds of the multiply-adds with hyperplanes and of the additions of the sketch, at the product peak."""
    return tokens * DIM * r * (2 * k_sim + 1) / gflops / 1e3


def rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each setting, kind and library."""
    gflops = roofs(1).product_gflops
    print(f"float32 product peak {gflops:.0f} GFLOP/s")
    for r, k_sim, p in SETTINGS:
        found, absent = sides(r, k_sim, p)
        for name, reason in absent.items():
            print(f"{name} is not here: {reason}")
        for kind, tokens in (("documents", TOKENS), ("queries", QUERY_TOKENS)):
            data = unit_tokens(DOCUMENTS, tokens, 0)
            taken = interleaved(found, kind, data, options.rounds)
            for name, seconds in taken.items():
                yield {
                    "kind": kind, "library": name, "repetitions": r, "k_sim": k_sim, "projection_dim": p,
                    "tokens": tokens, "per_s": 1 / statistics.median(seconds), "per_s_low": 1 / max(seconds),
                    "per_s_high": 1 / min(seconds), "roof_per_s": 1e6 / roof_us(tokens, r, k_sim, gflops),
                }  # fmt: skip


def interleaved(found: dict[str, Side], kind: str, data: list[Floats], rounds: int) -> dict[str, list[float]]:
    """Seconds of one document or query, CPU time of this process, in each round."""
    taken: dict[str, list[float]] = {name: [] for name in found}
    for round_ in range(rounds + 1):
        for name, side in found.items():
            some = data[: side.count]
            encode = side.documents if kind == "documents" else side.queries
            start = time.process_time()
            encode(some)
            if round_ > 0:  # the first warms up
                taken[name].append((time.process_time() - start) / len(some))
    return taken


def line(row: dict[str, Any]) -> str:
    setting = f"({row['repetitions']},{row['k_sim']},{row['projection_dim']})"
    spread = f"({row['per_s_low']:,.0f} to {row['per_s_high']:,.0f})"
    return f"{row['kind']:10}{setting:11}{row['library']:19}{row['per_s']:12,.0f} /s  {spread:24}" + (
        f"roof {row['roof_per_s']:,.0f} /s" if row["library"].startswith("tessella") else ""
    )
