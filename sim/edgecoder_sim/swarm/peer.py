"""A peer: one libtorrent session with one torrent, its ticks, its slots and its connections.

Source: session_impl.cpp (on_tick, recalculate_unchoke_slots, recalculate_optimistic_unchoke_slots,
try_connect_more_peers) and torrent.cpp of libtorrent 2.1. All of it happens at ticks, each half a second, the seconds
at every other one: so where a session's seconds begin matters.

Fidelity boundary: ticks are never late, every peer is told of every other at the start, and nobody leaves. The order of
connections, which in libtorrent is that of their addresses in memory, is random. Checking a piece takes a fixed time. A
torrent of which nearly all peers are seeds is not downloaded in sequence (auto_sequential).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from edgecoder.core.rng import Stream
from edgecoder_sim.bandwidth import FlowNetwork
from edgecoder_sim.kernel import Kernel
from edgecoder_sim.swarm.choker import optimistic_slots, partition
from edgecoder_sim.swarm.connection import Connection
from edgecoder_sim.swarm.limiter import RateLimiter
from edgecoder_sim.swarm.picker import Picker
from edgecoder_sim.swarm.settings import Settings, Torrent

FIRST_SECOND_US: Final = 900_000
"""Of the first second of a session, so much counts as passed when it begins."""
SECOND_US: Final = 1_000_000
HASH_US: Final = 1000
"""One tick of the kernel (I): SHA-1 of 256 KiB takes a fraction of that."""


class Peer:
    """A session that fetches the torrent, or has it all."""

    def __init__(
        self,
        kernel: Kernel,
        network: FlowNetwork,
        number: int,
        torrent: Torrent,
        settings: Settings,
        upload_bytes_per_s: int,
        *,
        is_seed: bool,
        fast_sets: Sequence[Sequence[int]],
        stream: Stream,
    ) -> None:
        """`number` is its node in the network; `upload_bytes_per_s` is its rate limit, 0 for none."""
        self.kernel = kernel
        self.network = network
        self.number = number
        self.torrent = torrent
        self.settings = settings
        self.everything = (1 << torrent.pieces) - 1
        self.is_seed = is_seed
        self.limiter = RateLimiter(upload_bytes_per_s)
        self.picker = Picker(torrent, stream)
        self.connections: list[Connection] = []
        self.wasted_bytes = 0
        """Of blocks that came a second time."""
        self.got_bytes = 0
        """Of blocks, each counted once."""
        self.finished_us: int | None = None
        self.on_block: Callable[[int], object] = lambda _: None
        """Told the bytes of each block that came for the first time."""
        self.on_finished: Callable[[], object] = lambda: None
        self.to_connect: list[Peer] = []
        """Whom to connect to at the next second."""
        self._fast_sets = fast_sets
        self._stream = stream
        self._created_us = 0
        self._last_tick_us = 0
        self._last_second_us = 0
        self._slots = settings.unchoke_slots_limit
        self._unchoke_in_s = 0
        self._optimistic_in_s = 0

    @property
    def sent_bytes(self) -> int:
        """Bytes of blocks that it has sent."""
        return sum(connection.sender.payload.total for connection in self.connections)

    @property
    def unchoked(self) -> int:
        """How many peers may ask it for blocks."""
        return sum(not connection.is_choking for connection in self.connections)

    def start(self, created_us: int) -> None:
        """Begin the session."""
        self._created_us = self._last_tick_us = created_us
        self._last_second_us = created_us - FIRST_SECOND_US
        self.kernel.every(self.settings.tick_interval_ms * 1000, created_us, self._tick)

    def join(self, connection: Connection) -> None:
        """Take up a connection."""
        self.connections.insert(self._stream.below(len(self.connections) + 1), connection)

    def allowed_fast_for(self, other: int) -> Sequence[int]:
        """Pieces that a peer may ask for while it is choked: the same ones of everybody (BEP 6)."""
        return self._fast_sets[other]

    # -- blocks --------------------------------------------------------------------------------------------------------

    def has_block(self, block: int, other: int) -> None:
        """A block came for the first time."""
        size = self.torrent.block_bytes(block)
        self.got_bytes += size
        if self.picker.write(block, other):
            piece = block // self.torrent.blocks_per_piece
            self.kernel.call_at(self.kernel.now + HASH_US, self._has_piece, piece)
        self.on_block(size)

    def _has_piece(self, piece: int, _: object) -> None:
        self.picker.passed(piece)
        if self.picker.have == self.everything:
            self.is_seed = True
            self.finished_us = self.kernel.now
        for connection in list(self.connections):
            connection.got_piece(piece)
        if self.is_seed:
            self.on_finished()

    # -- slots ---------------------------------------------------------------------------------------------------------

    def maybe_unchoke(self, connection: Connection) -> None:
        """Unchoke at once while there are slots."""
        if connection.is_choking and self.unchoked < self._slots:
            connection.unchoke()

    def lost_interest(self, connection: Connection) -> None:
        """An unchoked peer wants nothing any more: its slot is free at the next second."""
        if connection.is_optimistic:
            self._optimistic_in_s = 0
        connection.choke()
        self._unchoke_in_s = 0

    def _tick(self, _: object, __: object) -> None:
        now = self.kernel.now
        self.limiter.tick((now - self._last_tick_us) // 1000)
        self._last_tick_us = now
        if now - self._last_second_us < SECOND_US:
            return
        passed_ms = (now - self._last_second_us) // 1000
        self._last_second_us = now
        for connection in list(self.connections):
            connection.tick(passed_ms)
        for other in self.to_connect:
            connect(self, other)
        self.to_connect = []
        self._unchoke_in_s -= 1
        if self._unchoke_in_s <= 0 and self.connections:
            self._unchoke_in_s = self.settings.unchoke_interval_s
            self._unchoke_best()
        self._optimistic_in_s -= 1
        if self._optimistic_in_s <= 0:
            self._optimistic_in_s = self.settings.optimistic_unchoke_interval_s
            self._unchoke_optimistic()

    def _unchoke_best(self) -> None:
        """Give the slots, but for the optimistic ones, to the best peers (recalculate_unchoke_slots)."""
        eligible = []
        for connection in self.connections:
            if connection.is_peer_interested:
                eligible.append(connection)
            elif not connection.is_choking:
                if connection.is_optimistic:
                    self._optimistic_in_s = 0
                connection.choke()
                connection.end_round()
            else:
                connection.end_round()
        now, quota = self.kernel.now, self.settings.seeding_piece_quota * self.torrent.piece_bytes
        ranks = [connection.round().rank(now, quota) for connection in eligible]
        optimistic = sum(connection.is_optimistic for connection in self.connections)
        best = self._slots - (optimistic or optimistic_slots(self._slots))
        for connection in partition(eligible, ranks, self._slots):
            connection.end_round()
            if best > 0:
                best -= 1
                if connection.is_choking:
                    connection.unchoke()
                if connection.is_optimistic:
                    connection.is_optimistic = False
                    self._optimistic_in_s = 0
            elif not connection.is_choking and not connection.is_optimistic:
                connection.choke()

    def _unchoke_optimistic(self) -> None:
        """Give the optimistic slots to those that waited the longest (recalculate_optimistic_unchoke_slots)."""
        before = [connection for connection in self.connections if connection.is_optimistic]
        waiting = [
            connection
            for connection in self.connections
            if connection.is_peer_interested and (connection.is_choking or connection.is_optimistic)
        ]
        waiting.sort(key=lambda connection: connection.optimistic_s)
        chosen = waiting[: optimistic_slots(self._slots, self.settings.num_optimistic_unchoke_slots)]
        for connection in chosen:
            if not connection.is_optimistic:
                connection.unchoke()
                connection.is_optimistic = True
                connection.optimistic_s = (self.kernel.now - self._created_us) // SECOND_US + 1
        for connection in before:
            if connection not in chosen:
                connection.choke()
        if self.unchoked > self._slots:
            self._unchoke_in_s = 0


def connect(peer: Peer, other: Peer) -> None:
    """Connect two peers; the first greets."""
    here, there = Connection(peer, other.number, True), Connection(other, peer.number, False)
    here.far_end, there.far_end = there, here
    peer.join(here)
    other.join(there)
    here.open()
