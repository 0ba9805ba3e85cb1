"""The table and the figures of receipts."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from edgecoder.trace import ReceiptQueued, ReceiptSigned, ReceiptSynced, ReceiptTaken
from edgecoder_sim.metrics import METRICS
from tests.sim import made_runs as made

SECOND = 1_000_000


def test_a_receipt_is_followed_from_the_signature_to_the_coordinator(tmp_path: Path) -> None:
    recorder = made.recorder(tmp_path)
    kept, refused = b"\1" * 32, b"\2" * 32
    for at_s, node, record in (
        (1, 0, ReceiptSigned(kept, b"s" * 32, b"t" * 16)),
        (2, 1, ReceiptQueued(kept, 1)),
        (3, 0, ReceiptSigned(refused, b"s" * 32, b"u" * 16)),
        (4, 1, ReceiptQueued(refused, 2)),
        (10, 2, ReceiptTaken(kept, b"s" * 32, 7)),
        (11, 3, ReceiptTaken(kept, b"s" * 32, 7)),
        (12, 1, ReceiptSynced(kept, 1, refused=False)),
        (13, 1, ReceiptSynced(refused, 0, refused=True)),
    ):
        recorder.record(at_s * SECOND, node, record)
    figures = {name: value for name, value in recorder.close(20 * SECOND).items() if name.startswith("receipt")}
    assert figures.keys() <= METRICS.keys()
    wait_s = figures.pop("receipt_wait_p50_s")
    assert abs(wait_s - 10) < 0.05
    assert figures == {
        "receipts_signed": 2,
        "receipts_synced": 1,
        "receipts_refused": 1,
        "receipts_taken": 1,
        "receipt_copies": 1,
        "receipt_credits": 7e-6,
        "receipts_waiting": 0,
    }
    rows = pq.read_table(tmp_path / "receipts.parquet").to_pylist()
    steps = [row["step"] for row in rows]
    assert steps == ["signed", "queued", "signed", "queued", "taken", "copied", "synced", "refused"]
    assert [row["queued"] for row in rows] == [None, 1, None, 2, None, None, 1, 0]
    assert [row["micro_credits"] for row in rows if row["step"] in ("taken", "copied")] == [7, 7]
