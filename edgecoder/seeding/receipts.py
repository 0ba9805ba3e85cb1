"""Receipts: what a node that was offline owes for answers, from its signature to the ledger of a coordinator.

The payer signs and sends a receipt until the server says that it is durable there. The server keeps it in a bounded
journalled queue, each in a place of its own on the disk, and brings them to its coordinator when it is online. What the
coordinator has acknowledged, or can never take, leaves the queue; what it cannot take yet, since it does not know the
payer, comes again later, and is the first to go where the queue is full. Every step may be repeated: receipts are told
apart by the SHA-256 of what they sign.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from edgecoder.core.context import MILLI, Context
from edgecoder.core.events import Persisted, PersistFailed
from edgecoder.core.ids import LinkId, Micros, NodeId, TaskId
from edgecoder.errors import UNREADABLE, Reason
from edgecoder.protocol import RECEIPT_TAG, RECEIPTS_PER_BATCH
from edgecoder.trace import ReceiptQueued, ReceiptSigned, ReceiptSynced
from edgecoder.wire.envelope import Verifier
from edgecoder.wire.messages import LedgerAck, LedgerBatch, Receipt

KEY = "receipt/"
_SYNC = ("receipt.sync", 0)
_REPEAT = "receipt.repeat"
RECEIPT_TTL_MS = 60_000
_NONE = b"\0" * 64
QUALITY_MILLI = ((7.0, 1000), (3.0, 700), (1.5, 500), (0.0, 300))
"""Compute credits count by size of the model, billions of parameters (v1: 1.0, 0.7, 0.5, 0.3)."""
_decoder = msgspec.msgpack.Decoder(Receipt)


def quality_milli(param_size: float | None) -> int:
    """The quality class of a model, thousandths; one of unknown size is in the last."""
    return next(quality for size, quality in QUALITY_MILLI if (param_size or 0.0) >= size)


def statement(network_id: str, receipt: Receipt) -> bytes:
    """What a receipt signs: its network and everything in it but the signature."""
    facts = (receipt.payer, receipt.server, receipt.task_id, receipt.tokens, receipt.cpu_ms, receipt.quality_milli)
    return RECEIPT_TAG + msgspec.msgpack.encode((network_id, *facts))


def receipt_hash(network_id: str, receipt: Receipt) -> bytes:
    """What tells receipts apart, SHA-256."""
    return hashlib.sha256(statement(network_id, receipt)).digest()


def is_owed(receipt: Receipt) -> bool:
    """Whether its payer could owe it: it is for a task of the payer's own, and not to itself."""
    return receipt.payer != receipt.server and receipt.task_id[:8] == receipt.payer[:8]


def is_valid(network_id: str, receipt: Receipt, verifier: Verifier) -> bool:
    """Whether its payer owes it, and has signed that."""
    if not is_owed(receipt):
        return False
    return verifier.vouches(receipt.payer, statement(network_id, receipt), receipt.signature)


class _Owed(msgspec.Struct):
    receipt: Receipt
    link: LinkId
    tries: int = 0


class Payer:
    """Receipts that this node has signed, and whose servers have not said that they have them. They are not journalled:
    a payer that crashes before its server has the receipt owes nothing that anybody could show."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._owed: dict[bytes, _Owed] = {}

    def __len__(self) -> int:
        return len(self._owed)

    def pay(self, server: NodeId, link: LinkId, task_id: TaskId, tokens: int, cpu_ms: int, quality: int) -> None:
        """Sign what the answer to a task is worth, and tell its server."""
        context = self._context
        receipt = Receipt(
            payer=context.node_id,
            server=server,
            task_id=task_id,
            tokens=tokens,
            cpu_ms=cpu_ms,
            quality_milli=quality,
            signature=_NONE,
        )
        said = statement(context.cluster.network_id, receipt)
        receipt = msgspec.structs.replace(receipt, signature=context.signer.sign(said))
        key = hashlib.sha256(said).digest()
        if len(self._owed) >= context.config.receipts_max:  # the oldest goes: its server may never come back
            oldest = next(iter(self._owed))
            del self._owed[oldest]
            context.timers.cancel((_REPEAT, oldest))
            context.drop("receipt", Reason.OVERFLOW)
        context.trace(ReceiptSigned(key, server, task_id))
        self._owed[key] = _Owed(receipt, link)
        self._send(key)

    def _send(self, key: bytes) -> None:
        owed, context = self._owed[key], self._context
        if owed.tries >= context.config.receipt_tries_max:
            del self._owed[key]
            context.drop("receipt", Reason.NO_ANSWER)
            return
        owed.tries += 1
        context.send(owed.link, owed.receipt, RECEIPT_TTL_MS)
        context.timers.set((_REPEAT, key), context.in_ms(context.config.receipt_retry_ms), lambda: self._send(key))

    def acknowledged(self, server: NodeId, ack: LedgerAck) -> None:
        """A server has receipts, or will never take them."""
        for key in (*ack.durable, *ack.refused):
            owed = self._owed.get(key)
            if owed is not None and owed.receipt.server == server:
                del self._owed[key]
                self._context.timers.cancel((_REPEAT, key))
        for _ in ack.refused:
            self._context.drop("receipt", Reason.INVALID)

    def link_up(self, server: NodeId, link: LinkId) -> None:
        """A server can be reached again."""
        for key in [key for key, owed in self._owed.items() if owed.receipt.server == server]:
            self._owed[key].link, self._owed[key].tries = link, 0
            self._send(key)

    def link_down(self, link: LinkId) -> None:
        """A server cannot be reached: wait until it can, or until there is no room to wait."""
        for key, owed in self._owed.items():
            if owed.link == link:
                self._context.timers.cancel((_REPEAT, key))


class Home(Protocol):
    """Where receipts are brought."""

    def coordinator(self) -> tuple[NodeId, LinkId] | None:
        """The home coordinator, if it answers."""
        ...


class ReceiptQueue:
    """Receipts for what this node has served. Each has a place, and so a key of its own on the disk."""

    def __init__(self, context: Context, verifier: Verifier, home: Home) -> None:
        self._context = context
        self._verifier = verifier
        self._home = home
        self._places: dict[bytes, int] = {}
        self._receipts: dict[bytes, Receipt] = {}
        """Those that are durable."""
        self._used: set[int] = set()
        self._unknown: dict[bytes, dict[NodeId, Micros]] = {}
        """Those whose payers coordinators do not know, and when each is asked again; the oldest word first."""
        self._sent_at: Micros | None = None
        self._sent_to: LinkId | None = None

    def __len__(self) -> int:
        return len(self._places)

    def restore(self, snapshot: Mapping[str, bytes]) -> None:
        """Take what an earlier life has not brought to a coordinator."""
        for name, value in sorted(snapshot.items()):
            place = name.removeprefix(KEY)
            if place == name or not value:
                continue
            try:
                receipt, number = _decoder.decode(value), int(place)
            except UNREADABLE:
                self._context.drop("receipt", Reason.STORE_FAILED)
                continue
            key = self._hash(receipt)
            if key in self._places:
                self._context.persist(name, b"")
                continue
            self._places[key], self._receipts[key] = number, receipt
            self._used.add(number)

    def _hash(self, receipt: Receipt) -> bytes:
        return receipt_hash(self._context.cluster.network_id, receipt)

    def take(self, tell: Callable[[LedgerAck], None], payer: NodeId | None, receipt: Receipt, has_served: bool) -> None:
        """A payer says what it owes; `tell` answers it. `has_served`: this node remembers that it has
        answered the task."""
        context, key = self._context, self._hash(receipt)
        if key in self._receipts:
            tell(LedgerAck(durable=(key,)))
            return
        if key in self._places:  # it is being written
            return
        is_mine = receipt.server == context.node_id and receipt.payer == payer and has_served
        if not is_mine or not is_valid(context.cluster.network_id, receipt, self._verifier):
            context.drop("receipt", Reason.INVALID)
            tell(LedgerAck(refused=(key,)))
            return
        if len(self._places) >= context.config.receipts_max:
            context.drop("receipt", Reason.OVERFLOW)
            if not self._unknown:
                return
            self._leave(next(iter(self._unknown)))
        place = next(number for number in range(len(self._used) + 1) if number not in self._used)
        self._places[key] = place
        self._used.add(place)

        def written(completion: Persisted | PersistFailed) -> None:
            if isinstance(completion, PersistFailed):
                context.drop("receipt", completion.reason)
                self._used.discard(self._places.pop(key))
                return
            self._receipts[key] = receipt
            context.trace(ReceiptQueued(key, len(self._receipts)))
            tell(LedgerAck(durable=(key,)))
            self.sync()

        context.persist(f"{KEY}{place}", msgspec.msgpack.encode(receipt), written)

    def sync(self) -> None:
        """Bring what waits to the coordinator, if it answers and has no batch before it already."""
        home = self._home.coordinator()
        if not self._receipts or home is None:
            return
        now, retry_us = self._context.now, self._context.config.receipt_retry_ms * MILLI
        is_waiting = self._sent_at is not None and now < self._sent_at + retry_us
        if self._sent_to == home[1] and is_waiting:
            return
        due = (receipt for key, receipt in self._receipts.items() if self._due_at(key, home[0]) <= now)
        batch = tuple(receipt for receipt, _ in zip(due, range(RECEIPTS_PER_BATCH), strict=False))
        self._sent_to = home[1]
        if not batch:
            self._sent_at = None
            self._context.timers.set(_SYNC, min(self._due_at(key, home[0]) for key in self._receipts), self.sync)
            return
        self._sent_at = now
        self._context.send(home[1], LedgerBatch(receipts=batch), RECEIPT_TTL_MS)
        self._context.timers.set(_SYNC, now + retry_us, self.sync)

    def _due_at(self, key: bytes, coordinator: NodeId) -> Micros:
        """When a coordinator is to be brought a receipt; 0: at once. Another one may know more of its payer, and over
        another link to the same it is no news."""
        return self._unknown.get(key, {}).get(coordinator, 0)

    def acknowledged(self, coordinator: NodeId, ack: LedgerAck) -> None:
        """A coordinator has receipts, or can never take them, or not yet."""
        context, has_news = self._context, False
        for keys, is_refused in ((ack.durable, False), (ack.refused, True)):
            for key in keys:
                if key in self._receipts:
                    self._leave(key)
                    context.trace(ReceiptSynced(key, len(self._receipts), is_refused))
                    has_news = True
        for key in ack.unknown:
            if key in self._receipts:
                asked = self._unknown.pop(key, {})
                others = {node: until for node, until in asked.items() if until > context.now}
                self._unknown[key] = {**others, coordinator: context.in_ms(context.config.receipt_unknown_ms)}
                has_news = True
        if has_news:
            self._sent_at = None
            self._context.timers.cancel(_SYNC)
            self.sync()

    def _leave(self, key: bytes) -> None:
        """One is kept no longer."""
        del self._receipts[key]
        self._unknown.pop(key, None)
        place = self._places.pop(key)
        self._used.discard(place)
        self._context.persist(f"{KEY}{place}", b"")
