"""Graphs on a real CUDA device; the emulator's twin is tests/simt/test_graph.py."""

from __future__ import annotations

import importlib

import pytest

from tessella.reference import graph as reference
from tessella.reference import scalar
from tests.device.graph_cases import Case, check, large_cases, small_cases
from tests.device.runner import GraphRunner, device_is_there

if not device_is_there():
    pytest.skip("needs tessella._cuda, torch and a CUDA device", allow_module_level=True)


@pytest.mark.parametrize("case", [*small_cases(), *large_cases()], ids=str)
def test_edges_records_and_walks_equal_the_reference(case: Case) -> None:
    runner = GraphRunner(importlib.import_module("torch"), importlib.import_module("tessella._cuda_graph"))
    check(case, runner, reference, scalar)
