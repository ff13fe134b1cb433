"""Packages that only the encoder needs; a missing one is a sentence that says how to get it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tessella.errors import TessellaError


class MissingExtra(TessellaError, ImportError):
    """A package of an extra is not installed."""


def require(module: str, extra: str = "encoder") -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtra(
            f'Encoder needs {package}, which pip install "tessella[{extra}]" brings ({error})'
        ) from error
