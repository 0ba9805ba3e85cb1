"""The book of discoveries: how long nodes take to know who has come into range of their radio.

A pair counts from the moment at which both are up and in range, each way by itself, and is over when the one learns
what the other offers. One that is known still from an earlier meeting is no discovery.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final

from edgecoder.core.ids import NodeId
from edgecoder.trace import LifeEnded, NodeReady, PeerForgotten, PeerLearned
from edgecoder_sim.recording.histogram import Histogram

Handler = Callable[[int, int, Any], None]
AddRow = Callable[[tuple[Any, ...]], None]
SOON_US: Final = 60_000_000
"""A minute: by then who is in range should be known."""


class RangeBook:
    """Writes one row for each discovery, and counts those that did not come about."""

    def __init__(self, index: Mapping[NodeId, int], add_row: AddRow) -> None:
        self._index = index
        self._add_row = add_row
        self._up: set[int] = set()
        self._near: defaultdict[int, dict[int, None]] = defaultdict(dict)
        self._known: defaultdict[int, set[int]] = defaultdict(set)
        self._since_us: defaultdict[int, dict[int, int]] = defaultdict(dict)
        """Whom a node has to discover, and since when."""
        self._times = Histogram()
        self._soon = self._missed = 0
        self.handlers: dict[type, Handler] = {
            NodeReady: self._ready,
            LifeEnded: self._died,
            PeerLearned: self._learned,
            PeerForgotten: self._forgotten,
        }

    def changed(self, at_us: int, a: int, b: int, is_near: bool) -> None:
        """Two nodes came into range of each other, or left it."""
        for node, other in ((a, b), (b, a)):
            if is_near:
                self._near[node][other] = None
                self._begin(at_us, node, other)
            else:
                self._near[node].pop(other, None)
                self._end(at_us, node, other)

    def metrics(self, at_us: int) -> dict[str, float]:
        """The figures to `at_us`; nothing where nobody discovered anybody."""
        late = sum(at_us - since_us > SOON_US for waits in self._since_us.values() for since_us in waits.values())
        counted = self._times.count + self._missed + late
        if not self._times.count:
            return {}
        return {
            "discoveries": self._times.count,
            "discovery_p50_s": self._times.quantile(0.5) / 1e6,
            "discovery_p99_s": self._times.quantile(0.99) / 1e6,
            "discovered_in_minute_share": self._soon / counted,
        }

    def _begin(self, at_us: int, node: int, other: int) -> None:
        if node in self._up and other in self._up and other not in self._known[node]:
            self._since_us[node].setdefault(other, at_us)

    def _end(self, at_us: int, node: int, other: int) -> None:
        """It came to nothing; that counts where there was time enough."""
        since_us = self._since_us[node].pop(other, None)
        if since_us is not None and at_us - since_us > SOON_US:
            self._missed += 1

    def _ready(self, at_us: int, node: int, _: NodeReady) -> None:
        self._up.add(node)
        for other in self._near[node]:
            self._begin(at_us, node, other)
            self._begin(at_us, other, node)

    def _died(self, at_us: int, node: int, _: LifeEnded) -> None:
        self._up.discard(node)
        self._known[node].clear()
        for other in self._near[node]:
            self._end(at_us, node, other)
            self._end(at_us, other, node)

    def _learned(self, at_us: int, node: int, record: PeerLearned) -> None:
        peer = self._index[record.peer]
        self._known[node].add(peer)
        since_us = self._since_us[node].pop(peer, None)
        if since_us is not None:
            self._times.add(at_us - since_us)
            self._soon += at_us - since_us <= SOON_US
            self._add_row((at_us / 1e6, node, peer, (at_us - since_us) / 1e6))

    def _forgotten(self, at_us: int, node: int, record: PeerForgotten) -> None:
        peer = self._index[record.peer]
        self._known[node].discard(peer)
        if peer in self._near[node]:
            self._begin(at_us, node, peer)
