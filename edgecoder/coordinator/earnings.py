"""What the senders of one file earn: bytes of which a receiver says that they fit, up to the size of the file.

They count whether the broker ordered them or not: peers in reach give without it, and so do all when a broker is gone.
So a receiver can give a friend what it has not sent; the rule of credits can be farmed anyway (`seeding/credits.py`).
"""

from __future__ import annotations

from edgecoder.coordinator.swarm import Peer, Swarm
from edgecoder.core.context import Context
from edgecoder.core.ids import NodeId
from edgecoder.errors import Reason
from edgecoder.seeding.credits import CreditBook
from edgecoder.trace import SeedCredited


class Earnings:
    """Credits for one file, in a book that all files share."""

    def __init__(self, context: Context, swarm: Swarm, book: CreditBook, model_id: str) -> None:
        self._context = context
        self._swarm = swarm
        self._book = book
        self._model_id = model_id
        self._credited_bytes: dict[NodeId, int] = {}
        """For which members have given others credit, whether they are here or not."""

    def joined(self, peer: Peer) -> None:
        """A member has come, or come back: what it has given credit for counts on."""
        peer.credited_bytes = self._credited_bytes.get(peer.node, 0)

    def credit(self, receiver: Peer, sender: NodeId, piece: int, size_bytes: int) -> None:
        """A receiver says that bytes of a member fit. It cannot give credit for more than the file has."""
        layout = self._swarm.layout
        room = layout.file_size_bytes - receiver.credited_bytes
        size = min(size_bytes, layout.piece_bytes(piece), room)
        if sender not in self._swarm.peers or sender == receiver.node or size <= 0:
            return
        seeders = self._swarm.seeders
        if self._book.add(sender, size, seeders) is None:
            self._context.drop("credits", Reason.OVERFLOW)
            return
        receiver.credited_bytes += size
        if receiver.node in self._credited_bytes or len(self._credited_bytes) < self._context.config.agents_max:
            self._credited_bytes[receiver.node] = receiver.credited_bytes
        total = self._book.micro_credits(sender)
        self._context.trace(SeedCredited(self._model_id, sender, receiver.node, size, seeders, total))
