"""Who is unchoked: a tournament of what others sent in the last round, or a round-robin where that is equal.

Source: choker.cpp of libtorrent 2.1, with fixed_slots_choker and round_robin, its defaults.

Fidelity boundary: peers are partitioned by std::nth_element, as in C++, so that which of the best go without a slot is
up to the order in which it leaves them; that of GNU libstdc++ is used here, without its guard against bad inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

QUOTA_TIME_US: Final = 60_000_000
"""A seed does not take a slot away before this time."""
_SMALL: Final = 3

T = TypeVar("T")
Rank = tuple[int, bool, int, int]


@dataclass(frozen=True, slots=True)
class Round:
    """What one peer did since the last round."""

    is_choked: bool
    received_bytes: int
    """From it."""
    sent_bytes: int
    """To it."""
    sent_since_unchoke_bytes: int
    unchoked_us: int
    """When it was last unchoked."""

    def rank(self, now_us: int, quota_bytes: int) -> Rank:
        """The order of preference, lowest first (unchoke_compare_rr)."""
        has_had_its_turn = (
            not self.is_choked
            and self.sent_since_unchoke_bytes > quota_bytes
            and now_us - self.unchoked_us > QUOTA_TIME_US
        )
        return -self.received_bytes, has_had_its_turn, 0 if self.is_choked else -self.sent_bytes, self.unchoked_us


def optimistic_slots(slots: int, configured: int = 0) -> int:
    """How many of the slots are for peers that have not earned one."""
    return configured or max(1, slots // 5)


def partition(items: Sequence[T], ranks: Sequence[Rank], count: int) -> list[T]:
    """`items` with the `count` of the lowest rank in front, in the order in which std::nth_element leaves them."""
    order = list(range(len(items)))
    first, last = 0, len(order)
    count = min(count, last)
    if count == last:
        return list(items)
    while last - first > _SMALL:
        cut = _split(order, ranks, first, last)
        if cut <= count:
            first = cut
        else:
            last = cut
    order[first:last] = sorted(order[first:last], key=ranks.__getitem__)
    return [items[index] for index in order]


def _split(order: list[int], ranks: Sequence[Rank], first: int, last: int) -> int:
    """Partition around the median of three; returns where the upper part begins (__unguarded_partition_pivot)."""

    def swap(a: int, b: int) -> None:
        order[a], order[b] = order[b], order[a]

    middle = sorted((first + 1, first + (last - first) // 2, last - 1), key=lambda place: ranks[order[place]])[1]
    swap(first, middle)
    pivot = ranks[order[first]]
    low, high = first + 1, last
    while True:
        while ranks[order[low]] < pivot:
            low += 1
        high -= 1
        while pivot < ranks[order[high]]:
            high -= 1
        if low >= high:
            return low
        swap(low, high)
        low += 1
