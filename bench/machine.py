"""What a row of `bench/history` says about the machine, and how threads and memory pages are pinned."""

from __future__ import annotations

import datetime
import os
import platform
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)
_LEVELS = {
    "avx512": {"avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_vpopcntdq"},
    "avx2": {"avx2", "fma", "f16c"},
}


def pinned_environment(threads: int, *, huge_pages: bool = False) -> dict[str, str]:
    """Variables a process needs before it imports any library that owns threads.

    With `huge_pages`, glibc asks the kernel for huge pages for whatever `malloc` hands out.
    """
    variables = dict.fromkeys(THREAD_VARIABLES, str(threads))
    if huge_pages:
        variables["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
    return variables


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Sets variables for the processes started inside the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def pin_cores(threads: int) -> None:
    """Confines this process to as many cores as it has threads, so that a hidden thread gains nothing."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if threads > len(cores):
            raise ValueError(f"pin_cores: expected at most {len(cores)} threads, a core each; got {threads}")
        os.sched_setaffinity(0, cores[-threads:])


def stamp() -> dict[str, str]:
    """What every row of the history begins with: when, of which commit, on which CPU."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return {"time": now.isoformat(timespec="seconds"), "commit": commit(), "cpu": cpu_model()}


def cpu_model() -> str:
    """The CPU as the kernel names it; family and model too, for virtual machines that hide the name."""
    fields = _cpuinfo()
    if "model name" not in fields:
        return platform.processor() or platform.machine()
    numbers = [fields.get(key, "?") for key in ("cpu family", "model", "stepping")]
    return f"{fields['model name']} (family {numbers[0]}, model {numbers[1]}, stepping {numbers[2]})"


def cpu_level() -> str:
    """The best of our levels that this CPU has: avx512, avx2, neon or scalar."""
    if platform.machine() in ("aarch64", "arm64"):
        return "neon"
    flags = set(_cpuinfo().get("flags", "").split())
    return next((level for level, needed in _LEVELS.items() if needed <= flags), "scalar")


def name_cpu_to_openblas() -> None:
    """Tells OpenBLAS which kernels fit an Intel CPU with AVX-512, unless OPENBLAS_CORETYPE does.

    FAISS's wheel brings an OpenBLAS of 2021. Of a CPU made since, it knows only that it has SSE3, and its products
    then take five times as long as this CPU needs for them.
    """
    if _cpuinfo().get("vendor_id") == "GenuineIntel" and cpu_level() == "avx512":
        os.environ.setdefault("OPENBLAS_CORETYPE", "SkylakeX")


def load_average() -> float | None:
    """Mean number of busy processes over the last minute; above a run's threads, it was not alone."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def commit() -> str:
    """The commit of the work tree, with `+` when files differ from it; `none` outside a repository."""
    head = _git("rev-parse", "--short=12", "HEAD")
    return f"{head}{'+' if _git('status', '--porcelain') else ''}" if head else "none"


def _git(*arguments: str) -> str:
    try:
        command = ["git", "-C", str(ROOT), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _cpuinfo() -> dict[str, str]:
    """The fields of the first core."""
    path = Path("/proc/cpuinfo")
    text = path.read_text() if path.exists() else ""
    return dict(re.findall(r"^([^\t\n]+?)\s*: ?(.*)$", text.split("\n\n")[0], re.MULTILINE))
