"""Scalar codes on a real CUDA device; the emulator's twin is tests/simt/test_scalar.py."""

from __future__ import annotations

import importlib

import pytest

from tessella.reference import scalar as reference
from tests.device.runner import ScalarRunner, device_is_there
from tests.device.scalar_cases import Case, check, large_cases, small_cases

if not device_is_there():
    pytest.skip("needs tessella._cuda, torch and a CUDA device", allow_module_level=True)


@pytest.mark.parametrize("case", [*small_cases(), *large_cases()], ids=str)
def test_codes_equal_the_reference(case: Case) -> None:
    runner = ScalarRunner(importlib.import_module("torch"), importlib.import_module("tessella._cuda_scalar"))
    check(case, runner.encode, reference)
