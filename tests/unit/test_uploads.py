"""Tickets at the sender: what each of its rules lets through, one at a time."""

from __future__ import annotations

import pytest

from edgecoder.config import ClusterConfig, NodeConfig
from edgecoder.core.context import Context
from edgecoder.core.effects import RefusePiece, ServePiece
from edgecoder.core.events import PieceAsked
from edgecoder.core.ids import FileId, NodeId
from edgecoder.errors import Reason
from edgecoder.seeding.holdings import Holdings
from edgecoder.seeding.tickets import issue
from edgecoder.seeding.uploads import Uploads
from edgecoder.wire.messages import Ticket
from edgecoder_sim.crypto import crypto, node_id
from tests.catalogs import MIB, entry

FILE = entry("shared", 0.5, file_size_bytes=MIB // 4, piece_root="ab" * 32)
DIGEST = bytes.fromhex(FILE.sha256)
PEER, BROKER = node_id("peer"), node_id("broker")
NOW_MS = 1_000_000
SKEW_MS = NodeConfig().clock_skew_ms


class Giving:
    """The node around uploads: it gives, and knows what a test says of its broker."""

    def __init__(self) -> None:
        self.epoch = 1
        self.is_told = True

    def gives_nothing(self, *, over_radio: bool = False) -> Reason | None:  # noqa: ARG002
        return None

    def is_busy(self) -> bool:
        return False

    def duty_pct(self) -> int:
        return 100

    def trusts_broker(self, broker: NodeId, file: FileId) -> bool:  # noqa: ARG002
        return broker == BROKER

    def worked(self) -> None: ...

    def has_broker(self, file: FileId) -> bool:  # noqa: ARG002
        return self.is_told

    def broker_epoch(self, file: FileId) -> int:  # noqa: ARG002
        return self.epoch

    def unix_ms(self) -> int:
        return NOW_MS


class Bench:
    """A node that has the whole file, and who asks it."""

    def __init__(self) -> None:
        signer, verifier = crypto(node_id("here"), "edgecoder", encoded=False)
        self.context = Context(ClusterConfig(), NodeConfig(), signer, 1)
        self.context.epoch = self.context.ops.epoch = 1
        self.context.out = []
        holdings = Holdings(self.context)
        holdings.begin(FILE).have = FILE.layout.all_pieces
        self.giver = Giving()
        self.uploads = Uploads(self.context, holdings, verifier, self.giver)
        self._requests = 0

    def ticket(self, *, receiver: NodeId = PEER, broker: NodeId = BROKER, epoch: int = 1, expires_ms: int) -> Ticket:
        signer, _ = crypto(broker, "edgecoder", encoded=False)
        return issue("edgecoder", signer, receiver, self.context.node_id, DIGEST, epoch, expires_ms)

    def ask(self, ticket: Ticket | None) -> Reason | None:
        """Why the node gives nothing for a ticket; None where it does."""
        self._requests += 1
        self.context.out.clear()
        self.uploads.asked(PieceAsked(self._requests, PEER, DIGEST, 0, 0, ticket))
        for effect in self.context.out:
            if isinstance(effect, RefusePiece):
                return effect.reason
        assert any(isinstance(effect, ServePiece) for effect in self.context.out)
        return None


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_ticket_for_just_that_is_good(bench: Bench) -> None:
    assert bench.ask(bench.ticket(expires_ms=NOW_MS)) is None


@pytest.mark.parametrize("wrong", [{"receiver": node_id("other")}, {"broker": node_id("other")}, {"epoch": 0}])
def test_a_ticket_for_another_by_another_or_of_before_is_not(bench: Bench, wrong: dict[str, object]) -> None:
    assert bench.ask(bench.ticket(expires_ms=NOW_MS, **wrong)) is Reason.NO_TICKET  # type: ignore[arg-type]


def test_a_ticket_holds_as_long_as_clocks_may_differ(bench: Bench) -> None:
    assert bench.ask(bench.ticket(expires_ms=NOW_MS - SKEW_MS)) is None
    assert bench.ask(bench.ticket(expires_ms=NOW_MS - SKEW_MS - 1)) is Reason.NO_TICKET


def test_without_a_broker_a_ticket_that_has_run_out_counts(bench: Bench) -> None:
    bench.giver.is_told = False
    assert bench.ask(bench.ticket(expires_ms=0)) is None


def test_a_ticket_that_was_good_is_not_when_its_broker_has_a_newer_epoch(bench: Bench) -> None:
    ticket = bench.ticket(expires_ms=NOW_MS)
    assert bench.ask(ticket) is None
    bench.giver.epoch = 2
    assert bench.ask(ticket) is Reason.NO_TICKET
