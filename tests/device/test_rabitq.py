"""RaBitQ's codes and scans on a real CUDA device; the emulator's twin is tests/simt/test_rabitq.py."""

from __future__ import annotations

import importlib

import pytest

from tessella.reference import rabitq as reference
from tests.device.rabitq_cases import Case, check, large_cases, small_cases
from tests.device.runner import RabitqRunner, device_is_there

if not device_is_there():
    pytest.skip("needs tessella._cuda, torch and a CUDA device", allow_module_level=True)


@pytest.mark.parametrize("case", [*small_cases(), *large_cases()], ids=str)
def test_codes_planes_and_hits_equal_the_reference(case: Case) -> None:
    runner = RabitqRunner(importlib.import_module("torch"), importlib.import_module("tessella._cuda_rabitq"))
    check(case, runner, reference)
