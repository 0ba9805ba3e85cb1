"""Bluetooth as a disc: nodes that stand within range of each other keep a few links, nearest first.

Advertising tells every linked peer, and is complete when each has acknowledged, or at the deadline.

Fidelity boundary: the range is a hard circle, nobody moves, links are there from the start and never lost, scanning
and connecting take no time, links do not disturb each other, and only linked peers hear an advertisement. Signal
strength follows the log-distance model without fading. The full radio takes this one's place.
"""

from __future__ import annotations

from edgecoder.core.effects import Advertise
from edgecoder.core.events import Advertised, LinkUp
from edgecoder.core.ids import LinkId, Medium
from edgecoder.wire.envelope import Frame
from edgecoder_sim.host import SimNode, frame_size
from edgecoder_sim.profiles import Radio

SECOND_US = 1_000_000
NEVER_US = 1 << 62
ACK_BYTES = 20
"""An acknowledgement: one ATT value of the least MTU."""


class BleLink:
    """A link between two nodes in range."""

    __slots__ = (
        "_ends",
        "_free_us",
        "_is_dialled",
        "_latency_us",
        "_rate",
        "ack_us",
        "first",
        "held",
        "id",
        "medium",
        "rssi_dbm",
        "second",
    )

    def __init__(
        self, link: LinkId, a: SimNode, b: SimNode, radio: Radio, distance_m: float, dialled_dbm: int | None = None
    ) -> None:
        """`dialled_dbm`: the signal of a link that `first` dialled; others know no addresses."""
        self.id = link
        self.medium = Medium.BLE
        self.rssi_dbm = radio.rssi_dbm(distance_m) if dialled_dbm is None else dialled_dbm
        self._is_dialled = dialled_dbm is not None
        self.first, self.second = a, b
        self._ends = (a, b)
        self._rate = radio.bytes_per_s
        self._latency_us = radio.latency_us
        self._free_us = [0, 0]
        self.ack_us = radio.latency_us + ACK_BYTES * SECOND_US // radio.bytes_per_s
        """How long an acknowledgement takes on its way back."""
        self.held: list[tuple[SimNode, Frame]] | None = None
        """What waits while the ends cannot hear each other; None: they can."""

    def part(self) -> None:
        """The ends cannot hear each other; what is sent is repeated until they can."""
        self.held = []

    def meet(self, now_us: int) -> None:
        """They can again."""
        held, self.held = self.held or [], None
        for sender, frame in held:
            self.send(sender, frame, now_us)

    def open(self) -> None:
        """Tell both ends."""
        for node, other in (self._ends, self._ends[::-1]):
            node.attach(self.id, self)
            node.post(LinkUp(self.id, Medium.BLE, self.rssi_dbm, other.index if self._is_dialled else None))

    @property
    def quiet_us(self) -> int:
        """When the last frame that was sent has arrived."""
        return max(self._free_us) + self._latency_us

    def send(self, sender: SimNode, frame: Frame, depart_us: int) -> int:
        """Carry a frame from `sender`; returns when it arrives, NEVER_US where nobody knows."""
        if self.held is not None:
            self.held.append((sender, frame))
            return NEVER_US
        direction = 0 if self._ends[0] is sender else 1
        begin_us = max(depart_us, self._free_us[direction])
        size = frame_size(frame)
        end_us = begin_us + size * SECOND_US // self._rate
        self._free_us[direction] = end_us
        arrival_us = end_us + self._latency_us
        self._ends[1 - direction].deliver_at(arrival_us, self.id, frame, (sender, Medium.BLE.value, size))
        return arrival_us


def advertise(node: SimNode, effect: Advertise, depart_us: int) -> None:
    """Notify every linked peer, and complete when all have acknowledged or the deadline is there."""
    acknowledged_us = [
        link.send(node, effect.frame, depart_us) + link.ack_us
        for link in node.links.values()
        if isinstance(link, BleLink)
    ]
    if not acknowledged_us:
        node.post(Advertised(effect.op, 0))
        return
    in_time = [at_us for at_us in acknowledged_us if at_us <= effect.deadline]
    all_in_time = len(in_time) == len(acknowledged_us)
    node.post_at(max(in_time) if all_in_time else effect.deadline, Advertised(effect.op, len(in_time)))
