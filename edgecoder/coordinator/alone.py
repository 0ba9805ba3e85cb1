"""What the origin alone would give each receiver of a file now, where its operator has limited it.

A receiver that waits for peers must know how it would fare without them: not how many want the file now, since peers
have served some of them meanwhile, and not an equal share where others cannot take theirs. So those who came are served
by an origin that is only reckoned: it gives each as much as it can take, and shares what there is evenly (max-min).
"""

from __future__ import annotations

import msgspec

from edgecoder.core.context import SECOND_US
from edgecoder.core.ids import Micros, NodeId

SETTLE_US = SECOND_US
"""What was given is summed up so often,"""
CHANGED_PCT = 20
"""or when so many of those who are served are new, percent: a crowd that comes at once is not summed up for each."""


class _Served(msgspec.Struct, gc=False):
    most: int
    """What it can take, bytes a second."""
    left_bytes: int
    at: Micros
    """Up to when it is served."""


class LoneOrigin:
    """An origin without peers, as it would serve those who want one file."""

    def __init__(self, egress_bytes_per_s: int, connection_bytes_per_s: int) -> None:
        """An egress of 0 is no limit."""
        self._egress = egress_bytes_per_s
        self._connection = connection_bytes_per_s
        self._served: dict[NodeId, _Served] = {}
        self._changes = 0
        self._settled: Micros = 0
        self._level = max(1, egress_bytes_per_s)

    def join(self, node: NodeId, down_bytes_per_s: int, left_bytes: int, now: Micros) -> None:
        """A node wants so much; one that is served already goes on as it was. A downlink of 0 is not known."""
        if self._egress and node not in self._served:
            most = min(self._connection, down_bytes_per_s or self._connection)
            self._served[node] = _Served(max(1, most), left_bytes, now)
            self._changes += 1

    def leave(self, node: NodeId) -> None:
        """A node is gone."""
        if self._served.pop(node, None) is not None:
            self._changes += 1

    def shares(self, receivers: int, now: Micros) -> int:
        """So many equal shares there are now; the number of receivers where the origin has no limit."""
        if not self._egress:
            return receivers
        if now >= self._settled + SETTLE_US or self._changes * 100 > len(self._served) * CHANGED_PCT:
            self._settle(now)
        return max(1, self._egress // self._level)

    def _settle(self, now: Micros) -> None:
        """Serve until now, and share anew."""
        for node, served in list(self._served.items()):
            served.left_bytes -= min(served.most, self._level) * (now - served.at) // SECOND_US
            served.at = now
            if served.left_bytes <= 0:
                del self._served[node]
        self._settled, self._changes = now, 0
        left, count = self._egress, len(self._served)
        for most in sorted(served.most for served in self._served.values()):
            if most * count >= left:
                break
            left, count = left - most, count - 1  # it takes less than its share, and leaves the rest to the others
        self._level = max(1, left // count) if count else self._egress
