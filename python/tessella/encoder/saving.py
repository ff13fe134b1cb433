"""Writes a model folder in the format of sentence-transformers 6; tessella.json has what that has no place for."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessella.encoder import head
from tessella.encoder.extras import require
from tessella.encoder.folder import OWN_FILE, POOLERS, Pooling
from tessella.encoder.static import Static
from tessella.errors import InvalidArgument

if TYPE_CHECKING:
    from tessella.encoder.encoder import Encoder

_TYPES = {
    "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
    "StaticEmbedding": "sentence_transformers.sentence_transformer.modules.static_embedding.StaticEmbedding",
    "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    "Dense": "sentence_transformers.base.modules.dense.Dense",
    "LayerNorm": "sentence_transformers.sentence_transformer.modules.layer_norm.LayerNorm",
    "Normalize": "sentence_transformers.base.modules.normalize.Normalize",
    **{name: f"tessella.encoder.trainable.{name}" for name in POOLERS},
}
_FORMAT_VERSION = "6.2.0"  # of sentence-transformers, whose layout this is
_TRANSFORMER = {
    "transformer_task": "feature-extraction",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    "module_output_name": "token_embeddings",
}


def save(encoder: Encoder, target: Path) -> None:
    """See `Encoder.save`."""
    with _replacing(target) as folder:
        modules: list[tuple[str, str]] = []
        if isinstance(encoder.backbone, Static):
            _save_static(encoder.backbone, folder / "0_StaticEmbedding")
            modules.append(("StaticEmbedding", "0_StaticEmbedding"))
        else:
            _save_transformer(encoder.backbone, folder)
            modules.append(("Transformer", ""))
            if encoder.pooler is None:
                modules.append(("Pooling", "1_Pooling"))
                _write(folder / "1_Pooling" / "config.json", _pooling(encoder.pooling, encoder.backbone.dim))
        for kind, config, module in _with_folders(encoder):
            name = f"{len(modules)}_{kind}"
            modules.append((kind, name))
            _write(folder / name / "config.json", config)
            if weights := module.state_dict():
                require("safetensors.torch").save_file(weights, folder / name / "model.safetensors")
        _write(folder / "modules.json", [_entry(i, *each) for i, each in enumerate(modules)])
        _write(folder / "config_sentence_transformers.json", _settings(encoder))
        _write(folder / OWN_FILE, {"version": 1, "int8_steps": encoder.scales.as_json()})


def _with_folders(encoder: Encoder) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Kind, configuration and module of what has a folder of its own: a pooling with weights, and the head."""
    if encoder.pooler is not None:
        config = {**encoder.pooler.config(), "include_prompt": encoder.pooling.include_prompt}
        yield type(encoder.pooler).__name__, config, encoder.pooler
    yield from head.entries(encoder.head)


def _save_transformer(backbone: Any, folder: Path) -> None:
    backbone.save(folder)
    lower_case = {"do_lower_case": True} if backbone.tokens.lower_case else {}
    _write(folder / "sentence_bert_config.json", _TRANSFORMER | lower_case)


def _save_static(backbone: Static, folder: Path) -> None:
    folder.mkdir()
    backbone.tokenizer.no_truncation()
    backbone.tokenizer.save(str(folder / "tokenizer.json"))
    weights = {"embedding.weight": backbone.table.weight.detach().contiguous()}
    require("safetensors.torch").save_file(weights, folder / "model.safetensors")


def _pooling(pooling: Pooling, dim: int) -> dict[str, Any]:
    modes = pooling.modes[0] if len(pooling.modes) == 1 else list(pooling.modes)
    return {"embedding_dimension": dim, "pooling_mode": modes, "include_prompt": pooling.include_prompt}


def _entry(number: int, kind: str, path: str) -> dict[str, Any]:
    return {"idx": number, "name": str(number), "path": path, "type": _TYPES[kind]}


def _settings(encoder: Encoder) -> dict[str, Any]:
    versions = {"sentence_transformers": _FORMAT_VERSION}
    for package, name in (("transformers", "transformers"), ("torch", "pytorch")):
        try:
            versions[name] = version(package)
        except PackageNotFoundError:  # static models need no transformers
            continue
    return {
        "__version__": versions,
        "model_type": "SentenceTransformer",
        "prompts": encoder.prompts,
        "default_prompt_name": encoder.default_prompt,
        "similarity_fn_name": encoder.similarity,
        **({} if encoder.truncate_dim is None else {"truncate_dim": encoder.truncate_dim}),
    }


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A folder beside the target that takes its place when all is written: the old one stays whole until then."""
    if target.exists() and not (target / "modules.json").is_file() and (not target.is_dir() or any(target.iterdir())):
        raise InvalidArgument(f"save: expected {target} to be free, empty or a model folder; it holds something else")
    mark = os.urandom(8).hex()
    folder, old = (target.with_name(f".{target.name[:100]}.{mark}.{end}") for end in ("tmp", "old"))
    folder.mkdir()
    try:
        yield folder
        if target.exists():
            target.rename(old)
        folder.rename(target)
    except BaseException:
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
