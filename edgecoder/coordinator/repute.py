"""Repute: whom the receivers of a file have found fault with, and whether that is to be believed.

A sender is doubted when three receivers or more have accused it, and more than have got something of it. Who accuses
nearly all that it deals with is not believed. That a sender was busy tells against it only as long as nobody at all has
got anything of it. Nobody is banned on the word of others: one who is doubted is given a trial now and then, and a
single receiver that it serves weighs as much as one that accuses it.
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
"""Others that are remembered of one member on each side; beyond it the newest takes the place of the oldest on the
other, since members change."""
FAULTS: Final = frozenset({Reason.PIECE_CORRUPT, Reason.NOT_HELD, Reason.TOO_SLOW, Reason.NO_ANSWER, Reason.INVALID})
"""Reasons that say something against a sender; all others, but for BUSY, are its battery's, its network's or the
receiver's."""


class _Dealings(msgspec.Struct):
    """With others, in the order in which they came first."""

    accused_by: dict[NodeId, None] = {}
    pleased: dict[NodeId, None] = {}
    put_off: dict[NodeId, None] = {}
    """To whom it was too busy."""
    accuses: dict[NodeId, None] = {}
    praises: dict[NodeId, None] = {}


class Repute:
    """What the members of one file say of each other."""

    def __init__(self, members_max: int) -> None:
        """`members_max` members are remembered; then nothing is heard of new ones."""
        self._members_max = members_max
        self._of: dict[NodeId, _Dealings] = {}

    def accuse(self, receiver: NodeId, sender: NodeId, reason: Reason) -> None:
        """A receiver did not get what it was to."""
        if reason is Reason.BUSY:
            dealings = self._dealings(sender)
            if dealings is not None and len(dealings.put_off) < DEALINGS_MAX:
                dealings.put_off[receiver] = None
        elif reason in FAULTS:
            self._note(receiver, sender, is_good=False)

    def praise(self, receiver: NodeId, sender: NodeId) -> None:
        """A receiver has got a piece."""
        self._note(receiver, sender, is_good=True)

    def is_doubted(self, sender: NodeId) -> bool:
        """Whether a sender is to be avoided."""
        known = self._of.get(sender)
        if known is None:
            return False
        accusers = known.accused_by if known.pleased else known.accused_by | known.put_off
        if len(accusers) < ACCUSERS_MIN:
            return False
        credible = sum(1 for node in accusers if not self._is_serial(node))
        return credible >= ACCUSERS_MIN and credible > len(known.pleased)

    def _note(self, receiver: NodeId, sender: NodeId, *, is_good: bool) -> None:
        theirs, its = self._dealings(receiver), self._dealings(sender)
        if theirs is None or its is None:
            return
        if is_good:
            _add(theirs.praises, sender, theirs.accuses)
            _add(its.pleased, receiver, its.accused_by)
        else:
            _add(theirs.accuses, sender, theirs.praises)
            _add(its.accused_by, receiver, its.pleased)

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


def _add(side: dict[NodeId, None], node: NodeId, other: dict[NodeId, None]) -> None:
    """Remember one more on a side; where that is full, one less on the other."""
    if node in side:
        return
    if len(side) < DEALINGS_MAX:
        side[node] = None
    elif other:
        del other[next(iter(other))]
