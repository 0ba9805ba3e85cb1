"""Faults to plant in receipts and ledgers: what is lost, counted twice, said too soon, or owed for nothing. See
`planted`."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import msgspec
import pytest

from edgecoder.coordinator import ledger
from edgecoder.coordinator.ledger import Ledger
from edgecoder.core.context import Context
from edgecoder.core.events import Persisted
from edgecoder.mesh.executor import Executor
from edgecoder.mesh.member import Member
from edgecoder.seeding import receipts
from edgecoder.seeding.receipts import Payer, ReceiptQueue
from edgecoder.trace import ReceiptQueued, ReceiptSynced, ReceiptTaken
from edgecoder.wire.messages import LedgerAck, LedgerBatch, Receipt
from tests.sim.blackout import run
from tests.sim.planted import Faults

FAULTS: Final = Faults()
fault = partial(FAULTS.enter, where=run)
RNG_SEED_MAX: Final = 30
"""Of the runs that are tried until a fault shows in the way that is looked for."""


# -- who pays ----------------------------------------------------------------------------------------------------------


@fault("receipts pay answers")
def pay_for_what_was_not_said(patch: pytest.MonkeyPatch) -> None:
    """A payer owes more than it was answered."""
    pay = Payer.pay

    def generous(self: Payer, server: Any, link: Any, task: Any, tokens: int, *worth: int) -> None:
        pay(self, server, link, task, tokens + 1, *worth)

    patch.setattr(Payer, "pay", generous)


@fault("receipts pay answers")
def pay_twice(patch: pytest.MonkeyPatch) -> None:
    """Two receipts that differ a little are signed for one answer."""
    pay = Payer.pay

    def twice(self: Payer, server: Any, link: Any, task: Any, tokens: int, cpu_ms: int, quality: int) -> None:
        for more_ms in range(2):
            pay(self, server, link, task, tokens, cpu_ms + more_ms, quality)

    patch.setattr(Payer, "pay", twice)


@fault("receipts pay answers")
def pay_who_only_began(patch: pytest.MonkeyPatch) -> None:
    """Whoever accepts a task is paid at once."""
    outcome = Member.note_outcome

    def early(self: Member, node: Any, latency_ms: int | None) -> None:
        outcome(self, node, latency_ms)
        link = self.peers.link_to(node)
        if latency_ms is not None and link is not None and not self.heartbeat.is_online:
            task = next(task for task in self.origin._tasks.values() if any(ask.node == node for ask in task.asked))
            self.payer.pay(node, link, task.id, 1, 0, 300)

    patch.setattr(Member, "note_outcome", early)


# -- who has served ----------------------------------------------------------------------------------------------------


@fault("receipts are kept")
def say_durable_before_it_is(patch: pytest.MonkeyPatch) -> None:
    """A server answers when it has the receipt in memory."""
    take = ReceiptQueue.take

    def hasty(self: ReceiptQueue, tell: Any, payer: Any, receipt: Receipt, has_served: bool) -> None:
        tell(LedgerAck(durable=(self._hash(receipt),)))
        take(self, tell, payer, receipt, has_served)

    patch.setattr(ReceiptQueue, "take", hasty)


@fault("receipts are kept")
def let_go_when_it_is_sent(patch: pytest.MonkeyPatch) -> None:
    """A server forgets what it has sent, and does not wait for the coordinator's word."""
    send = Context.send

    def forgetful(self: Context, link: Any, message: Any, ttl_ms: int) -> None:
        send(self, link, message, ttl_ms)
        if isinstance(message, LedgerBatch):
            for place in range(20):
                self.persist(f"{receipts.KEY}{place}", b"")

    patch.setattr(Context, "send", forgetful)


@fault("receipts are kept")
def tell_of_a_queue_that_is_not_written(patch: pytest.MonkeyPatch) -> None:
    """A server says for the tables what it is about to do."""
    take = ReceiptQueue.take

    def hasty(self: ReceiptQueue, tell: Any, payer: Any, receipt: Receipt, has_served: bool) -> None:
        self._context.trace(ReceiptQueued(self._hash(receipt), len(self)))
        take(self, tell, payer, receipt, has_served)

    patch.setattr(ReceiptQueue, "take", hasty)


@fault("receipts are kept")
def tell_of_an_end_that_is_not_there(patch: pytest.MonkeyPatch) -> None:
    """A server says for the tables that what it sends has arrived."""
    sync = ReceiptQueue.sync

    def hasty(self: ReceiptQueue) -> None:
        for key in self._receipts:
            self._context.trace(ReceiptSynced(key, 0, refused=False))
        sync(self)

    patch.setattr(ReceiptQueue, "sync", hasty)


@fault("receipts are kept", where=partial(run, "radio.scanning=false", "workload.tasks[0].per_node_per_hour=600"))
def begin_with_an_empty_queue(patch: pytest.MonkeyPatch) -> None:
    """A server that restarts does not look for what it had, and uses its places again."""
    patch.setattr(ReceiptQueue, "restore", lambda self, snapshot: None)


@fault("receipts arrive")
def forget_the_queue(patch: pytest.MonkeyPatch) -> None:
    """A server that restarts leaves what it had where it is, for good."""

    def mark(self: ReceiptQueue, snapshot: Any) -> None:
        self._used.update(int(name.removeprefix(receipts.KEY)) for name in snapshot if name.startswith(receipts.KEY))

    patch.setattr(ReceiptQueue, "restore", mark)


@fault("receipts arrive")
def bring_nothing(patch: pytest.MonkeyPatch) -> None:
    """Receipts wait for ever."""
    patch.setattr(ReceiptQueue, "sync", lambda self: None)


@fault("receipts are kept")
def keep_what_nobody_owes(patch: pytest.MonkeyPatch) -> None:
    """A server writes itself a receipt for each task that it has answered."""
    finish = Executor.has_done

    def invent(self: Executor, task: Any) -> bool:
        made = Receipt(
            payer=bytes(32),
            server=self._context.node_id,
            task_id=task,
            tokens=9,
            cpu_ms=9,
            quality_milli=1000,
            signature=bytes(64),
        )
        self._context.persist(f"{receipts.KEY}999", msgspec.msgpack.encode(made))
        return finish(self, task)

    patch.setattr(Executor, "has_done", invent)


# -- who counts --------------------------------------------------------------------------------------------------------


@fault("receipts are kept")
def acknowledge_before_it_is_durable(patch: pytest.MonkeyPatch) -> None:
    """A coordinator answers a batch, then writes it."""
    batch = Ledger.batch

    def hasty(self: Ledger, link: Any, message: LedgerBatch) -> None:
        keys = tuple(self._hash(receipt) for receipt in message.receipts)
        self._context.send(link, LedgerAck(durable=keys), 60_000)
        batch(self, link, message)

    patch.setattr(Ledger, "batch", hasty)


@fault("receipts are kept")
def refuse_what_is_owed(patch: pytest.MonkeyPatch) -> None:
    """A coordinator takes every signature for a wrong one."""
    patch.setattr(ledger, "is_valid", lambda *_: False)


@fault("receipts count once")
def count_what_comes_again(patch: pytest.MonkeyPatch) -> None:
    """A coordinator counts every batch, whatever it has."""
    batch = Ledger.batch

    def again(self: Ledger, link: Any, message: LedgerBatch) -> None:
        had = [receipt for receipt in message.receipts if self._hash(receipt) in self.receipts]
        for receipt in had:
            worth = ledger.micro_credits(receipt)
            self._context.trace(ReceiptTaken(self._hash(receipt), receipt.server, worth))
        batch(self, link, message)

    patch.setattr(Ledger, "batch", again)


@fault("receipts count once")
def forget_the_ledger(patch: pytest.MonkeyPatch) -> None:
    """A coordinator that restarts begins with an empty set, beside what is on its disk."""

    def number(self: Ledger, snapshot: Any) -> None:
        self._writes = len(snapshot)

    patch.setattr(Ledger, "restore", number)


@fault("receipts are kept")
def write_over_the_ledger(patch: pytest.MonkeyPatch) -> None:
    """Every batch is written where the one before stands."""
    batch = Ledger.batch

    def same_place(self: Ledger, link: Any, message: LedgerBatch) -> None:
        self._writes = 0
        batch(self, link, message)

    patch.setattr(Ledger, "batch", same_place)


@fault("receipts count once")
def count_by_the_token(patch: pytest.MonkeyPatch) -> None:
    """Credits are counted by what was written, not by what it took."""
    patch.setattr(ledger, "micro_credits", lambda receipt: receipt.tokens * 1000)


@fault("receipts count once")
def count_what_could_not_be_written(patch: pytest.MonkeyPatch) -> None:
    """A write to the ledger counts as done when it was asked for."""
    persist = Context.persist

    def hope(self: Context, key: str, value: bytes, *then: Any) -> None:
        if key.startswith(ledger.KEY):
            (on_completion,) = then
            on_completion(Persisted(0))
            then = ()
        persist(self, key, value, *then)

    patch.setattr(Context, "persist", hope)
