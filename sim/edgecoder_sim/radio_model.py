"""What the radios of a scenario can do: their types, and the operating systems built in.

Decides the numbers and their units; what becomes of them is left to `ble_timing`, `radio` and `scanning`. Every default
has the kind of its figure beside it: S read from a source, M measured, D derived, U well known and not re-verified, I
interpolated. A scenario may override any of them.

Fidelity boundary: the radio is a disc; systems differ by the parameters here, not by their versions or chips.
"""

from __future__ import annotations

import math
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from edgecoder_sim.ble_timing import Phy, Timing, slower, value_bytes
from edgecoder_sim.profiles import LatencyMs, MegabitsPerS, Percent

AdvertisingMs = Annotated[float, Meta(ge=20, le=10_240, extra={"noun": "an interval in ms"})]
IntervalMs = Annotated[float, Meta(ge=7.5, le=4000, extra={"noun": "an interval in ms"})]


class System(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One operating system, as far as Bluetooth shows it. Of two ends of a link the weaker decides."""

    phy: Phy = Phy.LE_2M
    """The fastest PHY that it uses: `2M`, `1M`, `coded_s2` or `coded_s8`."""
    mtu: Annotated[int, Meta(ge=23, le=517, extra={"noun": "a size in bytes"})] = 517
    """Bytes of an ATT packet at most (S: Android 14 and BlueZ ask for 517)."""
    data_bytes: Annotated[int, Meta(ge=27, le=251, extra={"noun": "a size in bytes"})] = 251
    """Payload of a packet of the link layer at most, bytes; 27 is without data length extension (U: Bluetooth 4.2)."""
    packets_max: Annotated[int, Meta(ge=1, le=1000, extra={"noun": "a count"})] | None = None
    """Packets in one connection event at most; null is as many as fit."""
    interval_ms_min: IntervalMs = 7.5
    """Shortest connection interval that it grants, ms (U: Bluetooth Core)."""
    interval_step_ms: Annotated[float, Meta(ge=1.25, le=1000, extra={"noun": "a step in ms"})] = 1.25
    """Connection intervals are multiples of it, ms (U: Bluetooth Core)."""
    links_max: Annotated[int, Meta(ge=1, le=64, extra={"noun": "a number of links"})] = 7
    """Links that its Bluetooth keeps at once (S: Android 7, some 15; bitchat)."""
    wifi_direct: bool = False
    """Whether it lets apps open links over Wi-Fi Direct or Wi-Fi Aware."""
    in_background_pct: Percent = 0.0
    """Nodes whose app is in the background for the whole run, percent: nobody looks at it, the screen may be off."""
    scan_background_ms: tuple[LatencyMs, LatencyMs] = (512.0, 10_240.0)
    """Scan window and its period in the background, ms, whatever the node asks for (S: AOSP ScanUtil, screen off)."""
    advertising_background_ms: AdvertisingMs = 1000.0
    """Time between two advertisements in the background, ms (U: AOSP, ADVERTISE_MODE_LOW_POWER)."""
    shows_bits_in_background: bool = True
    """Whether an advertisement in the background has the ten bytes that tell what changed, and whether a scanner in the
    background is told of every change. Without them peers read again after `reread_ms`."""


class Ble(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How Bluetooth radios advertise, scan, connect and carry."""

    advertising_interval_ms: AdvertisingMs = 152.5
    """Time between two advertisements, ms: sooner heard for more battery (S: the shortest but one of Apple's list,
    QA1931)."""
    advertising_delay_ms: Annotated[float, Meta(ge=0, le=10, extra={"noun": "a delay in ms"})] = 10.0
    """Each is up to this later, at random, ms (U: advDelay of the Bluetooth Core specification)."""
    advertisement_us: Annotated[int, Meta(ge=1, le=20_000, extra={"noun": "a time in µs"})] = 376
    """Time of one on the air, µs (D: 47 bytes at 1 Mbit/s: preamble, address, header, 6 + 31 bytes, CRC)."""
    advertisement_loss_pct: Annotated[float, Meta(ge=0, le=99, extra={"noun": "a share in percent"})] = 10.0
    """Advertisements that are lost though nobody else sends, percent (I)."""
    scan_low_latency_ms: tuple[LatencyMs, LatencyMs] = (100.0, 100.0)
    """Scan window and its period of a node that has no coordinator, ms (S: AOSP ScanUtil, low latency)."""
    scan_low_power_ms: tuple[LatencyMs, LatencyMs] = (140.0, 1400.0)
    """The same of a node that has one, ms (S: AOSP ScanUtil, low power)."""
    interval_ms: IntervalMs = 30.0
    """Connection interval that nodes ask for, ms; both systems must grant it (I: between Android's 11 to 15 in a hurry
    and 50 at rest)."""
    packet_loss_pct: Annotated[float, Meta(ge=0, le=90, extra={"noun": "a share in percent"})] = 2.0
    """Packets that have to be repeated though nobody else sends, percent (I)."""
    rate_kbit_per_s: Annotated[float, Meta(ge=0.1, le=10_000, extra={"noun": "a rate in kbit/s"})] | None = None
    """What notifications carry over any link, kbit/s, in place of what PHY, MTU and systems lead to; null is these."""
    setup_intervals: Annotated[int, Meta(ge=1, le=200, extra={"noun": "a count"})] = 20
    """Connection intervals from a heard advertisement to a link that carries envelopes: six to establish it, and seven
    round trips for MTU, services and subscriptions (I)."""
    connect_failure_pct: Percent = 3.0
    """Dials that fail for no reason that anybody sees, percent (I)."""
    supervision_ms: LatencyMs = 6000.0
    """A link that carries nothing for so long is lost, ms (S: iOS takes 6 to 18 s, Apple forum 773555)."""
    shadowing_db: Annotated[float, Meta(ge=0, le=20, extra={"noun": "a deviation in dB"})] = 4.0
    """Standard deviation of the signal between pairs at one distance, dB (U: 3 to 6 indoors)."""

    @property
    def interval_us(self) -> int:
        """Connection interval that nodes ask for, µs."""
        return round(self.interval_ms * 1000)

    @property
    def setup_us(self) -> int:
        """Time from a heard advertisement to a link that carries envelopes, µs."""
        return round(self.setup_intervals * self.interval_ms * 1000)

    @property
    def supervision_us(self) -> int:
        """After how long a silent link is lost, µs."""
        return round(self.supervision_ms * 1000)


class WifiDirect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A second way from device to device: Wi-Fi Direct or Wi-Fi Aware. It reaches as far as Bluetooth, over which
    devices find each other."""

    rate_mbit_per_s: MegabitsPerS = 320.0
    """What one channel carries, Mbit/s; all links in range of each other share it (S: paper on bit rates between
    devices, Android within 20 m)."""
    latency_ms: LatencyMs = 3.0
    """One-way delay of an envelope, ms (I: as on an idle access point)."""
    setup_ms: LatencyMs = 5000.0
    """Mean time to form a group, ms, uniform from half of it to one and a half: who owns it, keys, an address (I: 2 to
    8 s on Android)."""
    connect_failure_pct: Percent = 5.0
    """Groups that do not come about for no reason that anybody sees, percent (I)."""
    links_max: Annotated[int, Meta(ge=1, le=64, extra={"noun": "a number of links"})] = 4
    """Links that a node keeps at once (I: owners of a group take some 8 clients)."""

    @property
    def bytes_per_s(self) -> int:
        """What one channel carries, bytes a second."""
        return round(self.rate_mbit_per_s * 125_000)

    @property
    def latency_us(self) -> int:
        """One-way delay of an envelope, µs."""
        return round(self.latency_ms * 1000)


class Radio(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bluetooth between nodes that stand on one floor: a disc of fixed range around each."""

    area_m: tuple[
        Annotated[float, Meta(gt=0, le=1_000_000, extra={"noun": "a length in m"})],
        Annotated[float, Meta(gt=0, le=1_000_000, extra={"noun": "a length in m"})],
    ] = (60.0, 40.0)
    """Width and depth of the floor, m; nodes stand on it uniformly."""
    range_m: Annotated[float, Meta(gt=0, le=10_000, extra={"noun": "a range in m"})] = 15.0
    """Nodes at most so far apart hear each other, m (D: -59 dBm at 1 m and an exponent of 3 give -94 dBm at 15 m, about
    where receivers give up)."""
    scanning: bool = True
    """Whether nodes scan, dial and hang up, as the protocol has it; else those who meet while both have a free slot are
    linked as long as they stay in range, which takes less time to simulate and flatters."""
    ble: Ble = Ble()
    """Timing. Advertising, scanning and connecting are used where `scanning` is true."""
    wifi_direct: WifiDirect | None = None
    """Wi-Fi Direct among the devices and systems that have it; null is none."""
    links_max: Annotated[int, Meta(ge=0, le=64, extra={"noun": "a number of links"})] = 5
    """Links that a node keeps at once; 0 turns Bluetooth off. More: better connected, more battery (S: Android allows
    7, bitchat keeps 5 to 6)."""
    rssi_at_1m_dbm: Annotated[int, Meta(ge=-100, le=20, extra={"noun": "a signal in dBm"})] = -59
    """Signal at 1 m, dBm (U: the usual calibration of beacons)."""
    path_loss_exponent: Annotated[float, Meta(ge=1, le=6, extra={"noun": "an exponent"})] = 3.0
    """How fast the signal falls: 2 in the open, 2.5 to 4 indoors (U: log-distance model)."""

    def rssi_dbm(self, distance_m: float) -> int:
        """Signal at a distance, dBm; closer than 10 cm counts as 10 cm."""
        return round(self.rssi_at_1m_dbm - 10 * self.path_loss_exponent * math.log10(max(distance_m, 0.1)))


def agreed(ble: Ble, first: System, second: System) -> Timing:
    """The link that two systems agree on."""
    step_us = round(max(first.interval_step_ms, second.interval_step_ms) * 1000)
    least_us = round(max(ble.interval_ms, first.interval_ms_min, second.interval_ms_min) * 1000)
    limits = [system.packets_max for system in (first, second) if system.packets_max is not None]
    return Timing(
        slower(first.phy, second.phy),
        -(-least_us // step_us) * step_us,
        value_bytes(min(first.mtu, second.mtu)),
        min(first.data_bytes, second.data_bytes),
        min(limits, default=None),
        ble.rate_kbit_per_s,
    )


SYSTEMS: Final[dict[str, System]] = {
    # 2M PHY and data length extension since Android 8 (U). 1000 kbit/s and more from an accessory at 15 ms (S: Apple
    # forum 770717, the same accessory).
    "android": System(wifi_direct=True),
    # MTU about 185. 5 packets an event on all models (S: Apple forum 773555); multiples of 15 ms, of which some devices
    # make 30 (S: Apple's Accessory Design Guidelines). 5 packets of 241 bytes in 30 ms are 321 kbit/s (D), which is
    # the 300 to 400 that were measured on iOS 18 (S: Apple forum 770717).
    # In the background: no own data, identifiers in the overflow area alone, and scans that tell of a device once (S:
    # Apple forum 814450); the slowest advertising of Apple's list (S: QA1931; that it is this one, I); scans like
    # Android's (I).
    "ios": System(
        mtu=185,
        packets_max=5,
        interval_ms_min=30.0,
        interval_step_ms=15.0,
        advertising_background_ms=1285.0,
        shows_bits_in_background=False,
    ),
    # BlueZ, macOS and Windows alike: an MTU of 517 (M: BlueZ), as many packets as fit (I).
    "desktop": System(),
}
"""Operating systems that a device may name without describing them."""
