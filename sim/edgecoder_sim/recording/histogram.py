"""Quantiles of any number of durations in bounded memory.

Values fall into buckets that are 1/1024 to 1/2048 of their size wide, so a quantile is off by 0.05 % at most; sum,
count and maximum are exact. Integers only: the same values give the same figures on every machine.
"""

from __future__ import annotations

import math
from typing import Final

SUB_BITS: Final = 11
"""Buckets keep this many leading bits of a value."""


class Histogram:
    """A distribution of non-negative integers, such as microseconds."""

    __slots__ = ("_buckets", "count", "largest", "total")

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self.count = 0
        self.total = 0
        self.largest = 0

    def add(self, value: int) -> None:
        """Count one value."""
        shift = max(0, value.bit_length() - SUB_BITS)
        bucket = (shift << SUB_BITS) | (value >> shift)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self.count += 1
        self.total += value
        self.largest = max(self.largest, value)

    @property
    def mean(self) -> float:
        """Of at least one value."""
        return self.total / self.count

    def quantile(self, share: float) -> float:
        """The smallest value that `share` (0 to 1) of at least one value do not exceed, to the middle of its bucket."""
        wanted = max(1, math.ceil(share * self.count - 1e-9))
        if wanted >= self.count:
            return float(self.largest)
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                shift = bucket >> SUB_BITS
                low = (bucket & ((1 << SUB_BITS) - 1)) << shift
                return float(min(self.largest, low + ((1 << shift) - 1) / 2))
        raise AssertionError("the buckets hold fewer values than were counted")
