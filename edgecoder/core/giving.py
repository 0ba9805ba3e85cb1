"""The events of giving pieces to others: who asks, who offers a connection, and how a dial or a sending has ended.

Those of fetching, like all others, stand in `events`.
"""

from __future__ import annotations

from edgecoder.core.events import Completion, Event
from edgecoder.core.ids import ChannelId, FileId, LinkId, NodeId, RequestId, Wanted
from edgecoder.errors import Reason
from edgecoder.wire.messages import Ticket


class PieceAsked(Event, frozen=True):
    """A peer asks for a piece, on from a leaf, or for what `wanted` says. Answer: ServePiece or RefusePiece, now or
    later."""

    request: RequestId
    peer: NodeId
    file: FileId
    piece: int
    first_leaf: int
    ticket: Ticket | None = None
    link: LinkId | None = None
    """The link it came over, where that was a radio."""
    wanted: Wanted = Wanted.BYTES


class AskWithdrawn(Event, frozen=True):
    """The peer does not wait any more for the answer to a request."""

    request: RequestId


class ChannelOffered(Event, frozen=True):
    """A peer has dialled this node, and would give pieces of a file over that connection. Answer: TakeChannel or
    CloseChannel."""

    channel: ChannelId
    peer: NodeId
    file: FileId
    ticket: Ticket


class ChannelLost(Event, frozen=True):
    """A connection that was offered is gone; who closed it does not matter."""

    channel: ChannelId


class PeerDialled(Completion, frozen=True):
    """The peer took the connection: its requests come over it from now on."""


class DialFailed(Completion, frozen=True):
    """The peer could not be reached, or does not want the connection."""

    reason: Reason


class PieceServed(Completion, frozen=True):
    """The last byte has left."""


class ServeFailed(Completion, frozen=True):
    """The peer went away, or the disk failed."""

    reason: Reason
