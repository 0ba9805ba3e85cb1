"""Bluetooth as nodes live with it: they advertise, scan, dial and hang up, as their cores ask.

Nothing runs for a single advertisement. When two come into range, when an advertisement changes or a scanner starts,
the scan window in which each scanner hears it is drawn; what a window brought is told at its end, as one event.
Crowding costs advertisements: those of all radios in range collide like in pure ALOHA.

Fidelity boundary: a scanner outside of its window hears from the next window on, and windows do not shift against
advertisements once they are drawn; the signal of a pair is drawn once; a link breaks only by distance, death or a
partition that lasts as long as the supervision timeout, and who hangs up meanwhile is heard all the same; faults delay
and double no advertisement. Nobody's screen goes on or off, a scanner in the background reads overflow areas like any
other, and no address changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from edgecoder.core.effects import Advertise, Connect, Disconnect, Scan, ScanMode
from edgecoder.core.events import Connected, ConnectFailed, Heard, LinkDown, PeersHeard, PeersSilent
from edgecoder.core.ids import LinkId, Medium, OpId
from edgecoder.core.rng import Stream
from edgecoder.errors import Reason
from edgecoder.wire.advertisement import Bits
from edgecoder_sim.faults.nodes import Ether
from edgecoder_sim.host import SimNode
from edgecoder_sim.kernel import Kernel
from edgecoder_sim.radio import AirLink, Antenna, Antennas, BleLink, advertise
from edgecoder_sim.radio_model import Ble, Radio, WifiDirect
from edgecoder_sim.wifi_direct import WifiDirectLink

AGAIN_US: Final = 5_000_000
"""A device that was not heard for so long and then is, is told of again though it says nothing new (I: some advertising
intervals of a device in the background)."""
OnRange = Callable[[int, int, int, bool], None]
"""When, µs; the indices of two nodes; whether they are in range of each other now."""


class _Bearer:
    """One node's radio."""

    __slots__ = (
        "again",
        "antenna",
        "bits",
        "due",
        "heard",
        "links",
        "near",
        "node",
        "phase",
        "scan",
        "shows_bits",
        "silent_since",
        "stream",
    )

    def __init__(self, antenna: Antenna) -> None:
        self.antenna = antenna
        self.node = node = antenna.node
        self.near: dict[int, int] = {}
        """Who is in range, with the signal, dBm."""
        self.bits: Bits | None = None
        """What it advertises."""
        self.scan: Scan | None = None
        self.heard: dict[int, Bits | None] = {}
        """What its node was told last of each device."""
        self.due: dict[int, list[tuple[_Bearer, Bits]]] = {}
        """What it will have heard, by the end of the window, µs."""
        self.silent_since: dict[int, int] = {}
        """Since when those are silent whom its node was told of, µs."""
        self.again: set[int] = set()
        """Who was silent for a while, and is told of anew when it is heard."""
        self.links: dict[LinkId, AirLink] = {}
        self.stream = node.stream("radio")
        self.phase = self.stream.uniform()
        """Of its scan windows, in periods."""
        antenna.near = self.near
        self.shows_bits = not antenna.is_in_background or antenna.system.shows_bits_in_background
        """Whether bits go out and come in here."""


class Air:
    """What is between radios: the path, the seed of its shadows, and the faults."""

    def __init__(self, radio: Radio, rng_seed: int, ether: Ether) -> None:
        self.radio = radio
        self.ether = ether
        self._rng_seed = rng_seed

    def rssi_dbm(self, a: SimNode, b: SimNode, distance_m: float) -> int:
        """The signal of a pair. Its shadowing is nearly normal, and the same whenever they meet."""
        first, second = sorted((a.node_id, b.node_id))
        stream = Stream(self._rng_seed, first, f"sim.shadow {second.hex()}")
        deviation = (sum(stream.uniform() for _ in range(4)) - 2) * math.sqrt(3)
        return self.radio.rssi_dbm(distance_m) + round(self.radio.ble.shadowing_db * deviation)

    def is_cut(self, sender: SimNode, receiver: SimNode, medium: Medium = Medium.BLE) -> bool:
        """Whether a fault keeps all from arriving."""
        return bool(self.ether.meddlings) and self.ether.is_cut(sender, receiver, medium.value)

    def is_lost(self, sender: SimNode, receiver: SimNode, medium: Medium = Medium.BLE) -> bool:
        """Whether a fault keeps this one from arriving."""
        return bool(self.ether.meddlings) and self.ether.is_lost(sender, receiver, medium.value)


class Listening(NamedTuple):
    """How often one listens and the other advertises."""

    window_ms: float
    period_ms: float
    """From one scan window to the next."""
    interval_ms: float
    """From one advertisement to the next."""


class _Dial:
    __slots__ = ("caller", "is_over", "life", "op", "target", "wifi")

    def __init__(self, caller: _Bearer, target: _Bearer, op: OpId, wifi: WifiDirect | None) -> None:
        self.wifi = wifi
        """None: over Bluetooth."""
        self.caller, self.target, self.op = caller, target, op
        self.life = caller.node.life
        self.is_over = False


def heard_at_us(ble: Ble, listening: Listening, radios: int, stream: Stream, now_us: int, phase: float) -> int:
    """When the scan window ends in which a scanner hears an advertisement, µs, where so many radios are in range;
    windows begin `phase` periods after time 0."""
    window_ms, period_ms, interval_ms = listening
    window_us, period_us = round(window_ms * 1000), round(period_ms * 1000)
    gap_ms = interval_ms + ble.advertising_delay_ms / 2
    alone = math.exp(-2 * radios * ble.advertisement_us / 1000 / gap_ms)
    loss = 1 - (1 - ble.advertisement_loss_pct / 100) * alone
    draw = max(1e-12, stream.uniform())
    begun_us = now_us - (now_us - round(phase * period_us)) % period_us
    if window_us >= period_us:
        lost = int(math.log(draw) / math.log(loss)) if loss > 0 else 0
        heard_us = now_us + round((stream.uniform() + lost) * gap_ms * 1000)
        return begun_us + ((heard_us - begun_us) // period_us + 1) * period_us
    chances = window_ms / gap_ms
    whole = int(chances)
    missed = loss**whole * (1 - (chances - whole) * (1 - loss))
    windows = int(math.log(draw) / math.log(missed)) if 0 < missed < 1 else 0
    return begun_us + (1 + windows) * period_us + window_us


class Scanning:
    """The radios of a world; takes news of contacts, and what the cores ask of their radios."""

    def __init__(
        self,
        kernel: Kernel,
        nodes: Sequence[SimNode],
        antennas: Antennas,
        air: Air,
        next_link: Callable[[], LinkId],
    ) -> None:
        self._kernel = kernel
        self._antennas = antennas
        self._air = air
        self._ble = air.radio.ble
        self._next_link = next_link
        self.bearers = [_Bearer(antennas.of(node)) for node in nodes]
        self._dials: dict[tuple[int, OpId], _Dial] = {}
        self._parted: dict[LinkId, int] = {}
        """Links whose ends cannot hear each other, and since when, µs."""
        self._on_range: OnRange = lambda *_: None

    def tell_ranges(self, on_range: OnRange) -> None:
        """Tell of all pairs in range, and of each that comes or parts from now on."""
        self._on_range = on_range
        for bearer in self.bearers:
            for other in bearer.near:
                if bearer.node.index < other:
                    on_range(self._kernel.now, bearer.node.index, other, True)

    # -- contacts ------------------------------------------------------------------------------------------------------

    def contact_begins(self, a: SimNode, b: SimNode, distance_m: float) -> None:
        """See `contacts.Contacts`."""
        signal = self._air.rssi_dbm(a, b, distance_m)
        if b.index not in self.bearers[a.index].near:
            self._on_range(self._kernel.now, a.index, b.index, True)
        for scanner, other in ((a, b), (b, a)):
            bearer = self.bearers[scanner.index]
            is_new = other.index not in bearer.near
            bearer.near[other.index] = signal
            if is_new:
                self._listen(bearer, self.bearers[other.index])
        self._review_links(a, b)

    def contact_ends(self, a: SimNode, b: SimNode) -> None:
        """See `contacts.Contacts`."""
        if b.index in self.bearers[a.index].near:
            self._on_range(self._kernel.now, a.index, b.index, False)
        for scanner, other in ((a, b), (b, a)):
            bearer = self.bearers[scanner.index]
            if bearer.near.pop(other.index, None) is not None:
                self._fall_silent(bearer, other.index)
        self._review_links(a, b)

    def ether_changed(self) -> None:
        """See `contacts.Bluetooth`. A partition is as if those it parts were out of range; where one has ended all that
        is not known is heard again."""
        for scanner in self.bearers:
            for index in scanner.near:
                other = self.bearers[index]
                if self._air.is_cut(other.node, scanner.node):
                    self._fall_silent(scanner, index)
                else:
                    self._listen(scanner, other)
            for link in scanner.links.values():
                self._review(link)

    def _review_links(self, a: SimNode, b: SimNode) -> None:
        for link in self.bearers[a.index].links.values():
            if b in (link.first, link.second):
                self._review(link)

    def _review(self, link: AirLink) -> None:
        """A link carries nothing while its ends cannot hear each other, and breaks if that lasts."""
        now_us, is_near = self._kernel.now, link.second.index in self.bearers[link.first.index].near
        is_whole = is_near and not self._is_parted(link.first, link.second, link.medium)
        if is_whole and self._parted.pop(link.id, None) is not None:
            link.meet(now_us)
        elif not is_whole and link.id not in self._parted:
            self._parted[link.id] = now_us
            link.part()
            self._kernel.call_at(now_us + self._ble.supervision_us, self._supervise, link, now_us)

    def _supervise(self, link: AirLink, parted_us: int) -> None:
        if self._parted.get(link.id) == parted_us:
            self._break(link, 0)

    def _is_parted(self, a: SimNode, b: SimNode, medium: Medium) -> bool:
        return self._air.is_cut(a, b, medium) or self._air.is_cut(b, a, medium)

    # -- hearing -------------------------------------------------------------------------------------------------------

    def scan(self, node: SimNode, effect: Scan) -> None:
        """A core wants to listen; in another mode, what comes next is heard at another time."""
        bearer = self.bearers[node.index]
        is_same = bearer.scan is not None and bearer.scan.mode is effect.mode
        bearer.scan = effect
        if not is_same:
            bearer.due = {}
            for other in bearer.near:
                self._listen(bearer, self.bearers[other])

    def advertise(self, node: SimNode, effect: Advertise, depart_us: int) -> None:
        """Notify the linked peers, and let the scanners in range hear what has changed."""
        advertise(node, effect, depart_us)
        bearer, bits = self.bearers[node.index], effect.bits
        if bits.wifi_direct and not self._antennas.has_wifi_direct(bearer.antenna):
            bits = msgspec.structs.replace(bits, wifi_direct=False)  # its system has told it so
        if bits != bearer.bits:
            bearer.bits = bits
            for other in bearer.near:
                self._listen(self.bearers[other], bearer)

    def _listen(self, scanner: _Bearer, other: _Bearer) -> None:
        if scanner.scan is None or other.bits is None or self._air.is_cut(other.node, scanner.node):
            return
        since_us = scanner.silent_since.pop(other.node.index, None)
        if since_us is not None and self._kernel.now - since_us >= AGAIN_US:
            scanner.again.add(other.node.index)
        if not self._is_news(scanner, other):
            return
        listening = Listening(*self._windows_ms(scanner, scanner.scan.mode), self._interval_ms(other))
        near, now_us = len(scanner.near), self._kernel.now
        at_us = heard_at_us(self._ble, listening, near, scanner.stream, now_us, scanner.phase)
        if at_us not in scanner.due:
            scanner.due[at_us] = []
            self._kernel.call_at(at_us, self._hear, scanner, at_us)
        scanner.due[at_us].append((other, other.bits))

    def _is_news(self, scanner: _Bearer, other: _Bearer) -> bool:
        index, heard = other.node.index, scanner.heard
        return index not in heard or index in scanner.again or heard[index] != _shown(scanner, other)

    def _windows_ms(self, scanner: _Bearer, mode: ScanMode) -> tuple[float, float]:
        if scanner.antenna.is_in_background:
            return scanner.antenna.system.scan_background_ms
        return self._ble.scan_low_power_ms if mode is ScanMode.LOW_POWER else self._ble.scan_low_latency_ms

    def _interval_ms(self, other: _Bearer) -> float:
        antenna = other.antenna
        is_slow = antenna.is_in_background
        return antenna.system.advertising_background_ms if is_slow else self._ble.advertising_interval_ms

    def _hear(self, scanner: _Bearer, at_us: int) -> None:
        """A scan window ends: tell what it brought, if that is still so."""
        news: list[Heard] = []
        for other, bits in scanner.due.pop(at_us, ()):
            index = other.node.index
            is_so = scanner.scan is not None and other.bits is bits and index in scanner.near
            if not is_so or self._air.is_cut(other.node, scanner.node):
                continue
            if self._air.is_lost(other.node, scanner.node):
                self._listen(scanner, other)
            elif self._is_news(scanner, other):
                scanner.again.discard(index)
                scanner.heard[index] = shown = _shown(scanner, other)
                news.append(Heard(index, scanner.near[index], shown))
        if news:
            scanner.node.post(PeersHeard(tuple(news)))

    def _fall_silent(self, scanner: _Bearer, index: int) -> None:
        if scanner.scan is not None and index in scanner.heard and index not in scanner.silent_since:
            now_us = scanner.silent_since[index] = self._kernel.now
            self._kernel.call_at(now_us + scanner.scan.silence_ms * 1000, self._silent, scanner, (index, now_us))

    def _silent(self, scanner: _Bearer, silence: tuple[int, int]) -> None:
        index, since_us = silence
        if scanner.silent_since.get(index) == since_us:
            del scanner.silent_since[index], scanner.heard[index]
            scanner.again.discard(index)
            scanner.node.post(PeersSilent((index,)))

    # -- links ---------------------------------------------------------------------------------------------------------

    def connect(self, node: SimNode, effect: Connect) -> None:
        """A core dials. Over Bluetooth the next advertisement is awaited, then link and services are set up; over Wi-Fi
        Direct a group is formed."""
        caller, target = self.bearers[node.index], self.bearers[effect.address]
        wifi = self._air.radio.wifi_direct if effect.medium is Medium.WIFI_DIRECT else None
        dial = self._dials[node.index, effect.op] = _Dial(caller, target, effect.op, wifi)
        if wifi is None:
            wait_us = round(caller.stream.uniform() * self._interval_ms(target) * 1000) + self._ble.setup_us
        elif self._antennas.has_wifi_direct(caller.antenna):
            wait_us = round((0.5 + caller.stream.uniform()) * wifi.setup_ms * 1000)
        else:
            wait_us = 0  # its system refuses
        self._kernel.call_at(self._kernel.now + wait_us, self._connected, dial)

    def _connected(self, dial: _Dial, _: object) -> None:
        self._dials.pop((dial.caller.node.index, dial.op), None)
        caller, target = dial.caller, dial.target
        if dial.is_over or caller.node.life != dial.life or not caller.node.is_up:
            return
        reason = self._refusal(caller, target, dial.wifi)
        if reason is not None:
            caller.node.post(ConnectFailed(dial.op, reason))
            return
        ends = (self._next_link(), self._antennas, caller.node, target.node, caller.near[target.node.index])
        link: AirLink
        link = BleLink(*ends, is_dialled=True) if dial.wifi is None else WifiDirectLink(*ends, dial.wifi)
        caller.links[link.id] = target.links[link.id] = link
        link.open()
        caller.node.post(Connected(dial.op, link.id))

    def _refusal(self, caller: _Bearer, target: _Bearer, wifi: WifiDirect | None) -> Reason | None:
        if target.node.index not in caller.near or target.bits is None or target.scan is None:
            return Reason.NO_ANSWER
        medium = Medium.BLE if wifi is None else Medium.WIFI_DIRECT
        if self._is_parted(caller.node, target.node, medium) or self._air.is_lost(target.node, caller.node, medium):
            return Reason.NO_ANSWER
        if wifi is not None and not all(self._antennas.has_wifi_direct(end.antenna) for end in (caller, target)):
            return Reason.UNAVAILABLE
        if any(self._is_full(bearer, wifi) for bearer in (caller, target)):
            return Reason.BUSY
        is_lost = caller.stream.uniform() * 100 < (wifi or self._ble).connect_failure_pct
        return Reason.NO_ANSWER if is_lost else None

    def _is_full(self, bearer: _Bearer, wifi: WifiDirect | None) -> bool:
        wide = sum(link.medium is Medium.WIFI_DIRECT for link in bearer.links.values())
        return len(bearer.links) - wide >= self._slots(bearer) if wifi is None else wide >= wifi.links_max

    def _slots(self, bearer: _Bearer) -> int:
        """Links that a radio keeps: what its core wants, if its system can."""
        can = self._antennas.links_max(bearer.node)
        return can if bearer.scan is None else min(can, bearer.scan.links_max)

    def cancel(self, node: SimNode, op: OpId) -> None:
        """A core gives a dial up."""
        dial = self._dials.pop((node.index, op), None)
        if dial is not None:
            dial.is_over = True
            node.post(ConnectFailed(op, Reason.CANCELLED))

    def disconnect(self, node: SimNode, effect: Disconnect) -> None:
        """A core hangs up: what is on its way still arrives."""
        link = self.bearers[node.index].links.get(effect.link)
        is_hearing = effect.if_quiet and link is not None and link.heard_until_us(node) > self._kernel.now
        if link is not None and not is_hearing:
            self._kernel.call_at(max(self._kernel.now, link.quiet_us), self._close, link)

    def _close(self, link: AirLink, _: object) -> None:
        self._end(link, self._kernel.now, lost=False)

    def _break(self, link: AirLink, after_us: int) -> None:
        self._end(link, self._kernel.now + after_us, lost=True)

    def _end(self, link: AirLink, at_us: int, *, lost: bool) -> None:
        """Nothing goes over it from now on; both ends are told at `at_us`."""
        self._parted.pop(link.id, None)
        for end in (link.first, link.second):
            self.bearers[end.index].links.pop(link.id, None)
            if end.links.pop(link.id, None) is not None:
                end.post_at(at_us, LinkDown(link.id, lost))
        link.end(at_us)

    # -- lives ---------------------------------------------------------------------------------------------------------

    def started(self, node: SimNode) -> None:
        """See `contacts.Bluetooth`; its core advertises and scans by itself."""

    def died(self, node: SimNode, told_us: int | None) -> None:
        """A node is gone: it is silent, and its links break."""
        bearer = self.bearers[node.index]
        for link in list(bearer.links.values()):
            node.links.pop(link.id, None)
            self._break(link, self._ble.supervision_us if told_us is None else told_us)
        bearer.bits = bearer.scan = None
        bearer.heard.clear()
        bearer.again.clear()
        bearer.silent_since.clear()
        bearer.due = {}
        for other in bearer.near:
            self._fall_silent(self.bearers[other], node.index)


def _shown(scanner: _Bearer, other: _Bearer) -> Bits | None:
    """What of an advertisement reaches the scanner's node: None where a system in the background hides the bits."""
    return other.bits if scanner.shows_bits and other.shows_bits else None
