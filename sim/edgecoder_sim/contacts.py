"""Contacts: who is in whose radio range, told by whoever moves people to whoever carries their messages.

`Contacts` is the one entry for both: geometry (people on a floor) and traces (people who met) call it when two nodes
come into range of each other and when they part. What range is, is decided by the caller.

Fidelity boundary: `LinkedContacts` links two nodes at once where both have a free slot when their contact begins. No
one discovers anybody, no one lets go; a slot that becomes free later stays so.
"""

from __future__ import annotations

from typing import Protocol

from edgecoder.core.events import LinkDown
from edgecoder_sim.host import SimNode
from edgecoder_sim.profiles import Radio
from edgecoder_sim.radio import BleLink


class Contacts(Protocol):
    """Takes news of contacts. A pair is told of once, in either order of its nodes; repeating it does nothing."""

    def contact_begins(self, a: SimNode, b: SimNode, distance_m: float) -> None:
        """The two have come into range of each other, or are at another distance now."""
        ...

    def contact_ends(self, a: SimNode, b: SimNode) -> None:
        """The two are out of range; of a pair that is not in contact, nothing."""
        ...


class LinkedContacts:
    """Links two nodes for as long as their contact lasts, where both have a free slot at its beginning."""

    def __init__(self, radio: Radio, open_link: OpenLink) -> None:
        """`open_link` makes a link between two nodes at a distance, m, and brings it up soon."""
        self._slots = radio.links_max
        self._open_link = open_link
        self._links: dict[tuple[int, int], BleLink] = {}
        self._used: dict[int, int] = {}

    def contact_begins(self, a: SimNode, b: SimNode, distance_m: float) -> None:
        """See `Contacts`."""
        pair = _pair(a, b)
        has_room = all(self._used.get(index, 0) < self._slots for index in pair)
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


class OpenLink(Protocol):
    """Makes a link and brings it up soon."""

    def __call__(self, a: SimNode, b: SimNode, distance_m: float) -> BleLink:
        """The link."""
        ...


def _pair(a: SimNode, b: SimNode) -> tuple[int, int]:
    return (a.index, b.index) if a.index < b.index else (b.index, a.index)
