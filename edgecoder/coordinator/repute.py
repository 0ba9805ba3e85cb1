"""Repute: whom the receivers of a file have found fault with, and whether that is to be believed.

A sender is doubted when three receivers or more have accused it, and more than have got something of it. Who accuses
nearly all that it deals with is not believed. Nobody is banned on the word of others: one who is doubted is given a
trial now and then, and a single receiver that it serves weighs as much as one that accuses it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from edgecoder.core.ids import NodeId
from edgecoder.errors import Reason

ACCUSERS_MIN: Final = 3
"""Receivers that must have accused a sender before it is doubted: one may be at fault, and so may its line."""
SERIAL_PCT: Final = 75
"""Who has accused more of those that it has dealt with than this, percent, is not believed. Where half of the peers
are bad an honest receiver accuses half."""
DEALINGS_MAX: Final = 64
"""Others that are remembered of one member on each side."""
NO_FAULT: Final = frozenset(
    {
        Reason.DUPLICATE,
        Reason.CANCELLED,
        Reason.PEER_LOST,
        Reason.LOW_POWER,
        Reason.NOT_SEEDING,
        Reason.SHUTTING_DOWN,
        Reason.RESTARTED,
        Reason.BANNED,
    }
)
"""Reasons that say nothing against a sender."""


class _Dealings(msgspec.Struct):
    accused_by: set[NodeId] = msgspec.field(default_factory=set)
    pleased: set[NodeId] = msgspec.field(default_factory=set)
    accuses: set[NodeId] = msgspec.field(default_factory=set)
    praises: set[NodeId] = msgspec.field(default_factory=set)


class Repute:
    """What the members of one file say of each other."""

    def __init__(self, members_max: int) -> None:
        """`members_max` members are remembered; then nothing is heard of new ones."""
        self._members_max = members_max
        self._of: dict[NodeId, _Dealings] = {}

    def accuse(self, receiver: NodeId, sender: NodeId, reason: Reason) -> None:
        """A receiver did not get what it was to."""
        if reason not in NO_FAULT:
            self._note(receiver, sender, is_good=False)

    def praise(self, receiver: NodeId, sender: NodeId) -> None:
        """A receiver has got a piece."""
        self._note(receiver, sender, is_good=True)

    def is_doubted(self, sender: NodeId) -> bool:
        """Whether a sender is to be avoided."""
        known = self._of.get(sender)
        if known is None or len(known.accused_by) < ACCUSERS_MIN:
            return False
        credible = sum(1 for node in known.accused_by if not self._is_serial(node))
        return credible >= ACCUSERS_MIN and credible > len(known.pleased)

    def _note(self, receiver: NodeId, sender: NodeId, *, is_good: bool) -> None:
        theirs, its = self._dealings(receiver), self._dealings(sender)
        if theirs is None or its is None:
            return
        for dealings, node in (
            (theirs.praises if is_good else theirs.accuses, sender),
            (its.pleased if is_good else its.accused_by, receiver),
        ):
            if len(dealings) < DEALINGS_MAX:
                dealings.add(node)

    def _dealings(self, node: NodeId) -> _Dealings | None:
        known = self._of.get(node)
        if known is None and len(self._of) < self._members_max:
            known = self._of[node] = _Dealings()
        return known

    def _is_serial(self, node: NodeId) -> bool:
        known = self._of.get(node)
        if known is None or len(known.accuses) < ACCUSERS_MIN:
            return False
        dealt = len(known.accuses | known.praises)
        return 100 * len(known.accuses) > SERIAL_PCT * dealt
