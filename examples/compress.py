"""How many bytes a vector needs: what each codec keeps of real embeddings, and what it finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import tessella as ts

DATA = Path(__file__).parent / "data"
x = np.load(DATA / "embeddings.npy")
q = np.load(DATA / "query_embeddings.npy")
truth = np.load(DATA / "gt10_ids.npy")

print(f"{'spec':<12} {'bytes':>6} {'cosine':>8} {'recall@10':>10}")
for spec in ("Flat", "Flat,F16", "Flat,U8", "Flat,R6", "Flat,N4", "Flat,R3", "Flat,R2", "Flat,B1"):
    ix = ts.Index(spec, dim=x.shape[1], metric="ip")
    ix.add(x)
    kept = ix.reconstruct(np.arange(len(x)))
    length = np.linalg.norm(kept, axis=1) * np.linalg.norm(x.astype(np.float32), axis=1)
    cosine = ((kept * x).sum(axis=1) / length).mean()
    ids = ix.search(q, k=10).ids
    found = np.mean([len(np.intersect1d(*pair)) for pair in zip(ids, truth, strict=True)]) / 10
    print(f"{spec:<12} {ix.nbytes / len(ix):>6.0f} {cosine:>8.4f} {found:>10.3f}")
