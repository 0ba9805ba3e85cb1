"""Which envelopes a node has had before: the checkers' own memory of (epoch, seq), kept apart from the core's.

The core keeps a bit mask; here the keys themselves are kept, so that one mistake cannot hide in both.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from edgecoder.core.ids import NodeId
from edgecoder.protocol import REPLAY_WINDOW

_KEPT: Final = 2 * REPLAY_WINDOW
"""Newest arrivals among which every key of the window is: it reaches REPLAY_WINDOW below and above any of them."""


class _Sender:
    __slots__ = ("epoch", "newest", "recent")

    def __init__(self, epoch: int, seq: int) -> None:
        self.epoch = epoch
        self.newest = seq
        self.recent: deque[int] = deque((seq,), maxlen=_KEPT)


class Inbox:
    """The envelopes that one node has taken in this life."""

    __slots__ = ("_senders",)

    def __init__(self) -> None:
        self._senders: dict[NodeId, _Sender] = {}

    def is_fresh(self, sender: NodeId, epoch: int, seq: int) -> bool:
        """Whether the node must take (epoch, seq) of `sender`; it is not fresh again."""
        known = self._senders.get(sender)
        if known is None or epoch > known.epoch:
            self._senders[sender] = _Sender(epoch, seq)
            return True
        if epoch < known.epoch:
            return False
        if seq > known.newest:
            known.newest = seq
        elif known.newest - seq >= REPLAY_WINDOW or seq in known.recent:
            return False
        known.recent.append(seq)
        return True
