"""Pooling beside sentence-transformers: `python -m bench.pooling`, by a Python that has it.

Mean, the first half of the dimensions, unit length: its `Pooling` module, a slice and torch's normalize, against one
call of `ts.pool` on the same tensors, half of the tokens being padding or none. All take turns within a round, and
medians are compared. GB/s counts the tokens that count; the roof is what `bench.roofs` reads a second.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

from bench import machine, record, roofs

SHAPES = ((32, 32, 384), (32, 256, 384), (32, 512, 1024), (128, 512, 1024))
LEAST_SECONDS = 0.02  # of one measurement: short calls are repeated


def timed(call: Callable[[], object], loops: int) -> float:
    start = time.perf_counter()
    for _ in range(loops):
        call()
    return (time.perf_counter() - start) / loops


def peer(dim: int) -> Callable[[Any, Any], Any]:
    import torch
    from sentence_transformers.models import Pooling

    module = Pooling(dim, pooling_mode="mean")

    def pooled(hidden: Any, mask: Any) -> Any:
        with torch.inference_mode():
            y = module({"token_embeddings": hidden, "attention_mask": mask})["sentence_embedding"]
            return torch.nn.functional.normalize(y[:, : dim // 2], dim=1)

    return pooled


def compared(shape: tuple[int, int, int], share: float, threads: int, rounds: int) -> dict[str, Any]:
    """Medians of both ways, whole and half of the dimensions, for one shape of which `share` of the tokens count."""
    import torch

    import tessella as ts

    n, t, d = shape
    torch.manual_seed(0)
    hidden = torch.randn(n, t, d)
    mask = (torch.arange(t) < int(t * share)).to(torch.int64).expand(n, t).contiguous()
    theirs = peer(d)
    ways: dict[str, Callable[[], Any]] = {
        "sentence-transformers": lambda: theirs(hidden, mask),
        "tessella": lambda: ts.pool(hidden, mask, dim=d // 2, threads=threads),
        "tessella, binary": lambda: ts.pool(hidden, mask, dim=d // 2, dtype="binary", threads=threads),
        "tessella, all dims": lambda: ts.pool(hidden, mask, threads=threads),
    }
    off = float((ways["tessella"]() - ways["sentence-transformers"]()).abs().max())
    loops = {way: max(1, int(LEAST_SECONDS / timed(call, 1))) for way, call in ways.items()}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, call in ways.items():
            seconds[way].append(timed(call, loops[way]))
    medians = {way: statistics.median(each) for way, each in seconds.items()}
    return {
        "shape": shape,
        "share": share,
        "off": off,
        "ms": {way: round(1e3 * s, 4) for way, s in medians.items()},
        "ms_low": {way: round(1e3 * min(each), 4) for way, each in seconds.items()},
        "times": round(medians["sentence-transformers"] / medians["tessella"], 2),
        "gb_s_all_dims": round(4 * n * t * d * share / medians["tessella, all dims"] / 1e9, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.pooling", description="Pooling beside sentence-transformers."
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--save", action="store_true", help="append the results to bench/history")
    chosen = parser.parse_args()
    roof = roofs.roofs(chosen.threads).read_gb_per_s
    machine.pin_cores(chosen.threads)
    import sentence_transformers
    import torch

    from tessella.testing import available_isas

    torch.set_num_threads(chosen.threads)
    print(f"{machine.cpu_model()}, {chosen.threads} threads, read roof {roof:.1f} GB/s")
    for shape in SHAPES:
        for share in (1.0, 0.5):
            row = compared(shape, share, chosen.threads, chosen.rounds)
            ms = row["ms"]
            print(
                f"{'x'.join(map(str, shape)):14} {share:.0%} counted: {ms['sentence-transformers']:9.3f} ms theirs,"
                f" {ms['tessella']:8.3f} ours (x{row['times']:.1f}), binary {ms['tessella, binary']:8.3f},"
                f" all dims {ms['tessella, all dims']:8.3f} = {row['gb_s_all_dims']:.1f} GB/s, off {row['off']:.1e}",
                flush=True,
            )
            if chosen.save:
                common = {
                    **machine.stamp(),
                    "level": available_isas()[0],
                    "threads": chosen.threads,
                    "load_average": machine.load_average(),
                    "seed": 0,
                    "peer": f"sentence-transformers {sentence_transformers.__version__}",
                    "read_roof_gb_s": round(roof, 2),
                }
                record.append("pooling", [common | row])


if __name__ == "__main__":
    main()
