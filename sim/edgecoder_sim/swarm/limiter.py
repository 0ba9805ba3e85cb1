"""The limit on a session's upload rate: quota that is handed out at ticks, half a second apart by default.

Source: bandwidth_manager.cpp, bandwidth_limit.{hpp,cpp} and bandwidth_queue_entry.cpp of libtorrent 2.1.

Fidelity boundary: one channel a session, all connections of equal priority; ticks are never late.
"""

from __future__ import annotations

from typing import Final, Protocol

PATIENCE_TICKS: Final = 20
"""After so many ticks a connection gets what it was assigned, even if that is not all it asked for."""
HOARD_S: Final = 3
"""Unused quota is kept up to this many seconds of the limit."""


class Asker(Protocol):
    """Who asks for quota."""

    def assign(self, quota_bytes: int) -> None:
        """Take the quota that was asked for."""


class _Request:
    """A connection that waits for quota."""

    __slots__ = ("asker", "assigned", "patience", "size")

    def __init__(self, asker: Asker, size: int) -> None:
        self.asker = asker
        self.size = size
        self.assigned = 0
        self.patience = PATIENCE_TICKS


class RateLimiter:
    """The upload channel of one session."""

    def __init__(self, limit_bytes_per_s: int) -> None:
        """`limit_bytes_per_s` of 0 means no limit."""
        self._limit = limit_bytes_per_s
        self._quota = 0
        self._queue: list[_Request] = []

    def request(self, asker: Asker, size_bytes: int) -> int:
        """Quota for `asker` at once, or 0: then `assign` is called at a later tick.

        It is at once where there is no limit, and where over a second of quota is left.
        """
        if self._limit == 0:
            return size_bytes
        if self._quota - size_bytes >= self._limit:
            self._quota -= size_bytes
            return size_bytes
        self._queue.append(_Request(asker, size_bytes))
        return 0

    def tick(self, passed_ms: int) -> None:
        """Hand out the quota of the time since the last tick. That of a tick at which nobody waits is lost."""
        if not self._queue:
            return
        self._quota += (self._limit * min(passed_ms, 3000) + 500) // 1000
        if self._quota // HOARD_S > self._limit:
            self._quota = HOARD_S * self._limit
        share = max(self._quota, 0) // len(self._queue)
        waiting: list[_Request] = []
        served: list[_Request] = []
        for request in self._queue:
            got = min(share, request.size - request.assigned)
            request.assigned += got
            request.patience -= 1
            self._quota -= got
            is_done = request.assigned == request.size or (request.patience <= 0 and request.assigned > 0)
            (served if is_done else waiting).append(request)
        self._queue = waiting
        for request in reversed(served):
            request.asker.assign(request.assigned)
