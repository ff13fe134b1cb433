"""Packages that only the command line needs; a missing one is a sentence that says how to get it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tessella.errors import TessellaError


class MissingExtra(TessellaError, ImportError):
    """A package of the `cli` extra is not installed."""


def require(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtra(
            f'this command needs {package}, which pip install "tessella[cli]" brings ({error})'
        ) from error
