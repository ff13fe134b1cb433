"""What a model folder says about itself: its modules, prompts, limits, as data.

Three layouts are read: sentence-transformers of any age (`modules.json`), a plain Hugging Face folder (`config.json`
alone: mean pooling, the last token for causal models that look back alone), and model2vec. Nothing named in a file is
imported: module types go by the last part of their name, since the paths have moved between versions. Files may be
damaged or hostile; what is wrong with one becomes a FormatError that names it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tessella.errors import FormatError, InvalidArgument

MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
POOLERS = ("LatentAttention", "LayerPooling", "WeightedLayers")  # poolings with weights, of tessella.encoder.trainable
HEAD = ("Dense", "LayerNorm", "Normalize")
IGNORED = ("Dropout",)  # does nothing when it encodes
OWN_FILE = "tessella.json"
_OLD_MODES = {  # of sentence-transformers before 6, in the order it concatenates them
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_OLD_LIMITS = ("roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")


@dataclass(frozen=True, slots=True)
class Pooling:
    """How token states become one vector; several modes are concatenated."""

    modes: tuple[str, ...] = ("mean",)
    include_prompt: bool = True


@dataclass(frozen=True, slots=True)
class Layer:
    """A module with a folder of its own for its weights: one behind the pooling, or a pooling that has some."""

    kind: str
    path: Path
    config: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Description:
    """A model folder, read but not loaded."""

    path: Path  # of the weights and the tokenizer
    static: bool
    pooling: Pooling = Pooling()
    pooler: Layer | None = None  # a pooling with weights; `pooling` then says no more than `include_prompt`
    head: tuple[Layer, ...] = ()
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    similarity: str = "cosine"
    truncate_dim: int | None = None
    max_tokens: int | None = None
    lower_case: bool = False
    own: dict[str, Any] = field(default_factory=dict)  # tessella.json: what other readers have no place for


def describe(folder: Path) -> Description:
    """Reads the small files of a model folder."""
    if not folder.is_dir():
        raise InvalidArgument(f"load: expected {folder} to be a folder, and there is none")
    settings = read_json(folder / "config_sentence_transformers.json", {})
    kind = settings.get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        raise InvalidArgument(f"load: expected a model of dense embeddings; {folder} is a {kind}")
    modules = read_json(folder / "modules.json", None)
    parts = _plain(folder) if modules is None else _modules(folder, modules)
    prompts = settings.get("prompts") or {}
    limits = _limits(parts["path"])
    return Description(
        **parts,
        **limits,
        prompts={str(name): str(text) for name, text in prompts.items() if text is not None},
        default_prompt=settings.get("default_prompt_name"),
        similarity=settings.get("similarity_fn_name") or "cosine",
        truncate_dim=_truncate_dim(folder, settings),
        own=read_json(folder / OWN_FILE, {}),
    )


def _truncate_dim(folder: Path, settings: dict[str, Any]) -> int | None:
    found = settings.get("truncate_dim")
    if found is not None and (not isinstance(found, int) or isinstance(found, bool) or found < 1):
        raise FormatError(f"load: expected truncate_dim of {folder} as a whole number of at least 1; got {found!r}")
    return found


def read_json(path: Path, missing: Any) -> Any:
    """An object or list out of a JSON file; `missing` where there is no such file."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return missing
    except (ValueError, RecursionError) as error:
        raise FormatError(f"load: {path} is no readable JSON ({error})") from error
    if not isinstance(found, list if isinstance(missing, list) or missing is None else dict):
        raise FormatError(f"load: {path} holds a {type(found).__name__}, and something else belongs there")
    return found


def _plain(folder: Path) -> dict[str, Any]:
    config = read_json(folder / "config.json", {})
    if not config:
        raise FormatError(f"load: expected modules.json or config.json in {folder}; it has neither")
    if config.get("model_type") == "model2vec" or "StaticModel" in config.get("architectures", ()):
        layers = (Layer("Normalize", folder, {}),) if config.get("normalize", False) else ()
        return {"path": folder, "static": True, "head": layers}
    causal = any(str(name).endswith("ForCausalLM") for name in config.get("architectures") or ())
    causal = causal and bool(config.get("is_causal", True))  # false: trained to look both ways
    return {"path": folder, "static": False, "pooling": Pooling(("lasttoken",) if causal else ("mean",))}


def _modules(folder: Path, modules: list[Any]) -> dict[str, Any]:
    named = [_named(folder, entry) for entry in modules]
    if not named or named[0][0] not in ("Transformer", "StaticEmbedding"):
        first = named[0][0] if named else "nothing"
        raise FormatError(f"load: expected {folder} to begin with a Transformer or a StaticEmbedding; got {first}")
    (first, path_of_first), behind = named[0], [kind for kind, _ in named[1:]]
    if set(POOLERS) & set(behind[1:]) or (set(POOLERS) & set(behind) and "Pooling" in behind):
        got = ", ".join(behind)
        raise FormatError(f"load: expected {folder} to pool once, right behind its {first}; got {got}")
    pooling, pooler, head = Pooling(), None, []
    for kind, path in named[1:]:
        config = read_json(path / "config.json", {})
        if kind == "Pooling":
            pooling = _pooling(path, config)
        elif kind in POOLERS:
            pooling = Pooling(include_prompt=bool(config.pop("include_prompt", True)))
            pooler = Layer(kind, path, config)
        elif kind in HEAD:
            head.append(Layer(kind, path, config))
        elif kind not in IGNORED:
            known = ", ".join(("Transformer", "StaticEmbedding", "Pooling", *POOLERS, *HEAD, *IGNORED))
            raise FormatError(f"load: expected {folder} to consist of modules {known}; got {kind}")
    static = first == "StaticEmbedding"
    return {"path": path_of_first, "static": static, "pooling": pooling, "pooler": pooler, "head": tuple(head)}


def _named(folder: Path, entry: Any) -> tuple[str, Path]:
    try:
        kind, path = str(entry["type"]).rpartition(".")[2], folder / str(entry["path"])
    except (TypeError, KeyError) as error:
        raise FormatError(f"load: modules.json of {folder} has an entry without type and path") from error
    if not path.resolve().is_relative_to(folder.resolve()):
        raise FormatError(f"load: modules.json of {folder} names {entry['path']}, which lies outside it")
    return kind, path


def _pooling(path: Path, config: dict[str, Any]) -> Pooling:
    found = config.get("pooling_mode")
    if found is None:
        modes = tuple(mode for key, mode in _OLD_MODES.items() if config.get(key)) or ("mean",)
    else:
        modes = (found,) if isinstance(found, str) else tuple(found)
    unknown = [mode for mode in modes if mode not in MODES]
    if unknown:
        raise FormatError(f"load: expected pooling modes {', '.join(MODES)} in {path}; got {unknown[0]!r}")
    return Pooling(modes, bool(config.get("include_prompt", True)))


def _limits(path: Path) -> dict[str, Any]:
    """The least of the lengths that the folder's files name, and whether texts are written small."""
    names = ["sentence_bert_config.json", *(f"sentence_{name}_config.json" for name in _OLD_LIMITS)]
    settings: dict[str, Any] = next(filter(None, (read_json(path / name, {}) for name in names)), {})
    tokenizer = read_json(path / "tokenizer_config.json", {})
    named = (settings.get("max_seq_length"), tokenizer.get("model_max_length"))
    lengths = [int(each) for each in named if isinstance(each, (int, float)) and 0 < each < 1 << 31]
    return {"max_tokens": min(lengths, default=None), "lower_case": bool(settings.get("do_lower_case", False))}
