"""The book of receipts: what offline nodes owe each other, from the signature to a coordinator's set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgecoder.trace import ReceiptQueued, ReceiptSigned, ReceiptSynced, ReceiptTaken
from edgecoder_sim.recording.histogram import Histogram

Handler = Callable[[int, int, Any], None]
AddRow = Callable[[tuple[Any, ...]], None]


class ReceiptBook:
    """Writes one row for each step of a receipt, and counts them."""

    def __init__(self, add_row: AddRow) -> None:
        self._add_row = add_row
        self._queued_us: dict[bytes, int] = {}
        self._signed = self._synced = self._refused = self._taken = 0
        self._waits = Histogram()
        self.handlers: dict[type, Handler] = {
            ReceiptSigned: self._sign,
            ReceiptQueued: self._queue,
            ReceiptSynced: self._sync,
            ReceiptTaken: self._take,
        }

    def metrics(self) -> dict[str, float]:
        """The figures; nothing where no receipt was signed."""
        if not self._signed:
            return {}
        figures: dict[str, float] = {
            "receipts_signed": self._signed,
            "receipts_synced": self._synced,
            "receipts_refused": self._refused,
            "receipts_taken": self._taken,
            "receipts_waiting": len(self._queued_us),
        }
        if self._waits.count:
            figures["receipt_wait_p50_s"] = self._waits.quantile(0.5) / 1e6
        return figures

    def _sign(self, at_us: int, node: int, record: ReceiptSigned) -> None:
        self._signed += 1
        self._add(at_us, node, record.receipt, "signed")

    def _queue(self, at_us: int, node: int, record: ReceiptQueued) -> None:
        self._queued_us.setdefault(record.receipt, at_us)
        self._add(at_us, node, record.receipt, "queued", record.queued)

    def _sync(self, at_us: int, node: int, record: ReceiptSynced) -> None:
        queued_us = self._queued_us.pop(record.receipt, None)
        if record.refused:
            self._refused += 1
        else:
            self._synced += 1
            if queued_us is not None:
                self._waits.add(at_us - queued_us)
        self._add(at_us, node, record.receipt, "refused" if record.refused else "synced", record.queued)

    def _take(self, at_us: int, node: int, record: ReceiptTaken) -> None:
        self._taken += 1
        self._add(at_us, node, record.receipt, "taken")

    def _add(self, at_us: int, node: int, receipt: bytes, step: str, queued: int | None = None) -> None:
        self._add_row((at_us / 1e6, node, receipt.hex(), step, queued))
