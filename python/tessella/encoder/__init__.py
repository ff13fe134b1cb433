"""Texts in, embeddings out: `Encoder` reads any sentence-transformers, Hugging Face or model2vec folder.

`pip install "tessella[encoder]"` brings what it needs: torch, transformers, tokenizers and safetensors.
"""

from __future__ import annotations

from tessella.encoder.chunks import Chunks
from tessella.encoder.encoder import Encoder

__all__ = ["Chunks", "Encoder"]
