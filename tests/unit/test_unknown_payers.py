"""Receipts of payers whom a coordinator does not know: kept, brought again, and no hindrance to the others."""

from __future__ import annotations

from typing import Any

import msgspec

from edgecoder.config import ClusterConfig, NodeConfig
from edgecoder.coordinator.ledger import Ledger
from edgecoder.core.context import Context
from edgecoder.core.effects import Persist, Send, Trace
from edgecoder.core.events import Persisted
from edgecoder.core.ids import LinkId, NodeId
from edgecoder.errors import Reason
from edgecoder.protocol import RECEIPTS_PER_BATCH
from edgecoder.seeding.receipts import ReceiptQueue, receipt_hash, statement
from edgecoder.trace import Dropped, ReceiptSynced
from edgecoder.wire.envelope import Frame, Verified, Verifier
from edgecoder.wire.messages import LedgerAck, LedgerBatch, Message, Receipt
from edgecoder_sim.crypto import IdealKey, crypto, node_id

LATER_MS = NodeConfig().receipt_unknown_ms


class Ring:
    """The keys that a coordinator knows. A `Verifier`."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self.strangers: set[NodeId] = set()

    def open(self, frame: Frame) -> Verified[Message]:
        return self._verifier.open(frame)

    def vouches(self, signer: NodeId, statement: bytes, signature: bytes, public_key: bytes = b"") -> bool:
        return self.knows(signer) and self._verifier.vouches(signer, statement, signature, public_key)

    def knows(self, signer: NodeId) -> bool:
        return signer not in self.strangers


class Bench:
    """A node that has served others, and its coordinator's ledger."""

    def __init__(self, **config: Any) -> None:
        signer, verifier = crypto(node_id("bob"), "edgecoder", encoded=False)
        self.bob = Context(ClusterConfig(), NodeConfig(**config), signer, 1)
        signer, self.verifier = crypto(node_id("hub"), "edgecoder", encoded=False)
        self.hub = Context(ClusterConfig(), NodeConfig(), signer, 1)
        for context in (self.bob, self.hub):
            context.epoch = context.ops.epoch = 1
        self.ring = Ring(self.verifier)
        self.link: LinkId | None = 1
        self.home = node_id("hub")
        self.queue = ReceiptQueue(self.bob, verifier, self)
        self.ledger = Ledger(self.hub, self.ring, {1: None, 2: None})
        self.batches: list[LedgerBatch] = []
        self.dropped: list[Dropped] = []
        self.synced: list[ReceiptSynced] = []

    def coordinator(self) -> tuple[NodeId, LinkId] | None:
        return None if self.link is None else (self.home, self.link)

    def owes(self, payer: str, number: int = 1) -> bytes:
        """A payer says what it owes."""
        receipt = Receipt(
            payer=node_id(payer),
            server=self.bob.node_id,
            task_id=node_id(payer)[:8] + number.to_bytes(8, "big"),
            tokens=3,
            cpu_ms=40,
            quality_milli=500,
            signature=bytes(64),
        )
        signature = IdealKey(node_id(payer)).sign(statement("edgecoder", receipt))
        receipt = msgspec.structs.replace(receipt, signature=signature)
        self.queue.take(lambda _: None, node_id(payer), receipt, has_served=True)
        self.drive()
        return receipt_hash("edgecoder", receipt)

    def drive(self) -> None:
        """Carry all between the two."""
        while self.bob.out or self.hub.out:
            for context in (self.bob, self.hub):
                effects, context.out = context.out, []
                for effect in effects:
                    if isinstance(effect, Persist):
                        context.ops.complete(Persisted(effect.op))
                    elif isinstance(effect, Trace) and isinstance(effect.record, Dropped):
                        self.dropped.append(effect.record)
                    elif isinstance(effect, Trace) and isinstance(effect.record, ReceiptSynced):
                        self.synced.append(effect.record)
                    elif isinstance(effect, Send):
                        self._carry(effect.link, self.verifier.open(effect.frame).message)

    def _carry(self, link: LinkId, message: Message) -> None:
        if isinstance(message, LedgerBatch):
            self.batches.append(message)
            self.ledger.batch(link, message)
        elif isinstance(message, LedgerAck):
            self.queue.acknowledged(self.home, message)

    def comes_home(self, name: str, link: LinkId) -> None:
        """The node has a new link to its home, or another home."""
        self.home, self.link = node_id(name), link
        self.queue.sync()
        self.drive()

    def pass_ms(self, delay_ms: int) -> None:
        """Time passes at the node."""
        self.bob.now += delay_ms * 1000
        self.bob.timers.fire_due(self.bob.now)
        self.drive()


def test_what_a_stranger_owes_is_kept_and_counts_when_the_stranger_is_known() -> None:
    """It was refused for good, and so lost: who had served was never paid."""
    bench = Bench()
    bench.ring.strangers.add(node_id("ann"))
    key = bench.owes("ann")
    assert (len(bench.queue), bench.ledger.receipts, bench.synced) == (1, {}, [])
    bench.ring.strangers.clear()
    bench.pass_ms(LATER_MS - 1)
    assert not bench.ledger.receipts
    bench.pass_ms(1)
    assert list(bench.ledger.receipts) == [key]
    assert (len(bench.queue), [record.refused for record in bench.synced]) == (0, [False])


def test_another_coordinator_is_asked_at_once() -> None:
    bench = Bench()
    bench.ring.strangers.add(node_id("ann"))
    bench.owes("ann")
    bench.ring.strangers.clear()
    bench.comes_home("other", 2)
    assert len(bench.ledger.receipts) == 1


def test_a_link_that_flaps_brings_nothing_again() -> None:
    """With each new link to the coordinator all receipts of strangers went there again, a thousand of them."""
    bench = Bench()
    bench.ring.strangers.add(node_id("ann"))
    for number in range(3):
        bench.owes("ann", number)
    asked = len(bench.batches)
    for turn in range(20):
        bench.comes_home("hub", 1 + turn % 2)
        bench.pass_ms(LATER_MS // 40)
    assert len(bench.batches) == asked
    bench.pass_ms(LATER_MS)
    assert len(bench.batches) > asked, "and then it may know them"


def test_a_node_that_goes_from_one_coordinator_to_another_and_back_asks_each_once() -> None:
    bench = Bench()
    bench.ring.strangers.add(node_id("ann"))
    bench.owes("ann")
    for turn in range(20):
        bench.comes_home(("other", "hub")[turn % 2], 1 + turn % 2)
    assert len(bench.batches) == 2


def test_what_was_not_answered_is_brought_again_over_the_next_link() -> None:
    bench = Bench()
    bench.link = None
    bench.owes("ann")
    bench.link = 1
    bench.queue.sync()
    bench.bob.out.clear()  # the link breaks
    bench.comes_home("hub", 2)
    assert len(bench.ledger.receipts) == 1


def test_strangers_do_not_keep_others_from_being_paid() -> None:
    bench = Bench()
    bench.link = None
    for number in range(RECEIPTS_PER_BATCH + 6):
        bench.owes("ann", number)
    bench.owes("cy")
    bench.ring.strangers.add(node_id("ann"))
    bench.link = 1
    bench.queue.sync()
    bench.drive()
    assert [receipt.payer for receipt in bench.ledger.receipts.values()] == [node_id("cy")]
    assert len(bench.queue) == RECEIPTS_PER_BATCH + 6
    asked = len(bench.batches)
    bench.pass_ms(LATER_MS // 2)
    assert len(bench.batches) == asked, "strangers are asked about again and again"


def test_where_the_queue_is_full_the_oldest_of_a_stranger_makes_room() -> None:
    bench = Bench(receipts_max=2)
    bench.ring.strangers.add(node_id("ann"))
    oldest, other = bench.owes("ann", 1), bench.owes("ann", 2)
    bench.owes("cy")
    assert Dropped("receipt", Reason.OVERFLOW) in bench.dropped
    assert [receipt.payer for receipt in bench.ledger.receipts.values()] == [node_id("cy")]
    bench.ring.strangers.clear()
    bench.pass_ms(LATER_MS)
    assert other in bench.ledger.receipts
    assert oldest not in bench.ledger.receipts


def test_what_a_stranger_could_not_owe_is_refused_for_good() -> None:
    bench = Bench()
    bench.ring.strangers.add(node_id("ann"))
    lie = Receipt(
        payer=node_id("ann"),
        server=node_id("ann"),
        task_id=node_id("ann")[:8] + bytes(8),
        tokens=1,
        cpu_ms=1,
        quality_milli=1,
        signature=bytes(64),
    )
    bench.ledger.batch(1, LedgerBatch(receipts=(lie,)))
    (answer,) = [effect for effect in bench.hub.out if isinstance(effect, Send)]
    acknowledged = bench.verifier.open(answer.frame).message
    assert isinstance(acknowledged, LedgerAck)
    assert (len(acknowledged.refused), acknowledged.unknown) == (1, ())
