"""The device tests without pytest: the shared cases on the GPU against tessella.reference, on fresh data."""

from __future__ import annotations

import importlib
import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.device import (
    contrast_cases,
    exact_cases,
    fde_cases,
    graph_cases,
    kmeans_cases,
    mask_cases,
    maxsim_cases,
    pooling_cases,
    pq_cases,
    rabitq_cases,
    rotate_cases,
    scalar_cases,
)
from tests.device.runner import (
    ContrastRunner,
    FdeRunner,
    GraphRunner,
    KmeansRunner,
    MaxsimRunner,
    PoolingRunner,
    PqRunner,
    RabitqRunner,
    RotateRunner,
    ScalarRunner,
    search_with,
)

Door = Callable[[str], Any]  # the module of a family's door
Body = tuple[Any, Callable[[Any], None]]  # a family's cases, and how one is checked


def bodies(torch: Any, door: Door) -> list[Body]:
    def reference(family: str) -> Any:
        return importlib.import_module(f"tessella.reference.{family}")

    search = search_with(torch, door("exact").exact_topk)
    kmeans, rabitq = KmeansRunner(torch, door("kmeans")), RabitqRunner(torch, door("rabitq"))
    scalar, rotate, pq = (
        ScalarRunner(torch, door("scalar")), RotateRunner(torch, door("rotate")), PqRunner(torch, door("pq"))
    )  # fmt: skip
    graph, fde = GraphRunner(torch, door("graph")), FdeRunner(torch, door("fde"))
    maxsim, contrast = MaxsimRunner(torch, door("maxsim")), ContrastRunner(torch, door("contrast"))
    pooling = PoolingRunner(torch, door("pooling"))
    return [
        (exact_cases, lambda case: exact_cases.check(case, search, reference("exact").exact_topk)),
        (fde_cases, lambda case: fde_cases.check(case, fde.encode, reference("fde"))),
        (mask_cases, lambda case: mask_cases.check(case, search, reference("exact").exact_topk)),
        (graph_cases, lambda case: graph_cases.check(case, graph, reference("graph"), reference("scalar"))),
        (kmeans_cases, lambda case: kmeans_cases.check(case, kmeans.assign)),
        (maxsim_cases, lambda case: maxsim_cases.check(case, maxsim.score, reference("maxsim"))),
        (rabitq_cases, lambda case: rabitq_cases.check(case, rabitq, reference("rabitq"))),
        (rotate_cases, lambda case: rotate_cases.check(case, rotate.rotate, reference("rotate"))),
        (scalar_cases, lambda case: scalar_cases.check(case, scalar.encode, reference("scalar"))),
        (pq_cases, lambda case: pq_cases.check(case, pq, reference("pq"))),
        (contrast_cases, lambda case: contrast_cases.check(case, contrast)),
        (pooling_cases, lambda case: pooling_cases.check(case, pooling)),
    ]


def run_checks(torch: Any, door: Door, seed: int, limit_s: float) -> dict[str, Any]:
    """All cases, large ones last while time lasts. Returns counts and the messages of failures."""
    start, passed, skipped, failures = time.monotonic(), 0, 0, []
    every = bodies(torch, door)
    small = ((case, check) for cases, check in every for case in cases.small_cases())
    large = ((case, check) for cases, check in every for case in cases.large_cases())
    for case, check in itertools.chain(small, large):
        if time.monotonic() - start > limit_s:
            skipped += 1
            continue
        try:
            check(replace(case, seed=seed))
            passed += 1
        except AssertionError as error:
            failures.append(str(error))
    return {"passed": passed, "failed": failures, "not_run": skipped, "seconds": round(time.monotonic() - start, 1)}
