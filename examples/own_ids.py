"""Keeps an index up to date under ids of one's own: add, replace, remove, save, map again."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import tessella as ts

x = np.load(Path(__file__).parent / "data" / "embeddings.npy")[:2000]
ids = 1_000_000 + np.arange(len(x))

ix = ts.Index("Flat,B1+U8", dim=x.shape[1])
ix.add(x[:1500], ids=ids[:1500])
ix.add(x[1500:], ids=ids[1500:])
ix.update(ids[:1], x[7:8])  # row 1,000,000 now says what row 1,000,007 says
removed = ix.remove(ids[100:200])

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "packages.tessella"
    ix.save(path)
    mapped = ts.Index.load(path, mmap=True)
    hits = mapped.search(x[7], k=2)

print(f"{removed} rows removed, {len(mapped):,} left, {ids[150] in mapped = }")
print("the two nearest of row 7:", hits.ids[0].tolist(), "with scores", hits.scores[0].round(3).tolist())
