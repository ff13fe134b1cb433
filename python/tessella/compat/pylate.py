"""PyLate's index over `MultiVectorIndex`: what `retrieve.ColBERT` and scripts around it call.

Swap `indexes.PLAID(index_folder, index_name, override=True)` for `tessella.compat.pylate.Index(…)`. Document ids are
strings, as in PyLate; results are lists of `{"id": …, "score": …}`. Like PyLate's own, an index lives in its folder:
it is written there after every change and read from there unless `override` says otherwise.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tessella._ragged import Ragged, as_ragged
from tessella._token_encoder import TokenEncoder
from tessella.errors import FormatError, InvalidArgument
from tessella.fde import FDE
from tessella.multivector import MultiVectorIndex

__all__ = ["Index"]

_INDEX, _NAMES = "documents.tessella", "documents.json"


class Index:
    """Documents by name, and those that score best by MaxSim.

    Args:
        index_folder, index_name: where it lives.
        override: start anew even where there is one.
        embedding_size: length of a token vector.
        encoder: of the first stage; default `FDE(embedding_size)`.
        codes, tokens, pool_factor: as for `MultiVectorIndex`.
        candidates: as for its `search`.
        show_progress: taken for PyLate's sake; nothing is shown.

    >>> import numpy as np, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> draw = np.random.default_rng(0)
    >>> embeddings = [draw.standard_normal((t, 128), dtype=np.float32) for t in (30, 12)]
    >>> index = Index(folder.name, "colbert", override=True).add_documents(["a", "b"], embeddings)
    >>> index([embeddings[1][:8]], k=1)[0][0]["id"]
    'b'
    >>> folder.cleanup()
    """

    def __init__(
        self,
        index_folder: str = "indexes",
        index_name: str = "colbert",
        override: bool = False,
        embedding_size: int = 128,
        *,
        encoder: TokenEncoder | None = None,
        codes: str = "B1",
        tokens: str = "f16",
        pool_factor: int = 1,
        candidates: int | str = "auto",
        show_progress: bool = False,
    ) -> None:
        self._folder = Path(index_folder) / index_name
        self._folder.mkdir(parents=True, exist_ok=True)
        self._candidates = candidates
        self._names: list[str | None] = []  # by id; None: removed
        self._ids: dict[str, int] = {}
        if not override and (self._folder / _INDEX).exists():
            self.index = MultiVectorIndex.load(self._folder / _INDEX)
            self._names = _read_names(self._folder / _NAMES, self.index)
            self._ids = {name: id for id, name in enumerate(self._names) if name is not None}
            return
        encoder = FDE(embedding_size) if encoder is None else encoder
        self.index = MultiVectorIndex(encoder, codes=codes, tokens=tokens, pool_factor=pool_factor)

    def __len__(self) -> int:
        return len(self.index)

    def add_documents(
        self, documents_ids: str | Sequence[str], documents_embeddings: Any, batch_size: int | None = None
    ) -> Index:
        """Adds documents under their names; a name that is here already is an error, and then nothing is added."""
        names = [documents_ids] if isinstance(documents_ids, str) else [str(each) for each in documents_ids]
        ragged = _tokens("add_documents", documents_embeddings, self.index.dim)
        if len(names) != ragged.n:
            raise InvalidArgument(f"add_documents: expected {len(names)} documents, one for each id; got {ragged.n}")
        known = [name for name in names if name in self._ids]
        if known or len(set(names)) < len(names):
            what = f"{known[0]!r} is in the index already" if known else "an id occurs twice"
            raise InvalidArgument(f"add_documents: expected new ids without repeats; {what}")
        ids = np.arange(len(self._names), len(self._names) + len(names), dtype=np.int64)
        self.index.add(ragged, ids=ids)
        self._names += names
        self._ids |= {name: int(id) for name, id in zip(names, ids, strict=True)}
        self._save()
        return self

    def remove_documents(self, documents_ids: Sequence[str]) -> Index:
        """Removes documents by name; an unknown one is an error, and then nothing is removed."""
        names = [documents_ids] if isinstance(documents_ids, str) else list(documents_ids)
        self.index.remove([self._id(name, "remove_documents") for name in names])
        for name in names:
            self._names[self._ids.pop(name)] = None
        self._save()
        return self

    def __call__(
        self, queries_embeddings: Any, k: int = 10, subset: Sequence[str] | Sequence[Sequence[str]] | None = None
    ) -> list[list[dict[str, Any]]]:
        """For each query its best documents, `[{"id": …, "score": …}, …]`, best first.

        `subset` are the names of the only documents that count, for all queries or a list for each; names that are
        not here are passed over.
        """
        queries = _tokens("search", queries_embeddings, self.index.dim)
        where = None if subset is None else self._where(subset, queries.n)
        hits = self.index.search(queries, k, candidates=self._candidates, where=where)
        return [
            [{"id": self._names[id], "score": float(score)} for id, score in zip(*row, strict=True) if id >= 0]
            for row in zip(np.asarray(hits.ids), np.asarray(hits.scores), strict=True)
        ]

    def get_documents_embeddings(self, documents_ids: Sequence[Sequence[str]]) -> list[list[npt.NDArray[np.float32]]]:
        """The stored tokens (t, d) of documents, in lists as their names come."""
        operation = "get_documents_embeddings"
        return [[self.index.document(self._id(name, operation)) for name in names] for names in documents_ids]

    def _id(self, name: str, operation: str) -> int:
        if name not in self._ids:
            raise InvalidArgument(f"{operation}: {name!r} is not in the index")
        return self._ids[name]

    def _where(self, subset: Any, queries: int) -> Any:
        if len(subset) and not isinstance(subset[0], str):
            if len(subset) != queries:
                raise InvalidArgument(f"search: expected a subset for each of {queries} queries; got {len(subset)}")
            return [self._mask(each) for each in subset]
        return self._mask(subset)

    def _mask(self, names: Sequence[str]) -> npt.NDArray[np.bool_]:
        wanted = [self._ids[name] for name in names if name in self._ids]
        return np.isin(self.index.ids, np.array(wanted, np.int64))

    def _save(self) -> None:
        """The names first: a file of documents always finds at least its own."""
        temporary = self._folder / f".{_NAMES}.tmp"
        temporary.write_text(json.dumps(self._names))
        os.replace(temporary, self._folder / _NAMES)
        self.index.save(self._folder / _INDEX)


def _tokens(operation: str, embeddings: Any, dim: int) -> Ragged:
    """PyLate's embeddings: arrays or tensors in a list, nested lists, or one padded array."""
    return as_ragged(operation, embeddings, dim=dim, name="embeddings")


def _read_names(path: Path, index: MultiVectorIndex) -> list[str | None]:
    """The names of an index's documents; a FormatError where they do not fit them."""
    try:
        names = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise FormatError(f"load: {path} holds no names of documents ({error})") from error
    fits = isinstance(names, list) and all(name is None or isinstance(name, str) for name in names)
    ids = index.ids
    if not fits or (len(ids) and int(ids.max()) >= len(names)):
        raise FormatError(f"load: {path} does not name the documents of its index")
    present = set(ids.tolist())
    kept = [name if id in present else None for id, name in enumerate(names)]  # what was never added, or is removed
    if sum(name is not None for name in kept) != len(present) or len(set(kept) - {None}) != len(present):
        raise FormatError(f"load: {path} does not name the documents of its index")
    return kept
