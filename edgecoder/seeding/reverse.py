"""Pieces of senders that nobody can dial: they dial the receiver, and are asked over the connection that they offer.

A receiver that is granted such a piece has the broker ask the sender (`DialRequest`); the piece is asked for when the
connection is there. Who offers one that is not awaited, or shows no leave of the broker's, is turned away before
anything is kept of it. Asking for pieces, and giving them, is as with any other peer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import msgspec

from edgecoder.core.context import Context
from edgecoder.core.effects import CancelOp, CloseChannel, DialPeer, TakeChannel
from edgecoder.core.giving import ChannelLost, ChannelOffered, DialFailed, PeerDialled
from edgecoder.core.ids import ChannelId, FileId, NodeId
from edgecoder.errors import Reason
from edgecoder.mesh.gate import Link
from edgecoder.seeding.tickets import is_signed
from edgecoder.trace import PeerDialled as Dialled
from edgecoder.wire.envelope import Verifier
from edgecoder.wire.messages import DialRequest, Granted, Ticket

_ASK = "reverse.ask"
_DIAL = "reverse.dial"


class Leave(Protocol):
    """Whose leave counts."""

    def trusts_broker(self, broker: NodeId, file: FileId) -> bool:
        """Whether a coordinator may give tickets for a file."""
        ...

    def broker_epoch(self, file: FileId) -> int:
        """The newest broker epoch that is known of a file."""
        ...

    def unix_ms(self) -> int:
        """Unix time by the coordinators' clock, as well as it is known."""
        ...


def is_leave(
    context: Context, verifier: Verifier, leave: Leave, ticket: Ticket, receiver: NodeId, sender: NodeId, file: FileId
) -> bool:
    """Whether a broker lets a sender offer a receiver a connection now. What costs least is looked at first."""
    if ticket.broker_epoch < leave.broker_epoch(file) or not leave.trusts_broker(ticket.broker, file):
        return False
    if leave.unix_ms() > ticket.expires_ms + context.config.clock_skew_ms:
        return False
    return is_signed(context.cluster.network_id, verifier, ticket, receiver, sender, file, is_offer=True)


class Asker(Protocol):
    """What the receiver's side needs of its node."""

    def ask_dial(self, file: FileId, peer: NodeId) -> None:
        """Have the file's broker ask a peer to dial this node."""
        ...

    def reached(self, file: FileId, rows: Iterable[Granted]) -> None:
        """The sender of these pieces of a file can be asked for them."""
        ...

    def out_of_reach(self, file: FileId, rows: Iterable[Granted], reason: Reason) -> None:
        """It cannot."""
        ...


class _Awaited(msgspec.Struct):
    """A peer that is to dial."""

    rows: dict[FileId, dict[int, Granted]]
    """What it is to be asked for, by file and piece."""
    asks: int = 0


class Channels:
    """The connections that a node has been offered, and the peers whose it awaits."""

    def __init__(self, context: Context, verifier: Verifier, leave: Leave, asker: Asker) -> None:
        self._context = context
        self._verifier = verifier
        self._leave = leave
        self._asker = asker
        self._awaited: dict[NodeId, _Awaited] = {}
        self._of_peer: dict[NodeId, ChannelId] = {}

    def to(self, peer: NodeId) -> ChannelId | None:
        """The connection that a peer has offered, if it is up."""
        return self._of_peer.get(peer)

    def awaits(self, file: FileId, row: Granted) -> bool:
        """Whether a piece has to wait for its sender's connection: then it is asked for, and the piece kept."""
        peer = row.sender
        if peer in self._of_peer:
            return False
        awaited = self._awaited.get(peer)
        if awaited is None:
            if len(self._awaited) + len(self._of_peer) >= self._context.config.reverse_peers_max:
                self._asker.out_of_reach(file, (row,), Reason.NO_SOURCE)
                return True
            awaited = self._awaited[peer] = _Awaited({file: {}})
            self._ask(peer)
        awaited.rows.setdefault(file, {})[row.piece] = row
        return True

    def _ask(self, peer: NodeId) -> None:
        awaited, config = self._awaited[peer], self._context.config
        if awaited.asks >= config.reverse_asks_max:
            del self._awaited[peer]
            for file, rows in awaited.rows.items():
                self._asker.out_of_reach(file, rows.values(), Reason.PEER_LOST)
            return
        awaited.asks += 1
        self._asker.ask_dial(next(iter(awaited.rows)), peer)
        self._context.timers.set((_ASK, peer), self._context.in_ms(config.reverse_ask_ms), lambda: self._ask(peer))

    def ended(self, file: FileId) -> None:
        """A file is not wanted any more: nobody is awaited for it."""
        for peer, awaited in list(self._awaited.items()):
            rows = awaited.rows.pop(file, None)
            if rows is None:
                continue
            if not awaited.rows:
                del self._awaited[peer]
                self._context.timers.cancel((_ASK, peer))
            self._asker.out_of_reach(file, rows.values(), Reason.CANCELLED)

    def offered(self, event: ChannelOffered) -> None:
        """Somebody has dialled, and says who it is."""
        awaited = self._awaited.get(event.peer)
        if awaited is None or event.file not in awaited.rows:
            self._close(event.channel, Reason.UNKNOWN_SENDER)
            return
        context, own = self._context, self._context.node_id
        if not is_leave(context, self._verifier, self._leave, event.ticket, own, event.peer, event.file):
            self._close(event.channel, Reason.NO_TICKET)
            return
        del self._awaited[event.peer]
        context.timers.cancel((_ASK, event.peer))
        self._of_peer[event.peer] = event.channel
        context.out.append(TakeChannel(event.channel))
        for file, rows in awaited.rows.items():
            self._asker.reached(file, rows.values())

    def _close(self, channel: ChannelId, reason: Reason) -> None:
        self._context.out.append(CloseChannel(channel, reason))
        self._context.drop("channel", reason)

    def lost(self, event: ChannelLost) -> None:
        """A connection is gone. What was asked for over it fails by itself."""
        for peer, channel in self._of_peer.items():
            if channel == event.channel:
                del self._of_peer[peer]
                return


class Giver(Leave, Protocol):
    """What the sender's side needs of its node."""

    def may_give(self, file: FileId) -> bool:
        """Whether it has something of a file, and gives it now."""
        ...


class Dials:
    """The receivers that a node dials, since they cannot dial it."""

    def __init__(self, context: Context, verifier: Verifier, giver: Giver) -> None:
        self._context = context
        self._verifier = verifier
        self._giver = giver
        self._dialling: set[NodeId] = set()

    def asked(self, link: Link, message: DialRequest) -> None:
        """A broker wants a receiver dialled."""
        context, ticket, peer = self._context, message.ticket, message.peer
        if ticket is None or ticket.broker != link.peer or peer == context.node_id:
            context.drop("dialRequest", Reason.UNKNOWN_SENDER)
        elif not context.config.is_placed(message.endpoint):
            context.drop("dialRequest", Reason.NO_ADDRESS)
        elif not self._giver.may_give(message.file):
            context.drop("dialRequest", Reason.NOT_SEEDING)
        elif peer in self._dialling or len(self._dialling) >= context.config.reverse_peers_max:
            context.drop("dialRequest", Reason.OVERFLOW)
        elif not is_leave(context, self._verifier, self._giver, ticket, peer, context.node_id, message.file):
            context.drop("dialRequest", Reason.NO_TICKET)
        else:
            self._dial(message, ticket)

    def _dial(self, message: DialRequest, ticket: Ticket) -> None:
        context, peer, config = self._context, message.peer, self._context.config

        def ended(completion: PeerDialled | DialFailed) -> None:
            self._dialling.discard(peer)
            context.timers.cancel((_DIAL, peer))
            context.trace(Dialled(peer, completion.reason if isinstance(completion, DialFailed) else None))

        op = context.ops.begin(ended)
        self._dialling.add(peer)
        until = context.in_ms(config.reverse_ask_ms * config.reverse_asks_max)
        context.timers.set((_DIAL, peer), until, lambda: context.out.append(CancelOp(op)))
        context.out.append(DialPeer(op, peer, message.endpoint, message.file, ticket))
