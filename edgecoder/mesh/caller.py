"""Who calls devices for the swarms: transfers get links through it, and know nothing of the radio.

Tasks go first: a device that may have pieces is called like one that is to be read, in its turn.
"""

from __future__ import annotations

from edgecoder.core.ids import NodeId
from edgecoder.mesh.neighbours import Neighbours
from edgecoder.mesh.peers import Peers


class Caller:
    """See `seeding.near.Caller`."""

    def __init__(self, neighbours: Neighbours, peers: Peers) -> None:
        self._neighbours = neighbours
        self._peers = peers

    def files_of(self, node: NodeId) -> bytes:
        """See `seeding.near.Caller`."""
        known = self._peers.capabilities_of(node)
        return b"" if known is None else known.piece_map_digest

    def call_wide(self, node: NodeId, size_bytes: int) -> bool:
        """See `seeding.near.Caller`."""
        if not self._neighbours.goes_wide(node, size_bytes):
            return False
        self._neighbours.dial(node, lambda _: None, size_bytes)
        return True

    def look_again(self) -> None:
        """See `seeding.near.Caller`."""
        self._neighbours.look_again()
