"""How long Bluetooth LE takes to carry bytes, from the bits on the air upwards: pure closed forms, all in integers.

A packet is preamble, access address, header, payload and CRC; the answer to it follows after T_IFS, and the next packet
after another. L2CAP takes 4 bytes of the first payload, ATT 3 of a value. A connection event comes once an interval and
carries as many packets as fit, or as many as the weaker controller allows. An envelope travels as the values of one
characteristic, of which the first begins with 12 bytes of the protocol's own and each other with 3.

Fidelity boundary: packets of the other direction are empty; packets that are lost cost their expected number of
repetitions; encryption of the link layer (4 bytes a packet) is off, because the session above encrypts.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

T_IFS_US: Final = 150
"""Between a packet and its answer (U: Bluetooth Core, Vol 6 Part B, 4.1)."""
L2CAP_BYTES: Final = 4
"""Header of an L2CAP packet (U)."""
ATT_BYTES: Final = 3
"""Opcode and handle before a value (U)."""
VALUE_BYTES_MAX: Final = 512
"""An attribute's value is no longer (U: Bluetooth Core, Vol 3 Part F, 3.2.9)."""
FIRST_HEADER_BYTES: Final = 12
"""Before the first part of an envelope: version 1, flags 1, message id 2, length 4, CRC-32 4 (D: protocol)."""
NEXT_HEADER_BYTES: Final = 3
"""Before each other part (D: protocol, at most 3)."""
MILLI: Final = 1000


class Phy(Enum):
    """How bits become signals, the fastest first."""

    LE_2M = "2M"
    LE_1M = "1M"
    CODED_S2 = "coded_s2"
    CODED_S8 = "coded_s8"


_PHYS: Final = tuple(Phy)


def slower(first: Phy, second: Phy) -> Phy:
    """The PHY that two ends agree on."""
    return max(first, second, key=_PHYS.index)


def packet_us(phy: Phy, payload_bytes: int) -> int:
    """Time on the air of one packet, µs, of 0 to 251 bytes of payload (U: Bluetooth Core, Vol 6 Part B, 2.1, 2.2)."""
    if phy is Phy.LE_2M:
        return (11 + payload_bytes) * 4  # a preamble of 2 bytes
    if phy is Phy.LE_1M:
        return (10 + payload_bytes) * 8
    body_bits = (5 + payload_bytes) * 8  # header, payload, CRC
    per_bit = 2 if phy is Phy.CODED_S2 else 8
    return 80 + 256 + 16 + 24 + body_bits * per_bit + 3 * per_bit  # preamble, address, CI, TERM1; body; TERM2


def exchange_us(phy: Phy, payload_bytes: int) -> int:
    """Time of a packet, the empty one that answers it, and both gaps, µs."""
    return packet_us(phy, payload_bytes) + packet_us(phy, 0) + 2 * T_IFS_US


def ceiling_kbit_per_s(phy: Phy, value_bytes: int) -> float:
    """What one packet after another carries of values that fit into a packet each, kbit/s."""
    return value_bytes * 8 * 1000 / exchange_us(phy, value_bytes + ATT_BYTES + L2CAP_BYTES)


def value_bytes(mtu: int) -> int:
    """Bytes of one notification or write."""
    return min(mtu - ATT_BYTES, VALUE_BYTES_MAX)


class Cost(NamedTuple):
    """What an envelope takes of a link."""

    values: int
    """Notifications or writes,"""
    packets: int
    """packets of the link layer,"""
    air_us: int
    """and time on the air, answers and gaps included."""


class Timing(NamedTuple):
    """What the two ends of a link have agreed on."""

    phy: Phy
    interval_us: int
    """Time between two connection events."""
    value_bytes: int
    data_bytes: int
    """Payload of a packet at most: 27, or up to 251 with data length extension."""
    packets_max: int | None = None
    """Packets of a connection event at most; None: as many as fit."""
    kbit_per_s: float | None = None
    """Goodput of long notifications that is given, in place of what the rest leads to."""

    @property
    def packet_us(self) -> int:
        """Mean time of a packet of a full value and its answer, µs, rounded up."""
        packets, air_us = self.value_cost(self.value_bytes)
        return -(-air_us // packets)

    @property
    def packets_per_event_milli(self) -> int:
        """Packets that a connection event carries, thousandths, at least one packet unless a rate is given."""
        if self.kbit_per_s is not None:
            of_value = self.value_cost(self.value_bytes)[0]
            values_milli = self.kbit_per_s * self.interval_us / 8 / self.value_bytes
            return max(1, round(values_milli * of_value))
        fit = max(1, self.interval_us // self.packet_us)
        return MILLI * (fit if self.packets_max is None else min(fit, self.packets_max))

    @property
    def goodput_kbit_per_s(self) -> float:
        """What notifications of full length carry, headers of the protocol not counted, kbit/s."""
        packets = self.value_cost(self.value_bytes)[0]
        return self.packets_per_event_milli * self.value_bytes * 8 / packets / self.interval_us

    @property
    def write_kbit_per_s(self) -> float:
        """What acknowledged writes of full length carry: one in two intervals at best, kbit/s."""
        return self.value_bytes * 8 * 1000 / (self.events_of_write(self.value_bytes) * self.interval_us)

    def events_of_write(self, size_bytes: int) -> int:
        """Connection events from a write to the next: those of the value, and one for the response."""
        packets = self.value_cost(size_bytes)[0]
        return -(-packets * MILLI // self.packets_per_event_milli) + 1

    def value_cost(self, size_bytes: int) -> tuple[int, int]:
        """Packets and air time, µs, of one value."""
        left = size_bytes + ATT_BYTES + L2CAP_BYTES
        full = (left - 1) // self.data_bytes
        rest = left - full * self.data_bytes
        return full + 1, full * exchange_us(self.phy, self.data_bytes) + exchange_us(self.phy, rest)

    def cost(self, size_bytes: int) -> Cost:
        """What an envelope of so many bytes takes."""
        first = self.value_bytes - FIRST_HEADER_BYTES
        if size_bytes <= first:
            packets, air_us = self.value_cost(size_bytes + FIRST_HEADER_BYTES)
            return Cost(1, packets, air_us)
        step = self.value_bytes - NEXT_HEADER_BYTES
        others = -(-(size_bytes - first) // step)
        last = size_bytes - first - (others - 1) * step
        packets, air_us = self.value_cost(self.value_bytes)
        last_packets, last_us = self.value_cost(last + NEXT_HEADER_BYTES)
        return Cost(1 + others, others * packets + last_packets, others * air_us + last_us)
