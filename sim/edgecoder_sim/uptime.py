"""When a node runs: while its person is there with it, its battery carries it, and no crash keeps it down.

Whoever holds a node down says why, and releases it for that reason alone; the last release starts it. Nobody else
starts or ends lives, so that a person who comes back does not end a crash, and the end of a crash switches on no phone
whose person is away.

Fidelity boundary: a machine starts in no time; one that is shut down ends all at once, when its time is over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from enum import Enum
from typing import Final

from edgecoder_sim.host import Disk, SimNode
from edgecoder_sim.kernel import Kernel

OFF_AND_ON_US: Final = 1_000_000
"""Between the end of a shut-down and the next start, where the person came back in the meantime (I: a moment)."""


class Hold(Enum):
    """Hold a node is down."""

    AWAY = "away"
    EMPTY = "empty"
    CRASHED = "crashed"


class Uptime:
    """What holds each node down."""

    def __init__(self, kernel: Kernel, wall_ms: Callable[[SimNode], int]) -> None:
        """`wall_ms` tells what the clock of a node shows when it starts."""
        self._kernel = kernel
        self._wall_ms = wall_ms
        self._holds: dict[int, Counter[Hold]] = {}
        self._disks: dict[int, Disk] = {}
        """What befell the disks of nodes that are held down still."""
        self._ended_us: dict[int, int] = {}

    def hold(self, sim: SimNode, why: Hold, told_us: int | None = None, *, after_us: int = 0) -> None:
        """Keep a node down until it was released for each reason as often as it was held. Its life ends now, or
        `after_us` later, with a word to its peers; `told_us`: when they lose their links, see `SimNode.crash`."""
        self._holds.setdefault(sim.index, Counter())[why] += 1
        if after_us and sim.is_up:
            self._kernel.call_at(self._kernel.now + after_us, self._shut_down, sim, sim.life)
        else:
            self._end(sim, told_us)

    def release(self, sim: SimNode, why: Hold, disk: Disk = Disk.KEPT) -> None:
        """One reason less. `disk` is what happened to it meanwhile."""
        holds = self._holds[sim.index]
        holds[why] -= 1
        if disk is not Disk.KEPT:
            self._disks[sim.index] = disk
        self._settle(sim)

    def _shut_down(self, sim: SimNode, life: int) -> None:
        """The time is over. A node whose person came back meanwhile is switched off and on."""
        if sim.life == life:
            self._end(sim, 0)
            self._kernel.call_at(self._kernel.now + OFF_AND_ON_US, self._settle, sim)

    def _end(self, sim: SimNode, told_us: int | None) -> None:
        if sim.is_up:
            sim.crash(told_us)
            self._ended_us[sim.index] = self._kernel.now

    def _settle(self, sim: SimNode, _: object = None) -> None:
        if sim.is_up or self._holds[sim.index].total() > 0:
            return
        if self._ended_us.get(sim.index) == self._kernel.now:  # a restart is at least a tick later
            self._kernel.call_at(self._kernel.now + self._kernel.tick_us, self._settle, sim)
            return
        sim.restart(self._wall_ms(sim), self._disks.pop(sim.index, Disk.KEPT))
