"""Coordinators that broker files: which of them, in which epoch, with what leave, and for how long."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from edgecoder.config import ClusterConfig, NodeConfig
from edgecoder.coordinator.broker import EPOCHS_MAX, Broker
from edgecoder.coordinator.judge import GONE_MS, REFUSE_MS
from edgecoder.coordinator.swarm import ORDER_US_MAX
from edgecoder.core.context import Context
from edgecoder.core.effects import Send, Trace
from edgecoder.core.ids import LinkId, Medium, NodeId, Role
from edgecoder.errors import Reason
from edgecoder.mesh.gate import Link
from edgecoder.models.catalog import Catalog
from edgecoder.protocol import CDN_ID
from edgecoder.seeding.pieces import bitmap_to_bytes
from edgecoder.seeding.tickets import is_signed
from edgecoder.trace import Dropped
from edgecoder.wire.messages import Announce, Got, Grant, Have, Lost, Message, Redirect
from edgecoder_sim.crypto import crypto, node_id
from tests.catalogs import MIB, entry

FILE = entry("shared", 0.5, file_size_bytes=MIB, piece_root="ab" * 32)
SECOND_FILE = entry("second", 0.5, file_size_bytes=MIB, piece_root="cd" * 32)
PIECES = 16
ALL = (1 << PIECES) - 1
DIGEST = bytes.fromhex(FILE.sha256)
NAMES = ("north", "south", "west")
SECOND = 1_000_000


class Bench:
    """A coordinator, and nodes that have links to it."""

    def __init__(
        self, name: str = NAMES[0], others: tuple[str, ...] = (), cluster: ClusterConfig | None = None, **config: Any
    ) -> None:
        signer, self.verifier = crypto(node_id(name), "edgecoder", encoded=False)
        self.context = Context(cluster or ClusterConfig(), NodeConfig(**config), signer, 1)
        self.context.epoch = self.context.ops.epoch = 1
        self.links: dict[LinkId, Link] = {}
        self.others = [node_id(other) for other in others]
        self.broker = Broker(
            self.context,
            self.links,
            Catalog((FILE, SECOND_FILE)),
            lambda: self.context.now // 1000,
            lambda: self.others,
        )

    def link(self, number: int, name: str, role: Role = Role.AGENT) -> Link:
        link = self.links[number] = Link(number, Medium.LAN, peer=node_id(name), role=role)
        return link

    def announce(self, number: int, name: str, have: int = 0, **more: Any) -> None:
        """A node tells what it has over its link, which is made where it is not there."""
        said = {"wants": have != ALL, "slots": 4, "up_kbit_per_s": 8000, **more}
        link = self.links.get(number) or self.link(number, name)
        self.broker.announce(link, Announce(file=DIGEST, have=bitmap_to_bytes(have, PIECES), **said))

    def sent(self) -> list[tuple[LinkId, Message]]:
        """What was sent since it was asked last."""
        found = [(effect.link, effect.frame) for effect in self.context.out if isinstance(effect, Send)]
        self.context.out[:] = [effect for effect in self.context.out if not isinstance(effect, Send)]
        return [(link, self.verifier.open(frame).message) for link, frame in found]

    def grants(self) -> list[tuple[LinkId, Grant]]:
        return [(link, message) for link, message in self.sent() if isinstance(message, Grant)]

    def granted(self) -> list[tuple[LinkId, int, NodeId]]:
        return [(link, row.piece, row.sender) for link, grant in self.grants() for row in grant.pieces]

    def drops(self) -> list[tuple[str, Reason]]:
        found = [effect.record for effect in self.context.out if isinstance(effect, Trace)]
        return [(record.what, record.reason) for record in found if isinstance(record, Dropped)]

    def pass_s(self, seconds: float) -> None:
        until = self.context.now + round(seconds * SECOND)
        while (deadline := self.context.timers.next_deadline) is not None and deadline <= until:
            self.context.now = max(self.context.now, deadline)
            self.context.timers.fire_due(self.context.now)
        self.context.now = until


def test_all_coordinators_name_the_same_broker_and_each_file_its_own() -> None:
    named = {
        bytes([number]) * 32: {
            Bench(name, tuple(other for other in NAMES if other != name)).broker.broker_of(bytes([number]) * 32)
            for name in NAMES
        }
        for number in range(50)
    }
    assert all(len(brokers) == 1 for brokers in named.values())
    assert set().union(*named.values()) == {node_id(name) for name in NAMES}


def first(bench: Bench) -> str:
    """The coordinator that is first for the file."""
    return next(name for name in NAMES if bench.broker.broker_of(DIGEST) == node_id(name))


def test_who_is_not_first_names_who_is_and_takes_whom_another_has_sent() -> None:
    broker = first(Bench(NAMES[0], NAMES[1:]))
    name = next(name for name in NAMES if name != broker)
    bench = Bench(name, tuple(other for other in NAMES if other != name))
    bench.announce(1, "ada")
    ((link, message),) = bench.sent()
    assert isinstance(message, Redirect)
    assert (link, message.coordinator) == (1, node_id(broker))
    assert not bench.broker.files
    bench.announce(1, "ada", redirected=True)
    assert isinstance(bench.sent()[0][1], Grant)


def test_who_was_first_and_is_gone_is_named_no_more() -> None:
    broker = first(Bench(NAMES[0], NAMES[1:]))
    left = [name for name in NAMES if name != broker]
    named = {Bench(name, tuple(other for other in left if other != name)).broker.broker_of(DIGEST) for name in left}
    assert len(named) == 1
    assert node_id(broker) not in named


def test_who_comes_from_an_older_brokerage_begins_a_newer_one() -> None:
    bench = Bench()
    bench.announce(1, "ada")
    assert {grant.broker_epoch for _, grant in bench.grants()} == {1}
    bench.announce(2, "ben", broker_epoch=6)
    assert {grant.broker_epoch for _, grant in bench.grants()} == {7}
    bench.announce(1, "ada", broker_epoch=7)
    bench.announce(3, "cy", broker_epoch=2)
    assert {grant.broker_epoch for _, grant in bench.grants()} == {7}


def test_no_member_can_end_the_epochs() -> None:
    bench = Bench()
    bench.announce(1, "ada", broker_epoch=EPOCHS_MAX)
    assert {grant.broker_epoch for _, grant in bench.grants()} == {1}


def test_tickets_of_an_older_epoch_are_given_anew() -> None:
    bench = Bench()
    bench.announce(1, "ada", ALL)
    bench.announce(2, "ben")
    rows = [row for _, grant in bench.grants() for row in grant.pieces if row.sender != CDN_ID]
    assert rows[0].ticket is not None
    assert all(row.ticket is None for row in rows[1:])  # the one that it has still holds
    ticket = rows[0].ticket
    assert is_signed("edgecoder", bench.verifier, ticket, node_id("ben"), node_id("ada"), DIGEST)
    bench.announce(3, "cy", 0, broker_epoch=9)
    bench.sent()
    bench.broker.have(bench.links[2], Have(file=DIGEST, got=(Got(rows[0].piece, node_id("ada"), 65_536),)))
    bench.pass_s(10)
    renewed = [
        row.ticket for link, grant in bench.grants() for row in grant.pieces if link == 2 and row.ticket is not None
    ]
    assert renewed
    assert renewed[0].broker_epoch == 10


def test_a_ticket_is_renewed_when_half_of_its_time_is_over() -> None:
    bench = Bench()
    bench.announce(1, "ada", ALL, up_kbit_per_s=80)
    bench.announce(2, "ben")
    tickets, piece = [], 0
    for _ in range(12):
        for link, grant in bench.grants():
            for row in grant.pieces:
                if link == 2 and row.sender == node_id("ada"):
                    piece = row.piece
                    if row.ticket is not None:
                        tickets.append(row.ticket.expires_ms)
        bench.pass_s(6)
        bench.broker.have(bench.links[2], Have(file=DIGEST, got=(Got(piece, node_id("ada"), 65_536),)))
    assert tickets[0] == 60_000
    assert len(tickets) >= 2
    assert all(late - soon >= 30_000 for soon, late in pairwise(tickets))


def test_what_was_to_come_from_who_leaves_is_given_to_another() -> None:
    bench = Bench()
    bench.announce(1, "ada", ALL)
    bench.announce(2, "ben", ALL)
    bench.announce(3, "cy")
    granted = bench.granted()
    gone = granted[0][2]
    (left,) = {node_id("ada"), node_id("ben")} - {gone}
    pieces = [piece for _, piece, sender in granted if sender == gone]
    number = 1 if gone == node_id("ada") else 2
    bench.broker.link_down(number)
    del bench.links[number]
    lost = tuple(Lost(piece, gone, Reason.PEER_LOST) for piece in pieces)
    got = tuple(Got(piece, left, 65_536) for _, piece, sender in granted if sender == left)
    bench.broker.have(bench.links[3], Have(file=DIGEST, got=got, lost=lost))
    again = bench.granted()
    assert {sender for _, _, sender in again} == {left}


def test_a_receiver_that_leaves_frees_its_senders() -> None:
    bench = Bench()
    bench.announce(1, "ada", ALL)
    bench.announce(2, "ben")
    bench.announce(3, "cy")
    bench.sent()
    bench.broker.link_down(2)
    del bench.links[2]
    bench.pass_s(1)
    assert {link for link, _, _ in bench.granted()} == {3}
    swarm = bench.broker.files[DIGEST].swarm
    assert {order.receiver.node for order in swarm.orders.values()} == {node_id("cy")}


@pytest.mark.parametrize(
    ("reason", "again_s"), [(Reason.PEER_LOST, GONE_MS / 1000), (Reason.TOO_SLOW, REFUSE_MS / 1000)]
)
def test_a_pair_that_failed_is_kept_apart_for_a_while(reason: Reason, again_s: float) -> None:
    bench = Bench()
    bench.announce(1, "ada", ALL)
    bench.announce(2, "ben")
    asked = [piece for _, piece, sender in bench.granted() if sender == node_id("ada")]
    lost = tuple(Lost(piece, node_id("ada"), reason) for piece in asked)
    bench.broker.have(bench.links[2], Have(file=DIGEST, lost=lost))
    bench.pass_s(again_s - 2.5)
    assert all(sender == CDN_ID for _, _, sender in bench.granted())
    bench.pass_s(5)
    assert node_id("ada") in {sender for _, _, sender in bench.granted()}


def test_a_pair_whose_bytes_did_not_fit_is_kept_apart_for_good() -> None:
    bench = Bench()
    bench.announce(1, "ada", ALL)
    bench.announce(2, "ben")
    asked = [piece for _, piece, sender in bench.granted() if sender == node_id("ada")]
    lost = tuple(Lost(piece, node_id("ada"), Reason.PIECE_CORRUPT) for piece in asked)
    bench.broker.have(bench.links[2], Have(file=DIGEST, lost=lost))
    bench.pass_s(600)
    assert all(sender == CDN_ID for _, _, sender in bench.granted())


def test_what_no_member_may_say_is_dropped() -> None:
    bench = Bench()
    bench.broker.announce(bench.link(1, "ada"), Announce(file=bytes(32), have=b"", wants=True))
    bench.broker.announce(bench.link(2, "south", Role.COORDINATOR), Announce(file=DIGEST, have=b"", wants=True))
    bench.broker.announce(bench.links[1], Announce(file=DIGEST, have=b"\x00" * 99, wants=True))
    bench.broker.have(bench.links[1], Have(file=DIGEST))
    assert bench.drops() == [
        ("announce", Reason.UNKNOWN_MODEL),
        ("announce", Reason.UNKNOWN_SENDER),
        ("announce", Reason.INVALID),
        ("have", Reason.UNKNOWN_SENDER),
    ]
    assert bench.sent() == []


def test_who_has_nothing_and_wants_nothing_is_no_member() -> None:
    bench = Bench()
    bench.announce(1, "ada", ALL)
    bench.announce(1, "ada", 0, wants=False)
    assert not bench.broker.files[DIGEST].swarm.peers


def test_when_another_becomes_first_all_members_are_sent_there_once() -> None:
    broker = first(Bench(NAMES[0], NAMES[1:]))
    name = next(name for name in NAMES if name != broker)
    bench = Bench(name, tuple(other for other in NAMES if other not in (name, broker)))
    if first(bench) != name:
        name = first(bench)
        bench = Bench(name, tuple(other for other in NAMES if other not in (name, broker)))
    bench.announce(1, "ada", ALL)
    bench.announce(2, "ben")
    bench.pass_s(10)
    bench.sent()
    bench.others.append(node_id(broker))
    bench.pass_s(3)
    sent = bench.sent()
    assert {link for link, _ in sent} == {1, 2}
    assert {message.coordinator for _, message in sent if isinstance(message, Redirect)} == {node_id(broker)}
    assert not bench.broker.files[DIGEST].swarm.peers
    bench.announce(2, "ben", redirected=True)  # it could not get there
    bench.pass_s(10)
    assert not any(isinstance(message, Redirect) for _, message in bench.sent())


def test_a_file_that_nobody_has_or_wants_makes_room_for_another() -> None:
    bench = Bench(swarm_files_max=1)
    bench.announce(1, "ada")
    second = Announce(file=bytes.fromhex(SECOND_FILE.sha256), have=b"\x00\x00", wants=True)
    bench.broker.announce(bench.links[1], second)
    assert bench.drops() == [("announce", Reason.OVERFLOW)]
    bench.broker.link_down(1)
    bench.broker.announce(bench.link(2, "ben"), second)
    assert list(bench.broker.files) == [second.file]


def test_a_file_without_members_costs_nothing() -> None:
    bench = Bench()
    bench.announce(1, "ada")
    bench.broker.link_down(1)
    bench.pass_s(5)
    assert bench.context.timers.next_deadline is None
    bench.announce(2, "ben")
    assert bench.context.timers.next_deadline is not None


SLOW = 524
"""Kbit/s: a piece a second."""


def test_a_member_that_does_nothing_is_told_its_orders_again_with_a_ticket() -> None:
    """A grant that was lost left its sender idle until the order was void, and the next one had no ticket."""
    bench = Bench()
    bench.announce(1, "ada", ALL, up_kbit_per_s=SLOW)
    bench.announce(2, "ben")
    ((_, told),) = [(link, grant) for link, grant in bench.grants() if grant.pieces]
    for link in (1, 2):
        bench.pass_s(0.1)
        bench.broker.have(bench.links[link], Have(file=DIGEST))
        assert not bench.granted(), "it may be on its way"
        bench.pass_s(0.2)
        bench.broker.have(bench.links[link], Have(file=DIGEST))
        ((receiver, grant),) = bench.grants()
        assert receiver == 2
        assert [(row.piece, row.sender) for row in grant.pieces] == [(row.piece, row.sender) for row in told.pieces]
        assert grant.pieces[0].ticket is not None


def test_an_order_that_is_late_is_told_again_once_then_void() -> None:
    bench = Bench()
    bench.announce(1, "ada", ALL, up_kbit_per_s=SLOW)
    bench.announce(2, "ben")
    (first,) = bench.granted()
    bench.pass_s(1.6)
    bench.granted()
    bench.pass_s(2)
    assert bench.granted().count(first) == 1
    orders = bench.broker.files[DIGEST].swarm.orders
    assert (node_id("ben"), first[1]) in orders
    bench.pass_s(3)
    assert (node_id("ben"), first[1]) not in orders


def test_who_says_nothing_though_something_should_have_come_is_sent_nothing_until_it_does() -> None:
    """The slots of senders were full of orders for a node that had crashed."""
    bench = Bench()
    bench.announce(1, "ada", ALL)
    bench.announce(2, "ben")
    bench.pass_s(5)
    bench.granted()
    bench.pass_s(64)
    assert 8 <= len(bench.granted()) <= 16, "one each eight seconds, told twice"
    tried = bench.broker.files[DIGEST].swarm.peers[node_id("ben")]
    while not tried.inbound:
        bench.pass_s(1)
    bench.broker.have(bench.links[2], Have(file=DIGEST))
    assert tried.inbound > 1, "it had no more than one on its way ever after"


def test_a_sender_whom_two_could_not_reach_gives_nothing_until_it_says_something() -> None:
    """Each receiver found out by itself that a node had crashed; what only that node had was not sought elsewhere."""
    bench = Bench()
    bench.announce(1, "ada", ALL)
    for number, name in ((2, "ben"), (3, "cy")):
        bench.announce(number, name)
    for number in (2, 3):
        granted = [(piece, sender) for link, piece, sender in bench.granted() if link == number]
        lost = tuple(Lost(piece, sender, Reason.PEER_LOST) for piece, sender in granted)
        bench.broker.have(bench.links[number], Have(file=DIGEST, lost=lost))
    assert CDN_ID in {sender for _, _, sender in bench.granted()}
    bench.pass_s(GONE_MS / 1000 + 2)
    for number in (2, 3):
        bench.broker.have(bench.links[number], Have(file=DIGEST))
    assert {sender for _, _, sender in bench.granted()} <= {CDN_ID}
    bench.broker.have(bench.links[1], Have(file=DIGEST))
    assert {sender for _, _, sender in bench.granted()} == {node_id("ada")}


def test_who_was_not_to_get_anything_of_a_sender_cannot_say_that_it_is_gone() -> None:
    """Two members said so of all seeds, and nobody was given anything."""
    bench = Bench()
    seeds = [node_id(f"seed-{number}") for number in range(5)]
    for number in range(5):
        bench.announce(10 + number, f"seed-{number}", ALL)
    for number, name in ((1, "ben"), (2, "cy")):
        bench.announce(number, name)
        ordered = {sender for link, _, sender in bench.granted() if link == number}
        lost = tuple(Lost(PIECES - 1, seed, Reason.PEER_LOST) for seed in seeds if seed not in ordered)
        bench.broker.have(bench.links[number], Have(file=DIGEST, lost=lost))
    bench.announce(3, "dora")
    assert bench.granted()
    assert all(sender in seeds for _, _, sender in bench.granted())
    swarm = bench.broker.files[DIGEST].swarm
    assert not any(swarm.peers[seed].is_doubted for seed in seeds)


def test_a_sender_that_two_could_not_reach_and_a_third_could_is_there() -> None:
    bench = Bench()
    bench.announce(1, "ada", ALL)
    for number, name in ((2, "ben"), (3, "cy")):
        bench.announce(number, name)
        granted = [(piece, sender) for link, piece, sender in bench.granted() if link == number]
        lost = tuple(Lost(piece, sender, Reason.PEER_LOST) for piece, sender in granted)
        bench.broker.have(bench.links[number], Have(file=DIGEST, lost=lost))
    bench.granted()
    bench.announce(4, "dora")
    bench.pass_s(62)
    ((link, piece),) = [(link, piece) for link, piece, sender in bench.granted() if sender == node_id("ada")][:1]
    bench.broker.have(bench.links[link], Have(file=DIGEST, got=(Got(piece, node_id("ada"), 65_536),)))
    assert not bench.broker.files[DIGEST].swarm.peers[node_id("ada")].is_doubted


def test_what_a_member_says_it_fetches_by_itself_counts_for_a_while() -> None:
    """One that said so of all pieces kept the others from being given any."""
    bench = Bench()
    bench.announce(1, "ben")
    bench.broker.have(bench.links[1], Have(file=DIGEST, taking=tuple(range(PIECES))))
    bench.sent()
    bench.announce(2, "cy")
    assert not bench.granted()
    for _ in range(60):
        bench.pass_s(1)
        bench.broker.have(bench.links[1], Have(file=DIGEST, taking=tuple(range(PIECES))))
    assert {(link, sender) for link, _, sender in bench.granted()} >= {(2, CDN_ID)}


def test_what_is_fetched_by_who_gives_nothing_does_not_count() -> None:
    bench = Bench()
    bench.announce(1, "ben", slots=0)
    bench.broker.have(bench.links[1], Have(file=DIGEST, taking=tuple(range(PIECES))))
    bench.sent()
    bench.announce(2, "cy")
    assert {(link, sender) for link, _, sender in bench.granted()} == {(2, CDN_ID)}


def test_what_comes_in_time_of_what_a_member_fetches_by_itself_keeps_the_rest() -> None:
    bench = Bench(cluster=ClusterConfig(cdn_kbit_per_s=SLOW))
    bench.announce(1, "ben")
    ordered = {piece for _, piece, _ in bench.granted()}
    taken = [piece for piece in range(PIECES) if piece not in ordered]
    bench.broker.have(bench.links[1], Have(file=DIGEST, taking=tuple(taken)))
    bench.announce(2, "cy")
    for piece in taken[:-1]:
        bench.pass_s(3)
        bench.broker.have(bench.links[1], Have(file=DIGEST, got=(Got(piece, CDN_ID, 65_536),)))
    assert {piece for _, piece, sender in bench.granted() if sender == CDN_ID} <= ordered


def test_no_order_is_waited_for_much_longer_than_two_minutes() -> None:
    """A silent member that claimed a kilobit a second held its receivers up for days."""
    bench = Bench()
    bench.announce(1, "ada", ALL, up_kbit_per_s=1)
    bench.announce(2, "ben", down_kbit_per_s=1)
    rows = [row for _, grant in bench.grants() for row in grant.pieces]
    assert rows
    assert all(row.expect_ms <= ORDER_US_MAX // 1000 + 1000 for row in rows)
    swarm = bench.broker.files[DIGEST].swarm
    first = set(swarm.orders.values())
    for _ in range(50):
        bench.pass_s(5)
        bench.broker.have(bench.links[2], Have(file=DIGEST))
    assert not first & set(swarm.orders.values())


def test_a_link_outlives_a_file_that_was_forgotten_after_its_node_had_left() -> None:
    bench = Bench(swarm_files_max=1)
    bench.announce(1, "ada", 1)
    bench.announce(1, "ada", 0, wants=False)
    second = Announce(file=bytes.fromhex(SECOND_FILE.sha256), have=b"\x00\x00", wants=True)
    bench.broker.announce(bench.link(2, "ben"), second)
    assert list(bench.broker.files) == [second.file]
    bench.broker.link_down(1)


def test_who_gives_nothing_is_not_sent_to_the_origin() -> None:
    """It knows itself when to ask the CDN; five that did both had shares of an origin that were not equal."""
    bench = Bench()
    bench.announce(1, "ada", slots=0)
    assert not bench.granted()
    bench.announce(2, "ben")
    assert {(link, sender) for link, _, sender in bench.granted()} == {(2, CDN_ID)}


def test_all_hear_of_a_share_of_the_origin_that_has_changed_by_more_than_a_quarter() -> None:
    bench = Bench(cluster=ClusterConfig(cdn_egress_kbit_per_s=80))
    told = []
    for number in range(1, 9):
        bench.announce(number, f"node-{number}")
        bench.pass_s(1.5)
        told.append({grant.receivers for link, grant in bench.grants() if link == 1})
    assert [max(shares, default=0) for shares in told[1:6]] == [2, 3, 4, 0, 6]
