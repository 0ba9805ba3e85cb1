"""One file on its way: what the CDN is asked for when peers are late, and what its own cancellations mean."""

from __future__ import annotations

import pytest

from edgecoder.config import ClusterConfig, NodeConfig
from edgecoder.core.context import Context
from edgecoder.core.effects import AllocateFile, CancelOp, FetchPiece, Source, Trace
from edgecoder.core.events import AllocateFailed, FileAllocated, PieceFailed, PieceFetched
from edgecoder.core.ids import ChannelId, FileId, LinkId, Micros, NodeId
from edgecoder.errors import Reason
from edgecoder.models.catalog import CatalogEntry
from edgecoder.protocol import CDN_ID
from edgecoder.seeding.holdings import Holding, Holdings
from edgecoder.seeding.pieces import LEAF_BYTES
from edgecoder.seeding.planner import Plan, PortfolioPlanner, View, Why
from edgecoder.seeding.prices import Prices
from edgecoder.seeding.transfer import Transfer
from edgecoder.seeding.transfer_table import TransferState
from edgecoder.trace import PieceLost
from edgecoder.wire.messages import Grant, Granted, Ticket
from edgecoder_sim.crypto import crypto, node_id
from tests.catalogs import MIB, entry

FILE = entry("shared", 0.5, file_size_bytes=MIB // 4, piece_root="ab" * 32)
PIECES = 4
PEER = node_id("peer")
SECOND: Micros = 1_000_000
TICKET = Ticket(node_id("broker"), 1, 60_000, b"s" * 64)


class Around:
    """The node around a transfer: it notes what it is told."""

    def __init__(self) -> None:
        self.since = self.settled = 0
        self.losses: list[tuple[int, NodeId, Reason]] = []
        self.broker = True
        self.channels: dict[NodeId, ChannelId] = {}

    def got(self, holding: Holding, piece: int, sender: NodeId, size_bytes: int) -> None: ...

    def taking(self, holding: Holding, pieces: range) -> None: ...

    def lost(
        self,
        holding: Holding,  # noqa: ARG002
        piece: int,
        sender: NodeId,
        reason: Reason,
        size_bytes: int = 0,  # noqa: ARG002
        link: LinkId | None = None,  # noqa: ARG002
    ) -> None:
        self.losses.append((piece, sender, reason))

    def freed(self) -> None: ...

    def awaits(self, holding: Holding, row: Granted) -> bool:  # noqa: ARG002
        return row.sender not in self.channels

    def channel_to(self, peer: NodeId) -> ChannelId | None:
        return self.channels.get(peer)

    def asked_since(self, file: FileId) -> Micros:  # noqa: ARG002
        return self.since

    def settles_at(self) -> Micros:
        return self.settled

    def ready(self, holding: Holding) -> None: ...

    def rtt(self) -> Micros:
        return 100_000

    def prices(self) -> Prices:
        return dict.fromkeys(Source, 0)

    def wish_changed(self, holding: Holding) -> None: ...

    def has_broker(self, file: FileId) -> bool:  # noqa: ARG002
        return self.broker


class Patient(PortfolioPlanner):
    """Asks the CDN when the test says so."""

    plan_now = Plan(None, 30 * SECOND)

    def plan(self, view: View) -> Plan:  # noqa: ARG002
        return self.plan_now


class Bench:
    """A transfer, and what it asks for."""

    def __init__(self, file: CatalogEntry = FILE, have: int = 0, settles_at: Micros = 0) -> None:
        signer, _ = crypto(node_id("here"), "edgecoder", encoded=False)
        self.context = Context(ClusterConfig(), NodeConfig(), signer, 1)
        self.context.epoch = self.context.ops.epoch = 1
        self.context.out = []
        self.holdings = Holdings(self.context)
        self.holding = self.holdings.begin(file)
        self.holding.have = have
        self.around, self.planner = Around(), Patient()
        self.around.settled = settles_at
        self.ends: list[Reason | None] = []
        self.transfer = Transfer(
            self.context, self.holdings, self.holding, self.planner, self.around, self.ends.append, lambda _: None
        )
        self.transfer.start()
        (allocation,) = [effect for effect in self.context.out if isinstance(effect, AllocateFile)]
        self.allocation = allocation.op

    def allocate(self) -> None:
        self.context.ops.complete(FileAllocated(self.allocation))

    def grant(self, *pieces: int, sender: NodeId = PEER, ticket: Ticket | None = None, expect_ms: int = 60_000) -> None:
        rows = tuple(Granted(piece, sender, expect_ms, ticket=ticket) for piece in pieces)
        self.transfer.granted(Grant(file=self.holding.file, broker_epoch=1, receivers=1, pieces=rows))

    def asked(self) -> list[FetchPiece]:
        return [effect for effect in self.context.out if isinstance(effect, FetchPiece)]

    def cancelled(self) -> list[CancelOp]:
        return [effect for effect in self.context.out if isinstance(effect, CancelOp)]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_full_disk_ends_it_before_anything_is_asked(bench: Bench) -> None:
    bench.context.ops.complete(AllocateFailed(bench.allocation, Reason.DISK_FULL))
    assert bench.transfer.state is TransferState.FAILED
    assert bench.ends == [Reason.DISK_FULL]
    assert not bench.asked()


def test_a_grant_is_asked_of_its_sender_once(bench: Bench) -> None:
    bench.allocate()
    another = node_id("another")
    bench.grant(0, 1)
    bench.grant(0, sender=another)
    assert [(effect.piece, effect.peer) for effect in bench.asked()] == [(0, PEER), (1, PEER)]
    assert bench.around.losses == [(0, another, Reason.DUPLICATE)]


def test_a_sender_whose_bytes_do_not_fit_need_not_send_what_else_it_was_asked_for(bench: Bench) -> None:
    bench.allocate()
    bench.grant(0, 1)
    bench.grant(2, sender=node_id("other"))
    first, second, third = bench.asked()
    bench.context.ops.complete(PieceFailed(first.op, Reason.PIECE_CORRUPT, 0, 16_384))
    assert [effect.op for effect in bench.cancelled()] == [second.op]
    bench.context.ops.complete(PieceFailed(second.op, Reason.CANCELLED))
    assert bench.around.losses == [(0, PEER, Reason.PIECE_CORRUPT), (1, PEER, Reason.BANNED)]
    assert third.op in bench.transfer.requests


def test_a_piece_that_came_from_the_cdn_is_not_asked_for_again_while_the_peer_is_called_off(bench: Bench) -> None:
    """`_late` saw the request to the peer, which ends later, and took its piece for one that was late."""
    bench.allocate()
    bench.grant(*range(PIECES))
    bench.planner.plan_now = Plan(Why.BEHIND, 30 * SECOND, doubles=True)
    bench.transfer.look()
    doubled = [effect for effect in bench.asked() if effect.source is Source.CDN]
    bench.context.ops.complete(PieceFetched(doubled[0].op))
    pieces = [effect.piece for effect in bench.asked() if effect.source is Source.CDN]
    assert len(pieces) == 3
    assert len(set(pieces)) == 3


def test_a_request_to_the_cdn_that_was_called_off_is_no_failure_of_it(bench: Bench) -> None:
    """The CDN was left alone for two seconds each time that a peer was sooner."""
    bench.allocate()
    bench.grant(*range(PIECES))
    bench.planner.plan_now = Plan(Why.BEHIND, 30 * SECOND, doubles=True)
    bench.transfer.look()
    doubled = [effect for effect in bench.asked() if effect.source is Source.CDN]
    sooner = next(e for e in bench.asked() if e.source is Source.MESH and e.piece == doubled[0].piece)
    bench.context.ops.complete(PieceFetched(sooner.op))
    assert [effect.op for effect in bench.cancelled()] == [doubled[0].op]
    bench.context.ops.complete(PieceFailed(doubled[0].op, Reason.CANCELLED))
    assert len([effect for effect in bench.asked() if effect.source is Source.CDN]) == 3


def test_pieces_that_only_the_cdn_grants_are_no_sign_of_peers(bench: Bench) -> None:
    """A node alone got three pieces at a time, each after the time to the first byte, for as long as grants came."""
    bench.allocate()
    before = bench.transfer._sign_at
    bench.context.now = 5 * SECOND
    bench.grant(0, sender=CDN_ID)
    assert bench.transfer._sign_at == before
    bench.grant(1)
    assert bench.transfer._sign_at == 5 * SECOND


def test_without_a_broker_those_whom_it_has_named_are_asked_one_piece_each(bench: Bench) -> None:
    others = [node_id(f"peer {number}") for number in range(2)]
    bench.allocate()
    for sender, piece in ((PEER, 0), (others[0], 1), (others[1], 2)):
        bench.grant(piece, sender=sender, ticket=TICKET)
    asked = bench.asked()
    bench.around.broker = False
    bench.context.ops.complete(PieceFetched(asked[0].op, 0b1111))
    bench.context.ops.complete(PieceFailed(asked[1].op, Reason.BUSY, have=0b0110))
    again = bench.asked()[3:]
    assert [(effect.peer, effect.piece) for effect in again] == [(PEER, 3)]
    bench.transfer.broker_lost()
    assert len(bench.asked()) == 4  # one has just been busy, the others are at it
    bench.context.now += SECOND
    bench.transfer.look()
    assert [(effect.peer, effect.piece, effect.ticket) for effect in bench.asked()[4:]] == [(others[0], 1, TICKET)]


def test_with_a_broker_nobody_is_asked_without_a_grant(bench: Bench) -> None:
    bench.allocate()
    bench.grant(0, ticket=TICKET)
    bench.context.ops.complete(PieceFetched(bench.asked()[0].op, 0b1111))
    bench.transfer.look()
    assert len(bench.asked()) == 1


def test_who_sent_what_does_not_fit_is_not_asked_without_a_broker_either(bench: Bench) -> None:
    bench.allocate()
    bench.grant(0, ticket=TICKET)
    bench.around.broker = False
    bench.context.ops.complete(PieceFailed(bench.asked()[0].op, Reason.PIECE_CORRUPT, have=0b1111))
    bench.context.now += 60 * SECOND
    bench.transfer.look()
    assert len(bench.asked()) == 1


def test_the_cdn_is_asked_for_rows_and_for_more_of_them_where_they_are_short() -> None:
    """Requests for single pieces between those that are here left the CDN idle in the time to each first byte."""
    bench = Bench(entry("long", 0.5, file_size_bytes=8 * MIB, piece_root="ab" * 32))
    bench.holding.have = sum(1 << piece for piece in range(0, 128, 2)) & ~(0xFF << 80)
    bench.planner.plan_now = Plan(Why.BEHIND, 30 * SECOND)
    bench.allocate()
    rows = [(effect.piece, effect.count) for effect in bench.asked()]
    assert rows[0] == (79, 9)
    assert [count for _, count in rows[1:]] == [1] * 7


def test_leaves_that_come_twice_are_waste(bench: Bench) -> None:
    """A second source is asked for the first one's piece; both break off."""
    bench.allocate()
    bench.grant(0)
    bench.planner.plan_now = Plan(Why.BEHIND, 30 * SECOND, doubles=True)
    for other in range(1, PIECES):
        bench.holding.have |= 1 << other
    bench.transfer.look()
    first, second = bench.asked()
    bench.context.ops.complete(PieceFailed(first.op, Reason.PEER_LOST, 2, 100))
    bench.context.ops.complete(PieceFailed(second.op, Reason.NO_SOURCE, 3, 7))
    traced = [effect.record for effect in bench.context.out if isinstance(effect, Trace)]
    lost = [(row.size_bytes, row.wasted_bytes) for row in traced if isinstance(row, PieceLost)]
    assert lost == [(2 * LEAF_BYTES, 100), (LEAF_BYTES, 2 * LEAF_BYTES + 7)]
    assert bench.holding.leaves == {0: 3}


def test_what_is_granted_again_is_asked_for_once_and_is_no_duplicate(bench: Bench) -> None:
    bench.allocate()
    for _ in range(2):
        bench.grant(0)
        bench.grant(1, sender=CDN_ID)
    assert [(effect.piece, effect.source) for effect in bench.asked()] == [(0, Source.MESH), (1, Source.CDN)]
    assert bench.around.losses == []


def test_the_grace_of_peers_begins_when_the_broker_is_asked(bench: Bench) -> None:
    """A node that came back asked the CDN while its link to the broker was being made."""
    bench.allocate()
    bench.around.since = 5 * SECOND
    bench.context.now = 6 * SECOND
    assert bench.transfer._view(6 * SECOND).peer_sign_at == 5 * SECOND


def test_a_download_that_goes_on_in_a_new_life_gives_its_links_time_before_the_cdn_is_asked() -> None:
    bench = Bench(have=0b1, settles_at=3 * SECOND)
    bench.planner.plan_now = Plan(Why.BEHIND, 30 * SECOND)
    bench.allocate()
    assert not bench.asked()
    bench.context.now = 3 * SECOND
    bench.context.timers.fire_due(bench.context.now)
    assert bench.asked()


@pytest.mark.parametrize(("leaves", "reason"), [(0, Reason.TOO_SLOW), (2, Reason.SUPERSEDED)])
def test_no_peer_gets_longer_than_the_slowest_uplink_takes(leaves: int, reason: Reason) -> None:
    """One that said that its uplink has 1 kbit/s, and was silent, kept its receivers waiting for six days."""
    bench = Bench(entry("big", 7, file_size_bytes=4700 * MIB, piece_root="ab" * 32))
    bench.allocate()
    bench.grant(0, expect_ms=134_217_728)
    bench.context.now = 524 * SECOND
    bench.transfer.look()
    assert not bench.cancelled()
    bench.context.now = 525 * SECOND
    bench.context.timers.fire_due(bench.context.now)
    (cancelled,) = bench.cancelled()
    bench.context.ops.complete(PieceFailed(cancelled.op, Reason.CANCELLED, leaves))
    assert bench.around.losses == [(0, PEER, reason)]
    assert bench.holding.leaves == ({0: leaves} if leaves else {})


def test_a_cdn_that_has_just_failed_is_not_asked_because_a_broker_says_so(bench: Bench) -> None:
    """Forty nodes asked one that was down ten thousand times in half an hour."""
    bench.allocate()
    bench.grant(0, sender=CDN_ID)
    bench.context.ops.complete(PieceFailed(bench.asked()[0].op, Reason.NO_SOURCE))
    bench.grant(0, sender=CDN_ID)
    assert len(bench.asked()) == 1
    assert bench.around.losses == [(0, CDN_ID, Reason.NO_SOURCE)] * 2
    bench.context.now += 2 * SECOND
    bench.grant(0, sender=CDN_ID)
    assert len(bench.asked()) == 2


def ask_cdn(bench: Bench) -> FetchPiece:
    """What the CDN is asked for next."""
    bench.planner.plan_now = Plan(Why.BEHIND, 30 * SECOND)
    bench.transfer.look()
    bench.planner.plan_now = Plan(None, 30 * SECOND)
    return [effect for effect in bench.asked() if effect.source is Source.CDN][-1]


def test_a_cdn_without_proofs_ends_it_where_there_is_nobody_else(bench: Bench) -> None:
    bench.allocate()
    first = ask_cdn(bench)
    others = [effect for effect in bench.asked() if effect is not first]
    bench.context.ops.complete(PieceFailed(first.op, Reason.NO_PROOFS))
    assert bench.transfer.state is TransferState.FAILED
    for other in others:
        bench.context.ops.complete(PieceFailed(other.op, Reason.CANCELLED))
    assert bench.ends == [Reason.NO_PROOFS]


@pytest.mark.parametrize("has_come", [False, True])
def test_a_cdn_without_proofs_is_left_to_peers(bench: Bench, has_come: bool) -> None:
    bench.allocate()
    bench.grant(0)
    (peer,) = bench.asked()
    if has_come:
        bench.context.ops.complete(PieceFetched(peer.op))
    asked = ask_cdn(bench)
    bench.context.ops.complete(PieceFailed(asked.op, Reason.NO_PROOFS))
    assert bench.transfer.state is TransferState.FETCHING
    lost = bench.around.losses[-1]
    assert (lost[1], lost[2]) == (CDN_ID, Reason.NO_SOURCE), "other nodes know no such reason"


@pytest.mark.parametrize("has_proofs", [False, True])
def test_when_peers_give_no_more_it_ends_with_what_the_cdn_said_last(has_proofs: bool) -> None:
    bench = Bench(entry("shared", 0.5, file_size_bytes=MIB, piece_root="ab" * 32))
    bench.allocate()
    bench.grant(0)
    bench.context.ops.complete(PieceFetched(bench.asked()[0].op))
    bench.planner.plan_now = Plan(Why.BEHIND, 30 * SECOND)
    bench.transfer.look()
    bench.planner.plan_now = Plan(None, 30 * SECOND)
    reason = Reason.NO_SOURCE if has_proofs else Reason.NO_PROOFS
    for asked in [effect for effect in bench.asked() if effect.source is Source.CDN]:
        bench.context.ops.complete(PieceFailed(asked.op, reason))
    bench.context.now += bench.context.config.transfer_patience_ms * 1000
    bench.transfer.look()
    assert bench.ends == [reason]


def test_a_cdn_that_has_returned_is_asked_at_once(bench: Bench) -> None:
    bench.allocate()
    bench.planner.plan_now = Plan(Why.BEHIND, 30 * SECOND)
    bench.transfer.look()
    for asked in bench.asked():
        bench.context.ops.complete(PieceFailed(asked.op, Reason.NO_SOURCE))
    before = len(bench.asked())
    bench.transfer.look()
    assert len(bench.asked()) == before
    bench.transfer.cdn_returned()
    assert len(bench.asked()) > before
    assert bench.asked()[-1].source is Source.CDN


@pytest.mark.parametrize("after_s", [0, 3])
def test_requests_to_the_cdn_that_were_under_way_together_fail_once(bench: Bench, after_s: int) -> None:
    """An outage of seconds let downloads with several requests under way rest for a minute."""
    bench.allocate()
    for piece in range(PIECES):
        bench.grant(piece, sender=CDN_ID)
    first, *others = bench.asked()
    bench.context.ops.complete(PieceFailed(first.op, Reason.NO_SOURCE))
    rests_until = bench.transfer.losses.cdn_waits_until
    assert rests_until == 2 * SECOND
    bench.context.now = after_s * SECOND
    for asked in others:
        bench.context.ops.complete(PieceFailed(asked.op, Reason.NO_SOURCE))
    losses = bench.transfer.losses
    assert (losses.cdn_failures, losses.cdn_waits_until) == (1, rests_until)


def test_a_cdn_that_fails_again_when_it_is_tried_rests_for_twice_as_long(bench: Bench) -> None:
    bench.allocate()
    waits = []
    for _ in range(7):
        bench.grant(0, sender=CDN_ID)
        bench.context.ops.complete(PieceFailed(bench.asked()[-1].op, Reason.NO_SOURCE))
        waits.append((bench.transfer.losses.cdn_waits_until - bench.context.now) // SECOND)
        bench.context.now = bench.transfer.losses.cdn_waits_until
    assert waits == [2, 4, 8, 16, 32, 60, 60]


def test_what_fails_after_the_cdn_has_given_something_is_a_failure_of_its_own(bench: Bench) -> None:
    bench.allocate()
    for piece in range(PIECES - 1):
        bench.grant(piece, sender=CDN_ID)
    first, second, third = bench.asked()
    bench.context.ops.complete(PieceFailed(first.op, Reason.NO_SOURCE))
    bench.context.ops.complete(PieceFetched(second.op))
    bench.context.now = 3 * SECOND
    bench.context.ops.complete(PieceFailed(third.op, Reason.NO_SOURCE))
    assert bench.transfer.losses.cdn_failures == 1
    assert bench.transfer.losses.cdn_is_left_alone


def test_a_cdn_whose_place_something_else_takes_has_not_failed(bench: Bench) -> None:
    bench.allocate()
    bench.planner.plan_now = Plan(Why.BEHIND, 30 * SECOND)
    bench.transfer.look()
    asked = bench.asked()
    bench.context.ops.complete(PieceFailed(asked[0].op, Reason.SUPERSEDED))
    assert len(bench.asked()) > len(asked)
