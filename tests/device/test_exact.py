"""The exact scan on a real CUDA device; the emulator's twin is tests/simt/test_exact.py."""

from __future__ import annotations

import importlib

import pytest

from tessella.reference import exact as reference
from tests.device import mask_cases
from tests.device.exact_cases import Case, check, large_cases, small_cases
from tests.device.runner import device_is_there, search_with

if not device_is_there():
    pytest.skip("needs tessella._cuda, torch and a CUDA device", allow_module_level=True)


@pytest.mark.parametrize("case", [*small_cases(), *large_cases()], ids=str)
def test_search_equals_the_reference(case: Case) -> None:
    exact_topk = importlib.import_module("tessella._cuda_exact").exact_topk
    check(case, search_with(importlib.import_module("torch"), exact_topk), reference.exact_topk)


@pytest.mark.parametrize("case", [*mask_cases.small_cases(), *mask_cases.large_cases()], ids=str)
def test_only_allowed_rows_are_found(case: mask_cases.Case) -> None:
    exact_topk = importlib.import_module("tessella._cuda_exact").exact_topk
    mask_cases.check(case, search_with(importlib.import_module("torch"), exact_topk), reference.exact_topk)
