"""One small adapter for each library, behind the interface of `adapter.py`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.compare.peers.adapter import Adapter

# name in an entry -> the package that brings it
PACKAGES = {
    "tessella": "tessella",
    "numpy": "numpy",
    "faiss": "faiss-cpu",
    "hnswlib": "hnswlib",
    "usearch": "usearch",
    "scann": "scann",
    "svs": "scalable-vs",
    "rabitqlib": "rabitqlib",
    "pyvsag": "pyvsag",
}


def adapter_of(peer: str) -> type[Adapter]:
    """The adapter of a library; raises ImportError where the library is not installed."""
    adapter: type[Adapter] = importlib.import_module(f"bench.compare.peers.{peer}").Peer
    return adapter
