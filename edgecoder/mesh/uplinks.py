"""The links to the coordinators that a node was told of: it dials them, and dials again when a link is gone.

A wait doubles with each dial that brought no link, and with each link that did not last; it is drawn from half of it to
one and a half, so that the nodes of a coordinator that restarts do not all come back at once. Who was refused for what
he is waits longest at once. There is no last try. Which of the links is home, is the heartbeat's to decide.

Two coordinators that know of each other may dial at the same time. Of their two links the one stays that the node with
the smaller id has dialled.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from edgecoder.core.context import MILLI, Context
from edgecoder.core.effects import DialCoordinator, Disconnect, UplinkRow
from edgecoder.core.events import Connected, ConnectFailed
from edgecoder.core.ids import LinkId, Micros, NodeId
from edgecoder.core.labels import Label
from edgecoder.errors import Reason
from edgecoder.mesh.gate import Link
from edgecoder.trace import UplinkChanged

_TIMER = "uplink"
TURN_MS = 1_000
"""Each coordinator of the list is dialled for the first time so long after the one before it, so that the first is
there first."""
DOUBLINGS_MAX = 20
HOPELESS = frozenset(
    (Reason.UNKNOWN_SENDER, Reason.BAD_SIGNATURE, Reason.WRONG_NETWORK, Reason.VERSION_MISMATCH, Reason.INVALID)
)
"""Why another try will most likely end as the last."""


class UplinkState(Label):
    """Where the link to a coordinator stands."""

    WAITING = "waiting"
    DIALLING = "dialling"
    UP = "up"


class UplinkStep(Label):
    """What can happen to it."""

    DIALLED = "dialled"
    FAILED = "failed"
    LINKED = "linked"
    LOST = "lost"


UPLINK_TABLE: Mapping[tuple[UplinkState, UplinkStep], UplinkState] = MappingProxyType(
    {
        (UplinkState.WAITING, UplinkStep.DIALLED): UplinkState.DIALLING,
        (UplinkState.WAITING, UplinkStep.LINKED): UplinkState.UP,
        (UplinkState.DIALLING, UplinkStep.LINKED): UplinkState.UP,
        (UplinkState.DIALLING, UplinkStep.FAILED): UplinkState.WAITING,
        (UplinkState.UP, UplinkStep.LOST): UplinkState.WAITING,
    }
)


class Uplink(msgspec.Struct):
    """A coordinator of the configuration, and the link to it."""

    node: NodeId
    endpoint: str
    state: UplinkState = UplinkState.WAITING
    tries: int = 0
    """Dials that brought no link that lasted, in a row."""
    link: LinkId | None = None
    is_own: bool = False
    """Whether this node dialled the link."""
    up_at: Micros = 0
    reason: Reason | None = None
    """Why the last dial failed, until one does not."""


class Uplinks:
    """The coordinators of the configuration, in its order."""

    def __init__(self, context: Context, links: Mapping[LinkId, Link], *, is_mutual: bool = False) -> None:
        """`links` are those that are up, kept by the gate. `is_mutual`: the others may dial this node too."""
        self._context = context
        self._links = links
        self._is_mutual = is_mutual
        self._stream = context.stream("uplinks")
        self.rows: dict[NodeId, Uplink] = {}
        for address in context.config.coordinators:
            node, _, endpoint = address.partition("@")
            if bytes.fromhex(node) != context.node_id:
                self.rows.setdefault(bytes.fromhex(node), Uplink(bytes.fromhex(node), endpoint))

    def start(self) -> None:
        """The node may send: begin to dial."""
        for number, row in enumerate(self.rows.values()):
            self._dial_in(row, number * TURN_MS * MILLI + self._spread())

    def link_bound(self, link: Link) -> None:
        """A coordinator identified itself at the other end of a link."""
        row = self.rows.get(link.peer or b"")
        if row is None or row.link == link.id:
            return
        if row.link is None:
            self._linked(row, link.id, is_own=False)
        elif self._is_mutual and row.is_own and row.node < self._context.node_id:
            self._context.out.append(Disconnect(row.link))
            row.link, row.is_own = link.id, False

    def link_down(self, link: LinkId) -> None:
        """A link is gone. It is dialled anew, unless there is another."""
        row = next((row for row in self.rows.values() if row.link == link), None)
        if row is None:
            return
        row.link = None
        other = self._other_link(row, link)
        if other is not None:
            row.link, row.is_own = other, False
            return
        lasted = self._context.now - row.up_at >= self._context.config.dial_retry_max_ms * MILLI
        row.tries = 0 if lasted else row.tries + 1
        self._step(row, UplinkStep.LOST)
        self._dial_in(row, self._wait(row.tries))

    def shown(self, home: LinkId | None) -> tuple[UplinkRow, ...]:
        """How each of them is; `home` is the link over which the node reports."""
        return tuple(
            UplinkRow(row.node, row.endpoint, row.state.value, row.link is not None and row.link == home, row.reason)
            for row in self.rows.values()
        )

    def _dial(self, row: Uplink) -> None:
        if row.state is not UplinkState.WAITING:
            return
        other = self._other_link(row, None)
        if other is not None:
            self._linked(row, other, is_own=False)
            return
        self._step(row, UplinkStep.DIALLED)

        def dialled(completion: Connected | ConnectFailed) -> None:
            if isinstance(completion, Connected):
                self._connected(row, completion.link)
            elif row.state is UplinkState.DIALLING:
                self._failed(row, completion.reason)

        self._context.out.append(DialCoordinator(self._context.ops.begin(dialled), row.node, row.endpoint))

    def _connected(self, row: Uplink, link: LinkId) -> None:
        """The dial brought a link, which may be gone again, or one too many."""
        if link not in self._links:
            if row.state is UplinkState.DIALLING:
                self._failed(row, Reason.PEER_LOST)
        elif row.link is None:
            self._linked(row, link, is_own=True)
        elif row.link == link:
            row.is_own = True
        elif self._is_mutual and row.node < self._context.node_id:
            self._context.out.append(Disconnect(link))
        else:
            row.link, row.is_own = link, True

    def _linked(self, row: Uplink, link: LinkId, *, is_own: bool) -> None:
        row.link, row.is_own, row.up_at, row.reason = link, is_own, self._context.now, None
        self._context.timers.cancel((_TIMER, row.node))
        self._step(row, UplinkStep.LINKED)

    def _failed(self, row: Uplink, reason: Reason) -> None:
        row.reason = reason
        row.tries += 1
        self._step(row, UplinkStep.FAILED)
        self._dial_in(row, self._wait(DOUBLINGS_MAX if reason in HOPELESS else row.tries - 1))

    def _other_link(self, row: Uplink, lost: LinkId | None) -> LinkId | None:
        return next((link.id for link in self._links.values() if link.node == row.node and link.id != lost), None)

    def _wait(self, doublings: int) -> Micros:
        config = self._context.config
        wait_us = min(config.dial_retry_ms << min(doublings, DOUBLINGS_MAX), config.dial_retry_max_ms) * MILLI
        return wait_us // 2 + self._stream.below(wait_us + 1)

    def _spread(self) -> Micros:
        return self._stream.below(self._context.config.dial_spread_ms * MILLI)

    def _dial_in(self, row: Uplink, wait: Micros) -> None:
        self._context.timers.set((_TIMER, row.node), self._context.now + wait, lambda: self._dial(row))

    def _step(self, row: Uplink, step: UplinkStep) -> None:
        following = UPLINK_TABLE.get((row.state, step), row.state)
        if following is not row.state:
            row.state = following
            self._context.trace(UplinkChanged(row.node, following.value, row.reason))
