"""Leave: a node gives a piece to who asked for it, has its broker's ticket for that, or is near; and no more at once
than it has slots.

A ticket is judged when the piece is asked for, by what the sender has been told until then: the time by its
coordinators' clocks, and the newest epoch by its broker.
"""

from __future__ import annotations

from edgecoder.core.effects import ServePiece
from edgecoder.core.events import Started
from edgecoder.core.giving import PieceAsked, PieceServed, ServeFailed
from edgecoder.core.ids import FileId, LinkId, OpId, RequestId, Role
from edgecoder.seeding.tickets import is_signed
from edgecoder.wire.envelope import ByteVerifier, Header
from edgecoder.wire.messages import Announce, Grant, HeartbeatAck, Ticket
from edgecoder_sim.checkers.panel import Book, Rule
from edgecoder_sim.crypto import IdealKeys


class _Sender:
    """What one node knows and does, in its present life."""

    __slots__ = ("asked", "brokers", "clock_ms", "epochs", "serving")

    def __init__(self) -> None:
        self.asked: dict[RequestId, tuple[PieceAsked, str]] = {}
        """Requests, and what was wrong with the ticket of each."""
        self.serving: set[OpId] = set()
        self.clock_ms = 0
        """Unix time at moment 0: the earliest that its own clock or a coordinator's has told."""
        self.brokers: dict[FileId, LinkId] = {}
        """The link over which each file was announced last,"""
        self.epochs: dict[FileId, int] = {}
        """and the newest epoch that was heard over it."""


class Leave(Rule):
    """A piece goes to who asked for it, with a ticket for just that, or near by; and no more at once than there are
    slots. A ticket that has run out counts where no broker can be reached, one of an older epoch never."""

    name = "pieces need leave"

    def enter(self) -> None:
        """See `Rule`."""
        self._of: dict[int, _Sender] = {}
        self.panel.on(Started, self._start)
        self.panel.on(PieceAsked, self._take)
        self.panel.on(ServePiece, self._serve)
        self.panel.on((PieceServed, ServeFailed), self._served)
        self.panel.on_received(HeartbeatAck, self._told_time)
        self.panel.on_received(Grant, self._told_epoch)
        self.panel.on_sent(Announce, self._announced)

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        self._of[book.index] = _Sender()

    # -- what the sender is told ---------------------------------------------------------------------------------------

    def _start(self, book: Book, event: Started) -> None:
        self._of[book.index].clock_ms = event.wall_ms - self.panel.now // 1000

    def _told_time(self, book: Book, _: LinkId, __: Header, message: HeartbeatAck) -> None:
        sender = self._of[book.index]
        sender.clock_ms = min(sender.clock_ms, message.coordinator_time_ms - self.panel.now // 1000)

    def _told_epoch(self, book: Book, link: LinkId, _: Header, message: Grant) -> None:
        sender = self._of[book.index]
        if sender.brokers.get(message.file) == link:
            sender.epochs[message.file] = max(sender.epochs.get(message.file, 0), message.broker_epoch)

    def _announced(self, book: Book, link: LinkId, _: Header, message: Announce) -> None:
        peer, sender = book.links.get(link), self._of[book.index]
        if peer is None or peer.role is not Role.COORDINATOR:
            return
        if message.wants or any(message.have):
            sender.brokers[message.file] = link
        else:  # it is removed: what was known of it is forgotten
            sender.brokers.pop(message.file, None)
            sender.epochs.pop(message.file, None)

    # -- what the sender does ------------------------------------------------------------------------------------------

    def _take(self, book: Book, event: PieceAsked) -> None:
        problem = "" if event.link is not None else self._problem(book, event, event.ticket)
        self._of[book.index].asked[event.request] = event, problem

    def _problem(self, book: Book, asked: PieceAsked, ticket: Ticket | None) -> str:
        """What is wrong with a ticket; nothing where it holds."""
        sender, network = self._of[book.index], book.cluster.network_id
        if ticket is None:
            return "who has shown no ticket"
        verifier = ByteVerifier(IdealKeys(), network)
        if not is_signed(network, verifier, ticket, asked.peer, book.node, asked.file):
            return "on a ticket that is not for that"
        newest = sender.epochs.get(asked.file, 0)
        if ticket.broker_epoch < newest:
            return f"on a ticket of epoch {ticket.broker_epoch}, though its broker has told it of epoch {newest}"
        late_ms = sender.clock_ms + self.panel.now // 1000 - ticket.expires_ms - book.config.clock_skew_ms
        if late_ms > 0 and sender.brokers.get(asked.file) in book.links:
            return f"on a ticket that ran out {late_ms} ms before the skew of clocks allows, though it has a broker"
        return ""

    def _serve(self, book: Book, effect: ServePiece) -> None:
        sender = self._of[book.index]
        asked, problem = sender.asked.pop(effect.request, (None, ""))
        what = f"piece {effect.piece} of {effect.entry.model_id}"
        if asked is None:
            self.fail(book, f"sends {what}, for which nobody asked")
        wanted = asked.file.hex(), asked.piece, asked.first_leaf
        if wanted != (effect.entry.sha256, effect.piece, effect.first_leaf):
            self.fail(book, f"sends {what} in place of what was asked for")
        sender.serving.add(effect.op)
        if len(sender.serving) > book.config.upload_slots:
            self.fail(book, f"sends {len(sender.serving)} pieces at once, more than its slots")
        if problem:
            self.fail(book, f"sends {what} to {asked.peer.hex()[:8]} {problem}")

    def _served(self, book: Book, event: PieceServed | ServeFailed) -> None:
        self._of[book.index].serving.discard(event.op)
