"""How a fault is planted: a small patch of the core or the host, the checker that has to see it, and where."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.sim.eventful import run

Patch = Callable[[pytest.MonkeyPatch], None]


class Fault(NamedTuple):
    """A fault, who must see it, and where."""

    name: str
    checker: str
    plant: Patch
    run: Callable[..., object]


class Faults(list[Fault]):
    """Faults of one theme."""

    def enter(self, checker: str, where: Callable[..., object] = run) -> Callable[[Patch], Patch]:
        """Enter a patch, which is called what its function is, with the checker that must see it."""

        def take(plant: Patch) -> Patch:
            self.append(Fault(plant.__name__, checker, plant, where))
            return plant

        return take
