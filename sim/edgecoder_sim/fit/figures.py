"""A figure of the scenario, and where it comes from."""

from __future__ import annotations

from enum import Enum
from typing import Any

import msgspec

from edgecoder_sim.fit.samples import Samples


class Basis(Enum):
    """What a figure rests on."""

    MEASURED = "measured"
    """On what the journals show."""
    SET = "set"
    """On what the nodes were told by their configuration or their catalog."""
    DEFAULT = "default"
    """On nothing in the journals: the simulator's own value."""


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One value, and why it is that."""

    value: Any
    basis: Basis
    says: str
    """From what, in words."""
    samples: Samples | None = None
    """In the unit of the value."""


def measured(value: Any, says: str, samples: Samples | None = None) -> Figure:
    """Read from the journals."""
    return Figure(value=value, basis=Basis.MEASURED, says=says, samples=samples)


def told(value: Any, says: str) -> Figure:
    """From a configuration."""
    return Figure(value=value, basis=Basis.SET, says=says)


def default(value: Any, says: str) -> Figure:
    """Not in the journals; `says` why."""
    return Figure(value=value, basis=Basis.DEFAULT, says=says)
