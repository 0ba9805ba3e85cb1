"""A node that gives pieces, without the node: its uploads, a clock, and who asks."""

from __future__ import annotations

from typing import Any

from edgecoder.config import ClusterConfig, NodeConfig
from edgecoder.core.context import Context
from edgecoder.core.effects import Effect, RefusePiece, ServePiece
from edgecoder.core.giving import AskWithdrawn, PieceAsked, PieceServed, ServeFailed
from edgecoder.core.ids import FileId, LinkId, Micros, NodeId, RequestId, Wanted
from edgecoder.errors import Reason
from edgecoder.seeding.holdings import Holdings
from edgecoder.seeding.tickets import issue
from edgecoder.seeding.uploads import REFUSALS, Uploads
from edgecoder.wire.messages import Ticket
from edgecoder_sim.crypto import crypto, node_id
from tests.catalogs import MIB, entry

FILE = entry("shared", 0.5, file_size_bytes=MIB // 4, piece_root="ab" * 32)
"""Four pieces of four leaves."""
DIGEST = bytes.fromhex(FILE.sha256)
PIECE_BITS = 8 * FILE.layout.piece_size_bytes
PEER, BROKER = node_id("peer"), node_id("broker")
NOW_MS = 1_000_000
"""Unix time, which stands still."""
SECOND: Micros = 1_000_000


class Giving:
    """The node around uploads: what a test says of it."""

    def __init__(self) -> None:
        self.epoch = 1
        self.is_told = True
        self.reason: Reason | None = None
        """Why it gives nothing,"""
        self.reason_near: Reason | None = None
        """and over a radio link."""
        self.busy = False
        self.duty = 100
        self.pauses_told = 0

    def gives_nothing(self, *, over_radio: bool = False) -> Reason | None:
        return self.reason_near if over_radio else self.reason

    def is_busy(self) -> bool:
        return self.busy

    def duty_pct(self) -> int:
        return self.duty

    def trusts_broker(self, broker: NodeId, file: FileId) -> bool:  # noqa: ARG002
        return broker == BROKER

    def pause_changed(self) -> None:
        self.pauses_told += 1

    def uplink_changed(self) -> None: ...

    def has_broker(self, file: FileId) -> bool:  # noqa: ARG002
        return self.is_told

    def broker_epoch(self, file: FileId) -> int:  # noqa: ARG002
        return self.epoch

    def unix_ms(self) -> int:
        return NOW_MS


class UploadBench:
    """A node that has the whole file, and who asks it."""

    def __init__(self, **config: Any) -> None:
        signer, verifier = crypto(node_id("here"), "edgecoder", encoded=False)
        self.context = Context(ClusterConfig(), NodeConfig(**config), signer, 1)
        self.context.epoch = self.context.ops.epoch = 1
        self.context.out = []
        self.holdings = Holdings(self.context)
        self.holdings.begin(FILE).have = FILE.layout.all_pieces
        self.giver = Giving()
        self.uploads = Uploads(self.context, self.holdings, verifier, self.giver)
        self.requests = 0
        self.serving: dict[RequestId, ServePiece] = {}
        """What is being sent, by the request that it answers."""
        self.refused: dict[RequestId, Reason] = {}

    def ticket(self, *, receiver: NodeId = PEER, broker: NodeId = BROKER, epoch: int = 1, expires_ms: int) -> Ticket:
        signer, _ = crypto(broker, "edgecoder", encoded=False)
        return issue("edgecoder", signer, receiver, self.context.node_id, DIGEST, epoch, expires_ms)

    def ask(self, ticket: Ticket | None) -> Reason | None:
        """Why the node gives nothing for a ticket; None where it does, or will."""
        return self.refused.get(self.request(ticket=ticket))

    def request(
        self,
        peer: NodeId = PEER,
        piece: int = 0,
        first_leaf: int = 0,
        *,
        file: FileId = DIGEST,
        link: LinkId | None = None,
        ticket: Ticket | None = None,
        wanted: Wanted = Wanted.BYTES,
    ) -> RequestId:
        """A peer asks for a piece, over a radio link or with a ticket."""
        self.requests += 1
        self.uploads.asked(PieceAsked(self.requests, peer, file, piece, first_leaf, ticket, link, wanted))
        self.look()
        return self.requests

    def near(self, peer: NodeId = PEER, piece: int = 0, first_leaf: int = 0) -> RequestId:
        """A peer in reach asks for a piece."""
        return self.request(peer, piece, first_leaf, link=1)

    def served(self, request: RequestId, after_us: Micros = 0, reason: Reason | None = None) -> None:
        """The last byte of a piece leaves, or none does any more."""
        self.context.now += after_us
        op = self.serving.pop(request).op
        self.context.ops.complete(PieceServed(op) if reason is None else ServeFailed(op, reason))
        self.look()

    def withdraw(self, request: RequestId) -> None:
        """A peer waits no more."""
        self.uploads.withdrawn(AskWithdrawn(request))
        self.look()

    def pump(self) -> None:
        """Something has changed."""
        self.uploads.pump()
        self.look()

    def wait(self, delay_us: Micros) -> None:
        """Time passes."""
        self.context.now += delay_us
        self.context.timers.fire_due(self.context.now)
        self.look()

    def look(self) -> None:
        """Note what the uploads want."""
        effects: list[Effect] = self.context.out
        for effect in effects:
            if isinstance(effect, ServePiece):
                self.serving[effect.request] = effect
                assert len(self.serving) <= self.uploads.at_once, "more are served at once than may be"
            elif isinstance(effect, RefusePiece):
                assert effect.request not in self.refused, "a request is refused twice"
                assert effect.reason in REFUSALS, "a receiver would not believe it"
                self.refused[effect.request] = effect.reason
        effects.clear()
