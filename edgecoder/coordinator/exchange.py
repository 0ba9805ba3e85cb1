"""What a coordinator tells of where coordinators are: to others of its federation at once, to its members with the
answer to a heartbeat, so that twenty thousand of them are not told in one moment.

It names itself, and those that are linked to it as coordinators, or were in this life: each by the row that it has
signed and has brought itself. What others bring of third ones goes no further. A coordinator that was given no address
tells nothing of itself.
"""

from __future__ import annotations

from edgecoder.core.context import Context
from edgecoder.core.ids import COUNTER_BITS, LinkId, NodeId, Role
from edgecoder.errors import Reason
from edgecoder.mesh.gate import Gate, Link
from edgecoder.mesh.whereabouts import Book, own
from edgecoder.protocol import EXCHANGE_ROWS_MAX
from edgecoder.wire.messages import PeerExchange, Whereabouts

_RENEW = ("exchange.renew", 0)
_TELL = ("exchange.tell", 0)
TELL_MS = 1_000
"""News waits for so long, for more of it."""
TTL_MS = 60_000


class Exchange:
    """The rows that one coordinator passes on."""

    def __init__(self, context: Context, gate: Gate) -> None:
        self._context = context
        self._gate = gate
        self._own: Whereabouts | None = None
        self._count = 0
        self._book = Book(context, gate.verifier, lambda: context.wall_ms)
        self._version = 0
        """Grows with each change of what is told."""
        self._told: dict[LinkId, int] = {}

    def start(self) -> None:
        """Say where this node is, and say it again in time."""
        if self._context.config.endpoints:
            self._renew()

    def link_bound(self, link: Link) -> None:
        """Another coordinator came: tell it what there is."""
        if link.role is Role.COORDINATOR:
            self._tell(link.id)

    def link_down(self, link: LinkId) -> None:
        """Nobody is there any more."""
        self._told.pop(link, None)

    def heartbeat(self, link: LinkId) -> None:
        """A member is being answered: tell it what it was not told yet."""
        if self._told.get(link, 0) != self._version:
            self._tell(link)

    def heard(self, link: Link, message: PeerExchange) -> None:
        """Another coordinator says where it is. What it says of others is for this node alone, and no news to pass
        on."""
        for row in message.coordinators:
            if link.role is not Role.COORDINATOR or row.coordinator != link.peer:
                continue
            if row.coordinator not in self._book.rows and self._is_full():
                self._context.drop("whereabouts", Reason.OVERFLOW)
            elif self._book.learn(row):
                self._changed()

    def _is_full(self) -> bool:
        """Whether there is no room for one more, what has expired aside."""
        if len(self._book.rows) >= EXCHANGE_ROWS_MAX - 1:
            self._book.forget_old()
        return len(self._book.rows) >= EXCHANGE_ROWS_MAX - 1

    def endpoint_of(self, coordinator: NodeId) -> str:
        """The best address that a coordinator tells of itself; empty where it has told none."""
        row = self._book.rows.get(coordinator)
        return row.endpoints[0] if row is not None and row.endpoints else ""

    @property
    def rows(self) -> dict[NodeId, Whereabouts]:
        """What is told, but for this node's own row."""
        return self._book.rows

    def renew(self) -> None:
        """The epoch has grown, and what was said stands under another."""
        if self._own is not None:
            self._renew()

    def _renew(self) -> None:
        context = self._context
        self._count += 1
        self._own = own(context, context.config.endpoints, (context.epoch << COUNTER_BITS) + self._count)
        context.timers.set(_RENEW, context.in_ms(context.config.whereabouts_ms // 2), self._renew)
        self._changed()

    def _changed(self) -> None:
        self._version += 1
        if self._context.timers.is_idle(_TELL):
            self._context.timers.set(_TELL, self._context.in_ms(TELL_MS), self._tell_coordinators)

    def _tell_coordinators(self) -> None:
        for link in list(self._gate.links.values()):
            if link.role is Role.COORDINATOR:
                self._tell(link.id)

    def _tell(self, link: LinkId) -> None:
        """Everything, if there is something."""
        self._book.forget_old()
        rows = (*(() if self._own is None else (self._own,)), *self._book.rows.values())
        self._told[link] = self._version
        if rows:
            self._context.send(link, PeerExchange(coordinators=rows), TTL_MS)
