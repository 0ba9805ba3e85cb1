"""Coordinators that broker files: which of them, in which epoch, with what leave, and for how long."""

from __future__ import annotations

from itertools import pairwise

import pytest

from edgecoder.config import ClusterConfig
from edgecoder.coordinator.judge import GONE_MS, REFUSE_MS
from edgecoder.core.ids import Role
from edgecoder.errors import Reason
from edgecoder.protocol import CDN_ID
from edgecoder.seeding.tickets import is_signed
from edgecoder.wire.messages import Announce, Got, Grant, Have, Lost, Redirect
from edgecoder_sim.crypto import node_id
from tests.brokering import ALL, DIGEST, NAMES, SECOND_FILE, SLOW, Bench


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


def test_who_is_sent_elsewhere_is_no_member_any_more() -> None:
    """One that had come back and announced again was granted pieces for as long as its link lasted."""
    broker = first(Bench(NAMES[0], NAMES[1:]))
    name = next(name for name in NAMES if name != broker)
    bench = Bench(name, tuple(other for other in NAMES if other != name))
    bench.announce(1, "ada", redirected=True)
    bench.sent()
    bench.announce(1, "ada")
    assert [type(message) for _, message in bench.sent()] == [Redirect]
    bench.pass_s(120)
    assert bench.sent() == []


def test_who_was_first_and_is_gone_is_named_no_more() -> None:
    broker = first(Bench(NAMES[0], NAMES[1:]))
    left = [name for name in NAMES if name != broker]
    named = {Bench(name, tuple(other for other in left if other != name)).broker.broker_of(DIGEST) for name in left}
    assert len(named) == 1
    assert node_id(broker) not in named


def test_who_comes_from_an_older_brokerage_begins_a_newer_one() -> None:
    bench = Bench()
    bench.pass_s(5)
    bench.announce(1, "ada")
    assert {grant.broker_epoch for _, grant in bench.grants()} == {5_000}
    bench.pass_s(10)
    bench.sent()
    bench.announce(2, "ben", broker_epoch=6_000)
    assert {grant.broker_epoch for _, grant in bench.grants()} == {15_000}
    bench.announce(1, "ada", broker_epoch=15_000)
    bench.announce(3, "cy", broker_epoch=2)
    assert {grant.broker_epoch for _, grant in bench.grants()} == {15_000}


def test_a_broker_whose_clock_is_late_begins_a_newer_epoch_too() -> None:
    bench = Bench()
    bench.announce(1, "ada", broker_epoch=3_600_000)
    assert {grant.broker_epoch for _, grant in bench.grants()} == {3_600_001}


def test_tickets_of_an_older_epoch_are_given_anew() -> None:
    bench = Bench()
    bench.announce(1, "ada", ALL)
    bench.announce(2, "ben")
    rows = [row for _, grant in bench.grants() for row in grant.pieces if row.sender != CDN_ID]
    assert rows[0].ticket is not None
    assert all(row.ticket is None for row in rows[1:])  # the one that it has still holds
    ticket = rows[0].ticket
    assert is_signed("edgecoder", bench.verifier, ticket, node_id("ben"), node_id("ada"), DIGEST)
    bench.announce(3, "cy", 0, broker_epoch=9)  # another broker's
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
