"""What a node counts: records by their names, and bytes of pieces by where they came from."""

from __future__ import annotations

from edgecoder.core.effects import Source
from edgecoder.errors import Reason
from edgecoder.trace import PieceKept, PieceLost, SwapEnded
from edgecoder_drivers.metrics import TraceMetrics


def counted(metrics: TraceMetrics) -> dict[str, float]:
    lines = [line for line in metrics.shown().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_records_are_counted_with_their_reasons() -> None:
    metrics = TraceMetrics()
    metrics.record(1, SwapEnded(1, "small", "small", None, 1, "user"))
    metrics.record(2, SwapEnded(2, "large", "small", Reason.LOAD_FAILED, 1, "user"))
    found = counted(metrics)
    assert found['edgecoder_swap_ended_total{reason="none"}'] == 1
    assert found['edgecoder_swap_ended_total{reason="load_failed"}'] == 1


def test_bytes_are_counted_by_source() -> None:
    """Of a piece that did not come whole, what came of it counts; what did not fit does not."""
    metrics = TraceMetrics()
    for source, size_bytes in ((Source.CDN, 100), (Source.MESH, 30), (Source.MESH, 12)):
        metrics.record(1, PieceKept("small", 0, source.value, None, size_bytes))
    metrics.record(2, PieceLost("small", 1, Source.MESH.value, None, Reason.TOO_SLOW, 8, 5))
    found = counted(metrics)
    names = {source: f'edgecoder_piece_bytes_total{{source="{source.value}"}}' for source in Source}
    assert {source: found[name] for source, name in names.items()} == {
        Source.CDN: 100,
        Source.MESH: 50,
        Source.BLE: 0,
        Source.WIFI_DIRECT: 0,
    }
