"""What goes over a connection of a swarm, and how many bytes that is.

Sizes: BEP 3, 6 and 10, each with its 4 bytes of length, as bt_peer_connection.cpp of libtorrent 2.1 writes them.

Fidelity boundary: a message is told whole, when its last byte arrives. The extension handshake is of a typical size (I:
its dictionary holds version, client name and eight short names), and nothing is made of it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Kind(IntEnum):
    """The messages that are modelled."""

    HANDSHAKE = 0
    EXTENDED = 1
    HAVE_ALL = 2
    BITFIELD = 3
    CHOKE = 4
    UNCHOKE = 5
    INTERESTED = 6
    NOT_INTERESTED = 7
    HAVE = 8
    ALLOWED_FAST = 9
    REQUEST = 10
    REJECT = 11
    PIECE = 12


EMPTY_BYTES: Final = 5
HEADER_BYTES: Final = {
    Kind.HANDSHAKE: 68,
    Kind.EXTENDED: 230,
    Kind.HAVE_ALL: EMPTY_BYTES,
    Kind.BITFIELD: EMPTY_BYTES,
    Kind.CHOKE: EMPTY_BYTES,
    Kind.UNCHOKE: EMPTY_BYTES,
    Kind.INTERESTED: EMPTY_BYTES,
    Kind.NOT_INTERESTED: EMPTY_BYTES,
    Kind.HAVE: 9,
    Kind.ALLOWED_FAST: 9,
    Kind.REQUEST: 17,
    Kind.REJECT: 17,
    Kind.PIECE: 13,
}
"""Bytes of a message without the block, if it carries one. An empty bitfield is have_none."""

Message = tuple[Kind, int]
"""With what it is about: a piece, a block, or the set of pieces of a bitfield."""

MTU_BYTES: Final = 1460
PACKET_HEADER_BYTES: Final = 40


def ip_overhead(size_bytes: int) -> int:
    """What libtorrent takes TCP and IP to add to a read or a write (stat::trancieve_ip_packet)."""
    return max(1, -(-size_bytes // MTU_BYTES)) * PACKET_HEADER_BYTES
