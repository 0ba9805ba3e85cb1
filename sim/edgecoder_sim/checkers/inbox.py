"""Which envelopes a node has had before: the checkers' own memory of (epoch, seq), kept apart from the core's.

The core keeps a bit mask; here the numbers themselves are kept, so that one mistake cannot hide in both.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from edgecoder.core.ids import NodeId
from edgecoder.protocol import REPLAY_WINDOW

_KEPT: Final = 2 * REPLAY_WINDOW
"""Newest arrivals among which every number of the window is: it reaches REPLAY_WINDOW below and above any of them."""


class Arrivals:
    """What came from one sender in its newest epoch."""

    __slots__ = ("epoch", "newest", "recent")

    def __init__(self, epoch: int, seq: int) -> None:
        self.epoch = epoch
        self.newest = seq
        self.recent: deque[int] = deque((seq,), maxlen=_KEPT)


Inbox = dict[NodeId, Arrivals]
"""What one node has taken in this life, by sender."""


def is_fresh(inbox: Inbox, sender: NodeId, epoch: int, seq: int) -> bool:
    """Whether the node must take (epoch, seq) of `sender`; it is not fresh again."""
    known = inbox.get(sender)
    if known is None or epoch > known.epoch:
        inbox[sender] = Arrivals(epoch, seq)
        return True
    if epoch < known.epoch:
        return False
    if seq > known.newest:
        known.newest = seq
    elif known.newest - seq >= REPLAY_WINDOW or seq in known.recent:
        return False
    known.recent.append(seq)
    return True
