"""The log of contacts: passes them on to whoever links nodes, and tells a recorder of each one that is over.

Fidelity boundary: it sees every contact at once, which no node could.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from edgecoder_sim.kernel import Kernel

if TYPE_CHECKING:
    from edgecoder_sim.contacts import Contacts
    from edgecoder_sim.host import SimNode

OnContact = Callable[[int, int, int, int, float], None]
"""Begin and end, µs; the indices of the two, the lower one first; their distance at the begin, m."""


class ContactLog:
    """A `Contacts` in front of another one."""

    def __init__(self, kernel: Kernel, contacts: Contacts) -> None:
        self._kernel = kernel
        self._contacts = contacts
        self._open: dict[tuple[int, int], tuple[int, float]] = {}
        self.on_contact: OnContact | None = None
        """Who is told; contacts that are over before there is anybody are forgotten."""

    def contact_begins(self, a: SimNode, b: SimNode, distance_m: float) -> None:
        """See `Contacts`."""
        self._open.setdefault((min(a.index, b.index), max(a.index, b.index)), (self._kernel.now, distance_m))
        self._contacts.contact_begins(a, b, distance_m)

    def contact_ends(self, a: SimNode, b: SimNode) -> None:
        """See `Contacts`."""
        self._end((min(a.index, b.index), max(a.index, b.index)))
        self._contacts.contact_ends(a, b)

    def close(self) -> None:
        """The run is over: tell of the contacts that last."""
        for pair in list(self._open):
            self._end(pair)

    def _end(self, pair: tuple[int, int]) -> None:
        begin_us, distance_m = self._open.pop(pair, (-1, 0.0))
        if self.on_contact is not None and begin_us >= 0:
            self.on_contact(begin_us, self._kernel.now, *pair, distance_m)
