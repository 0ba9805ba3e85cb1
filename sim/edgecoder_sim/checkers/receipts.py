"""Receipts: each pays an answer that was given, none is lost after somebody was told that it is durable, none counts
twice in one ledger, and in the end each is at a coordinator.

`Kept` has the receipts that are on each disk, from what is written and what a life starts with: those on a disk that
was lost are forgotten with it. Receipts are told apart by the SHA-256 of what they sign, as on the wire.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from edgecoder.coordinator.ledger import KEY as LEDGER_KEY
from edgecoder.core.effects import LedgerTotals, Persist, Reply
from edgecoder.core.events import Persisted, PersistFailed, Started
from edgecoder.core.ids import LinkId, NodeId, OpId, Role, TaskId
from edgecoder.seeding.receipts import KEY as QUEUE_KEY
from edgecoder.seeding.receipts import receipt_hash
from edgecoder.trace import ReceiptQueued, ReceiptSynced, ReceiptTaken
from edgecoder.wire.envelope import Header
from edgecoder.wire.messages import LedgerAck, Receipt, ResponseStatus, TaskResponse
from edgecoder_sim.checkers.panel import Book, Panel, Rule

Receipts = Mapping[bytes, Receipt]
"""By what tells them apart."""
_NONE: Final[Receipts] = {}
_singles = msgspec.msgpack.Decoder(Receipt)
_batches = msgspec.msgpack.Decoder(list[Receipt])


class Paid(Rule):
    """A receipt is for an answer that its payer just got, whole, from whom it pays; there is one for it."""

    name = "receipts pay answers"

    def enter(self) -> None:
        """See `Rule`."""
        self.signed: dict[bytes, Receipt] = {}
        """All that were ever signed."""
        self._answer: dict[int, tuple[TaskId, NodeId, int]] = {}
        """What each node was answered last: task, who served, tokens. A receipt is signed in the same step."""
        self._paid: dict[int, set[TaskId]] = {}
        self.panel.on_received(TaskResponse, self._answered)
        self.panel.on_sent(Receipt, self._pay)

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        self._answer.pop(book.index, None)
        self._paid[book.index] = set()

    def _answered(self, book: Book, link: LinkId, _: Header, response: TaskResponse) -> None:
        peer = book.links[link]
        if response.status is ResponseStatus.DONE and peer is not None:
            self._answer[book.index] = (response.task_id, peer.node, response.tokens)

    def _pay(self, book: Book, _: LinkId, __: Header, receipt: Receipt) -> None:
        key = receipt_hash(book.cluster.network_id, receipt)
        if key in self.signed:  # it is said again
            return
        task = receipt.task_id.hex()
        if receipt.payer != book.node:
            self.fail(book, f"signs for somebody else what task {task} is worth")
        if self._answer.get(book.index) != (receipt.task_id, receipt.server, receipt.tokens):
            self.fail(book, f"signs for task {task} what it was not answered: {receipt.tokens} tokens")
        if receipt.task_id in self._paid[book.index]:
            self.fail(book, f"pays for task {task} twice")
        self._paid[book.index].add(receipt.task_id)
        self.signed[key] = receipt


class Kept(Rule):
    """Who says that a receipt is durable has it on its disk, and gives it up only to who has said the same."""

    name = "receipts are kept"

    def __init__(self, panel: Panel, signed: Receipts) -> None:
        """`signed` are all that were ever signed."""
        self._signed = signed
        super().__init__(panel)

    def enter(self) -> None:
        """See `Rule`."""
        self._disk: dict[int, dict[str, Receipts]] = {}
        self._writing: dict[int, dict[OpId, tuple[str, Receipts]]] = {}
        self.brought: dict[int, set[bytes]] = {}
        """Those of which a coordinator said in this life of their server that it has them, or can never take them."""
        self.panel.on(Started, self._started)
        self.panel.on(Persist, self._persist)
        self.panel.on((Persisted, PersistFailed), self._written)
        self.panel.on_received(LedgerAck, self._told)
        self.panel.on_sent(LedgerAck, self._tell)
        self.panel.on(ReceiptQueued, self._queued)
        self.panel.on(ReceiptSynced, self._synced)

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        self._disk[book.index], self._writing[book.index], self.brought[book.index] = {}, {}, set()

    def on_disk(self, book: Book) -> dict[bytes, Receipt]:
        """The receipts that are durable at a node."""
        return {key: receipt for kept in self._disk[book.index].values() for key, receipt in kept.items()}

    def _started(self, book: Book, event: Started) -> None:
        kept = {name: _read(book, name, value) for name, value in event.snapshot.items()}
        self._disk[book.index] = {name: receipts for name, receipts in kept.items() if receipts}

    def _persist(self, book: Book, effect: Persist) -> None:
        name = effect.key
        if not name.startswith((QUEUE_KEY, LEDGER_KEY)):
            return
        receipts, writing = _read(book, name, effect.value), self._writing[book.index]
        unsigned = receipts.keys() - self._signed.keys()
        if unsigned:
            self.fail(book, f"keeps receipt {_short(unsigned)}, which nobody has signed")
        before = next((kept for key, kept in reversed(writing.values()) if key == name), None)
        if before is None:
            before = self._disk[book.index].get(name, _NONE)
        lost = before.keys() - receipts.keys() - self.brought[book.index]
        if lost:
            elsewhere = (kept for key, kept in self._disk[book.index].items() if key != name)
            lost.difference_update(*elsewhere)
        if lost:
            self.fail(book, f"writes over receipt {_short(lost)}, which no coordinator has taken from it")
        writing[effect.op] = (name, receipts)

    def _written(self, book: Book, event: Persisted | PersistFailed) -> None:
        name, receipts = self._writing[book.index].pop(event.op, ("", _NONE))
        if name and type(event) is Persisted:
            self._disk[book.index][name] = receipts

    def _told(self, book: Book, link: LinkId, _: Header, ack: LedgerAck) -> None:
        peer = book.links[link]
        if peer is not None and peer.role is Role.COORDINATOR:
            self.brought[book.index].update(ack.durable, ack.refused)

    def _tell(self, book: Book, _: LinkId, __: Header, ack: LedgerAck) -> None:
        missing = {key for key in ack.durable if not self._has(book, key)}
        if missing:
            self.fail(book, f"says that receipt {_short(missing)} is durable, and has not got it on its disk")
        wronged = self._signed.keys() & set(ack.refused)
        if wronged and book.role is Role.COORDINATOR:
            self.fail(book, f"refuses receipt {_short(wronged)} for ever, though its payer has signed it")

    def _queued(self, book: Book, record: ReceiptQueued) -> None:
        if not self._has(book, record.receipt):
            self.fail(book, f"has queued receipt {_short([record.receipt])}, and it is not on its disk")

    def _synced(self, book: Book, record: ReceiptSynced) -> None:
        if record.receipt not in self.brought[book.index]:
            self.fail(book, f"lets receipt {_short([record.receipt])} go, and no coordinator has said that it has it")

    def _has(self, book: Book, receipt: bytes) -> bool:
        return any(receipt in kept for kept in self._disk[book.index].values())


class Counted(Rule):
    """A ledger counts each receipt on its disk once, for what it is worth, and no other."""

    name = "receipts count once"

    def __init__(self, panel: Panel, kept: Kept) -> None:
        """`kept` knows what is on the disks."""
        self._kept = kept
        super().__init__(panel)

    def enter(self) -> None:
        """See `Rule`."""
        self._counted: dict[int, set[bytes]] = {}
        self.panel.on(Started, self._started)
        self.panel.on(ReceiptTaken, self._taken)
        self.panel.on(Reply, self._reply)

    def begin(self, book: Book) -> None:
        """See `Rule`."""
        self._counted[book.index] = set()

    def _started(self, book: Book, _: Started) -> None:
        if book.role is Role.COORDINATOR:
            self._counted[book.index] = set(self._kept.on_disk(book))

    def _taken(self, book: Book, record: ReceiptTaken) -> None:
        counted, key = self._counted[book.index], record.receipt
        if key in counted:
            self.fail(book, f"counts receipt {_short([key])} twice")
        receipt = self._kept.on_disk(book).get(key)
        if receipt is None:
            self.fail(book, f"counts receipt {_short([key])}, which is not on its disk")
        worth = receipt.cpu_ms * receipt.quality_milli
        if (record.server, record.micro_credits) != (receipt.server, worth):
            self.fail(book, f"counts {record.micro_credits} micro-credits for receipt {_short([key])}, of {worth}")
        counted.add(key)

    def _reply(self, book: Book, effect: Reply) -> None:
        if type(effect.result) is not LedgerTotals:
            return
        kept = self._kept.on_disk(book).values()
        micro_credits = sum(receipt.cpu_ms * receipt.quality_milli for receipt in kept)
        right = LedgerTotals(len(kept), sum(receipt.tokens for receipt in kept), micro_credits)
        if effect.result != right:
            self.fail(book, f"answers {effect.result} of its ledger; on its disk are {right}")


class Arrived(Rule):
    """At the end of a run in which all is well again no receipt waits at who has served."""

    name = "receipts arrive"

    def __init__(self, panel: Panel, kept: Kept) -> None:
        """`kept` knows what is on the disks."""
        self._kept = kept
        super().__init__(panel)

    def enter(self) -> None:
        """See `Rule`."""

    def finish(self) -> None:
        """See `Rule`."""
        has_coordinator = any(book.role is Role.COORDINATOR for book in self.panel.books.values())
        for book in self.panel.books.values():
            if book.role is Role.COORDINATOR or not has_coordinator:
                continue
            waiting = self._kept.on_disk(book).keys() - self._kept.brought[book.index]
            if waiting:
                self.fail(book, f"has brought receipt {_short(waiting)} to no coordinator, though no fault is on")


def _read(book: Book, name: str, value: bytes) -> Receipts:
    """The receipts in a value on a disk: one at a place of the queue, a batch in a ledger."""
    if not value or not name.startswith((QUEUE_KEY, LEDGER_KEY)):
        return _NONE
    is_batch = name.startswith(LEDGER_KEY)
    batch = _batches.decode(value) if is_batch else [_singles.decode(value)]
    return {receipt_hash(book.cluster.network_id, receipt): receipt for receipt in batch}


def _short(keys: Iterable[bytes]) -> str:
    return min(keys).hex()[:16]
