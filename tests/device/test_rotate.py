"""The rotation on a real CUDA device; the emulator's twin is tests/simt/test_rotate.py."""

from __future__ import annotations

import importlib

import pytest

from tessella.reference import rotate as reference
from tests.device.rotate_cases import Case, check, large_cases, small_cases
from tests.device.runner import RotateRunner, device_is_there

if not device_is_there():
    pytest.skip("needs tessella._cuda, torch and a CUDA device", allow_module_level=True)


@pytest.mark.parametrize("case", [*small_cases(), *large_cases()], ids=str)
def test_rotation_equals_the_reference(case: Case) -> None:
    runner = RotateRunner(importlib.import_module("torch"), importlib.import_module("tessella._cuda_rotate"))
    check(case, runner.rotate, reference)
