"""What a transfer has asked for, and what it needs of the node around it."""

from __future__ import annotations

from typing import Protocol

import msgspec

from edgecoder.core.effects import Source
from edgecoder.core.ids import LinkId, Micros, NodeId, OpId
from edgecoder.errors import Reason
from edgecoder.seeding.holdings import Holding


class Swarm(Protocol):
    """What a transfer needs of the node around it."""

    def got(self, holding: Holding, piece: int, sender: NodeId, size_bytes: int) -> None:
        """A piece is verified here; the sender gave so much of it."""
        ...

    def taking(self, holding: Holding, pieces: range) -> None:
        """It is fetching pieces that nobody granted."""
        ...

    def lost(
        self,
        holding: Holding,
        piece: int,
        sender: NodeId,
        reason: Reason,
        size_bytes: int = 0,
        link: LinkId | None = None,
    ) -> None:
        """A peer did not give a piece whole; so much of it fits."""
        ...

    def freed(self) -> None:
        """A peer over a radio link may be asked for more."""
        ...

    def ready(self, holding: Holding) -> None:
        """There is room for the file: whoever can give it may be asked."""
        ...

    def rtt(self) -> Micros:
        """To the broker and back."""
        ...

    def pays(self) -> bool:
        """Whether its user pays for what comes over the network."""
        ...


class Request(msgspec.Struct, gc=False):
    """Something that a source was asked for."""

    op: OpId
    piece: int
    count: int
    source: Source
    peer: NodeId | None
    began: Micros
    ends: Micros
    """When it should be done."""
    arrived: int = 0
    """Pieces of it that are here."""
    first_leaf: int = 0
    link: LinkId | None = None
    """The radio link that it went over."""
    is_given_up: bool = False
    is_bulk: bool = False
    """The node asked the CDN by itself: for so much that the time to the first byte does not matter."""
    gives_way: bool = False
    """Whether that is no fault of the peer's: there is a better link to it."""
