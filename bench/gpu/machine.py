"""The machine: what `make gpu` needs to be there, and the roofs that its figures stand under."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import subprocess
from dataclasses import asdict, dataclass
from typing import Any

from bench.gpu.timing import Stopwatch

COPY_BYTES = 2 << 30
MATMUL_SIZE = 8192


class Missing(Exception):
    """Something that the machine lacks, as a sentence."""


@dataclass(frozen=True)
class Machine:
    gpu: str
    capability: str  # "90"
    multiprocessors: int
    l2_bytes: int
    memory_bytes: int
    torch: str
    cuda_of_torch: str
    nvcc: str
    cmake: str

    def as_row(self) -> dict[str, Any]:
        return asdict(self)


def find() -> Machine:
    """Looks for torch with a GPU, nvcc, cmake and pybind11; raises Missing for the first that is not there."""
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise Missing("gpu: expected torch in this python3; it is not installed") from error
    if not torch.cuda.is_available():
        raise Missing("gpu: expected an NVIDIA GPU that torch can use; torch.cuda.is_available() is False")
    for tool in ("nvcc", "cmake"):
        if shutil.which(tool) is None:
            raise Missing(f"gpu: expected {tool} on the PATH; it is not there")
    if importlib.util.find_spec("pybind11") is None:
        raise Missing("gpu: expected pybind11 in this python3; it is not installed")
    properties = torch.cuda.get_device_properties(0)
    return Machine(
        gpu=properties.name,
        capability=f"{properties.major}{properties.minor}",
        multiprocessors=properties.multi_processor_count,
        l2_bytes=properties.L2_cache_size,
        memory_bytes=properties.total_memory,
        torch=torch.__version__,
        cuda_of_torch=str(torch.version.cuda),
        nvcc=_last_line("nvcc", "--version"),
        cmake=_first_line("cmake", "--version"),
    )


def roofs(torch: Any) -> dict[str, float]:
    """Measured, not from a data sheet: copy in GB/s (read + written), matrix products in TFLOP/s, random data."""
    watch = Stopwatch(torch, repeats=10)
    found = {"copy_gb_s": 2 * COPY_BYTES / _copy_ms(torch, watch) / 1e6}
    for name in ("float32", "float16", "bfloat16"):
        a, b = (torch.randn(MATMUL_SIZE, MATMUL_SIZE, device="cuda").to(getattr(torch, name)) for _ in range(2))
        out = torch.empty_like(a)
        ms = watch.median_ms(lambda a=a, b=b, out=out: torch.matmul(a, b, out=out))
        found[f"matmul_{name}_tflop_s"] = 2 * MATMUL_SIZE**3 / ms / 1e9
    return {key: round(value, 1) for key, value in found.items()}


def _copy_ms(torch: Any, watch: Stopwatch) -> float:
    source = torch.randint(0, 255, (COPY_BYTES,), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return watch.median_ms(lambda: target.copy_(source))


def _lines(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().splitlines()


def _first_line(*command: str) -> str:
    return _lines(*command)[0]


def _last_line(*command: str) -> str:
    return _lines(*command)[-1]
