"""The oracle for max-min sharing: rates and ends of transfers in rationals, for small cases.

It shares nothing with `edgecoder_sim.bandwidth` but the definition: no quantum, no whole bytes, one filling an event.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from edgecoder_sim.bandwidth import UNCAPPED


class Transfer(NamedTuple):
    """A flow as the oracle takes it: seconds, bytes, bytes a second."""

    start_s: Fraction
    src: int
    dst: int
    size_bytes: int
    cap_bytes_per_s: int = UNCAPPED


def exact_finishes(transfers: Sequence[Transfer], up: Sequence[int], down: Sequence[int]) -> list[Fraction]:
    """When each transfer ends, in seconds: fluid max-min from event to event in rationals. `up` and `down` are bytes a
    second. It costs a whole filling an event: for small cases only."""
    left = [Fraction(transfer.size_bytes) for transfer in transfers]
    finishes: list[Fraction | None] = [None] * len(transfers)
    now = min((transfer.start_s for transfer in transfers), default=Fraction(0))
    while None in finishes:
        running = [i for i, transfer in enumerate(transfers) if finishes[i] is None and transfer.start_s <= now]
        starts = [transfer.start_s for transfer in transfers if transfer.start_s > now]
        rates = exact_rates([transfers[i] for i in running], up, down)
        ends = [now + left[i] / rate for i, rate in zip(running, rates, strict=True) if rate]
        following = min(starts + ends)
        for i, rate in zip(running, rates, strict=True):
            left[i] -= rate * (following - now)
            if not left[i]:
                finishes[i] = following
        now = following
    return [finish for finish in finishes if finish is not None]


def exact_rates(transfers: Sequence[Transfer], up: Sequence[int], down: Sequence[int]) -> list[Fraction]:
    """Max-min rates of the running transfers."""
    left_up, left_down = [Fraction(rate) for rate in up], [Fraction(rate) for rate in down]
    rates = [Fraction(0)] * len(transfers)
    active = list(range(len(transfers)))
    while active:
        senders = [transfers[i].src for i in active]
        receivers = [transfers[i].dst for i in active]
        levels = {
            i: min(
                left_up[transfers[i].src] / senders.count(transfers[i].src),
                left_down[transfers[i].dst] / receivers.count(transfers[i].dst),
                Fraction(transfers[i].cap_bytes_per_s),
            )
            for i in active
        }
        lowest = min(levels.values())
        for i in [i for i in active if levels[i] == lowest]:
            rates[i] = lowest
            left_up[transfers[i].src] -= lowest
            left_down[transfers[i].dst] -= lowest
            active.remove(i)
    return rates
