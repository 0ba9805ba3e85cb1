"""How nodes behave that do not keep to the protocol: what their machines do with pieces, whatever their core wants.

A node draws its conduct once for all its lives. Its core is the one that all run; its host lies to others, or to it.

It is the same over access networks (`pieces`) and over links from device to device (`air_pieces`).

Fidelity boundary: who misbehaves does so always and alone: nobody waits until it is trusted, and no two of them agree
on what to say. A bad leaf is bad for everybody, and is known as such as soon as it has arrived.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from edgecoder.core.rng import Stream
from edgecoder.errors import Reason
from edgecoder.seeding.pieces import LEAF_BYTES


class Conduct(Enum):
    """What a node does that others do not."""

    HONEST = "honest"
    """Nothing."""
    POISONER = "poisoner"
    """One leaf of each piece that it sends is wrong, at a random place."""
    WRONG_PROOF = "wrong_proof"
    """Nothing that it sends can be proved: the first leaf of each piece is refused."""
    SILENT = "silent"
    """It takes requests and never answers."""
    DRIP = "drip"
    """It sends a kilobyte a second."""
    WITHHOLDER = "withholder"
    """It sends all of a file but its last piece, which it says it has."""
    LIAR = "liar"
    """It says from the start that it has every file, and has none."""
    FREE_RIDER = "free_rider"
    """It says that it gives, and is always busy when it is asked."""
    ACCUSER = "accuser"
    """It says of half of what it gets that it was wrong."""


DRIP_BYTES_PER_S: Final = 1_000
"""What a drip sends."""


class Conducts:
    """Those of a world who do not keep to the protocol, by the index of their node."""

    def __init__(self) -> None:
        self._of: dict[int, tuple[Conduct, Stream]] = {}

    def add(self, node: int, conduct: Conduct, stream: Stream) -> None:
        """A node behaves so, and draws from a stream of its own."""
        self._of[node] = conduct, stream

    def keeps(self, sender: int, *, is_last_piece: bool) -> bool:
        """Whether a node keeps to itself what it was to send."""
        conduct = self._conduct(sender)
        is_withheld = conduct is Conduct.WITHHOLDER and is_last_piece
        return is_withheld or conduct in (Conduct.LIAR, Conduct.FREE_RIDER, Conduct.SILENT)

    def excuse(self, sender: int) -> Reason | None:
        """What a node that keeps a piece says in place of it; None where it says nothing."""
        conduct = self._conduct(sender)
        if conduct is Conduct.SILENT:
            return None
        return Reason.BUSY if conduct is Conduct.FREE_RIDER else Reason.NOT_HELD

    def bytes_per_s(self, sender: int) -> int | None:
        """The most that a node sends; None: as much as its links carry."""
        return DRIP_BYTES_PER_S if self._conduct(sender) is Conduct.DRIP else None

    def bad_leaf(self, sender: int, first_leaf: int, size_bytes: int) -> int | None:
        """The leaf that does not fit the tree, of a piece of which a node sends so much from a leaf on."""
        conduct, stream = self._of.get(sender, (Conduct.HONEST, None))
        if stream is None or conduct not in (Conduct.POISONER, Conduct.WRONG_PROOF):
            return None
        leaves = -(-size_bytes // LEAF_BYTES) if conduct is Conduct.POISONER else 1
        return first_leaf + stream.below(leaves)

    def accuses(self, receiver: int) -> bool:
        """Whether a node says that what it has just got was wrong."""
        conduct, stream = self._of.get(receiver, (Conduct.HONEST, None))
        return stream is not None and conduct is Conduct.ACCUSER and bool(stream.below(2))

    def _conduct(self, node: int) -> Conduct:
        found = self._of.get(node)
        return Conduct.HONEST if found is None else found[0]
