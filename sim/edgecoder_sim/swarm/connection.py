"""One end of a connection between two peers: the handshake, who is interested and who is choked.

Source: bt_peer_connection.cpp and peer_connection.cpp of libtorrent 2.1.

Fidelity boundary: connecting takes no time, connections never break, and an interest that is updated after the messages
at hand is updated within the same tick of the kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from edgecoder_sim.swarm.choker import Round
from edgecoder_sim.swarm.fetcher import Fetcher
from edgecoder_sim.swarm.messages import Kind, Message, ip_overhead
from edgecoder_sim.swarm.sender import Sender

if TYPE_CHECKING:
    from edgecoder_sim.swarm.peer import Peer


class Connection:
    """What one peer knows of another and says to it."""

    def __init__(self, peer: Peer, other: int, is_outgoing: bool) -> None:
        """`other` is the number of the peer at the other end; `far_end` is set by who makes both ends."""
        self.peer = peer
        self.other = other
        self.far_end: Connection | None = None
        self._is_outgoing = is_outgoing
        self.is_ready = False
        """Whether its handshake is done."""
        self.is_choking = True
        self.is_choked_by_peer = True
        self.is_interested = False
        self.is_peer_interested = False
        self.is_optimistic = False
        """Whether it is unchoked without having earned it."""
        self.optimistic_s = 0
        """When it last was, in seconds of the session; 0 for never."""
        self.has = 0
        """The pieces that the other end has."""
        self.allowed_fast = 0
        """Pieces that we may ask for although we are choked."""
        self._accepts_fast: int | None = None
        """Pieces that the other end may; None until it was told."""
        self._unchoked_us = peer.kernel.now
        self._sent_at_unchoke = 0
        self._sent_at_round = 0
        self._received_at_round = 0
        self.is_reading = False
        self._interest_is_due = False
        self.sender = Sender(
            peer.kernel,
            peer.network,
            (peer.number, other),
            peer.limiter,
            peer.settings,
            peer.torrent,
            self._arrived_there,
        )
        self.fetcher = Fetcher(self)
        self._reactions: dict[Kind, Callable[[int], None]] = {
            Kind.HANDSHAKE: self._handshake,
            Kind.EXTENDED: lambda _: None,
            Kind.HAVE_ALL: self._have_all,
            Kind.BITFIELD: self._bitfield,
            Kind.CHOKE: self._choke,
            Kind.UNCHOKE: self._unchoke,
            Kind.INTERESTED: self._interested,
            Kind.NOT_INTERESTED: self._not_interested,
            Kind.HAVE: self._have,
            Kind.ALLOWED_FAST: self._allowed_fast,
            Kind.REQUEST: self._request,
            Kind.REJECT: self.fetcher.rejected,
            Kind.PIECE: self.fetcher.block_came,
        }

    def open(self) -> None:
        """Greet, at the end that connected."""
        self.sender.send(Kind.HANDSHAKE)

    def _arrived_there(self, size: int, block_bytes: int, messages: list[Message]) -> None:
        assert self.far_end is not None
        self.far_end.arrived(size, block_bytes, messages)

    def arrived(self, size: int, block_bytes: int, messages: list[Message]) -> None:
        """Take bytes, and answer what became whole in one go."""
        self.sender.overhead.add(ip_overhead(size))
        if block_bytes:
            self.fetcher.bytes_came(block_bytes)
        if not messages:
            return
        self.is_reading = True
        self.sender.cork()
        for kind, about in messages:
            self._reactions[kind](about)
        self.fetcher.flush()
        self.is_reading = False
        self.sender.uncork()

    # -- messages ------------------------------------------------------------------------------------------------------

    def _handshake(self, _: int) -> None:
        peer, sender = self.peer, self.sender
        if not self._is_outgoing:
            sender.send(Kind.HANDSHAKE)
        sender.send(Kind.EXTENDED)
        if peer.is_seed:
            sender.send(Kind.HAVE_ALL)
        else:
            sender.send(Kind.BITFIELD, peer.picker.have, -(-peer.torrent.pieces // 8) if peer.picker.have else 0)
        self.is_ready = True
        if peer.is_seed or peer.picker.have:
            peer.maybe_unchoke(self)

    def _have_all(self, _: int) -> None:
        self.has = self.peer.everything
        if not self.peer.is_seed:
            self.peer.picker.add_seed()
            self.become_interested()

    def _bitfield(self, pieces: int) -> None:
        self.has = pieces
        if self.peer.is_seed:
            return
        for piece in range(self.peer.torrent.pieces):
            if pieces >> piece & 1:
                self.peer.picker.add_piece(piece)
        self.review_interest()

    def _have(self, piece: int) -> None:
        bit = 1 << piece
        if self.has & bit:
            return
        self.has |= bit
        if self.peer.is_seed:
            return
        self.peer.picker.add_piece(piece)
        if not self.peer.picker.have & bit and not self.is_interested:
            self.become_interested()

    def _choke(self, _: int) -> None:
        self.is_choked_by_peer = True
        self.fetcher.choked()

    def _unchoke(self, _: int) -> None:
        self.is_choked_by_peer = False
        if self.is_interested:
            self.fetcher.ask()

    def _interested(self, _: int) -> None:
        if self._accepts_fast is None:
            self._accepts_fast = 0
            for piece in self.peer.allowed_fast_for(self.other):
                if not self.has >> piece & 1:
                    self._accepts_fast |= 1 << piece
                    self.sender.send(Kind.ALLOWED_FAST, piece)
        self.is_peer_interested = True
        if self.is_choking:
            self.peer.maybe_unchoke(self)
        else:
            self.sender.send(Kind.UNCHOKE)

    def _not_interested(self, _: int) -> None:
        self.is_peer_interested = False
        if self.is_choking:
            return
        self.peer.lost_interest(self)

    def _allowed_fast(self, piece: int) -> None:
        bit = 1 << piece
        if self.peer.is_seed or self.peer.picker.have & bit:
            return
        self.allowed_fast |= bit
        if self.has & bit:
            self.become_interested()

    def _request(self, block: int) -> None:
        if self.is_choking and not self._is_fast(block):
            self.sender.send(Kind.REJECT, block)
        else:
            self.sender.serve(block)

    def _is_fast(self, block: int) -> bool:
        return bool((self._accepts_fast or 0) >> block // self.peer.torrent.blocks_per_piece & 1)

    # -- interest ------------------------------------------------------------------------------------------------------

    def become_interested(self) -> None:
        """The other end has what we lack: say so, and ask (torrent::peer_is_interesting)."""
        if not self.is_interested:
            self.is_interested = True
            self.sender.send(Kind.INTERESTED)
        if not self.is_choked_by_peer or self.allowed_fast:
            self.fetcher.ask()

    def review_interest(self) -> None:
        """Look anew, after what is happening now."""
        if not self._interest_is_due:
            self._interest_is_due = True
            self.peer.kernel.call_at(self.peer.kernel.now, self._review)

    def _review(self, _: object, __: object) -> None:
        self._interest_is_due = False
        if not self.peer.is_seed and self.has & ~self.peer.picker.have:
            self.become_interested()
        elif self.is_interested:
            self.is_interested = False
            self.fetcher.is_slow_start = False
            self.sender.send(Kind.NOT_INTERESTED)

    def got_piece(self, piece: int) -> None:
        """We have another piece: say so, and look whether the other end still has anything for us."""
        bit = 1 << piece
        self.allowed_fast &= ~bit
        if not self.is_ready:
            return
        if self.has & bit:
            self.review_interest()
        self.sender.send(Kind.HAVE, piece)

    # -- choking -------------------------------------------------------------------------------------------------------

    def unchoke(self) -> None:
        """Let the other end ask."""
        self._unchoked_us = self.peer.kernel.now
        self.is_choking = False
        self._sent_at_unchoke = self.sender.payload.total
        self.sender.send(Kind.UNCHOKE)

    def choke(self) -> None:
        """Let it ask no more, and reject what it has asked for, but for the allowed fast pieces."""
        self.is_optimistic = False
        self.is_choking = True
        self.sender.send(Kind.CHOKE)
        requests = self.sender.requests
        for _ in range(len(requests)):
            block = requests.popleft()
            if self._is_fast(block):
                requests.append(block)
            else:
                self.sender.send(Kind.REJECT, block)

    def round(self) -> Round:
        """What it did since the last `end_round`."""
        sent = self.sender.payload.total
        return Round(
            is_choked=self.is_choking,
            received_bytes=self.fetcher.payload.total - self._received_at_round,
            sent_bytes=sent - self._sent_at_round,
            sent_since_unchoke_bytes=sent - self._sent_at_unchoke,
            unchoked_us=self._unchoked_us,
        )

    def end_round(self) -> None:
        """Begin a new round (reset_choke_counters)."""
        self._received_at_round = self.fetcher.payload.total
        self._sent_at_round = self.sender.payload.total

    def tick(self, passed_ms: int) -> None:
        """A second has passed."""
        self.fetcher.tick(passed_ms)
        self.sender.tick(passed_ms)
        self.sender.fill()
