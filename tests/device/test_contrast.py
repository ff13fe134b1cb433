"""Contrastive sums on a real CUDA device; the emulator's twin is tests/simt/test_contrast.py."""

from __future__ import annotations

import importlib

import pytest

from tests.device.contrast_cases import Case, check, large_cases, small_cases
from tests.device.runner import ContrastRunner, device_is_there

if not device_is_there():
    pytest.skip("needs tessella._cuda, torch and a CUDA device", allow_module_level=True)


@pytest.mark.parametrize("case", [*small_cases(), *large_cases()], ids=str)
def test_sums_and_gradients_equal_the_reference(case: Case) -> None:
    runner = ContrastRunner(importlib.import_module("torch"), importlib.import_module("tessella._cuda_contrast"))
    check(case, runner)
