"""What a transfer has asked for, and what it needs of the node around it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import msgspec

from edgecoder.core.effects import Source
from edgecoder.core.ids import ChannelId, FileId, LinkId, Micros, NodeId, OpId
from edgecoder.errors import Reason
from edgecoder.protocol import CDN_ID
from edgecoder.seeding.holdings import Holding
from edgecoder.seeding.prices import Prices
from edgecoder.wire.messages import Granted


class Swarm(Protocol):
    """What a transfer needs of the node around it."""

    def got(self, holding: Holding, piece: int, sender: NodeId, size_bytes: int) -> None:
        """A piece is verified here; the sender gave so much of it."""
        ...

    def taking(self, holding: Holding, pieces: range) -> None:
        """It is fetching pieces that nobody granted."""
        ...

    def lost(
        self,
        holding: Holding,
        piece: int,
        sender: NodeId,
        reason: Reason,
        size_bytes: int = 0,
        link: LinkId | None = None,
    ) -> None:
        """A peer did not give a piece whole; so much of it fits."""
        ...

    def awaits(self, holding: Holding, row: Granted) -> bool:
        """Whether a granted piece has to wait for the connection of its sender, whom nobody can dial: it is granted
        again when that is there, or lost."""
        ...

    def channel_to(self, peer: NodeId) -> ChannelId | None:
        """The connection that such a sender has offered."""
        ...

    def freed(self) -> None:
        """A peer over a radio link may be asked for more."""
        ...

    def ready(self, holding: Holding) -> None:
        """There is room for the file: whoever can give it may be asked."""
        ...

    def settles_at(self) -> Micros:
        """When this life should have the links that the one before had."""
        ...

    def asked_since(self, file: FileId) -> Micros:
        """When the broker that there is, or was last, was first told of a file."""
        ...

    def rtt(self) -> Micros:
        """To the broker and back."""
        ...

    def prices(self) -> Prices:
        """What each kind of source costs now."""
        ...

    def wish_changed(self, holding: Holding) -> None:
        """Brokers are to hear whether more is wanted of them."""
        ...

    def has_broker(self, file: FileId) -> bool:
        """Whether the file's broker can be reached."""
        ...


class Request(msgspec.Struct, gc=False):
    """Something that a source was asked for."""

    op: OpId
    piece: int
    count: int
    source: Source
    peer: NodeId | None
    began: Micros
    ends: Micros
    """When it should be done."""
    arrived: int = 0
    """Pieces of it that are here."""
    first_leaf: int = 0
    link: LinkId | None = None
    """The radio link that it went over."""
    is_given_up: bool = False
    is_bulk: bool = False
    """The node asked the CDN by itself: for so much that the time to the first byte does not matter."""
    gives_way: bool = False
    """Whether that is no fault of the peer's: there is a better link to it."""

    @property
    def pieces(self) -> int:
        """The pieces that it is for."""
        return ((1 << self.count) - 1) << self.piece


class Requests:
    """All that is under way."""

    def __init__(self) -> None:
        self._of_op: dict[OpId, Request] = {}
        self.flying = 0
        """Pieces that somebody was asked for."""
        self.peers = 0
        """Requests to others than the CDN."""

    def __contains__(self, op: OpId) -> bool:
        return op in self._of_op

    def __iter__(self) -> Iterator[Request]:
        return iter(self._of_op.values())

    def __len__(self) -> int:
        return len(self._of_op)

    def get(self, op: OpId) -> Request | None:
        """The request of an operation."""
        return self._of_op.get(op)

    def add(self, request: Request) -> None:
        """One more."""
        self._of_op[request.op] = request
        self.flying |= request.pieces
        self.peers += request.source is not Source.CDN

    def pop(self, op: OpId) -> Request:
        """One has ended: its pieces are not on their way any more, but for those that others were asked for too."""
        request = self._of_op.pop(op)
        self.peers -= request.source is not Source.CDN
        self.flying &= ~request.pieces
        for other in self._of_op.values():
            self.flying |= other.pieces
        return request

    def of_peer(self, peer: NodeId) -> int:
        """How many one peer was asked."""
        return sum(1 for request in self._of_op.values() if request.peer == peer)

    def is_asked(self, sender: NodeId, piece: int) -> bool:
        """Whether a sender, or the CDN, was asked for a piece alone."""
        of = self._of_op.values()
        return any(each.piece == piece and each.count == 1 and (each.peer or CDN_ID) == sender for each in of)

    def of_source(self, source: Source) -> int:
        """How many one kind of source was asked."""
        return sum(1 for request in self._of_op.values() if request.source is source)

    @property
    def bulk_pieces(self) -> int:
        """Pieces that the node has asked the CDN for by itself, and that are not here."""
        return sum(request.count - request.arrived for request in self._of_op.values() if request.is_bulk)

    def peers_end(self, now: Micros) -> Micros:
        """When the last request to a peer should be done."""
        ends = (request.ends for request in self._of_op.values() if request.source is not Source.CDN)
        return max(ends, default=now)

    def latest_of_peers(self, have: int) -> int:
        """Of the pieces that are on their way from peers alone the one that should be here last; 0: there is none."""
        asked = have
        latest: Request | None = None
        for request in self._of_op.values():
            if request.source is Source.CDN:
                asked |= request.pieces
        for request in self._of_op.values():
            is_alone = request.source is not Source.CDN and not asked >> request.piece & 1
            if is_alone and (latest is None or request.ends > latest.ends):
                latest = request
        return 0 if latest is None else latest.pieces
