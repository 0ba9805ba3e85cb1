"""What all tests of drivers have in common."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def _logs() -> Iterator[None]:
    """A command that a test ran has configured the logs of the whole process: take that back."""
    yield
    structlog.reset_defaults()
