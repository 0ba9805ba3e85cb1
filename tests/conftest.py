"""Settings and fixtures of all tests.

Hypothesis draws the same examples on every run; with `HYPOTHESIS_PROFILE=search` it looks for new ones, and for many.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.harness import Cluster

settings.register_profile(
    "ci", derandomize=True, database=None, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("search", deadline=None, max_examples=2_000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture
def cluster() -> Cluster:
    """An empty cluster whose messages pass by reference."""
    return Cluster()


@pytest.fixture(params=[False, True], ids=["reference", "encoded"])
def both(request: pytest.FixtureRequest) -> Cluster:
    """An empty cluster, once with each way to pass messages."""
    return Cluster(encoded=request.param)
