"""The faces of the house: what `tessella` offers, and that both compiled modules offer the same."""

from __future__ import annotations

import importlib
import importlib.util
import inspect

import pytest

import tessella

PUBLIC = {
    "BinaryQuantizer",
    "Hits",
    "Index",
    "RaBitQuantizer",
    "RangeHits",
    "ScalarQuantizer",
    "errors",
    "get_num_threads",
    "set_num_threads",
}
ERRORS = {
    "TessellaError": Exception,
    "InvalidArgument": ValueError,
    "UnsupportedType": TypeError,
    "DeviceUnavailable": RuntimeError,
    "CudaError": RuntimeError,
    "FormatError": ValueError,
}


def names(module: object) -> set[str]:
    return {name for name in dir(module) if not name.startswith("_")}


def test_public_names() -> None:
    assert set(tessella.__all__) >= PUBLIC
    assert all(hasattr(tessella, name) for name in tessella.__all__)
    assert isinstance(tessella.__version__, str)


@pytest.mark.parametrize(("name", "base"), ERRORS.items())
def test_errors_are_what_python_expects(name: str, base: type[Exception]) -> None:
    error = getattr(tessella.errors, name)
    assert issubclass(error, base)
    assert issubclass(error, tessella.errors.TessellaError)


def test_both_modules_have_one_surface() -> None:
    if importlib.util.find_spec("tessella._cuda") is None:
        pytest.skip("tessella._cuda is not built here: the build found no CUDA compiler")
    core, cuda = (importlib.import_module(f"tessella.{name}") for name in ("_core", "_cuda"))
    assert names(core) == names(cuda)


def test_every_public_thing_is_documented() -> None:
    silent = [
        name
        for name in tessella.__all__
        if not inspect.getdoc(getattr(tessella, name)) and not name.startswith("__")
    ]
    assert not silent
