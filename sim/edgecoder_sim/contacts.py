"""Contacts: who is in whose radio range, told by whoever moves people to whoever carries their messages.

`Contacts` is the one entry for both: geometry (people on a floor) and traces (people who met) call it when two nodes
come into range of each other and when they part. What range is, is decided by the caller.

Fidelity boundary: `LinkedContacts` links two nodes at once where both have a free slot when their contact begins. No
one discovers anybody, no one lets go; a slot that becomes free later stays so.
"""

from __future__ import annotations

from typing import Protocol

from edgecoder.core.effects import Advertise, Connect, Disconnect, Scan
from edgecoder.core.events import ConnectFailed, LinkDown
from edgecoder.core.ids import OpId
from edgecoder.errors import Reason
from edgecoder_sim.host import SimNode
from edgecoder_sim.radio import Antennas, BleLink, advertise


class Contacts(Protocol):
    """Takes news of contacts. A pair is told of once, in either order of its nodes; repeating it does nothing."""

    def contact_begins(self, a: SimNode, b: SimNode, distance_m: float) -> None:
        """The two have come into range of each other, or are at another distance now."""
        ...

    def contact_ends(self, a: SimNode, b: SimNode) -> None:
        """The two are out of range; of a pair that is not in contact, nothing."""
        ...


class Bluetooth(Contacts, Protocol):
    """Who takes contacts, and carries out what cores ask of their radios."""

    def scan(self, node: SimNode, effect: Scan) -> None:
        """Begin to listen."""
        ...

    def advertise(self, node: SimNode, effect: Advertise, depart_us: int) -> None:
        """Tell peers and scanners."""
        ...

    def connect(self, node: SimNode, effect: Connect) -> None:
        """Dial."""
        ...

    def cancel(self, node: SimNode, op: OpId) -> None:
        """Give a dial up."""
        ...

    def disconnect(self, node: SimNode, effect: Disconnect) -> None:
        """Hang up."""
        ...

    def died(self, node: SimNode, told_us: int | None) -> None:
        """A node is gone."""
        ...

    def ether_changed(self) -> None:
        """A fault of frames has begun or ended."""
        ...


class LinkedContacts:
    """Links two nodes for as long as their contact lasts, where both have a free slot at its beginning."""

    def __init__(self, antennas: Antennas, open_link: OpenLink) -> None:
        """`open_link` makes a link between two nodes at a distance, m, and brings it up soon."""
        self._antennas = antennas
        self._open_link = open_link
        self._links: dict[tuple[int, int], BleLink] = {}
        self._used: dict[int, int] = {}

    def contact_begins(self, a: SimNode, b: SimNode, distance_m: float) -> None:
        """See `Contacts`."""
        pair = _pair(a, b)
        has_room = all(self._used.get(node.index, 0) < self._antennas.links_max(node) for node in (a, b))
        if pair in self._links or not has_room:
            return
        for index in pair:
            self._used[index] = self._used.get(index, 0) + 1
        self._links[pair] = self._open_link(a, b, distance_m)

    def contact_ends(self, a: SimNode, b: SimNode) -> None:
        """See `Contacts`."""
        link = self._links.pop(_pair(a, b), None)
        if link is None:
            return
        for node in (a, b):
            self._used[node.index] -= 1
            if node.links.pop(link.id, None) is not None:
                node.post(LinkDown(link.id))

    def scan(self, node: SimNode, effect: Scan) -> None:
        """See `Bluetooth`; nobody is heard."""

    def advertise(self, node: SimNode, effect: Advertise, depart_us: int) -> None:
        """See `Bluetooth`; only linked peers hear."""
        advertise(node, effect, depart_us)

    def connect(self, node: SimNode, effect: Connect) -> None:
        """See `Bluetooth`; there is nobody to dial."""
        node.post(ConnectFailed(effect.op, Reason.UNAVAILABLE))

    def cancel(self, node: SimNode, op: OpId) -> None:
        """See `Bluetooth`; no dial is open."""

    def disconnect(self, node: SimNode, effect: Disconnect) -> None:
        """See `Bluetooth`."""
        link = node.links.get(effect.link)
        if link is not None:
            for end in (link.first, link.second):
                if end.links.pop(link.id, None) is not None:
                    end.post(LinkDown(link.id, lost=False))

    def died(self, node: SimNode, told_us: int | None) -> None:
        """See `Bluetooth`; the links come back (`lives`)."""

    def ether_changed(self) -> None:
        """See `Bluetooth`; links stay."""


class OpenLink(Protocol):
    """Makes a link and brings it up soon."""

    def __call__(self, a: SimNode, b: SimNode, distance_m: float) -> BleLink:
        """The link."""
        ...


def _pair(a: SimNode, b: SimNode) -> tuple[int, int]:
    return (a.index, b.index) if a.index < b.index else (b.index, a.index)
