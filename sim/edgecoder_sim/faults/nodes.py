"""Nodes that faults can reach. A world with faults is made of them, one without is not, and pays nothing.

Fidelity boundary: a frame that is lost or late stays so; links of a partition stay up, but for those of radios that
scan, and the radio says that an advertisement was acknowledged though its frame is lost above it. A slow disk serves
one write after another; a write that fails leaves what was there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecoder.core.effects import LoadModel, Persist
from edgecoder.core.events import PersistFailed
from edgecoder.core.ids import LinkId
from edgecoder.core.rng import Stream
from edgecoder.errors import Reason
from edgecoder.wire.envelope import Frame
from edgecoder_sim.faults.model import Direction, Fault, FaultKind
from edgecoder_sim.host import PERSIST_US, Crossing, SimNode

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

_COPY_LATER_MS = 1000.0
"""A copy comes within this where a fault does not say."""


_LOSING = (FaultKind.LOSS, FaultKind.PARTITION)


class Meddling:
    """A fault that is on."""

    __slots__ = ("_direction", "_media", "_nodes", "delay_us", "kind", "share_pct", "stream")

    def __init__(self, fault: Fault, nodes: AbstractSet[int], stream: Stream) -> None:
        self.kind = fault.kind
        self.share_pct = 100.0 if fault.share_pct is None else fault.share_pct
        self.delay_us = round((_COPY_LATER_MS if fault.delay_ms is None else fault.delay_ms) * 1000)
        self.stream = stream
        self._direction = fault.direction
        self._media = {medium.value for medium in fault.media}
        self._nodes = nodes

    def strikes(self) -> bool:
        """Whether this one is struck."""
        return self.share_pct >= 100 or self.stream.uniform() * 100 < self.share_pct

    def concerns(self, sender: SimNode, receiver: SimNode, medium: str) -> bool:
        """Whether a frame may be struck."""
        if self._media and medium not in self._media:
            return False
        out, into = sender.index in self._nodes, receiver.index in self._nodes
        if self.kind is FaultKind.PARTITION and out and into:
            return False
        if self._direction is Direction.OUT:
            return out
        return into if self._direction is Direction.IN else out or into


class Ether:
    """The faults of frames that are on, in the order in which they began."""

    def __init__(self) -> None:
        self.meddlings: list[Meddling] = []

    def arrivals(self, at_us: int, sender: SimNode, receiver: SimNode, medium: str) -> list[int]:
        """When a frame arrives that would at `at_us`: once, later, twice, or never."""
        arrivals = [at_us]
        for meddling in self.meddlings:
            if not meddling.concerns(sender, receiver, medium) or not meddling.strikes():
                continue
            kind = meddling.kind
            if kind is FaultKind.LOSS or kind is FaultKind.PARTITION:
                return []
            if kind is FaultKind.DELAY:
                arrivals = [each_us + meddling.delay_us for each_us in arrivals]
            elif kind is FaultKind.REORDERING:
                arrivals = [each_us + meddling.stream.below(meddling.delay_us + 1) for each_us in arrivals]
            else:
                arrivals.append(at_us + meddling.stream.below(meddling.delay_us + 1))
        return arrivals

    def is_cut(self, sender: SimNode, receiver: SimNode, medium: str) -> bool:
        """Whether nothing at all arrives."""
        return any(
            meddling.kind in _LOSING and meddling.share_pct >= 100 and meddling.concerns(sender, receiver, medium)
            for meddling in self.meddlings
        )

    def is_lost(self, sender: SimNode, receiver: SimNode, medium: str) -> bool:
        """Whether this one does not arrive."""
        return any(
            meddling.kind in _LOSING and meddling.concerns(sender, receiver, medium) and meddling.strikes()
            for meddling in self.meddlings
        )


class FaultyNode(SimNode):
    """A node whose links, disk, engine and clock may fail."""

    __slots__ = ("clock_ms", "disk_free_us", "ether", "failing_loads", "failing_writes", "slow_disks")

    ether: Ether
    """Set when the node is made; all nodes of a world share it."""

    def prepare(self, ether: Ether) -> None:
        """Begin without a fault of its own."""
        self.ether = ether
        self.clock_ms = 0
        """How far its wall clock is wrong."""
        self.disk_free_us = 0
        """When the last write that was taken on is done."""
        self.slow_disks: list[Meddling] = []
        self.failing_writes: list[Meddling] = []
        self.failing_loads: list[Meddling] = []

    def crash(self, told_us: int | None = None) -> None:
        """See `SimNode`; the disk has nothing to do any more."""
        super().crash(told_us)
        self.disk_free_us = 0

    def deliver_at(self, at_us: int, link: LinkId, frame: Frame, crossing: Crossing) -> None:
        """See `SimNode`."""
        if not self.ether.meddlings:
            super().deliver_at(at_us, link, frame, crossing)
            return
        sender, medium, _ = crossing
        for arrival_us in self.ether.arrivals(at_us, sender, self, medium):
            super().deliver_at(arrival_us, link, frame, crossing)

    def _persist(self, effect: Persist) -> None:
        now_us = self._kernel.now
        took_us = max([PERSIST_US, *(meddling.delay_us for meddling in self.slow_disks)])
        slow_us = self.disk_free_us if self.slow_disks else 0  # a fast disk takes many at once
        self.disk_free_us = max(self.disk_free_us, max(now_us, slow_us) + took_us)
        self._writes.append(effect)
        fails = any(meddling.strikes() for meddling in self.failing_writes)
        self._kernel.call_at(self.disk_free_us, self._write_failed if fails else self._persisted, effect, self.life)

    def _write_failed(self, effect: Persist, life: int) -> None:
        if life == self.life:
            self._writes.remove(effect)
            self._arrive(PersistFailed(effect.op, Reason.STORE_FAILED), None)

    def _load(self, effect: LoadModel) -> None:
        self.engine.load(effect, fails=any(meddling.strikes() for meddling in self.failing_loads))
