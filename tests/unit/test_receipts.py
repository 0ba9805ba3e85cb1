"""Receipts: signed offline, kept by who served, brought to a coordinator, counted once."""

from __future__ import annotations

import msgspec
import pytest

from edgecoder.config import NodeConfig, server
from edgecoder.core.effects import LedgerTotals, Persist
from edgecoder.core.events import QueryLedger
from edgecoder.core.ids import Medium, Role
from edgecoder.errors import Reason
from edgecoder.seeding.receipts import quality_milli, receipt_hash, statement
from edgecoder.trace import Dropped, OnlineChanged, ReceiptQueued, ReceiptSigned, ReceiptSynced, ReceiptTaken
from edgecoder.wire.messages import LedgerAck, LedgerBatch, Receipt
from edgecoder_sim.crypto import IdealKey, node_id
from tests.catalogs import SMALL
from tests.harness import Cluster, Pair
from tests.hosts import Host, fails


def signed(payer: str = "ann", number: int = 1, **fields: object) -> Receipt:
    """What a payer would sign."""
    base = Receipt(
        payer=node_id(payer),
        server=node_id("bob"),
        task_id=node_id(payer)[:8] + number.to_bytes(8, "big"),
        tokens=3,
        cpu_ms=40,
        quality_milli=500,
        signature=bytes(64),
    )
    receipt = msgspec.structs.replace(base, **fields)
    signature = IdealKey(node_id(payer)).sign(statement("edgecoder", receipt))
    return msgspec.structs.replace(receipt, signature=signature)


def totals(hub: Host) -> LedgerTotals:
    """What the ledger says."""
    return hub.result(hub.ask(QueryLedger), LedgerTotals)


def with_hub(pair: Pair) -> Host:
    """A coordinator for the node that serves."""
    hub = pair.add("hub", Role.COORDINATOR)
    pair.drive()
    pair.link(hub, pair.laptop)
    pair.run_for(60_000)
    return hub


def test_an_answer_that_was_got_offline_reaches_the_ledger_when_the_server_is_back() -> None:
    pair = Pair(SMALL, medium=Medium.BLE)
    pair.phone.submit()
    pair.run_for(10_000)
    owed = pair.phone.traced(ReceiptSigned)
    assert [record.server for record in owed] == [pair.laptop.node_id]
    assert [record.receipt for record in pair.laptop.traced(ReceiptQueued)] == [owed[0].receipt]
    assert len(pair.phone.member.payer) == 0
    hub = with_hub(pair)
    assert [record.receipt for record in hub.traced(ReceiptTaken)] == [owed[0].receipt]
    assert len(pair.laptop.member.receipts) == 0
    assert [record.queued for record in pair.laptop.traced(ReceiptSynced)] == [0]
    receipt = pair.sent(Receipt)[0]
    assert totals(hub) == LedgerTotals(1, 3, receipt.cpu_ms * 500)


def test_what_was_got_online_leaves_no_receipt() -> None:
    cluster = Cluster()
    phone = cluster.add("phone")
    laptop = cluster.add("laptop", Role.AGENT, installed=[SMALL], active=SMALL)
    hub = cluster.add("hub", Role.COORDINATOR)
    for ends in ((phone, laptop), (phone, hub), (laptop, hub)):
        cluster.link(*ends)
    cluster.run_for(60_000)
    command = phone.submit()
    cluster.run_for(10_000)
    assert phone.task(command).served_by == laptop.node_id
    assert cluster.sent(Receipt) == []


def test_a_receipt_survives_restarts_of_its_server_and_of_the_coordinator() -> None:
    pair = Pair(SMALL, medium=Medium.BLE)
    pair.phone.submit()
    pair.run_for(10_000)
    pair.restart(pair.laptop)
    pair.run_for(1_000)
    assert len(pair.laptop.member.receipts) == 1
    hub = with_hub(pair)
    assert totals(hub).receipts == 1
    pair.restart(hub)
    pair.run_for(60_000)
    assert totals(hub).receipts == 1
    pair.restart(pair.laptop)
    pair.run_for(60_000)
    assert len(pair.laptop.member.receipts) == 0


def test_a_receipt_is_said_until_it_is_durable() -> None:
    pair = Pair(SMALL, medium=Medium.BLE)
    pair.drop(Receipt, 2)
    pair.phone.submit()
    pair.run_for(4_000)
    assert pair.laptop.traced(ReceiptQueued) == []
    pair.run_for(30_000)
    assert len(pair.laptop.traced(ReceiptQueued)) == 1
    assert len(pair.sent(Receipt)) == 3


def test_a_receipt_that_cannot_be_written_is_not_acknowledged() -> None:
    pair = Pair(SMALL, medium=Medium.BLE)
    pair.laptop.plan(Persist, fails(Reason.DISK_FULL))
    pair.phone.submit()
    pair.run_for(4_000)
    assert pair.laptop.traced(ReceiptQueued) == []
    assert pair.sent(LedgerAck) == []
    pair.run_for(10_000)
    assert len(pair.laptop.member.receipts) == 1


def test_an_acknowledgement_that_got_lost_makes_no_second_entry() -> None:
    pair = Pair(SMALL, medium=Medium.BLE)
    pair.phone.submit()
    pair.run_for(10_000)
    lost = pair.drop(LedgerAck, 2)
    hub = with_hub(pair)
    assert len(lost) == 2
    assert len(pair.sent(LedgerBatch)) == 3
    assert totals(hub).receipts == 1


def test_a_full_queue_refuses_and_says_so() -> None:
    cluster = Cluster()
    bob = cluster.add("bob", config=NodeConfig(receipts_max=1), installed=[SMALL], active=SMALL)
    ann = cluster.add("ann")
    cluster.link(ann, bob, Medium.BLE)
    cluster.drive()
    for _ in range(2):
        ann.submit()
        cluster.run_for(5_000)
    assert len(bob.member.receipts) == 1
    assert Dropped("receipt", Reason.OVERFLOW) in bob.traced(Dropped)


def test_a_payer_whose_servers_do_not_come_back_goes_on_to_pay_others() -> None:
    cluster = Cluster()
    ann = cluster.add("ann", config=NodeConfig(receipts_max=1))
    gone = cluster.add("gone", installed=[SMALL], active=SMALL)
    link = cluster.link(ann, gone, Medium.BLE)
    cluster.drive()
    cluster.drop(Receipt, 1)
    ann.submit()
    cluster.run_for(3_000)
    cluster.unlink(link)
    bob = cluster.add("bob", installed=[SMALL], active=SMALL)
    cluster.link(ann, bob, Medium.BLE)
    cluster.drive()
    ann.submit()
    cluster.run_for(5_000)
    assert gone.traced(ReceiptQueued) == []
    assert len(bob.traced(ReceiptQueued)) == 1
    assert Dropped("receipt", Reason.OVERFLOW) in ann.traced(Dropped)


@pytest.mark.parametrize(
    "receipt",
    [
        msgspec.structs.replace(signed(), tokens=4),
        signed(task_id=bytes(16)),
        signed(server=node_id("ann")),
    ],
)
def test_a_coordinator_refuses_what_nobody_owes(receipt: Receipt) -> None:
    cluster = Cluster()
    hub = cluster.add("hub", Role.COORDINATOR)
    cluster.drive()
    bob = cluster.puppet("bob")
    link = cluster.link(bob, hub)
    cluster.run_for(100)
    bob.say(link, LedgerBatch(receipts=(receipt, signed(number=2))))
    cluster.run_for(100)
    answer = bob.last(LedgerAck)
    assert answer.refused == (receipt_hash("edgecoder", receipt),)
    assert len(answer.durable) == 1
    assert totals(hub).receipts == 1


def test_a_full_ledger_forgets_nothing_and_acknowledges_nothing_more() -> None:
    cluster = Cluster()
    config = msgspec.structs.replace(server(), ledger_receipts_max=1)
    hub = cluster.add("hub", Role.COORDINATOR, config=config)
    cluster.drive()
    bob = cluster.puppet("bob")
    link = cluster.link(bob, hub)
    cluster.run_for(100)
    for _ in range(2):
        bob.say(link, LedgerBatch(receipts=(signed(), signed(number=2))))
        cluster.run_for(100)
    assert [len(answer.durable) for answer in bob.all(LedgerAck)] == [1, 1]
    assert Dropped("ledger", Reason.OVERFLOW) in hub.traced(Dropped)
    assert totals(hub).receipts == 1


def test_a_member_takes_no_receipt_for_what_it_has_not_served() -> None:
    cluster = Cluster()
    bob = cluster.add("bob", installed=[SMALL], active=SMALL)
    cluster.drive()
    ann = cluster.puppet("ann")
    link = cluster.link(ann, bob)
    cluster.run_for(100)
    ann.say(link, signed())
    cluster.run_for(100)
    assert len(bob.member.receipts) == 0
    assert len(ann.last(LedgerAck).refused) == 1


def test_who_was_offline_is_whole_in_the_registry_with_the_first_heartbeat_that_is_heard() -> None:
    cluster = Cluster()
    bob = cluster.add("bob", installed=[SMALL], active=SMALL)
    hub = cluster.add("hub", Role.COORDINATOR)
    cluster.link(bob, hub)
    cluster.run_for(20_000)
    cluster.partition(bob)
    cluster.run_for(120_000)
    assert hub.hub.registry.rows == {}
    cluster.heal()
    cluster.run_for(16_000)
    assert [record.online for record in bob.traced(OnlineChanged)] == [True, False, True]
    assert hub.hub.registry.rows[bob.node_id].heartbeat.full


@pytest.mark.parametrize(
    ("size", "quality"), [(7.0, 1000), (6.9, 700), (3.0, 700), (1.5, 500), (0.5, 300), (None, 300)]
)
def test_the_quality_classes(size: float | None, quality: int) -> None:
    assert quality_milli(size) == quality
