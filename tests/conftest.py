"""What every test may rely on: fixed seeds, repeatable examples, every level that this machine has."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# Examples come from the test's name, never from the clock; a slow machine is not a failure.
settings.register_profile("tessella", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tessella")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for `level` runs once per level this machine has."""
    if "level" in metafunc.fixturenames:
        from tessella.testing import available_isas

        metafunc.parametrize("level", available_isas(), indirect=True)


@pytest.fixture
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a level; kernels run on it for the length of the test."""
    from tessella.testing import pinned_isa

    with pinned_isa(request.param):
        yield request.param


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers that depend on nothing but the test's own name."""
    return np.random.default_rng(list(request.node.name.encode()))
