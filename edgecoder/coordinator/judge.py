"""The judge of one file: what follows from what its receivers say of senders.

Who did not deliver is kept from the receiver that says so; who is doubted (`repute`), could not be reached, or gives
nothing counts for nothing. Orders and grants are left to the swarm and the broker.
"""

from __future__ import annotations

from typing import Final

from edgecoder.coordinator.repute import Repute
from edgecoder.coordinator.swarm import Peer, Swarm
from edgecoder.core.context import Context
from edgecoder.core.ids import Micros, NodeId
from edgecoder.errors import Reason

MISSED_BY: Final = 2
"""A sender that so many receivers could not reach is gone until it says something."""
REFUSE_MS: Final = 60_000
"""A sender that did not deliver is not given to the same receiver again for so long."""
GONE_MS: Final = 5_000
"""One that could not be reached may be back soon, and then hold what nobody else does."""
_NEVER: Final[Micros] = 1 << 62


class Judge:
    """Who is believed among the members of a swarm, and who is kept from whom."""

    def __init__(self, context: Context, swarm: Swarm) -> None:
        self._context = context
        self._swarm = swarm
        self._repute = Repute(context.config.agents_max)

    def heard(self, peer: Peer) -> None:
        """A member has said something: it is there."""
        self._swarm.heard(peer, self._context.now)
        if peer.missed_by:
            peer.missed_by.clear()
            self.judge(peer)

    def praise(self, receiver: Peer, sender: NodeId) -> None:
        """A sender has delivered what was ordered of it."""
        other = self._swarm.peers.get(sender)
        if other is not None:
            self._repute.praise(receiver.node, sender)
            other.missed_by.clear()
            if other.is_doubted:
                self.judge(other)

    def blame(self, receiver: Peer, sender: NodeId, reason: Reason, *, is_order: bool) -> None:
        """A sender did not deliver to a receiver: they are kept apart, for good where the bytes were wrong. Only what
        was ordered tells against it."""
        other = self._swarm.peers.get(sender)
        if other is None or reason in (Reason.DUPLICATE, Reason.CANCELLED):
            return
        is_proof = reason in (Reason.PIECE_CORRUPT, Reason.BANNED)
        wait_ms = GONE_MS if reason is Reason.PEER_LOST else REFUSE_MS
        receiver.refused[sender] = _NEVER if is_proof else self._context.in_ms(wait_ms)
        if is_order and reason is Reason.PEER_LOST:
            other.missed_by.add(receiver.node)
            if receiver.is_dialable:  # there may be a way in the other direction, and if not, in this one again
                receiver.unreached ^= {sender}
            self.judge(other)
        if reason is Reason.NO_TICKET:  # it never got the one that it was sent
            receiver.tickets.pop(sender, None)
        if is_order:
            self._repute.accuse(receiver.node, sender, reason)
            self.judge(other)

    def judge(self, peer: Peer) -> None:
        """What a member has counts if it gives, and is believed."""
        is_gone = len(peer.missed_by) >= MISSED_BY
        self._swarm.doubt(peer, is_doubted=is_gone or not peer.slots or self._repute.is_doubted(peer.node))
