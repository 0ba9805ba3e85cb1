"""Wi-Fi Direct: a second way from device to device, for what is too much for Bluetooth.

Devices that hear each other over Bluetooth may form a group, which takes seconds, and then share one channel with all
others in range: who sends keeps it for the length of a frame.

Fidelity boundary: it reaches as far as Bluetooth at least, at one rate at any distance; a group is a pair, its owner's
other clients are links of their own; no frame collides, and access points do not use the channel. iOS has none.
"""

from __future__ import annotations

from typing import Final

from edgecoder.core.ids import LinkId, Medium
from edgecoder_sim.host import SimNode
from edgecoder_sim.radio import SECOND_US, AirLink, Antennas
from edgecoder_sim.radio_model import WifiDirect

BULK_BYTES: Final = 262_144
"""What of a piece keeps the channel at once: a block (protocol), 6.6 ms at 320 Mbit/s."""


class WifiDirectLink(AirLink):
    """A link over Wi-Fi Direct."""

    __slots__ = ("_bytes_per_s", "_latency_us")
    medium = Medium.WIFI_DIRECT
    bulk_bytes = BULK_BYTES

    def __init__(
        self, link: LinkId, antennas: Antennas, a: SimNode, b: SimNode, rssi_dbm: int, wifi: WifiDirect
    ) -> None:
        super().__init__(link, antennas, a, b, rssi_dbm, is_dialled=True)
        self._bytes_per_s, self._latency_us = wifi.bytes_per_s, wifi.latency_us
        self.ack_us = wifi.latency_us

    def _carry(self, direction: int, size_bytes: int, depart_us: int, *, is_acknowledged: bool) -> int:  # noqa: ARG002
        """Wait for the channel, and keep it for these bytes."""
        first, second = self._ends
        begin_us = max(depart_us, self._antennas.wifi_free_us(first, second))
        end_us = begin_us + -(-size_bytes * SECOND_US // self._bytes_per_s)
        first.wifi_free_us = second.wifi_free_us = end_us
        return end_us + self._latency_us
