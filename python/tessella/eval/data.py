"""Tasks on disk: corpus, queries, judgements in the layout of BEIR, and pairs of texts with scores."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tessella.errors import FormatError, InvalidArgument
from tessella.eval.comparison import Similarity


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Texts by id, and for each query the relevance of the documents that were judged."""

    corpus: Mapping[str, str]
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, float]]
    name: str = ""


def read(folder: str | Path, split: str = "test") -> Retrieval:
    """Reads corpus.jsonl, queries.jsonl (or .jsonl.gz) and qrels_<split>.tsv (or qrels/<split>.tsv) of a folder.

    A document's text is its title, a blank and its text. Queries without a judgement in the split are left out.
    """
    home = Path(folder)
    if not home.is_dir():
        raise InvalidArgument(f"eval: expected {home} to be a folder, and there is none")
    qrels: dict[str, dict[str, float]] = {}
    path = next(
        (each for each in (home / f"qrels_{split}.tsv", home / "qrels" / f"{split}.tsv") if each.is_file()), None
    )
    if path is None:
        raise InvalidArgument(f"eval: expected qrels_{split}.tsv in {home}, and there is none")
    for number, line in enumerate(path.read_text("utf-8").splitlines()[1:], 2):
        try:
            query, document, score = line.split("\t")
            qrels.setdefault(query, {})[document] = float(score)
        except ValueError as error:
            raise FormatError(f"eval: line {number} of {path} is not a query, a document and a score") from error
    corpus = {row["_id"]: f"{row.get('title') or ''} {row['text']}".strip() for row in _rows(home, "corpus")}
    queries = {row["_id"]: row["text"] for row in _rows(home, "queries") if row["_id"] in qrels}
    return Retrieval(corpus, queries, qrels, home.name)


def read_similarity(path: str | Path) -> Similarity:
    """Reads a .jsonl or .jsonl.gz of pairs: `a`, `b` (or `sentence1`, `sentence2`) and `score` in each line."""
    source = Path(path)
    if not source.is_file():
        raise InvalidArgument(f"eval: expected {source} to be a file, and there is none")
    pairs: list[tuple[str, str, float]] = []
    with _opened(source) as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                texts = (row["a"], row["b"]) if "a" in row else (row["sentence1"], row["sentence2"])
                pairs.append((str(texts[0]), str(texts[1]), float(row["score"])))
            except (ValueError, KeyError, TypeError) as error:
                raise FormatError(f"eval: line {number} of {source} has no a, b and score ({error})") from error
    if not pairs:
        raise FormatError(f"eval: expected pairs of texts in {source}; it holds none")
    a, b, scores = zip(*pairs, strict=True)
    return Similarity(list(a), list(b), list(scores), source.name.split(".")[0])


def _opened(path: Path) -> IO[str]:
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")


def _rows(home: Path, name: str) -> Iterator[dict[str, Any]]:
    plain, packed = home / f"{name}.jsonl", home / f"{name}.jsonl.gz"
    if not plain.is_file() and not packed.is_file():
        raise InvalidArgument(f"eval: expected {plain.name} or {packed.name} in {home}; there is neither")
    path = plain if plain.is_file() else packed
    with _opened(path) as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                row["_id"], row["text"] = str(row["_id"]), str(row["text"])
            except (ValueError, KeyError, TypeError) as error:
                raise FormatError(f"eval: line {number} of {path} has no _id and text ({error})") from error
            yield row
