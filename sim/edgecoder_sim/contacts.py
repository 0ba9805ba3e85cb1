"""Contacts: who is in whose radio range, told by whoever moves people to whoever carries their messages.

`Contacts` is the one entry for both: geometry (people on a floor) and traces (people who met) call it when two nodes
come into range of each other and when they part. What range is, is decided by the caller.

Fidelity boundary: `LinkedContacts` links two nodes soon where both have a free slot when their contact begins. No one
discovers anybody, no one lets go; a slot that becomes free later stays so, but for one that a node's next life frees.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from edgecoder.core.effects import Advertise, Connect, Disconnect, Scan
from edgecoder.core.events import ConnectFailed, LinkDown
from edgecoder.core.ids import LinkId, OpId
from edgecoder.errors import Reason
from edgecoder_sim.host import SimNode
from edgecoder_sim.kernel import Kernel
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

    def started(self, node: SimNode) -> None:
        """Another life of a node begins."""
        ...

    def ether_changed(self) -> None:
        """A fault of frames has begun or ended."""
        ...


class LinkedContacts:
    """Links two nodes for as long as their contact lasts, where both are up and have a free slot at its beginning, or
    when the one that was down is up again."""

    def __init__(self, kernel: Kernel, antennas: Antennas, open_link: OpenLink) -> None:
        self._kernel = kernel
        self._antennas = antennas
        self._silence_us = antennas.radio.ble.supervision_us
        self._open_link = open_link
        self._links: dict[int, dict[int, BleLink]] = {}
        """By both ends: links that are up, or coming up."""
        self._waiting: dict[int, dict[int, tuple[SimNode, float]]] = {}
        """By both ends: contacts that last, of which one is down, with the other one and the distance, m."""
        self._distance_m: dict[LinkId, float] = {}

    def contact_begins(self, a: SimNode, b: SimNode, distance_m: float) -> None:
        """See `Contacts`."""
        if b.index in self._links.get(a.index, ()):
            return
        if not (a.is_up and b.is_up):
            self._wait(a, b, distance_m)
            return
        if any(len(self._links.get(node.index, ())) >= self._antennas.links_max(node) for node in (a, b)):
            return
        link = self._open_link(a, b, distance_m, self._bring_up)
        self._distance_m[link.id] = distance_m
        for node, other in ((a, b), (b, a)):
            self._links.setdefault(node.index, {})[other.index] = link

    def _bring_up(self, link: BleLink, _: object) -> None:
        if self._links.get(link.first.index, {}).get(link.second.index) is link:
            link.open()

    def _wait(self, a: SimNode, b: SimNode, distance_m: float) -> None:
        for node, other in ((a, b), (b, a)):
            self._waiting.setdefault(node.index, {})[other.index] = (other, distance_m)

    def _drop(self, link: BleLink) -> float:
        """Forget a link, its slots are free; the distance of its ends, m."""
        a, b = link.first, link.second
        del self._links[a.index][b.index], self._links[b.index][a.index]
        return self._distance_m.pop(link.id)

    def contact_ends(self, a: SimNode, b: SimNode) -> None:
        """See `Contacts`."""
        for node, other in ((a, b), (b, a)):
            self._waiting.get(node.index, {}).pop(other.index, None)
        link = self._links.get(a.index, {}).get(b.index)
        if link is None:
            return
        self._drop(link)
        for node in (a, b):
            if node.links.pop(link.id, None) is not None:
                node.post(LinkDown(link.id))
        link.end(self._kernel.now)

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
        if isinstance(link, BleLink):
            self._drop(link)
            for end in (link.first, link.second):
                if end.links.pop(link.id, None) is not None:
                    end.post(LinkDown(link.id, lost=False))
            link.end(self._kernel.now)

    def died(self, node: SimNode, told_us: int | None) -> None:
        """See `Bluetooth`; the contacts wait."""
        for link in list(self._links.get(node.index, {}).values()):
            other = link.second if link.first is node else link.first
            self._wait(node, other, self._drop(link))
            node.links.pop(link.id, None)
            at_us = self._kernel.now + (self._silence_us if told_us is None else told_us)
            if other.links.pop(link.id, None) is not None:
                other.post_at(at_us, LinkDown(link.id))
            link.end(at_us)

    def started(self, node: SimNode) -> None:
        """See `Bluetooth`; contacts that last are linked again, the nearest first."""
        waiting = self._waiting.get(node.index, {})
        for other, distance_m in sorted(waiting.values(), key=lambda one: (one[1], one[0].index)):
            if other.is_up:
                del waiting[other.index], self._waiting[other.index][node.index]
                self.contact_begins(node, other, distance_m)

    def ether_changed(self) -> None:
        """See `Bluetooth`; links stay."""


BringUp = Callable[[BleLink, object], None]
"""Opens a link, if it is still wanted."""


class OpenLink(Protocol):
    """Makes a link between two nodes at a distance, m."""

    def __call__(self, a: SimNode, b: SimNode, distance_m: float, bring_up: BringUp) -> BleLink:
        """The link; `bring_up` is called soon."""
        ...
