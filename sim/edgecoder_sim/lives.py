"""Links over IP of nodes that crash and come back: when the other end notices, and when there is a new link.

A link ends with either of its nodes. The survivor learns it at once where the operating system of the dead one still
closed its connections, else when its medium notices the silence. A new link comes up a while after both ends are up, as
a driver that dials again would have it.

Fidelity boundary: dialling succeeds at the first try; a survivor that has nothing to send notices a silent death as
soon as one that has. Links over Bluetooth hang on contacts, and are looked after there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from edgecoder.core.events import LinkDown
from edgecoder.core.ids import LinkId
from edgecoder_sim.kernel import Kernel
from edgecoder_sim.network import IpLink

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgecoder_sim.host import SimNode

SILENCE_US: Final = 20_000_000
"""How long it takes to notice that the other end is gone: a WebSocket ping each 20 s (the default of the library
`websockets`)."""
DIAL_US: Final = 1_000_000
"""A new link comes up so long after both ends are there, and a uniform time of the same length later."""


class Lives:
    """The links over IP of nodes that are down, or were."""

    def __init__(self, kernel: Kernel, next_link: Callable[[], LinkId]) -> None:
        self._kernel = kernel
        self._next_link = next_link
        self._cut: dict[int, list[IpLink]] = {}
        """Links to open again when the node of this index is up."""

    def ended(self, sim: SimNode, told_us: int | None) -> None:
        """A node died: its links are no more, and those at the other ends hear of it."""
        for link in [link for link in sim.links.values() if isinstance(link, IpLink)]:
            del sim.links[link.id]
            other = self._other(link, sim)
            other.links.pop(link.id, None)
            other.post_at(self._kernel.now + (SILENCE_US if told_us is None else told_us), LinkDown(link.id))
            self._wait_for(sim, link)

    def began(self, sim: SimNode) -> None:
        """A node is up again: its links come back where the other ends are up too."""
        for link in self._cut.pop(sim.index, ()):
            self.redial(link)

    def redial(self, link: IpLink) -> None:
        """Open a new link in place of one that is down."""
        fresh = link.again(self._next_link())
        wait_us = DIAL_US + fresh.first.stream(f"dial {fresh.id}").below(DIAL_US)
        self._kernel.call_at(self._kernel.now + wait_us, self.open, fresh)

    def open(self, link: IpLink, _: object = None) -> None:
        """Open a link now, or when both of its ends are up."""
        for end in (link.first, link.second):
            if not end.is_up:
                self._wait_for(end, link)
                return
        link.open()

    def _wait_for(self, sim: SimNode, link: IpLink) -> None:
        self._cut.setdefault(sim.index, []).append(link)

    @staticmethod
    def _other(link: IpLink, sim: SimNode) -> SimNode:
        return link.second if link.first is sim else link.first
