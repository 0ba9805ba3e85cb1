"""Rates: measured ones, as bytes over the time in which something was under way, and what one source alone would have
brought."""

from __future__ import annotations

from edgecoder.core.effects import Source
from edgecoder.core.ids import Micros

_HALF_LIFE: Micros = 20_000_000
SECOND_US = 1_000_000


class Meter:
    """The rate of one kind of source. Older bytes count less: by half after 20 s of work."""

    __slots__ = ("_busy", "_bytes", "_since", "_under_way", "total_bytes")

    def __init__(self) -> None:
        self._bytes = 0
        self._busy: Micros = 0
        self._since: Micros = 0
        self._under_way = 0
        self.total_bytes = 0

    def begin(self, now: Micros, first_byte: Micros = 0) -> None:
        """One more request is under way, of which nothing can come before the first byte."""
        self._settle(now)
        if not self._under_way:
            self._since = now + first_byte
        self._under_way += 1

    def end(self, now: Micros) -> None:
        """One is no more."""
        self._settle(now)
        self._under_way -= 1

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
        return (self._bytes + unnoted_bytes) * SECOND_US // self._busy if self._busy and self._bytes else 0

    def _settle(self, now: Micros) -> None:
        if now > self._since:
            if self._under_way:
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


class Alone:
    """How a download from one source alone would stand now, had it begun when this one did.

    The rate of that source changes, with the number of those who share it: what it would have brought is summed up as
    time passes, so that a deadline is no promise made once.
    """

    __slots__ = ("_at", "_left_bytes", "began", "ends")

    def __init__(self, began: Micros, first_byte: Micros, size_bytes: int) -> None:
        self.began = began
        self.ends = began
        """When it would be done."""
        self._at = began + first_byte
        """Up to when it is summed up."""
        self._left_bytes = size_bytes

    def pass_time(self, now: Micros, bytes_per_s: int) -> None:
        """So much the source would have given since the last time, and would give from now on."""
        if now > self._at and self._left_bytes:
            came = (now - self._at) * bytes_per_s // SECOND_US
            if came >= self._left_bytes:
                self.ends = self._at + self._left_bytes * SECOND_US // bytes_per_s
            self._left_bytes = max(0, self._left_bytes - came)
            self._at = now
        if self._left_bytes:
            self.ends = self._at + self._left_bytes * SECOND_US // bytes_per_s
