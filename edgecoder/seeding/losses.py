"""What did not come: who is to blame for a request that failed, who is not asked again in this download, when the CDN
may be asked again, and what takes too long and is called off. What came of it all the same is its transfer's.
"""

from __future__ import annotations

from edgecoder.core.context import MILLI, SECOND_US, Context
from edgecoder.core.effects import CancelOp, Source
from edgecoder.core.events import PieceFailed
from edgecoder.core.ids import Micros, NodeId
from edgecoder.errors import Reason
from edgecoder.protocol import CDN_ID
from edgecoder.seeding.holdings import Holding
from edgecoder.seeding.known import KnownPeers
from edgecoder.seeding.requests import Request, Requests, Swarm
from edgecoder.trace import PieceLost, SenderBanned

SLOW_FACTOR = 4
"""A peer gets so many times the expected time, as TCP gives a segment its mean and four deviations (RFC 6298),"""
SLOWEST_BYTES_PER_S = 32_000
"""but no longer than a piece takes so (256 kbit/s), whatever it says of its uplink: what came by then stays."""


class Losses:
    """The requests of one transfer that brought less than they should."""

    def __init__(self, context: Context, holding: Holding, requests: Requests, known: KnownPeers, swarm: Swarm) -> None:
        self._context = context
        self._holding = holding
        self._requests = requests
        self._known = known
        self._swarm = swarm
        self.banned: set[NodeId] = set()
        """Who has sent bytes that do not fit."""
        self.cdn_failures = 0
        """Tries of the CDN in a row that failed; requests that were under way together are one."""
        self._cdn_failed_at: Micros = 0
        """When that was last counted."""
        self.cdn_has_proofs = True
        """Whether it has, as far as is known, what its bytes can be checked against piece by piece."""
        self.cdn_waits_until: Micros = swarm.settles_at() if holding.have else 0
        self._slowest: Micros = holding.layout.piece_size_bytes * SECOND_US // SLOWEST_BYTES_PER_S

    @property
    def cdn_is_left_alone(self) -> bool:
        """Whether it has failed, and is not to be asked again yet."""
        return self.cdn_failures > 0 and self._context.now < self.cdn_waits_until

    def note(self, request: Request, completion: PieceFailed, new_bytes: int, came_bytes: int) -> None:
        """A request has failed; so much came in verified leaves, and so much of it was not here before."""
        holding, reason = self._holding, completion.reason
        if reason is Reason.NO_PROOFS:
            self.cdn_has_proofs, reason = False, Reason.NO_SOURCE
        piece = request.piece + request.arrived
        if reason is Reason.CANCELLED and request.is_given_up and not holding.have >> piece & 1:
            is_banned = request.peer in self.banned
            is_fair = request.gives_way or (new_bytes and self._context.now < request.ends)  # it was as slow as it said
            reason = Reason.BANNED if is_banned else Reason.SUPERSEDED if is_fair else Reason.TOO_SLOW
        wasted = completion.wasted_bytes + came_bytes - new_bytes
        source = request.source.value
        self._context.trace(PieceLost(holding.entry.model_id, piece, source, request.peer, reason, new_bytes, wasted))
        if reason is Reason.DISK_FULL:
            return
        if request.source is Source.CDN:
            if not request.is_given_up and reason is not Reason.SUPERSEDED:  # something else takes its place
                self._cdn_failed(request)
            for missed in range(piece, request.piece + request.count):
                if not holding.have >> missed & 1:
                    self._swarm.lost(holding, missed, CDN_ID, reason)
        elif request.peer is not None:
            if reason is Reason.PIECE_CORRUPT:
                self._ban(request.peer)
            if not holding.have >> piece & 1:
                self._known.failed(request.peer, piece, completion.have, self._context.now)
                self._swarm.lost(holding, piece, request.peer, reason, new_bytes, request.link)

    def _ban(self, peer: NodeId) -> None:
        """Take nothing more from a peer, not even what it was asked for."""
        self.banned.add(peer)
        self._context.trace(SenderBanned(self._holding.entry.model_id, peer))
        for request in self._requests:
            if request.peer == peer:
                self._call_off(request)

    def _cdn_failed(self, request: Request) -> None:
        if self.cdn_failures and request.began <= self._cdn_failed_at:
            return  # it was under way with one that has failed: both tell of the same
        config = self._context.config
        self._cdn_failed_at = self._context.now
        wait_ms = min(config.cdn_retry_max_ms, config.cdn_retry_ms << min(self.cdn_failures, 16))
        self.cdn_failures += 1
        self.cdn_waits_until = self._context.in_ms(wait_ms)
        self._swarm.freed()  # now they may be worth it

    def call_off_slow(self, now: Micros) -> Micros:
        """Call off what takes far too long. Returns when the next would."""
        least = self._context.config.piece_timeout_ms * MILLI
        following = now + SLOW_FACTOR * least
        for request in self._requests:
            if request.source is Source.CDN or request.is_given_up:
                continue
            patience = SLOW_FACTOR * (request.ends - request.began)
            if request.source is Source.MESH:  # radios are expected to be as fast as they were
                patience = min(patience, self._slowest)
            limit = request.began + max(least, patience)
            if limit <= now:
                self._call_off(request)
            else:
                following = min(following, limit)
        return following

    def _call_off(self, request: Request) -> None:
        if not request.is_given_up:
            request.is_given_up = True
            self._context.out.append(CancelOp(request.op))
