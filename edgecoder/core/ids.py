"""The identifiers that the core passes around, and the roles of nodes and links."""

from __future__ import annotations

from enum import Enum

Micros = int
"""Monotonic time of the host, microseconds."""
NodeId = bytes
"""32 bytes: SHA-256 of the node's public key."""
LinkId = int
"""Opaque handle of one link, chosen by the host; never used again after LinkDown."""
Address = int
"""Opaque handle of a device that the radio hears, chosen by the host."""
OpId = int
"""An effect that is owed one completion: epoch · 2³² + counter, so that no two lives share one."""
CommandId = int
"""A user's request that is owed one Reply; chosen by the host."""
RequestId = int
"""Opaque handle of a peer's request for a piece, chosen by the host; never used again."""
ChannelId = int
"""Opaque handle of a connection that a peer has dialled to give pieces over, chosen by the host; never used again."""
FileId = bytes
"""32 bytes: the SHA-256 of a whole file."""
TaskId = bytes
"""16 bytes: 8 of the origin's id, 4 of its epoch, 4 of a counter."""

COUNTER_BITS = 32
"""Width of the counter below the epoch in an OpId and in a generation."""


class Role(Enum):
    """What a node is for."""

    PHONE = "phone"
    AGENT = "agent"
    COORDINATOR = "coordinator"


class Medium(Enum):
    """What a link runs over."""

    BLE = "ble"
    LAN = "lan"
    WAN = "wan"
    WIFI_DIRECT = "wifi_direct"
    """From device to device, for what is too much for Bluetooth."""


class Wanted(Enum):
    """What a peer asks for of a file."""

    BYTES = "bytes"
    """Those of a piece."""
    HASHES = "hashes"
    """Those of all leaves of the file: by them what comes is proved."""
    NOTHING = "nothing"
    """Only whether it would get something, and which pieces are here."""


def task_id(origin: NodeId, epoch: int, counter: int) -> TaskId:
    """The id of the origin's `counter`-th task of this life."""
    return origin[:8] + (epoch & 0xFFFFFFFF).to_bytes(4, "big") + (counter & 0xFFFFFFFF).to_bytes(4, "big")
