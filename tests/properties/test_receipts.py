"""Receipts through loss, partitions and restarts: when all is well again each one that was durable is counted once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgecoder.core.effects import LedgerTotals
from edgecoder.core.events import QueryLedger
from edgecoder.core.ids import Medium, Role
from edgecoder.seeding.receipts import receipt_hash
from edgecoder.trace import ReceiptQueued, ReceiptTaken
from edgecoder.wire.messages import LedgerAck, LedgerBatch, Receipt
from tests.catalogs import SMALL
from tests.harness import Cluster
from tests.strategies import examples

STEPS = ("ask", "cut bob", "cut hub", "heal", "restart bob", "restart hub", "restart ann", "die writing", "again")
steps = st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from([0, 3, 15, 400, 6_000, 50_000])), max_size=20)
losses = st.lists(st.tuples(st.sampled_from([Receipt, LedgerBatch, LedgerAck]), st.integers(1, 3)), max_size=4)


@examples(2)
@given(steps, losses, st.booleans())
def test_every_receipt_that_was_durable_is_counted_once(
    steps: list[tuple[str, int]], losses: list[tuple[type, int]], encoded: bool
) -> None:
    cluster = Cluster(encoded=encoded)
    bob = cluster.add("bob", installed=[SMALL], active=SMALL)
    ann = cluster.add("ann")
    hub = cluster.add("hub", Role.COORDINATOR)
    cluster.link(ann, bob, Medium.BLE)
    cluster.link(bob, hub, Medium.WAN)
    other = cluster.puppet("other")
    aside = cluster.link(other, hub, Medium.WAN)
    cluster.run_for(1_000)
    for kind, times in losses:
        cluster.drop(kind, times)
    for step, wait_ms in steps:
        match step:
            case "ask":
                ann.submit(deadline_ms=30_000)
            case "heal":
                cluster.heal()
            case "die writing":
                cluster.restart(bob, keep_writes=True)
            case "again":
                held = cluster.sent(LedgerBatch)
                if held:
                    other.say(aside, held[0])
            case _:
                verb, name = step.split()
                host = cluster.hosts[name]
                (cluster.partition if verb == "cut" else cluster.restart)(host)
        cluster.run_for(wait_ms)
    cluster.lossless()
    cluster.run_for(200_000)
    durable = {record.receipt for record in bob.traced(ReceiptQueued)}
    held_there = set(hub.hub.ledger.receipts)
    assert durable <= held_there
    assert held_there <= {receipt_hash("edgecoder", receipt) for receipt in cluster.sent(Receipt)}
    assert len(bob.member.receipts) == 0
    assert hub.result(hub.ask(QueryLedger), LedgerTotals).receipts == len(held_there)
    taken = [record.receipt for record in hub.traced(ReceiptTaken)]
    assert len(taken) == len(set(taken))
