"""What an uplink and an origin can give, from when bytes were asked for and when they were there.

A sender is saturated while it always has something to send. Its rate is that of the stretches in which it was, without
their first half second, in which a queue fills and a limiter may have let a burst through. Within one request bytes are
taken to flow evenly between two moments that are known.

An origin is a sender to all. What it gives in all is told from what one connection gets by how many there were at once:
if twice as many got twice as much, the connection is the limit; if they got the same together, the origin is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgecoder_sim.fit.samples import Samples, samples_of

SECOND_US: Final = 1_000_000
SETTLE_US: Final = 500_000
"""What is left out at the begin of a stretch."""
STRETCH_US: Final = 1_500_000
"""Shorter ones say nothing."""
STEP_US: Final = 250_000
"""How finely the number of connections is looked at."""
ALONE_MIN: Final = 3
"""So many requests must have had the origin for themselves, to tell how long its first byte takes."""
GROWTH_MIN: Final = 0.5
"""Connections are the limit where, of so many more of them, at least this share more came."""

Points = Sequence[tuple[int, int]]
"""Moments, µs, and the bytes that were there then; the first has none."""
Floats = NDArray[np.float64]


class Stretch(NamedTuple):
    """A time in which a sender always had something to send."""

    length_us: int
    """Without its first part."""
    size_bytes: float

    @property
    def bytes_per_s(self) -> float:
        """Its rate."""
        return self.size_bytes * SECOND_US / self.length_us


def stretches(requests: Sequence[Points]) -> list[Stretch]:
    """When a sender was saturated for long enough, and what it gave then."""
    found = []
    for group in _touching(requests):
        begin, end = group[0][0][0] + SETTLE_US, max(points[-1][0] for points in group)
        if end - begin >= STRETCH_US - SETTLE_US:
            at_begin, at_end = (float(_came(group, np.array([at], dtype=np.float64))[0]) for at in (begin, end))
            found.append(Stretch(end - begin, at_end - at_begin))
    return found


def mean_rate(found: Sequence[Stretch]) -> float | None:
    """Bytes a second over all of them; None where there is none."""
    length_us = sum(each.length_us for each in found)
    return sum(each.size_bytes for each in found) * SECOND_US / length_us if length_us else None


def _touching(requests: Sequence[Points]) -> list[list[Points]]:
    """The requests by stretches: each begins before all those before it have ended."""
    groups: list[list[Points]] = []
    end = 0
    for points in sorted(requests, key=lambda points: points[0][0]):
        if not groups or points[0][0] > end:
            groups.append([])
            end = points[-1][0]
        groups[-1].append(points)
        end = max(end, points[-1][0])
    return groups


def _came(requests: Sequence[Points], at: Floats) -> Floats:
    """Bytes of all requests that had come by some moments."""
    total = np.zeros(len(at))
    for points in requests:
        times, sizes = zip(*points, strict=True)
        total += np.interp(at, times, sizes)
    return total


class OriginRates(NamedTuple):
    """What an origin gives, bytes a second."""

    egress: float | None
    """All nodes together; None: it was no limit, or nothing tells."""
    connection: float | None
    """One connection, where several showed that it is the limit; else the most that one was seen to get."""
    is_connection_limit: bool
    most_at_once: int
    steps: Samples | None
    """What came in all, in each step with several connections."""


def origin_rates(requests: Sequence[Points]) -> OriginRates:
    """From all requests to an origin, on one clock."""
    steps = _steps(requests)
    at_once, rate = steps[:, 0], steps[:, 1]
    most = int(at_once.max(initial=0))
    single = rate[at_once == 1]
    several = steps[at_once >= 2]
    own = samples_of(value for points in _alone(requests) if (value := _own_rate(points)) is not None)
    alone = own.median if own is not None else float(np.median(single)) if len(single) >= 2 else None
    each = [_own_rate(points) for points in requests]
    best = samples_of([value for value in each if value is not None])
    connection = alone if alone is not None else None if best is None else best.high
    if len(several) < 4:
        return OriginRates(None, connection, alone is not None, most, samples_of(single.tolist()))
    together = samples_of(several[:, 1].tolist())
    assert together is not None
    if _grows(steps, alone):
        per_connection = float(np.median(several[:, 1] / several[:, 0]))
        return OriginRates(None, max(per_connection, alone or 0.0), True, most, together)
    total = mean_rate(stretches(requests)) or together.median
    return OriginRates(total, connection, False, most, together)


def _grows(steps: Floats, alone: float | None) -> bool:
    """Whether more connections got more together."""
    ordered = steps[np.argsort(steps[:, 0], kind="stable")]
    third = max(1, len(ordered) // 3)
    few, many = ordered[:third].mean(axis=0), ordered[-third:].mean(axis=0)
    if alone is not None:
        few = np.array([1.0, alone])
    more = many[0] / few[0] - 1
    return bool(more > 0.2 and many[1] / max(few[1], 1.0) - 1 >= GROWTH_MIN * more)


def _steps(requests: Sequence[Points]) -> Floats:
    """For each step in which a number of requests was open all the time: that number, and what came in all, B/s."""
    if not requests:
        return np.zeros((0, 2))
    begin, end = min(points[0][0] for points in requests), max(points[-1][0] for points in requests)
    edges = np.arange(begin, end + 1, STEP_US, dtype=np.float64)
    came = _came(requests, edges)
    begins = np.array([points[0][0] for points in requests], dtype=np.float64)
    ends = np.array([points[-1][0] for points in requests], dtype=np.float64)
    rows = []
    for number in range(len(edges) - 1):
        low, high = edges[number], edges[number + 1]
        open_all = int(((begins <= low) & (ends >= high)).sum())
        if open_all:
            rows.append((float(open_all), (came[number + 1] - came[number]) * SECOND_US / STEP_US))
    return np.array(rows, dtype=np.float64).reshape(-1, 2)


def _own_rate(points: Points) -> float | None:
    """What one connection got between its first and its last arrival, B/s."""
    if len(points) < 3 or points[-1][0] <= points[1][0]:
        return None
    return (points[-1][1] - points[1][1]) * SECOND_US / (points[-1][0] - points[1][0])


def first_byte_us(requests: Sequence[Points]) -> Samples | None:
    """How much later the first arrival of requests was that had the origin for themselves than its bytes explain, at
    the rate of those that followed, µs. None where there are fewer than three of them."""
    late = []
    for points in _alone(requests):
        rate, (first, size) = _own_rate(points), points[1]
        if rate is not None:
            late.append(first - points[0][0] - size * SECOND_US / rate)
    return samples_of(late) if len(late) >= ALONE_MIN else None


def _alone(requests: Sequence[Points]) -> list[Points]:
    """Those beside which there was no other."""
    begins = np.array([points[0][0] for points in requests])
    ends = np.array([points[-1][0] for points in requests])
    return [points for points in requests if ((begins < points[-1][0]) & (ends > points[0][0])).sum() == 1]
