"""What was measured several times, in a few numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec


class Samples(msgspec.Struct, frozen=True, kw_only=True):
    """How often something was measured, and its 10th, 50th and 90th percentile."""

    count: int
    low: float
    median: float
    high: float

    def text(self, unit: str) -> str:
        """Such as `median of 24, 0.9 to 2.1 ms`."""
        if self.count == 1:
            return f"one, {number(self.median)} {unit}"
        return f"median of {self.count}, {number(self.low)} to {number(self.high)} {unit}"


def samples_of(values: Iterable[float]) -> Samples | None:
    """The samples of some values; None of none."""
    ordered = sorted(values)
    if not ordered:
        return None
    low, median, high = (quantile(ordered, share) for share in (0.1, 0.5, 0.9))
    return Samples(count=len(ordered), low=low, median=median, high=high)


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which a share of the sorted values lies, between two of them in proportion."""
    at = share * (len(ordered) - 1)
    below = int(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (at - below)


def number(value: float) -> str:
    """Four digits that count, and no exponent."""
    if value >= 1000:
        return f"{value:.0f}"
    return f"{float(f'{value:.4g}'):f}".rstrip("0").rstrip(".")


def rounded(value: float) -> float:
    """The same, as a number."""
    return float(number(value))
