"""Whether the origin of a file gives anything: what receivers say of it that were sent there.

One that it gave nothing is sent there again later, and later each time. Three of them, and nobody who has got something
since: then it is down, and one order after another finds out when it is back. One member alone, whatever it says, keeps
nobody from the origin but itself.
"""

from __future__ import annotations

from typing import Final

from edgecoder.coordinator.swarm import Peer, Swarm
from edgecoder.core.context import Context
from edgecoder.core.ids import Micros, NodeId
from edgecoder.errors import Reason
from edgecoder.protocol import CDN_ID

DOWN_BY: Final = 3
"""Receivers that it gave nothing, before it is taken to be down."""
EXCUSED: Final = frozenset({Reason.CANCELLED, Reason.DUPLICATE, Reason.SUPERSEDED})
"""Reasons that say nothing of the origin."""


class OriginWatch:
    """The origin of one file."""

    def __init__(self, context: Context, swarm: Swarm) -> None:
        self._context = context
        self._swarm = swarm
        self._target = swarm.origin_target
        self._failed: dict[NodeId, int] = {}
        """Whom it gave nothing since it gave somebody something, and how often in a row."""
        self._failures = 0
        """How often in a row the wait for it was in vain."""
        self.waits_until: Micros = 0
        """Nobody is sent there before."""

    def failed(self, receiver: Peer, reason: Reason) -> None:
        """A receiver did not get what it was to fetch there."""
        now = self._context.now
        if reason in EXCUSED or receiver.refused.get(CDN_ID, 0) > now:  # of several pieces that it did not get
            return
        times = self._failed.get(receiver.node, 0)
        if times or len(self._failed) < self._context.config.agents_max:
            self._failed[receiver.node] = times + 1
        receiver.refused[CDN_ID] = self._wait(times)
        if len(self._failed) >= DOWN_BY and now >= self.waits_until:
            self.waits_until = self._wait(self._failures)
            self._failures += 1
            self._swarm.origin_target = 1

    def gave(self) -> None:
        """Somebody has got something there."""
        for node in self._failed:
            peer = self._swarm.peers.get(node)
            if peer is not None:
                peer.refused.pop(CDN_ID, None)
        self._failed.clear()
        self._failures = self.waits_until = 0
        self._swarm.origin_target = self._target

    def _wait(self, times: int) -> Micros:
        config = self._context.config
        return self._context.in_ms(min(config.cdn_retry_max_ms, config.cdn_retry_ms << min(times, 16)))
