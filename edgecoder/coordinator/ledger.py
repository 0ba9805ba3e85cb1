"""The ledger of a coordinator: receipts as a grow-only set, told apart by hash.

A batch is acknowledged when all that is new in it is durable. What was taken once changes nothing when it comes again,
so that any order and any repetition give one result. The set is bounded, and forgets nothing: when it is full what
comes is not acknowledged, and waits in the queue of its server; so does one whose payer's key is not known here yet.
Accounts with double entry are not kept yet.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from edgecoder.core.context import Context
from edgecoder.core.effects import LedgerTotals
from edgecoder.core.events import Persisted, PersistFailed
from edgecoder.core.ids import LinkId
from edgecoder.errors import UNREADABLE, Reason
from edgecoder.seeding.receipts import is_owed, is_valid, receipt_hash
from edgecoder.trace import ReceiptTaken
from edgecoder.wire.envelope import Verifier
from edgecoder.wire.messages import LedgerAck, LedgerBatch, Receipt

KEY = "ledger/"
_ACK_TTL_MS = 60_000
_decoder = msgspec.msgpack.Decoder(list[Receipt])


def micro_credits(receipt: Receipt) -> int:
    """What a receipt is worth: CPU seconds times quality (v1), in millionths."""
    return receipt.cpu_ms * receipt.quality_milli


class Ledger:
    """The receipts of one coordinator."""

    def __init__(self, context: Context, verifier: Verifier, links: Mapping[LinkId, object]) -> None:
        """`links` are those that are up."""
        self._context = context
        self._verifier = verifier
        self._links = links
        self.receipts: dict[bytes, Receipt] = {}
        self._writing: set[bytes] = set()
        self._writes = 0

    def restore(self, snapshot: Mapping[str, bytes]) -> None:
        """Take what earlier lives made durable."""
        for name, value in sorted(snapshot.items()):
            number = name.removeprefix(KEY)
            if number == name:
                continue
            try:
                self._writes = max(self._writes, int(number))
                kept = _decoder.decode(value)
            except UNREADABLE:
                self._context.drop("ledger", Reason.STORE_FAILED)
                continue
            for receipt in kept:
                self.receipts[self._hash(receipt)] = receipt

    def _hash(self, receipt: Receipt) -> bytes:
        return receipt_hash(self._context.cluster.network_id, receipt)

    def totals(self) -> LedgerTotals:
        """Count and sums over the set."""
        kept = self.receipts.values()
        return LedgerTotals(len(kept), sum(receipt.tokens for receipt in kept), sum(map(micro_credits, kept)))

    def batch(self, link: LinkId, message: LedgerBatch) -> None:
        """Take what is new, and acknowledge what is durable."""
        context = self._context
        by_hash = {self._hash(receipt): receipt for receipt in message.receipts}
        fresh: dict[bytes, Receipt] = {}
        refused: list[bytes] = []
        unknown: list[bytes] = []
        for key, receipt in by_hash.items():
            if key in self.receipts or key in self._writing:
                continue
            if not is_valid(context.cluster.network_id, receipt, self._verifier):
                if is_owed(receipt) and not self._verifier.knows(receipt.payer):
                    unknown.append(key)
                    continue
                refused.append(key)
                context.drop("ledger", Reason.BAD_SIGNATURE)
            elif len(self.receipts) + len(self._writing) >= context.config.ledger_receipts_max:
                context.drop("ledger", Reason.OVERFLOW)
            else:
                fresh[key] = receipt
                self._writing.add(key)

        def acknowledge() -> None:
            durable = tuple(key for key in by_hash if key in self.receipts)
            if link in self._links and (durable or refused or unknown):
                answer = LedgerAck(durable=durable, refused=tuple(refused), unknown=tuple(unknown))
                context.send(link, answer, _ACK_TTL_MS)

        def written(completion: Persisted | PersistFailed) -> None:
            self._writing.difference_update(fresh)
            if isinstance(completion, PersistFailed):
                context.drop("ledger", completion.reason)
            else:
                self.receipts.update(fresh)
                for key, receipt in fresh.items():
                    context.trace(ReceiptTaken(key, receipt.server, micro_credits(receipt)))
            acknowledge()

        if not fresh:
            acknowledge()
            return
        self._writes += 1
        context.persist(f"{KEY}{self._writes}", msgspec.msgpack.encode(list(fresh.values())), written)
