"""The faces of the house: what `tessella` offers, and what its compiled modules do."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

import tessella

CSRC = Path(__file__).resolve().parents[2] / "csrc"
CUDA_SOURCES = CSRC / "cuda"
FAMILIES = re.findall(r'#include "tessella/(\w+)\.h"', (CSRC / "include/tessella/kernels.h").read_text())
PUBLIC = {
    "BinaryQuantizer",
    "Hits",
    "Index",
    "ProductQuantizer",
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


def names(module: ModuleType) -> set[str]:
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


@pytest.fixture
def cuda() -> ModuleType:
    if importlib.util.find_spec("tessella._cuda") is None:
        pytest.skip("tessella._cuda is not built here: the build found no CUDA compiler")
    return importlib.import_module("tessella._cuda")


def test_cuda_offers_the_kernels_of_its_tiles_and_nothing_else(cuda: ModuleType) -> None:
    tiles = {path.stem for path in CUDA_SOURCES.glob("*.cu")} & set(FAMILIES)
    kernels = names(cuda) - {"device_count", "device_name"}
    assert {name.split("_")[0] for name in kernels} == tiles


def test_cuda_imports_without_a_driver_and_counts_devices(cuda: ModuleType) -> None:
    assert cuda.device_count() >= 0


def test_both_modules_are_of_one_version(cuda: ModuleType) -> None:
    core = importlib.import_module("tessella._core")
    assert core.__version__ == cuda.__version__ == tessella.__version__


def test_every_public_thing_is_documented() -> None:
    silent = [
        name for name in tessella.__all__ if not inspect.getdoc(getattr(tessella, name)) and not name.startswith("__")
    ]
    assert not silent
