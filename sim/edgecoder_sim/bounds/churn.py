"""The fluid bound where nodes come and go: the least time at which those who matter could have finished.

A closed form by cumulative capacity, no linear program. G(t) is what all nodes that were up before t could have sent by
then. By T, any set of receivers can have got no more than G sent since the first of them came: so for each moment a,
those who came at a or later need G(T) − G(a) ≥ the sum of what they want. Each receiver needs as much of its own
downlink while it is up, and the bytes that at first only holders have must have left the holders. T is the least time
that meets all three.

Every condition is necessary, so T is a lower bound for any policy, one that knows who will leave included. It is
reached in simple cases only. That a node must have bytes before it forwards them is counted for the first copy alone;
that it cannot serve itself, where there is one receiver; and what goes to nodes who leave before they have finished,
not at all. Who gives such a node `wants_bytes`, as many as it really got, has the bound of policies that serve it too.

Fidelity boundary: as in `closed`, no latency, headers or losses and only access links, which makes the bound lower.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import inf
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_MICROSECONDS: Final = 1e6
"""An uplink without limit carries all that is wanted in one of these, the simulator's unit of time."""


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A node as the bound sees it."""

    up_s: tuple[tuple[float, float], ...] = ((0.0, inf),)
    """When it is up: begins and ends, in order, apart from each other; seconds from the release."""
    up_bytes_per_s: float = 0.0
    down_bytes_per_s: float = inf
    wants_bytes: float = 0.0
    """What it has to get; 0 for who only forwards, and for who left and is not counted."""
    is_holder: bool = False
    """Whether it holds the whole file at first; the CDN does."""


class _Cumulated:
    """Bytes that uplinks could have carried by a time: piecewise linear, and its inverse."""

    def __init__(self, nodes: Iterable[Node], unlimited_bytes_per_s: float) -> None:
        changes: dict[float, float] = {0.0: 0.0}
        for node in nodes:
            bytes_per_s = min(node.up_bytes_per_s, unlimited_bytes_per_s)
            for begin_s, end_s in node.up_s:
                changes[begin_s] = changes.get(begin_s, 0.0) + bytes_per_s
                if end_s < inf:
                    changes[end_s] = changes.get(end_s, 0.0) - bytes_per_s
        self._times_s: Floats = np.array(sorted(changes))
        rates = np.cumsum([changes[time_s] for time_s in self._times_s.tolist()])
        self._rates: Floats = np.maximum(rates, 0.0)  # sums of differences leave crumbs
        self._totals: Floats = np.concatenate(([0.0], np.cumsum(self._rates[:-1] * np.diff(self._times_s))))

    def by(self, times_s: Floats) -> Floats:
        """Bytes by each of these times."""
        at = np.searchsorted(self._times_s, times_s, side="right") - 1
        total_bytes: Floats = self._totals[at] + self._rates[at] * (times_s - self._times_s[at])
        return total_bytes

    def when(self, total_bytes: Floats) -> Floats:
        """The first times by which so much could have been carried, each above 0; infinite where it never is."""
        at = np.maximum(np.searchsorted(self._totals, total_bytes, side="left") - 1, 0)
        with np.errstate(divide="ignore"):
            times_s: Floats = self._times_s[at] + (total_bytes - self._totals[at]) / self._rates[at]
        return times_s


def finish_s(nodes: Sequence[Node], fresh_bytes: float) -> float:
    """The least time by which every node can have got what it wants, in seconds from the release.

    `fresh_bytes` is what at first only holders have, of all that is wanted: the whole file after a release, less after
    a restart. For the bound of one node, let no other want anything. Infinite where they can never finish, 0 where
    nobody wants anything. Raises ValueError at a negative figure, at spans out of order, and at a holder that wants.
    """
    for node in nodes:
        _check(node)
    receivers = [node for node in nodes if node.wants_bytes > 0]
    if not receivers:
        return 0.0
    unlimited_bytes_per_s = _MICROSECONDS * sum(node.wants_bytes for node in receivers)
    senders = [node for node in nodes if len(receivers) > 1 or node is not receivers[0]]
    uplinks = _Cumulated(senders, unlimited_bytes_per_s)
    first_copy_s = 0.0
    if fresh_bytes > 0:
        holders = _Cumulated([node for node in nodes if node.is_holder], unlimited_bytes_per_s)
        first_copy_s = float(holders.when(np.array([fresh_bytes]))[0])
    return max(first_copy_s, _served_s(uplinks, receivers), *(_received_s(node) for node in receivers))


def _served_s(uplinks: _Cumulated, receivers: Sequence[Node]) -> float:
    """The least time by which the uplinks can have carried what the latest n receivers want, for every n."""
    latest_first = sorted(receivers, key=_comes_s, reverse=True)
    if _comes_s(latest_first[0]) == inf:
        return inf
    wanted_bytes = np.cumsum([node.wants_bytes for node in latest_first])
    since_s = np.array([_comes_s(node) for node in latest_first])
    return float(uplinks.when(uplinks.by(since_s) + wanted_bytes).max())


def _comes_s(node: Node) -> float:
    return node.up_s[0][0] if node.up_s else inf


def _received_s(node: Node) -> float:
    """When a node's downlink alone lets it finish."""
    left_bytes = node.wants_bytes
    for begin_s, end_s in node.up_s:
        if node.down_bytes_per_s == inf:
            return begin_s
        span_bytes = node.down_bytes_per_s * (end_s - begin_s) if node.down_bytes_per_s else 0.0
        if span_bytes >= left_bytes:
            return begin_s + left_bytes / node.down_bytes_per_s
        left_bytes -= span_bytes
    return inf


def _check(node: Node) -> None:
    figures = (node.up_bytes_per_s, node.down_bytes_per_s, node.wants_bytes)
    if not all(figure >= 0 for figure in figures):
        raise ValueError(f"a node has a capacity or size below 0, or none: {figures}")
    ends_s = [0.0, *(moment_s for span_s in node.up_s for moment_s in span_s)]
    if any(later_s < sooner_s for sooner_s, later_s in pairwise(ends_s)):
        raise ValueError(f"a node is up at times that are not in order: {node.up_s}")
    if node.is_holder and node.wants_bytes:
        raise ValueError("a node holds the whole file at first and wants some of it")
