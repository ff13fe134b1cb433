"""Writes one index file of each kind, with queries and the answers it must give for ever.

    python tests/data/formats/make_formats.py 1 [SPEC ...]
    python tests/data/formats/make_formats.py 1 multivector

Run once for a new format version, or for specs that are new in it; files of released versions are never written again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

import tessella as ts

SPECS = ["Flat", "Flat,F16", "Flat,BF16", "Flat,UINT8", "Flat,B1", "Flat,U8", "Flat,N4", "Flat,R3", "Flat,B1+U8",
         "Flat,B1+N4+F32"]  # fmt: skip


IVF_SPECS = ["IVF4,F32", "IVF4,B1+U8", "IVF4+SOAR,B1+U8+F16", "IVF4,B1"]
GRAPH_SPECS = ["Graph32,B1+U8", "Graph32"]
PQ_SPECS = ["Flat,PQ5x4", "IVF4,OPQ5+U8", "Flat,PRQ5x2x8", "IVF4,PRQ5x2x4"]
CALIBRATED = "IVF4,B1"


def main(version: str, *specs: str) -> None:
    if specs == ("multivector",):
        many_vectors(version)
        return
    rng = np.random.default_rng(1)
    for spec in specs or [*SPECS, *IVF_SPECS, *GRAPH_SPECS, *PQ_SPECS]:
        for metric in ("l2", "ip"):
            x = rng.integers(0, 255, (45, 20)).astype(np.float32)
            ix = ts.Index(spec, dim=20, metric=metric)
            ix.add(x, ids=np.arange(45) * 2 + 1)
            ix.remove([11, 89])
            q = rng.integers(0, 255, (3, 20)).astype(np.float32)
            if spec == CALIBRATED:
                ix.calibrate(rng.integers(0, 255, (30, 20)).astype(np.float32), 5)
            if spec.startswith("IVF"):
                ix.nprobe = 3
            if spec.startswith("Graph"):
                ix.ef = 50  # no fewer than there are rows: an answer for ever, however walks may change
            hits = ix.search(q, 5)
            name = f"index-v{version}-{spec.lower().replace(',', '-').replace('+', '-')}-{metric}"
            path = Path(__file__).with_name(f"{name}.tessella")
            if path.exists():
                sys.exit(f"{path} exists: a released file is never written again")
            ix.save(path)
            answers = {"spec": spec, "metric": metric, "queries": q.tolist(), "ids": hits.ids.tolist(),
                       "scores": hits.scores.tolist()}  # fmt: skip
            path.with_suffix(".json").write_text(json.dumps(answers) + "\n")


def many_vectors(version: str) -> None:
    """Indexes of many vectors, one for each encoder and for tokens of floats, bytes and codes."""
    rng = np.random.default_rng(2)
    documents = [rng.standard_normal((t, 20), dtype=np.float32) for t in (5, 0, 9, 1, 30, 12, 3, 8, 2, 17)]
    queries = rng.standard_normal((3, 4, 20), dtype=np.float32)
    lemur = ts.LEMUR(20, output_dim=8, features=16)
    lemur.fit(documents, sample=80)
    made = {
        "fde-b1-f16": ts.MultiVectorIndex(ts.FDE(20, 3, 4, projection_dim=4), tokens="f16", pool_factor=2),
        "lemur-b1-u8-n4": ts.MultiVectorIndex(lemur, codes="B1+U8", tokens="n4"),
        "smve-int8": ts.MultiVectorIndex(ts.SMVE(20, rotations=2, kept=6), tokens="int8"),
    }
    for name, ix in made.items():
        ix.add(documents, ids=np.arange(10) * 2 + 1)
        ix.remove([7])
        ix.calibrate(queries, 3)
        hits = ix.search(queries, 5, candidates=10)  # all there are: an answer for ever
        path = Path(__file__).with_name(f"multivector-v{version}-{name}.tessella")
        if path.exists():
            sys.exit(f"{path} exists: a released file is never written again")
        ix.save(path)
        answers = {"queries": queries.tolist(), "ids": hits.ids.tolist(), "scores": hits.scores.tolist(),
                   "document": ix.document(5).tolist()}  # fmt: skip
        path.with_suffix(".json").write_text(json.dumps(answers) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
