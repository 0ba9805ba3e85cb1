"""The averages that libtorrent goes by: rates over five seconds, and the time a request takes.

Source: stat.cpp and aux_/sliding_average.hpp of libtorrent 2.1.

Fidelity boundary: none; the integer arithmetic is libtorrent's.
"""

from __future__ import annotations

from typing import Final

GAIN: Final = 20
_FIXED_POINT: Final = 64


class Rate:
    """Bytes a second, a moving average over five seconds."""

    __slots__ = ("bytes_per_s", "since_tick", "total")

    def __init__(self) -> None:
        self.bytes_per_s = 0
        self.since_tick = 0
        self.total = 0

    def add(self, size_bytes: int) -> None:
        """Count bytes."""
        self.since_tick += size_bytes
        self.total += size_bytes

    def tick(self, passed_ms: int) -> None:
        """A second, or so, has passed."""
        sample = self.since_tick * 1000 // passed_ms
        self.bytes_per_s = self.bytes_per_s * 4 // 5 + sample // 5
        self.since_tick = 0


class RequestTime:
    """Milliseconds a request takes: mean and deviation."""

    __slots__ = ("_deviation", "_mean", "_samples")

    def __init__(self) -> None:
        self._mean = 0
        self._deviation = 0
        self._samples = 0

    def add(self, sample_ms: int) -> None:
        """Count a request."""
        sample = sample_ms * _FIXED_POINT
        deviation = abs(self._mean - sample) if self._samples else 0
        self._samples = min(GAIN, self._samples + 1)
        self._mean += int((sample - self._mean) / self._samples)
        if self._samples > 1:
            self._deviation += int((deviation - self._deviation) / (self._samples - 1))

    def timeout_s(self, most_s: int) -> int:
        """Whole seconds after which a request is late (peer_connection::request_timeout)."""
        if not self._samples:
            return most_s
        mean = (self._mean + 32) // _FIXED_POINT
        slack = (self._deviation + 32) // _FIXED_POINT * 4 if self._samples > 1 else mean // 5
        timeout_ms = mean + slack
        return max(2, min(-(-timeout_ms // 1000), most_s))
