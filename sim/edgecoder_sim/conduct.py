"""How nodes behave that do not keep to the protocol: what their machines do with pieces, whatever their core wants.

A node draws its conduct once for all its lives. Its core is the one that all run; its host lies to others, or to it.

Fidelity boundary: who misbehaves does so always and alone: nobody waits until it is trusted, and no two of them agree
on what to say. Over links from device to device all keep to the protocol. A bad leaf is bad for everybody, and is known
as such as soon as it has arrived.
"""

from __future__ import annotations

from enum import Enum
from typing import Final


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
