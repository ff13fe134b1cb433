"""Packages that only the command line needs; a missing one is a sentence that says how to get it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tessella.errors import TessellaError


class MissingExtra(TessellaError, ImportError):
    """A package of an extra is not installed."""


_EXTRAS = {"polars": "filters"}  # other packages come with `cli`


def require(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        extra = _EXTRAS.get(package, "cli")
        raise MissingExtra(
            f'this command needs {package}, which pip install "tessella[{extra}]" brings ({error})'
        ) from error
