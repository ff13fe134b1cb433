"""Pooling on a real CUDA device; the emulator's twin is tests/simt/test_pooling.py."""

from __future__ import annotations

import importlib

import pytest

from tests.device.pooling_cases import Case, GradientCase, check, large_cases, small_cases
from tests.device.runner import PoolingRunner, device_is_there

if not device_is_there():
    pytest.skip("needs tessella._cuda, torch and a CUDA device", allow_module_level=True)


@pytest.mark.parametrize("case", [*small_cases(), *large_cases()], ids=str)
def test_pooling_equals_the_reference(case: Case | GradientCase) -> None:
    check(case, PoolingRunner(importlib.import_module("torch"), importlib.import_module("tessella._cuda_pooling")))
