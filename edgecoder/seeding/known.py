"""The peers of one file that a broker has named, and what they have said since: whom to ask when there is no broker.

A broker gives a ticket for each pair that it joins, and each answer of a sender says which pieces it has. So a node
whose broker is lost goes on by itself, as BitTorrent does: it asks those peers for the pieces that the fewest of them
have. One of whom nothing is known, or nothing new, is asked for any piece at all: its refusal says what it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from edgecoder.core.ids import Micros, NodeId
from edgecoder.wire.messages import Ticket

PEERS_MAX = 256
"""Peers that are remembered for one file, the latest named: far more than a broker's degree (20)."""
_AGAIN: Micros = 1_000_000
"""A peer that gave nothing is asked again after this, and after twice as long each further time,"""
_AGAIN_MAX: Micros = 32_000_000
"""but for this."""


class Known(msgspec.Struct, gc=False):
    """One peer."""

    ticket: Ticket | None = None
    endpoint: str = ""
    is_reverse: bool = False
    """Whether nobody can dial it."""
    have: int = 0
    """What it has said that it has."""
    not_before: Micros = 0
    vain: int = 0
    """Requests in a row that brought nothing."""


class KnownPeers:
    """All of them, for one file."""

    def __init__(self, piece_count: int) -> None:
        self._all_pieces = (1 << piece_count) - 1
        self._peers: dict[NodeId, Known] = {}

    def named(
        self, peer: NodeId, endpoint: str, ticket: Ticket | None, piece: int, *, is_reverse: bool = False
    ) -> None:
        """A broker says that a peer has a piece; with a ticket for it, unless the one that was given still holds."""
        known = self._peers.pop(peer, None) or Known()
        if len(self._peers) >= PEERS_MAX:
            del self._peers[next(iter(self._peers))]
        self._peers[peer] = known
        known.endpoint, known.is_reverse = endpoint, is_reverse
        known.have |= 1 << piece
        if ticket is not None:
            known.ticket = ticket

    def address(self, peer: NodeId) -> tuple[Ticket | None, str]:
        """The latest ticket for a peer, and where it is reached."""
        known = self._peers.get(peer)
        return (None, "") if known is None else (known.ticket, known.endpoint)

    def is_reverse(self, peer: NodeId) -> bool:
        """Whether a peer has to dial this node."""
        known = self._peers.get(peer)
        return known is not None and known.is_reverse

    def gave(self, peer: NodeId, have: int) -> None:
        """A peer has sent a piece, and said what it has."""
        known = self._peers.get(peer)
        if known is not None:
            known.have |= have & self._all_pieces
            known.vain, known.not_before = 0, 0

    def failed(self, peer: NodeId, piece: int, have: int, now: Micros) -> None:
        """A peer has not sent a piece, whatever it says that it has."""
        known = self._peers.get(peer)
        if known is not None:
            known.have = (have & self._all_pieces or known.have) & ~(1 << piece)
            known.not_before = now + min(_AGAIN << known.vain, _AGAIN_MAX)
            known.vain = min(known.vain + 1, 16)

    def choose(
        self, wanted: int, is_free: Callable[[NodeId], bool], first_of: Callable[[int], int], now: Micros
    ) -> tuple[NodeId, int] | None:
        """Whom to ask for what: of the wanted pieces that a peer has who may be asked now, one of those that the fewest
        peers have; where none has any, a wanted piece of somebody who may have got it meanwhile."""
        askable = {
            peer: known
            for peer, known in self._peers.items()
            if known.ticket is not None and now >= known.not_before and is_free(peer)
        }
        if not askable or not wanted:
            return None
        offered = 0
        for known in askable.values():
            offered |= known.have
        if not offered & wanted:
            return min(askable, key=lambda peer: (askable[peer].vain, askable[peer].not_before)), first_of(wanted)
        piece = first_of(rarest(offered & wanted, (known.have for known in self._peers.values())))
        holders = [peer for peer, known in askable.items() if known.have >> piece & 1]
        return min(holders, key=lambda peer: (askable[peer].have.bit_count(), peer)), piece

    def next_at(self, now: Micros) -> Micros | None:
        """When the next peer may be asked that may not be now; None: there is none."""
        return min((known.not_before for known in self._peers.values() if known.not_before > now), default=None)


def rarest(pieces: int, maps: Iterable[int]) -> int:
    """Those of some pieces that the fewest maps have; each is in one of the maps at least."""
    at_least: list[int] = []  # the pieces that more than so many maps have
    for have in maps:
        carry = have & pieces
        for count, held in enumerate(at_least):
            at_least[count], carry = held | carry, held & carry
        if carry:
            at_least.append(carry)
    for more in at_least[1:]:
        if pieces & ~more:
            return pieces & ~more
    return pieces
