"""Replays are no-ops: each sender's envelopes count once, by (epoch, seq).

An envelope may overtake another of the same sender (a radio beside a LAN), so the last sequence numbers are kept in a
window, as IPsec does (RFC 4303, section 3.4.3); older ones count as seen. An earlier epoch is always too old.
"""

from __future__ import annotations

from edgecoder.protocol import REPLAY_WINDOW

_WINDOW_MASK = (1 << REPLAY_WINDOW) - 1


class ReplayWindow:
    """What one sender has sent. Bit i of the window says that `newest - i` was seen."""

    __slots__ = ("epoch", "newest", "seen")

    def __init__(self) -> None:
        self.epoch = -1
        self.newest = 0
        self.seen = 0

    def accept(self, epoch: int, seq: int) -> bool:
        """Whether (epoch, seq) is new; it is not new again."""
        if epoch != self.epoch:
            if epoch < self.epoch:
                return False
            self.epoch, self.newest, self.seen = epoch, seq, 1
            return True
        ahead = seq - self.newest
        if ahead > 0:
            self.seen = ((self.seen << ahead) | 1) & _WINDOW_MASK if ahead < REPLAY_WINDOW else 1
            self.newest = seq
            return True
        if -ahead >= REPLAY_WINDOW or self.seen >> -ahead & 1:
            return False
        self.seen |= 1 << -ahead
        return True
