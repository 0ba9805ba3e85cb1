"""A token bucket: how fast a node sends, all connections taken together.

Who wants to send takes tokens, one a byte, and waits until they are there; takers are served in their order. The bucket
is in debt meanwhile, so one that is called off has been paid for all the same, which is a part of a piece at most.
"""

from __future__ import annotations

import asyncio
from typing import Final

PART_BYTES: Final = 1 << 20
"""What is sent in one go where nothing limits it: long enough to cost little, short enough to see who does not read."""
PARTS_PER_S: Final = 16
"""Into so many parts a second what is limited is cut, so that several receivers share it evenly,"""
PART_BYTES_MIN: Final = 4_096
"""but no smaller than this."""
BURST_S: Final = 0.125
"""What may leave at once after a rest is what flows in so many seconds."""


class Bucket:
    """The tokens. `now` is in seconds, of one clock."""

    def __init__(self, bytes_per_s: int) -> None:
        """`bytes_per_s` 0: there is no limit."""
        self._bytes_per_s = bytes_per_s
        self._burst = max(bytes_per_s * BURST_S, PART_BYTES_MIN)
        self._tokens = self._burst
        self._at = 0.0

    @property
    def part_bytes(self) -> int:
        """How much is to be sent in one go."""
        if not self._bytes_per_s:
            return PART_BYTES
        return min(PART_BYTES, max(PART_BYTES_MIN, self._bytes_per_s // PARTS_PER_S))

    def take(self, size: int, now: float) -> float:
        """Take tokens for `size` bytes. Seconds until they may be sent."""
        if not self._bytes_per_s:
            return 0.0
        flown = max(0.0, now - self._at) * self._bytes_per_s
        self._tokens = min(self._burst, self._tokens + flown) - size
        self._at = max(self._at, now)
        return max(0.0, -self._tokens / self._bytes_per_s)


class Pace:
    """The bucket on the running loop."""

    def __init__(self, kbit_per_s: int) -> None:
        """0: no limit."""
        self._bucket = Bucket(kbit_per_s * 125)

    @property
    def part_bytes(self) -> int:
        """See `Bucket`."""
        return self._bucket.part_bytes

    async def take(self, size: int) -> None:
        """Wait until so many bytes may be sent."""
        delay = self._bucket.take(size, asyncio.get_running_loop().time())
        if delay:
            await asyncio.sleep(delay)
