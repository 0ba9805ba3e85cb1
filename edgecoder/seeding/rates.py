"""Measured rates: bytes over the time in which something was under way."""

from __future__ import annotations

from edgecoder.core.context import SECOND_US
from edgecoder.core.effects import Source
from edgecoder.core.ids import Micros

_HALF_LIFE: Micros = 20_000_000


class Meter:
    """The rate of one kind of source. Older bytes count less: by half after 20 s of work."""

    __slots__ = ("_busy", "_bytes", "_since", "total_bytes", "under_way")

    def __init__(self) -> None:
        self._bytes = 0
        self._busy: Micros = 0
        self._since: Micros = 0
        self.total_bytes = 0
        self.under_way = 0
        """Requests."""

    def begin(self, now: Micros, first_byte: Micros = 0) -> None:
        """One more request is under way, of which nothing can come before the first byte."""
        self._settle(now)
        if not self.under_way:
            self._since = now + first_byte
        self.under_way += 1

    def end(self, now: Micros) -> None:
        """One is no more."""
        self._settle(now)
        self.under_way -= 1

    def note(self, size_bytes: int) -> None:
        """Bytes came."""
        self.total_bytes += size_bytes
        self._bytes += size_bytes
        if self._busy > 2 * _HALF_LIFE:
            self._bytes //= 2
            self._busy //= 2

    def bytes_per_s(self, now: Micros, unnoted_bytes: int = 0) -> int:
        """The rate, with bytes that have come and were not noted yet; 0 as long as nothing was measured."""
        self._settle(now)
        return (self._bytes + unnoted_bytes) * SECOND_US // self._busy if self._busy else 0

    def _settle(self, now: Micros) -> None:
        if now > self._since:
            if self.under_way:
                self._busy += now - self._since
            self._since = now


class Rates:
    """The rates of all kinds of sources of one file."""

    __slots__ = ("_of", "peers")

    def __init__(self) -> None:
        self._of = {source: Meter() for source in Source}
        self.peers = Meter()
        """All but the CDN together."""

    def begin(self, source: Source, now: Micros, first_byte: Micros = 0) -> None:
        """See `Meter.begin`."""
        for meter in self._meters(source):
            meter.begin(now, first_byte)

    def end(self, source: Source, now: Micros) -> None:
        """See `Meter.end`."""
        for meter in self._meters(source):
            meter.end(now)

    def note(self, source: Source, size_bytes: int) -> None:
        """See `Meter.note`."""
        for meter in self._meters(source):
            meter.note(size_bytes)

    def bytes_per_s(self, source: Source, now: Micros, unnoted_bytes: int = 0) -> int:
        """See `Meter.bytes_per_s`."""
        return self._of[source].bytes_per_s(now, unnoted_bytes)

    def total_bytes(self, source: Source) -> int:
        """See `Meter.total_bytes`."""
        return self._of[source].total_bytes

    def _meters(self, source: Source) -> tuple[Meter, ...]:
        return (self._of[source],) if source is Source.CDN else (self._of[source], self.peers)
