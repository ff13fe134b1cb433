"""The two sets of real token vectors, and recall of MaxSim's exact best."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TokenSet:
    """Documents and queries as (flat tokens, offsets), and the exact best documents of each query."""

    name: str
    documents: tuple[npt.NDArray[np.float16], Ids]
    queries: tuple[npt.NDArray[np.float16], Ids]
    truth: Ids  # (nq, 100)

    @property
    def n(self) -> int:
        return len(self.documents[1]) - 1

    @property
    def nq(self) -> int:
        return len(self.queries[1]) - 1


def lotte500(data: Path) -> TokenSet:
    """500 passages and 100 real queries, ColBERTv2."""
    with np.load(data / "multivector" / "lotte500.npz") as file:
        queries = file["queries"]
        nq, t, d = queries.shape
        flat = queries.reshape(nq * t, d)
        documents = file["doc_tokens"], file["doc_offsets"].astype(np.int64)
        return TokenSet("lotte500", documents, (flat, np.arange(nq + 1) * t), file["gt100_ids"].astype(np.int64))


def scifact(data: Path, tokens: Path) -> TokenSet:
    """5,183 abstracts and 500 claims, MiniLM; `tokens` is what `python -m bench.multivector.scifact` wrote."""
    folder = data / "multivector"
    offsets, query_offsets = (
        np.load(folder / f"scifact_{each}_offsets.npy").astype(np.int64) for each in ("doc", "query")
    )
    queries = np.load(folder / "scifact_query_tokens.npy"), query_offsets
    truth = np.load(folder / "scifact_gt100_ids.npy").astype(np.int64)
    return TokenSet("scifact", (np.load(tokens), offsets), queries, truth)


def recall(scores: Floats, truth: Ids, k: int, candidates: int) -> float:
    """The share of the exact k best that are among so many best by `scores` (nq, n)."""
    kept = np.argpartition(-scores, min(candidates, scores.shape[1]) - 1, axis=1)[:, :candidates]
    return float(np.mean([np.isin(true[:k], mine).mean() for mine, true in zip(kept, truth, strict=True)]))


def candidates_for(scores: Floats, truth: Ids, k: int, wanted: float) -> int:
    """The fewest candidates that hold this share of the exact k best."""
    places = np.empty(scores.shape, np.int64)
    np.put_along_axis(places, np.argsort(-scores, axis=1, kind="stable"), np.arange(scores.shape[1])[None], axis=1)
    needed = np.sort(np.take_along_axis(places, truth[:, :k], axis=1).reshape(-1)) + 1
    return int(needed[max(0, int(np.ceil(wanted * needed.size)) - 1)])
