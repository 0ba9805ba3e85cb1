"""Prometheus metrics: one counter for each kind of record of the trace, under the record's own name.

`swap.ended` is `edgecoder_swap_ended_total`; where a record has a reason, the counter has it as a label, with `none`
for what ended well. So what a scenario's charts count and what a running agent counts are the same thing. Bytes are
counted beside that, by where they came from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics, generate_latest

import edgecoder.trace
from edgecoder.core.effects import Source
from edgecoder.core.ids import Micros
from edgecoder.errors import Reason
from edgecoder.trace import Dropped, PieceKept, PieceLost, Record

RECORDS: tuple[type[Record], ...] = tuple(
    kind
    for kind in vars(edgecoder.trace).values()
    if isinstance(kind, type) and issubclass(kind, Record) and kind is not Record
)


def metric_name(kind: type[Record]) -> str:
    """The name of a record's counter, without its `_total`."""
    tag = str(kind.__struct_config__.tag)
    words = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in tag)
    return f"edgecoder_{words.replace('.', '_')}"


class TraceMetrics:
    """Counts the trace of a node. An observer of its host."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._counters: dict[type[Record], Counter] = {}
        self._has_reason: set[type[Record]] = set()
        for kind in RECORDS:
            labels = ["reason"] if "reason" in kind.__struct_fields__ else []
            line = (kind.__doc__ or "").partition("\n")[0]
            self._counters[kind] = Counter(metric_name(kind), line, labels, registry=self._registry)
            if labels:
                self._has_reason.add(kind)
        line = "Bytes of pieces that came and were right."
        self._bytes = Counter("edgecoder_piece_bytes", line, ["source"], registry=self._registry)
        for source in Source:
            self._bytes.labels(source.value)

    def record(self, now: Micros, record: Record) -> None:  # noqa: ARG002
        """See `host.Observer`."""
        kind = type(record)
        if kind in self._has_reason:
            reason = record.reason  # type: ignore[attr-defined]
            self._counters[kind].labels("none" if reason is None else reason.value).inc()
        else:
            self._counters[kind].inc()
        if isinstance(record, PieceKept | PieceLost):
            self._bytes.labels(record.source).inc(record.size_bytes)

    def watch(self, name: str, line: str, label: str, values: Mapping[str, Callable[[], float]]) -> None:
        """Show numbers that are asked for each time, one for each value of a label."""
        gauge = Gauge(name, line, [label], registry=self._registry)
        for value, ask in values.items():
            gauge.labels(value).set_function(ask)

    def watch_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Show how many tasks have not ended on the loop that the node lives on: one that grows leaks them."""
        gauge = Gauge("edgecoder_loop_tasks", "Tasks of asyncio that have not ended.", registry=self._registry)
        gauge.set_function(lambda: len(asyncio.all_tasks(loop)))

    def dropped(self, what: str, reason: Reason) -> None:
        """Count what a driver has thrown away as if the node had."""
        self.record(0, Dropped(what, reason))

    def shown(self) -> bytes:
        """The exposition, as GET /metrics gives it."""
        return generate_latest(self._registry)
