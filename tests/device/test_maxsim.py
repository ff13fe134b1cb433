"""MaxSim on a real CUDA device; the emulator's twin is tests/simt/test_maxsim.py."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

import tessella as ts
from tessella.reference import maxsim as reference
from tests.device.maxsim_cases import Case, check, large_cases, small_cases
from tests.device.runner import MaxsimRunner, device_is_there

if not device_is_there():
    pytest.skip("needs tessella._cuda, torch and a CUDA device", allow_module_level=True)


@pytest.mark.parametrize("case", [*small_cases(), *large_cases()], ids=str)
def test_scores_equal_the_reference(case: Case) -> None:
    runner = MaxsimRunner(importlib.import_module("torch"), importlib.import_module("tessella._cuda_maxsim"))
    check(case, runner.score, reference)


def test_the_public_face_takes_cuda_tensors(rng: np.random.Generator) -> None:
    torch = importlib.import_module("torch")
    queries = [rng.standard_normal((t, 16), dtype=np.float32) for t in (5, 9)]
    documents = [rng.standard_normal((t, 16), dtype=np.float32) for t in (4, 0, 30)]
    there = [torch.from_numpy(x).cuda() for x in documents]
    asked = [torch.from_numpy(x).cuda() for x in queries]
    wanted = ts.maxsim(queries, documents)
    assert np.array_equal(ts.maxsim(asked, there).cpu().numpy(), wanted)
    hits, best = ts.maxsim(asked, there, k=4), ts.maxsim(queries, documents, k=4)
    assert np.array_equal(hits.ids.cpu().numpy(), best.ids)
    assert np.array_equal(hits.scores.cpu().numpy(), best.scores)
    some = ts.maxsim(asked, there, candidates=[[2, -1], [0, 2]])
    assert np.array_equal(some.cpu().numpy(), ts.maxsim(queries, documents, candidates=[[2, -1], [0, 2]]))
