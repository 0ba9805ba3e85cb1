"""The schedule: lets each fault of a resolved plan begin and end in a world.

Fidelity boundary: a crash takes the whole machine, which comes back with one start when the last crash that struck it
is over; a CDN outage ends every fetch at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from edgecoder.core.events import EngineFailed
from edgecoder.core.rng import Stream
from edgecoder.errors import Reason
from edgecoder_sim.cdn import CdnService
from edgecoder_sim.faults.model import Fault, FaultKind
from edgecoder_sim.faults.nodes import Ether, FaultyNode, Meddling
from edgecoder_sim.host import Disk
from edgecoder_sim.kernel import Kernel
from edgecoder_sim.uptime import Hold, Uptime

OF_FRAMES: Final = frozenset(
    {FaultKind.LOSS, FaultKind.DUPLICATION, FaultKind.REORDERING, FaultKind.DELAY, FaultKind.PARTITION}
)
Told = Callable[[int, str, bool], None]
"""Told when a fault begins or ends: µs, its name, whether it is on."""


class Struck(Protocol):
    """What a schedule needs of a world."""

    kernel: Kernel
    cdn: CdnService
    faulty: list[FaultyNode]
    uptime: Uptime

    def ether_changed(self) -> None:
        """A fault of frames has begun or ended."""
        ...


class Schedule:
    """The faults of one run."""

    def __init__(self, world: Struck, ether: Ether, rng_seed: int, plan: tuple[Fault, ...]) -> None:
        self._world = world
        self._ether = ether
        self._rng_seed = rng_seed
        self._by_name = {sim.name: sim for sim in world.faulty}
        self._outages = 0
        self._on: dict[str, Meddling] = {}
        self.told: Told = lambda *_: None
        for fault in plan:
            if fault.copied_at_s is not None:
                self._at(fault.copied_at_s, self._back_up, fault)
            self._at(fault.at_s, self._begin, fault)
            if fault.for_s is not None:
                self._at(fault.at_s + fault.for_s, self._end, fault)

    def _at(self, at_s: float, call: Callable[[Fault, object], None], fault: Fault) -> None:
        self._world.kernel.call_at(round(at_s * 1_000_000), call, fault)

    def _nodes(self, fault: Fault) -> list[FaultyNode]:
        return [self._by_name[name] for name in fault.nodes]

    def _back_up(self, fault: Fault, _: object) -> None:
        for sim in self._nodes(fault):
            if sim.is_up:
                sim.back_up()

    def _begin(self, fault: Fault, _: object) -> None:
        self.told(self._world.kernel.now, fault.name, True)
        match fault.kind:
            case FaultKind.CRASH:
                for sim in self._nodes(fault):
                    self._world.uptime.hold(sim, Hold.CRASHED, None if fault.silent else 0)
            case FaultKind.ENGINE_CRASH:
                for sim in self._nodes(fault):
                    if sim.is_up and sim.engine.loaded is not None:
                        sim.engine.crash(Reason.ENGINE_CRASHED)
                        sim.post(EngineFailed(Reason.ENGINE_CRASHED))
            case FaultKind.CLOCK_JUMP:
                for sim in self._nodes(fault):
                    sim.clock_ms += round((fault.by_s or 0.0) * 1000)
            case FaultKind.CDN_OUTAGE:
                self._outages += 1
                self._world.cdn.set_down(is_down=True)
            case _:
                self._meddle(fault)

    def _meddle(self, fault: Fault) -> None:
        nodes = self._nodes(fault)
        stream = Stream(self._rng_seed, b"", f"sim.fault.{fault.name}")
        meddling = self._on[fault.name] = Meddling(fault, frozenset(sim.index for sim in nodes), stream)
        if fault.kind in OF_FRAMES:
            self._ether.meddlings.append(meddling)
            self._world.ether_changed()
        for sim in nodes:
            if (meddlings := _own(sim, fault.kind)) is not None:
                meddlings.append(meddling)

    def _end(self, fault: Fault, _: object) -> None:
        self.told(self._world.kernel.now, fault.name, False)
        if fault.kind is FaultKind.CRASH:
            for sim in self._nodes(fault):
                disk = Disk.KEPT if fault.disk is Disk.OLD_COPY and sim.backup is None else fault.disk
                self._world.uptime.release(sim, Hold.CRASHED, disk)
        elif fault.kind is FaultKind.CDN_OUTAGE:
            self._outages -= 1
            self._world.cdn.set_down(is_down=self._outages > 0)
        elif (meddling := self._on.pop(fault.name, None)) is not None:
            if fault.kind in OF_FRAMES:
                self._ether.meddlings.remove(meddling)
                self._world.ether_changed()
            for sim in self._nodes(fault):
                if (meddlings := _own(sim, fault.kind)) is not None:
                    meddlings.remove(meddling)


def _own(sim: FaultyNode, kind: FaultKind) -> list[Meddling] | None:
    """Where a node keeps its faults of a kind."""
    if kind is FaultKind.SLOW_DISK:
        return sim.slow_disks
    if kind is FaultKind.FAILING_WRITES:
        return sim.failing_writes
    return sim.failing_loads if kind is FaultKind.FAILING_LOADS else None
