"""The book of receipts: what offline nodes owe each other, from the signature to a coordinator's set.

A receipt may come to two coordinators, where its server changed its home before it had an answer: the figures count
each once in the whole run, by its hash, and the table says which row is the copy.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntFlag
from typing import Any

from edgecoder.trace import ReceiptQueued, ReceiptSigned, ReceiptSynced, ReceiptTaken
from edgecoder_sim.recording.histogram import Histogram

Handler = Callable[[int, int, Any], None]
AddRow = Callable[[tuple[Any, ...]], None]


class _Had(IntFlag):
    """The steps that a receipt has had, at whatever node."""

    SIGNED = 1
    SYNCED = 2
    REFUSED = 4
    TAKEN = 8


class ReceiptBook:
    """Writes one row for each step of a receipt, and counts receipts by the steps that they have had."""

    def __init__(self, add_row: AddRow) -> None:
        self._add_row = add_row
        self._had: dict[bytes, int] = {}
        self._queued_us: dict[bytes, int] = {}
        """Those that wait at who served, since when."""
        self._copies = 0
        self._micro_credits = 0
        self._waits = Histogram()
        self.handlers: dict[type, Handler] = {
            ReceiptSigned: self._sign,
            ReceiptQueued: self._queue,
            ReceiptSynced: self._sync,
            ReceiptTaken: self._take,
        }

    def metrics(self) -> dict[str, float]:
        """The figures; nothing where no receipt was signed."""
        if not self._had:
            return {}
        figures: dict[str, float] = {
            f"receipts_{name}": sum(1 for had in self._had.values() if had & step)
            for name, step in (
                ("signed", _Had.SIGNED),
                ("synced", _Had.SYNCED),
                ("refused", _Had.REFUSED),
                ("taken", _Had.TAKEN),
            )
        }
        figures["receipts_waiting"] = len(self._queued_us)
        figures["receipt_copies"] = self._copies
        figures["receipt_credits"] = self._micro_credits / 1e6
        if self._waits.count:
            figures["receipt_wait_p50_s"] = self._waits.quantile(0.5) / 1e6
        return figures

    def _note(self, receipt: bytes, step: _Had) -> bool:
        """Whether a receipt has this step for the first time."""
        had = self._had.get(receipt, 0)
        self._had[receipt] = had | step
        return not had & step

    def _sign(self, at_us: int, node: int, record: ReceiptSigned) -> None:
        self._note(record.receipt, _Had.SIGNED)
        self._add(at_us, node, record.receipt, "signed")

    def _queue(self, at_us: int, node: int, record: ReceiptQueued) -> None:
        self._queued_us.setdefault(record.receipt, at_us)
        self._add(at_us, node, record.receipt, "queued", record.queued)

    def _sync(self, at_us: int, node: int, record: ReceiptSynced) -> None:
        queued_us = self._queued_us.pop(record.receipt, None)
        is_first = self._note(record.receipt, _Had.REFUSED if record.refused else _Had.SYNCED)
        if is_first and queued_us is not None and not record.refused:
            self._waits.add(at_us - queued_us)
        self._add(at_us, node, record.receipt, "refused" if record.refused else "synced", record.queued)

    def _take(self, at_us: int, node: int, record: ReceiptTaken) -> None:
        is_first = self._note(record.receipt, _Had.TAKEN)
        self._copies += not is_first
        self._micro_credits += record.micro_credits if is_first else 0
        step = "taken" if is_first else "copied"
        self._add(at_us, node, record.receipt, step, None, record.micro_credits)

    def _add(
        self,
        at_us: int,
        node: int,
        receipt: bytes,
        step: str,
        queued: int | None = None,
        micro_credits: int | None = None,
    ) -> None:
        self._add_row((at_us / 1e6, node, receipt.hex(), step, queued, micro_credits))
