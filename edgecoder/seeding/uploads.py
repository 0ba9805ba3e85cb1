"""Giving pieces to others: who gets one, in what order, and when this node gives nothing.

Requests are served in their order, as many at once as there are slots. A request needs a ticket of the file's broker,
but for peers over a radio link, who are known to be near; one that has run out counts as long as no broker of the file
can be reached. Tasks of users come first: nothing new is sent while the node runs some, nor on its battery when the
share of the time is used up. Peers in reach wait for the end of such a pause; whom a broker has sent here is refused at
once, since it has others.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

import msgspec

from edgecoder.core.context import Context
from edgecoder.core.effects import RefusePiece, ServePiece
from edgecoder.core.giving import AskWithdrawn, PieceAsked, PieceServed, ServeFailed
from edgecoder.core.ids import FileId, LinkId, Micros, NodeId, OpId, RequestId, Wanted
from edgecoder.errors import Reason
from edgecoder.seeding.holdings import Holding, Holdings
from edgecoder.seeding.pieces import LEAF_BYTES
from edgecoder.seeding.tickets import is_signed
from edgecoder.trace import PieceRefused
from edgecoder.wire.envelope import Verifier
from edgecoder.wire.messages import Ticket

TICKETS_MAX = 4096
"""Tickets that are remembered, so that each is verified once."""
FILLED_PCT = 80
"""An uplink of which uploads take less than this, percent, has room for one more."""
FEWER_AFTER = 32
"""Uploads after which one fewer at once is tried."""
_PUMP = ("uploads", 0)
_DUTY_WINDOW: Micros = 60_000_000
_SAYS_HAVE = frozenset({Reason.NOT_HELD, Reason.BUSY})
"""Refusals of those whose ticket holds."""
REFUSALS = _SAYS_HAVE | {
    Reason.NO_TICKET,
    Reason.NOT_SEEDING,
    Reason.LOW_POWER,
    Reason.SHUTTING_DOWN,
    Reason.INVALID,
}
"""All that a node says when it gives nothing. Nothing else is an answer to one who has asked: nobody can tell it that
its own disk is full."""


class Giver(Protocol):
    """What uploads need to know of their node."""

    def gives_nothing(self, *, over_radio: bool = False) -> Reason | None:
        """Why it gives nothing at all now: switched off, battery, shutting down, and a paid network, which does not
        matter over a radio link."""
        ...

    def is_busy(self) -> bool:
        """Whether tasks of users run, which come first."""
        ...

    def duty_pct(self) -> int:
        """The share of the time in which it may send, percent."""
        ...

    def pause_changed(self) -> None:
        """A pause has begun that matters to others, or one has ended."""
        ...

    def trusts_broker(self, broker: NodeId, file: FileId) -> bool:
        """Whether a coordinator may give tickets for a file."""
        ...

    def uplink_changed(self) -> None:
        """The first thing to send has come, or the last was sent."""
        ...

    def has_broker(self, file: FileId) -> bool:
        """Whether the file's broker can be reached."""
        ...

    def broker_epoch(self, file: FileId) -> int:
        """The newest broker epoch that is known of a file."""
        ...

    def unix_ms(self) -> int:
        """Unix time by the coordinators' clock, as well as it is known."""
        ...


class _Upload(msgspec.Struct, gc=False):
    request: RequestId
    peer: NodeId
    file: FileId
    piece: int
    first_leaf: int
    link: LinkId | None = None
    wanted: Wanted = Wanted.BYTES
    op: OpId = 0
    began: Micros = 0
    beside: int = 1
    """Uploads that were under way when it began, itself included."""


class Uploads:
    """The requests of others that wait or are served."""

    def __init__(self, context: Context, holdings: Holdings, verifier: Verifier, giver: Giver) -> None:
        self._context = context
        self._holdings = holdings
        self._verifier = verifier
        self._giver = giver
        self._waiting: deque[_Upload] = deque()
        self._serving: dict[OpId, _Upload] = {}
        self._of_peer: dict[NodeId, int] = {}
        self._tickets: dict[tuple[NodeId, FileId], Ticket] = {}
        self.at_once = 1 if context.config.upload_kbit_per_s else context.config.upload_slots
        """How many are served at once: no more than fill the uplink."""
        self._since_fewer = 0
        self._sent_us: Micros = 0
        """Time in the duty window in which something was sent,"""
        self._sending_since: Micros = 0
        """but for that since then, while something is."""
        self._window_began: Micros = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._serving)

    def serves(self, link: LinkId) -> bool:
        """Whether a peer gets something over a radio link, or waits for it."""
        return any(upload.link == link for upload in (*self._serving.values(), *self._waiting))

    def asked(self, event: PieceAsked) -> None:
        """A peer wants a piece."""
        holding = self._holdings.by_file.get(event.file)
        reason = self._refusal(event, holding)
        if reason is not None:
            self._refuse(event.request, event.peer, event.file, reason, says_have=reason in _SAYS_HAVE)
            return
        self._of_peer[event.peer] = self._of_peer.get(event.peer, 0) + 1
        upload = _Upload(event.request, event.peer, event.file, event.piece, event.first_leaf, event.link, event.wanted)
        self._waiting.append(upload)
        self.pump()
        if len(self) == 1:
            self._giver.uplink_changed()

    def withdrawn(self, event: AskWithdrawn) -> None:
        """A peer waits no more. What is being sent ends by itself: its host knows."""
        for upload in self._waiting:
            if upload.request == event.request:
                self._waiting.remove(upload)
                self._release(upload)
                return

    def pump(self) -> None:
        """Serve as many as may be."""
        if not self._waiting:
            return
        self._begin_window()
        is_paused = self.is_paused()
        if is_paused or self._giver.gives_nothing() is not None:
            self._refuse_waiting(is_paused=is_paused)
        while not is_paused and self._waiting and len(self._serving) < self.at_once:
            self._serve(self._waiting.popleft())
        if is_paused:  # whoever ends the task pumps again
            self._pause()

    def is_paused(self) -> bool:
        """Whether tasks of users run, which come first, or the share of the time in which it may send is used up."""
        if self._giver.is_busy() and not self._context.config.seed_while_busy:
            return True
        return self._is_used_up()

    def _pause(self) -> None:
        """Those who wait, and the brokers, are to know; the time comes again."""
        if self._is_used_up():
            self._context.timers.set(_PUMP, self._window_began + _DUTY_WINDOW, self._go_on)
        self._giver.pause_changed()

    def _go_on(self) -> None:
        self.pump()
        self._giver.pause_changed()

    def _refuse_waiting(self, *, is_paused: bool) -> None:
        waiting, self._waiting = self._waiting, deque()
        for upload in waiting:
            reason = self._giver.gives_nothing(over_radio=upload.link is not None)
            if reason is None and (upload.link is not None or not is_paused):
                self._waiting.append(upload)
            else:
                self._release(upload)
                why = reason or Reason.NOT_SEEDING
                self._refuse(upload.request, upload.peer, upload.file, why, says_have=reason is None)

    def _refusal(self, event: PieceAsked, holding: Holding | None) -> Reason | None:
        config = self._context.config
        reason = self._giver.gives_nothing(over_radio=event.link is not None)
        if reason is not None:
            return reason
        if holding is not None and holding.is_whole and not config.seed_whole_files:
            return Reason.NOT_SEEDING
        if holding is None:
            return Reason.NOT_HELD
        if event.link is None and not self._admits(event, event.ticket):
            return Reason.NO_TICKET
        if not _is_held(holding, event.piece, event.wanted):
            return Reason.NOT_HELD
        if event.wanted is Wanted.BYTES and not 0 <= event.first_leaf < len(holding.layout.leaves_of(event.piece)):
            return Reason.INVALID
        is_much = self._of_peer.get(event.peer, 0) >= config.uploads_per_peer_max
        return Reason.BUSY if is_much or len(self._waiting) >= config.upload_queue_max else None

    def _admits(self, event: PieceAsked, ticket: Ticket | None) -> bool:
        """Whether a ticket holds. One that was verified once is only looked at for its epoch and its time."""
        if ticket is None:
            return False
        key, giver = (event.peer, event.file), self._giver
        if ticket.broker_epoch < giver.broker_epoch(event.file):
            return False
        if self._tickets.get(key) != ticket:
            if not giver.trusts_broker(ticket.broker, event.file):
                return False
            context = self._context
            network = context.cluster.network_id
            if not is_signed(network, self._verifier, ticket, event.peer, context.node_id, event.file):
                return False
            if len(self._tickets) >= TICKETS_MAX:
                del self._tickets[next(iter(self._tickets))]
            self._tickets[key] = ticket
        is_fresh = giver.unix_ms() <= ticket.expires_ms + self._context.config.clock_skew_ms
        return is_fresh or not giver.has_broker(event.file)

    def _begin_window(self) -> None:
        now = self._context.now
        if now >= self._window_began + _DUTY_WINDOW:
            self._window_began, self._sent_us, self._sending_since = now, 0, now

    def _is_used_up(self) -> bool:
        share, now = self._giver.duty_pct(), self._context.now
        is_over = now >= self._window_began + _DUTY_WINDOW
        sent = 0 if is_over else self._sent_us + (now - self._sending_since if self._serving else 0)
        return share < 100 and sent * 100 >= share * _DUTY_WINDOW

    def _serve(self, upload: _Upload) -> None:
        holding = self._holdings.by_file.get(upload.file)
        if holding is None or not _is_held(holding, upload.piece, upload.wanted):  # removed while it waited
            self._release(upload)
            self._refuse(upload.request, upload.peer, upload.file, Reason.NOT_HELD, says_have=True)
            return
        context = self._context
        upload.op, upload.began = context.ops.begin(self._served), context.now
        if not self._serving:
            self._sending_since = context.now
        self._serving[upload.op] = upload
        upload.beside = len(self._serving)
        context.out.append(
            ServePiece(
                upload.op,
                upload.request,
                holding.entry,
                upload.piece,
                upload.first_leaf,
                holding.have,
                upload.wanted,
            )
        )

    def _served(self, completion: PieceServed | ServeFailed) -> None:
        upload = self._serving.pop(completion.op)
        took = self._context.now - upload.began
        if not self._serving:
            self._sent_us += self._context.now - self._sending_since
        self._release(upload)
        holding = self._holdings.by_file.get(upload.file)
        is_measure = upload.wanted is Wanted.BYTES and isinstance(completion, PieceServed)
        if is_measure and holding is not None and took:
            size = holding.layout.piece_bytes(upload.piece) - upload.first_leaf * LEAF_BYTES
            self._adapt(size * 8000 // took, upload.beside)
        self.pump()
        if not len(self):
            self._giver.uplink_changed()

    def _adapt(self, kbit_per_s: int, beside: int) -> None:
        """One after the other where each fills the uplink; more at once where receivers are slower than that. Now and
        then one fewer is tried."""
        config = self._context.config
        if not config.upload_kbit_per_s:
            return
        self._since_fewer += 1
        if kbit_per_s * beside * 100 < FILLED_PCT * config.upload_kbit_per_s:
            if beside == self.at_once < config.upload_slots:
                self.at_once, self._since_fewer = self.at_once + 1, 0
        elif self.at_once > 1 and self._since_fewer >= FEWER_AFTER:
            self.at_once, self._since_fewer = self.at_once - 1, 0

    def _release(self, upload: _Upload) -> None:
        left = self._of_peer[upload.peer] - 1
        if left:
            self._of_peer[upload.peer] = left
        else:
            del self._of_peer[upload.peer]

    def _refuse(self, request: RequestId, peer: NodeId, file: FileId, reason: Reason, *, says_have: bool) -> None:
        """Say why, and to whom may ask what is here: without a broker it asks for that next."""
        holding = self._holdings.by_file.get(file)
        have = holding.have if holding is not None and says_have else 0
        self._context.out.append(RefusePiece(request, reason, have))
        self._context.trace(PieceRefused(peer, reason))


def _is_held(holding: Holding, piece: int, wanted: Wanted) -> bool:
    """Whether what is asked for is here. Who has any piece has the hashes: it was proved by them."""
    if wanted is not Wanted.BYTES:
        return holding.have > 0
    return 0 <= piece < holding.layout.piece_count and bool(holding.have >> piece & 1)
