"""How well one run of a sweep was served: which of its tasks were answered, and how fast.

Fidelity boundary: it sees every question and answer at its moment, which no node could.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import Final

import msgspec

from edgecoder.core.ids import TaskId
from edgecoder.trace import Record, TaskEnded, TaskSubmitted
from edgecoder_sim.recording.histogram import Histogram

NOT_ASKED: Final = 1.0
"""Share of answers where nobody asked."""


class Service(msgspec.Struct, frozen=True):
    """The tasks of one run."""

    answered: int
    answered_share: float
    """Of the tasks that were asked, the open and the lost ones included, 0 to 1."""
    latency_p50_s: float | None
    latency_p99_s: float | None


class Answers:
    """The tasks of one run so far."""

    def __init__(self) -> None:
        self._asked_us: dict[TaskId, int] = {}
        self._asked = 0
        self._latency = Histogram()

    def record(self, at_us: int, record: Record) -> None:
        """A node traced something."""
        if type(record) is TaskSubmitted:
            self._asked += 1
            self._asked_us[record.task_id] = at_us
        elif type(record) is TaskEnded:
            asked_us = self._asked_us.pop(record.task_id, None)
            if asked_us is not None and record.reason is None:
                self._latency.add(at_us - asked_us)

    def service(self) -> Service:
        """The figures."""
        answered = self._latency.count
        p50_s, p99_s = (self._latency.quantile(share) / 1e6 if answered else None for share in (0.5, 0.99))
        return Service(answered, answered / self._asked if self._asked else NOT_ASKED, p50_s, p99_s)


class Range(msgspec.Struct, frozen=True):
    """A figure over the runs of a sweep."""

    least: float
    median: float
    most: float


def range_of(values: Iterable[float | None]) -> Range | None:
    """Over the runs that have a value; None where none has."""
    known = [value for value in values if value is not None]
    return Range(min(known), median(known), max(known)) if known else None
