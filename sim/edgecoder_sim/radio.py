"""Bluetooth links: what a connection carries, and how a node's radio divides its time among its links.

A link takes what leaves a node in the order in which it leaves, in connection events that come once an interval
(`ble_timing`). A message of `ACKNOWLEDGED` is written, and the next waits for its response; notifications follow one
another. A radio whose links ask for more air than there is gives each its share, so that a relay on one radio halves.
Links in range of each other hop over the same channels and lose the packets that meet, like in pure ALOHA.
Advertising tells every linked peer, and is complete when each has acknowledged, or at the deadline.

Fidelity boundary: links of one radio do not collide in time as long as all fit; a frame keeps the share and the crowd
that it began with; a crowd is what was sent in the ten seconds before, and is looked at where radios scan; of the two
directions of a link only pieces slow the other one down; a PHY does not change with the distance, and Wi-Fi in the same
band does not exist. Who has the app in the background has it there for good. Signal strength follows the log-distance
model without fading.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from functools import cache, lru_cache
from typing import Final

from edgecoder.core.effects import Advertise
from edgecoder.core.events import Advertised, LinkUp
from edgecoder.core.ids import LinkId, Medium
from edgecoder.wire.envelope import Envelope, Frame, peek
from edgecoder.wire.messages import TYPES
from edgecoder_sim.ble_timing import MILLI, Timing, exchange_us
from edgecoder_sim.host import SimNode, frame_size
from edgecoder_sim.population import weighted
from edgecoder_sim.radio_model import Radio, System, agreed

ACKNOWLEDGED: Final = frozenset({"identity", "probe", "release", "taskRequest", "cancel", "receipt", "ledgerBatch"})
"""Messages that are written, or read, and so acknowledged: those of the characteristics identity, task request and
ledger sync. The others are notifications."""


DATA_CHANNELS: Final = 37
"""Channels that links hop over (U: Bluetooth Core)."""
SECOND_US: Final = 1_000_000
NEVER_US: Final = 1 << 62
WINDOW_US: Final = 10 * SECOND_US
"""A crowd is what was sent in the last whole window: it is looked at once in each."""
_QUIET_MILLI: Final = 300
"""Where all radios together send less of the time, ‰, nobody looks who is near whom: 1.6 % are lost at most (D)."""
_WRITTEN: Final = frozenset(TYPES[name] for name in ACKNOWLEDGED)
BULK_BYTES_MIN: Final = 2048
"""Bytes of a piece that Bluetooth is given at once at least, so that frames wait for no more than that (I)."""
_GOLDEN: Final = 2_654_435_761
"""Multiples of it, cut to a span, lie in it as evenly as can be (Knuth): where connection events begin."""


class Meter:
    """Time on the air, by whole windows of WINDOW_US."""

    __slots__ = ("_air_us", "_last_us", "_window")

    def __init__(self) -> None:
        self._window = self._air_us = self._last_us = 0

    def note(self, window: int, air_us: int) -> None:
        """So much was sent in a window. Windows come in order."""
        if window != self._window:
            self._last_us = self._air_us if window == self._window + 1 else 0
            self._window, self._air_us = window, 0
        self._air_us += air_us

    def last_milli(self, window: int) -> int:
        """What was sent in the window before, ‰ of it."""
        behind = window - self._window
        air_us = self._last_us if behind <= 0 else self._air_us if behind == 1 else 0
        return min(MILLI, air_us * MILLI // WINDOW_US)


class Antenna:
    """One node's radio."""

    __slots__ = (
        "_busy_until_us",
        "_crowd_milli",
        "_crowd_window",
        "_streams",
        "is_in_background",
        "meter",
        "near",
        "node",
        "system",
        "system_name",
        "wifi_free_us",
    )

    def __init__(self, node: SimNode, system_name: str, system: System, *, is_in_background: bool) -> None:
        self.node = node
        self.system_name = system_name
        self.system = system
        """The operating system that drives it."""
        self.is_in_background = is_in_background
        self.near: Collection[int] = ()
        """Who is in range, where somebody keeps that."""
        self.wifi_free_us = 0
        """When its channel of Wi-Fi Direct has carried what it was given."""
        self.meter = Meter()
        self._crowd_window = -1
        self._crowd_milli = 0
        self._streams: dict[LinkId, tuple[int, int]] = {}
        """Links that carry something: until when, and the share of the time on the air that they ask for, ‰."""
        self._busy_until_us = 0
        """The latest of these times."""

    def demand_milli(self, link: LinkId, at_us: int) -> int:
        """What its other links ask for at a time, ‰."""
        streams = self._streams
        if self._busy_until_us <= at_us:
            streams.clear()
            return 0
        for other in [other for other, (until_us, _) in streams.items() if until_us <= at_us]:
            del streams[other]
        return sum(share for other, (_, share) in streams.items() if other != link)

    def note(self, link: LinkId, until_us: int, share_milli: int) -> None:
        """A link carries something until then."""
        self._streams[link] = (until_us, share_milli)
        if until_us > self._busy_until_us:  # noqa: PLR1730 - hot: a call to max costs more
            self._busy_until_us = until_us

    def crowd_milli(self, at_us: int, of: Mapping[int, Antenna]) -> int:
        """What the others in range sent in the last whole window, ‰ of it; each link counts at one of its ends."""
        window = at_us // WINDOW_US
        if window != self._crowd_window:
            self._crowd_window = window
            others = (of.get(index) for index in self.near)
            heard = sum(antenna.meter.last_milli(window) for antenna in others if antenna is not None)
            self._crowd_milli = max(0, heard - self.meter.last_milli(window)) // 2
        return self._crowd_milli


class Antennas:
    """The radios of a world, made when they are used first."""

    def __init__(self, radio: Radio, systems: Mapping[str, System]) -> None:
        self.radio = radio
        self.systems = systems
        self._of: dict[int, Antenna] = {}
        self._timings: dict[tuple[str, str], Timing] = {}
        self._meter = Meter()
        """Of all radios together."""
        self._repeats_milli = round(MILLI * 100 / (100 - radio.ble.packet_loss_pct))

    def of(self, node: SimNode) -> Antenna:
        """A node's radio. Operating system and background are drawn, once for all its lives."""
        antenna = self._of.get(node.index)
        if antenna is None:
            stream = node.stream("system")
            name = weighted(stream, node.device.system_weights)
            assert name is not None  # such a device was refused
            system = self.systems[name]
            is_in_background = stream.uniform() * 100 < system.in_background_pct
            antenna = self._of[node.index] = Antenna(node, name, system, is_in_background=is_in_background)
        return antenna

    def repeats_milli(self, first: Antenna, second: Antenna, at_us: int) -> int:
        """How often a packet of a link is sent in the mean, ‰. It is lost where it meets another on one of the 37 data
        channels, in its own time or in that of the other before it."""
        whole = self._meter.last_milli(at_us // WINDOW_US)
        if whole < _QUIET_MILLI:
            return self._repeats_milli
        crowd = max(first.crowd_milli(at_us, self._of), second.crowd_milli(at_us, self._of))
        return round(self._repeats_milli * math.exp(2 * crowd / MILLI / DATA_CHANNELS))

    def note(self, first: Antenna, second: Antenna, at_us: int, air_us: int) -> None:
        """A link sends for so long from about then."""
        window = at_us // WINDOW_US
        first.meter.note(window, air_us)
        second.meter.note(window, air_us)
        self._meter.note(window, air_us)

    def has_wifi_direct(self, antenna: Antenna) -> bool:
        """Whether a node opens links over Wi-Fi Direct: the scenario, its device and its system allow it."""
        return self.radio.wifi_direct is not None and antenna.node.device.wifi_direct and antenna.system.wifi_direct

    def wifi_free_us(self, first: Antenna, second: Antenna) -> int:
        """When the channel is free where two nodes are: all links in range of either end take turns."""
        near = (self._of.get(index) for end in (first, second) for index in end.near)
        return max(first.wifi_free_us, second.wifi_free_us, *(antenna.wifi_free_us for antenna in near if antenna))

    def links_max(self, node: SimNode) -> int:
        """Links that a node's radio keeps at once: as many as the scenario says and its system can."""
        return min(self.radio.links_max, self.of(node).system.links_max)

    def timing(self, first: Antenna, second: Antenna) -> Timing:
        """What the two agree on."""
        pair = (first.system_name, second.system_name)
        timing = self._timings.get(pair)
        if timing is None:
            timing = self._timings[pair] = agreed(self.radio.ble, first.system, second.system)
        return timing


class AirLink:
    """A link from device to device. What carries it is its class's to say."""

    __slots__ = (
        "_antennas",
        "_ends",
        "_is_dialled",
        "_quiet_us",
        "ack_us",
        "first",
        "held",
        "id",
        "on_end",
        "rssi_dbm",
        "second",
        "waiting",
    )
    medium: Medium
    bulk_bytes: int
    """How much of a piece is given to it at once: enough that nothing is lost between two, and little for a frame to
    wait for."""

    def __init__(
        self, link: LinkId, antennas: Antennas, a: SimNode, b: SimNode, rssi_dbm: int, *, is_dialled: bool = False
    ) -> None:
        """`is_dialled`: `a` called, and both know whom; others know no addresses."""
        self.id = link
        self.rssi_dbm = rssi_dbm
        self.first, self.second = a, b
        self._antennas = antennas
        self._is_dialled = is_dialled
        self._ends = (antennas.of(a), antennas.of(b))
        self._quiet_us = [0, 0]
        self.ack_us = 0
        """How long an acknowledgement takes on its way back."""
        self.held: list[tuple[SimNode, Frame]] | None = None
        """What waits while the ends cannot hear each other; None: they can."""
        self.waiting: list[Callable[[], None]] = []
        """What to do when they can again."""
        self.on_end: Callable[[AirLink, int], None] | None = None
        """Who else is told when it ends: the link, and when its ends know, µs."""

    def part(self) -> None:
        """The ends cannot hear each other; what is sent is repeated until they can."""
        self.held = []

    def meet(self, now_us: int) -> None:
        """They can again."""
        held, self.held = self.held or [], None
        for sender, frame in held:
            self.send(sender, frame, now_us)
        waiting, self.waiting = self.waiting, []
        for goes_on in waiting:
            goes_on()

    def end(self, at_us: int) -> None:
        """Nothing goes over it any more; its ends know at `at_us`."""
        if self.on_end is not None:
            self.on_end(self, at_us)

    def open(self) -> None:
        """Tell both ends."""
        for node, other in ((self.first, self.second), (self.second, self.first)):
            node.attach(self.id, self)
            node.post(LinkUp(self.id, self.medium, self.rssi_dbm, other.index if self._is_dialled else None))

    @property
    def quiet_us(self) -> int:
        """When the last frame that was sent has arrived."""
        return max(self._quiet_us)

    def heard_until_us(self, receiver: SimNode) -> int:
        """When the last frame that was sent to a node has arrived there."""
        return self._quiet_us[0 if self.second is receiver else 1]

    def send(self, sender: SimNode, frame: Frame, depart_us: int) -> int:
        """Carry a frame from `sender`; returns when it arrives, NEVER_US where nobody knows."""
        if self.held is not None:
            self.held.append((sender, frame))
            return NEVER_US
        direction = 0 if self.first is sender else 1
        size = frame_size(frame)
        arrival_us = self._carry(direction, size, depart_us, is_acknowledged=_is_acknowledged(frame))
        self._quiet_us[direction] = max(self._quiet_us[direction], arrival_us)
        receiver = self._ends[1 - direction].node
        receiver.deliver_at(arrival_us, self.id, frame, (sender, self.medium.value, size))
        return arrival_us

    def carry(self, sender: SimNode, size_bytes: int, depart_us: int) -> int:
        """Carry bytes of a piece, or of what is said about one; when they have arrived, NEVER_US where nobody knows."""
        if self.held is not None:
            return NEVER_US
        direction = 0 if self.first is sender else 1
        arrival_us = self._carry(direction, size_bytes, depart_us, is_acknowledged=False)
        self._quiet_us[direction] = max(self._quiet_us[direction], arrival_us)
        return arrival_us

    def _carry(self, direction: int, size_bytes: int, depart_us: int, *, is_acknowledged: bool) -> int:
        """Take bytes along, 0 from first to second; returns when the last of them arrives."""
        raise NotImplementedError


class BleLink(AirLink):
    """A link over Bluetooth."""

    __slots__ = ("_bulk_until_us", "_cost", "_phase_us", "_position", "bulk_bytes")
    medium = Medium.BLE

    def __init__(
        self, link: LinkId, antennas: Antennas, a: SimNode, b: SimNode, rssi_dbm: int, *, is_dialled: bool = False
    ) -> None:
        super().__init__(link, antennas, a, b, rssi_dbm, is_dialled=is_dialled)
        self._cost = _LinkCost.of(antennas.timing(*self._ends))
        self.ack_us = self._cost.interval_us  # in the next connection event
        self._phase_us = link * _GOLDEN % self._cost.interval_us
        self._position = [0, 0]
        """Next free place of each direction: connection events since the phase times what one carries, ‰ packets."""
        self.bulk_bytes = self._cost.bulk_bytes
        self._bulk_until_us = [0, 0]
        """Until when each direction carries pieces."""

    def carry(self, sender: SimNode, size_bytes: int, depart_us: int) -> int:
        """See `AirLink`."""
        arrival_us = super().carry(sender, size_bytes, depart_us)
        if arrival_us != NEVER_US:
            self._bulk_until_us[0 if self.first is sender else 1] = arrival_us
        return arrival_us

    def _carry(self, direction: int, size_bytes: int, depart_us: int, *, is_acknowledged: bool) -> int:
        """Take places in connection events."""
        pace = self._cost
        interval_us, room = pace.interval_us, pace.room
        share, (first, second) = pace.share_milli, self._ends
        asked = share + max(first.demand_milli(self.id, depart_us), second.demand_milli(self.id, depart_us))
        event = -(-(depart_us - self._phase_us) // interval_us)
        start = max(event * room, self._position[direction])
        values, packets, air_us = pace.cost(size_bytes)
        need = packets * self._antennas.repeats_milli(first, second, depart_us)
        if asked > MILLI:  # the radio of one end is asked for more than it has
            need = need * asked // MILLI
        if self._bulk_until_us[1 - direction] > depart_us:  # full packets are answered with full ones
            need = need * pace.both_ways_milli // MILLI
        if is_acknowledged:
            per_value = -(-need // (values * room)) + 1
            start = -(-start // room) * room
            end = start + (values - 1) * per_value * room + need // values
            self._position[direction] = start + values * per_value * room
        else:
            end = self._position[direction] = start + need
        event, place = divmod(end - 1, room)
        packet_us = air_us // packets
        arrival_us = self._phase_us + event * interval_us + min(interval_us, (place + 1) * packet_us // MILLI)
        first.note(self.id, arrival_us, share)
        second.note(self.id, arrival_us, share)
        self._antennas.note(first, second, depart_us, need * packet_us // MILLI)
        return arrival_us


class _LinkCost:
    """The timing of a link, and what follows from it for every frame."""

    __slots__ = ("both_ways_milli", "bulk_bytes", "cost", "interval_us", "room", "share_milli")

    def __init__(self, timing: Timing) -> None:
        self.cost = lru_cache(maxsize=4096)(timing.cost)
        self.interval_us = timing.interval_us
        self.room = timing.packets_per_event_milli
        """Packets that a connection event carries, ‰."""
        self.share_milli = min(MILLI, self.room * timing.packet_us // timing.interval_us)
        """Share of the time that the link is on the air while it carries something, ‰."""
        answered_us = 2 * timing.packet_us - exchange_us(timing.phy, 0)
        both = min(self.room, MILLI * max(1, timing.interval_us // answered_us))
        self.both_ways_milli = MILLI * self.room // both
        """How much longer a direction takes while the other one is full too, ‰ of the time."""
        packets = timing.value_cost(timing.value_bytes)[0]
        self.bulk_bytes = max(BULK_BYTES_MIN, self.room * timing.value_bytes // packets // MILLI)

    @staticmethod
    @cache
    def of(timing: Timing) -> _LinkCost:
        """One for all links of a kind."""
        return _LinkCost(timing)


def _is_acknowledged(frame: Frame) -> bool:
    if type(frame) is Envelope:
        return type(frame.message) in _WRITTEN
    return peek(frame)[0] in ACKNOWLEDGED  # type: ignore[arg-type]  # a frame is an envelope or bytes


def advertise(node: SimNode, effect: Advertise, depart_us: int) -> None:
    """Notify every linked peer, and complete when all have acknowledged or the deadline is there."""
    acknowledged_us = [
        link.send(node, effect.frame, depart_us) + link.ack_us
        for link in node.links.values()
        if isinstance(link, AirLink)
    ]
    if not acknowledged_us:
        node.post(Advertised(effect.op, 0))
        return
    in_time = [at_us for at_us in acknowledged_us if at_us <= effect.deadline]
    all_in_time = len(in_time) == len(acknowledged_us)
    node.post_at(max(in_time) if all_in_time else effect.deadline, Advertised(effect.op, len(in_time)))
