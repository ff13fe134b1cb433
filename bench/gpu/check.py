"""The device tests without pytest: the shared cases on the GPU against tessella.reference, on fresh data."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.device.exact_cases import check, large_cases, small_cases
from tests.device.runner import search_with


def run_checks(torch: Any, exact_topk: Callable[..., Any], seed: int, limit_s: float) -> dict[str, Any]:
    """All cases, large ones last while time lasts. Returns counts and the messages of failures."""
    reference = importlib.import_module("tessella.reference.exact")
    search = search_with(torch, exact_topk)
    start, passed, skipped, failures = time.monotonic(), 0, 0, []
    cases = [replace(case, seed=seed) for case in (*small_cases(), *large_cases())]
    for case in cases:
        if time.monotonic() - start > limit_s:
            skipped += 1
            continue
        try:
            check(case, search, reference.exact_topk)
            passed += 1
        except AssertionError as error:
            failures.append(str(error))
    return {"passed": passed, "failed": failures, "not_run": skipped, "seconds": round(time.monotonic() - start, 1)}
