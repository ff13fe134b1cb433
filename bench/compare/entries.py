"""What is compared: entries `peer:spec@knob=v1,v2`, and named lists of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import product

from bench.compare.peers import PACKAGES


@dataclass(frozen=True, slots=True)
class Entry:
    """One index of one peer; without `knobs` the adapter's own sweep is run."""

    peer: str
    spec: str
    knobs: list[dict[str, float]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Peer and spec."""
        return f"{self.peer} {self.spec}"


PRESETS: dict[str, tuple[str, ...]] = {
    # exact search, and codes that a short list of exact scores refines: no structure, no build
    "flat": (
        "tessella:Flat",
        "tessella:Flat,B1+U8",
        "tessella:Flat,B1+N4",
        "faiss:Flat",
        "numpy:exact",
    ),
    # every peer at the settings that did best on text embeddings
    "text": (
        "tessella:Flat",
        "tessella:Flat,B1+U8",
        "faiss:Flat",
        "faiss:HNSW32,Flat",
        "faiss:HNSW32,SQ8",
        "faiss:IVF{nl},PQ{half}x4fsr,RFlat",
        "faiss:RR{d},IVF{nl},RaBitQfs,RFlat",
        "hnswlib:M=32",
        "usearch:f16,M=32",
        "usearch:i8,M=32,rerank=1",
        "scann:T=0.2",
        "scann:T=0.2,soar=1.5",
        "svs:vamana,data=f16,R=64",
        "svs:vamana,data=lvq4x8,R=64",
        "svs:vamana,data=leanvec,R=64",
        "rabitqlib:symqg,degree=32",
        "rabitqlib:ivf,bits=8",
        "rabitqlib:hnsw,bits=5",
        "pyvsag:sq8_uniform",
    ),
    # inverted files
    "ivf": (
        "tessella:Flat,B1+U8@epsilon=1.9",
        "tessella:IVF{nl},B1+U8",
        "tessella:IVF{nl}+SOAR,B1+U8",
        "faiss:IVF{nl},PQ{half}x4fsr,RFlat",
        "faiss:RR{d},IVF{nl},RaBitQfs,RFlat",
        "faiss:IVF{nl},Flat",
        "scann:T=0.2",
        "scann:T=0.2,soar=1.5",
        "svs:ivf",
        "rabitqlib:ivf,bits=8",
        "hnswlib:M=16",
        "hnswlib:M=32",
    ),
    # graphs
    "graph": (
        "tessella:Graph32,B1+U8",
        "tessella:Graph32,B1+F16",
        "tessella:Graph32,U8",
        "rabitqlib:symqg,degree=32",
        "rabitqlib:symqg,degree=32,bits=8",
        "rabitqlib:symqg,degree=64",
        "svs:vamana,data=f16,R=64",
        "faiss:HNSW32,SQ8",
        "faiss:HNSW32,Flat",
        "hnswlib:M=32",
        "usearch:f16,M=32",
        "pyvsag:sq8_uniform",
        "scann:T=0.2,soar=1.5",
    ),
    # one index of each peer, quick to build: does the harness work here?
    "quick": (
        "tessella:Flat,B1+U8",
        "numpy:exact",
        "faiss:IVF{nl},PQ{half}x4fsr,RFlat",
        "hnswlib:M=16,efc=100",
        "usearch:f16,M=16",
        "scann:T=0.2",
        "svs:vamana,data=f16,R=32,W=64",
        "rabitqlib:symqg,degree=32,efc=200",
        "pyvsag:sq8_uniform,R=16,efc=100",
    ),
}


def parse(text: str, *, n: int, d: int) -> Entry:
    """Reads `faiss:IVF{nl},Flat@nprobe=8,16`.

    `{nl}` is the power of two next to 4·√n, `{d}` the dimension, `{half}` half of it. Several knobs are
    divided by `;`, and every combination of their values is a setting.

    >>> parse("hnswlib:M=16@ef=10,20", n=1000, d=32)
    Entry(peer='hnswlib', spec='M=16', knobs=[{'ef': 10.0}, {'ef': 20.0}])
    >>> parse("faiss:IVF{nl},PQ{half}x4fs", n=61_436, d=384).spec
    'IVF1024,PQ192x4fs'
    """
    head, _, knobs = text.partition("@")
    peer, colon, spec = head.partition(":")
    if not colon or peer not in PACKAGES:
        known = ", ".join(PACKAGES)
        raise ValueError(f"compare: expected an entry peer:spec with a peer of {known}; got {text!r}")
    lists = 1 << round(math.log2(4 * math.sqrt(n)))
    for name, value in (("nl", lists), ("d", d), ("half", d // 2)):
        spec = spec.replace(f"{{{name}}}", str(value))
    return Entry(peer, spec, _combinations(knobs) if knobs else [])


def _combinations(text: str) -> list[dict[str, float]]:
    names, values = [], []
    for part in text.split(";"):
        name, equals, numbers = part.partition("=")
        if not equals:
            raise ValueError(f"compare: expected knobs name=v1,v2;name=…; got {text!r}")
        names.append(name)
        values.append([float(number) for number in numbers.split(",")])
    return [dict(zip(names, chosen, strict=True)) for chosen in product(*values)]
