"""The links to the coordinators of a node: it dials them, and dials again when a link is gone.

They are those of its configuration, and as spares some that these have named (`spares`). Of one that has several
addresses they are dialled one after the other (`addresses`); one that has none is listened for on this machine's
networks. Who it is shows the handshake, wherever its address came from.

A wait doubles with each dial that brought no link, and with each link that did not last; it is drawn from half of it to
one and a half, so that the nodes of a coordinator that restarts do not all come back at once. Who was refused for what
he is, or let go since another machine has his key, waits longest at once. There is no last try. Which of the links is
home, is the heartbeat's to decide.

Two coordinators that know of each other may dial at the same time. Of their two links the one stays that the node with
the smaller id has dialled.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from edgecoder.config import is_endpoint
from edgecoder.core.context import MILLI, Context
from edgecoder.core.effects import Browse, DialCoordinator, Disconnect, UplinkRow
from edgecoder.core.events import Connected, ConnectFailed, CoordinatorSeen
from edgecoder.core.ids import LinkId, Micros, NodeId, Role
from edgecoder.core.labels import Label
from edgecoder.errors import Reason
from edgecoder.mesh.addresses import Addresses
from edgecoder.mesh.gate import Link
from edgecoder.protocol import ENDPOINTS_MAX
from edgecoder.trace import IdentityShared, UplinkChanged
from edgecoder.wire.messages import Cloned

_TIMER = "uplink"
TURN_MS = 1_000
"""Each coordinator of the list is dialled for the first time so long after the one before it, so that the first is
there first."""
DOUBLINGS_MAX = 20
HOPELESS = frozenset(
    (Reason.UNKNOWN_SENDER, Reason.BAD_SIGNATURE, Reason.WRONG_NETWORK, Reason.VERSION_MISMATCH, Reason.INVALID)
)
"""Why another try will most likely end as the last."""
SETTLED_MS = 10_000
"""A coordinator that does not want a node, because another machine has its key, says so within this."""
SPARE_MS = 5_000
"""A spare that was named is dialled so long after those of the list: one of them is to be home."""
SPARE_REFUSED_MS = 600_000
"""A spare that does not know this node is asked again after this: nobody has said that it should."""


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
    """A coordinator, and the link to it."""

    node: NodeId
    addresses: Addresses
    endpoint: str = ""
    """Where it was dialled last, or will be first."""
    is_told: bool = False
    """Whether it is no one of the configuration."""
    is_dropped: bool = False
    """Whether it is no spare any more, and is forgotten when its link is gone."""
    state: UplinkState = UplinkState.WAITING
    tries: int = 0
    """Dials that brought no link that lasted, in a row."""
    link: LinkId | None = None
    is_own: bool = False
    """Whether this node dialled the link."""
    up_at: Micros = 0
    is_let_go: bool = False
    """Whether the coordinator has said over it that another machine has this node's key, and that this one goes."""
    reason: Reason | None = None
    """Why the last dial failed, until one does not; or that another machine has this node's key."""


class Uplinks:
    """The coordinators of the configuration, in its order, and the spares that they have named."""

    def __init__(self, context: Context, links: Mapping[LinkId, Link], *, is_mutual: bool = False) -> None:
        """`links` are those that are up, kept by the gate. `is_mutual`: the others may dial this node too."""
        self._context = context
        self._links = links
        self._is_mutual = is_mutual
        self._stream = context.stream("uplinks")
        self._is_started = False
        self.rows: dict[NodeId, Uplink] = {}
        for address in context.config.coordinators:
            name, _, endpoint = address.partition("@")
            node = bytes.fromhex(name)
            if node != context.node_id:
                row = self.rows.setdefault(node, Uplink(node, Addresses(), endpoint))
                if endpoint:
                    row.addresses.configure(endpoint)
        self.configured = tuple(self.rows)
        self._browsed: tuple[NodeId, ...] = ()
        self._is_browsing = context.config.discover or not all(row.addresses for row in self.rows.values())

    def start(self) -> None:
        """The node may send: begin to dial."""
        self._is_started = True
        for number, row in enumerate(self.rows.values()):
            after_ms = number * TURN_MS + (SPARE_MS if row.is_told else 0)
            self._dial_in(row, after_ms * MILLI + self._spread())
        self._browse()

    def seen(self, event: CoordinatorSeen) -> None:
        """Somebody on this machine's network says where a coordinator is. One that has no link is tried there soon."""
        row = self.rows.get(event.coordinator)
        if row is None:
            self._context.drop("coordinator", Reason.UNKNOWN_SENDER)
            return
        for endpoint in event.endpoints[:ENDPOINTS_MAX]:
            if is_endpoint(endpoint) and row.addresses.see(endpoint):
                self._hasten(row)

    def told(self, node: NodeId, endpoints: tuple[str, ...]) -> None:
        """A coordinator has said itself where it is reached."""
        row = self.rows.get(node)
        if row is not None and row.addresses.tell(endpoints):
            self._hasten(row)

    def set_spares(self, spares: Mapping[NodeId, tuple[str, ...]]) -> None:
        """Link to these too, and no longer to those that were named before."""
        for node, endpoints in spares.items():
            if node not in self.rows:
                row = self.rows[node] = Uplink(node, Addresses(), is_told=True)
                row.addresses.tell(endpoints)
                if self._is_started:
                    self._dial_in(row, SPARE_MS * MILLI + self._spread())
            self.rows[node].is_dropped = False
            self.told(node, endpoints)
        for row in list(self.rows.values()):
            if row.is_told and row.node not in spares:
                row.is_dropped = True
                self._forget_dropped(row)
        if self._is_started:
            self._browse()

    def cloned(self, link: Link, message: Cloned) -> None:
        """A coordinator says that another machine has come with this node's key."""
        if link.role is not Role.COORDINATOR or link.peer is None:
            self._context.drop("cloned", Reason.UNKNOWN_SENDER)
            return
        row = self.rows.get(link.peer)
        if row is None or row.reason is not Reason.CLONED or message.stays:
            self._context.trace(IdentityShared(link.peer, message.where, message.stays))
        if row is not None and row.link == link.id and not message.stays:
            row.reason, row.is_let_go = Reason.CLONED, True

    def link_bound(self, link: Link) -> None:
        """A coordinator identified itself at the other end of a link."""
        row = self.rows.get(link.peer or b"")
        if row is None or row.link == link.id:
            return
        if row.link is None:
            self._linked(row, link.id, is_own=False)
        elif self._is_mutual and row.is_own and row.node < self._context.node_id:
            self._context.out.append(Disconnect(row.link))
            self._use(row, link.id, is_own=False)

    def link_down(self, link: LinkId) -> None:
        """A link is gone. It is dialled anew, unless there is another."""
        row = next((row for row in self.rows.values() if row.link == link), None)
        if row is None:
            return
        row.link = None
        has_lasted = self._context.now - row.up_at >= self._context.config.dial_retry_max_ms * MILLI
        if has_lasted:
            row.tries = 0
        other = self._other_link(row, link)
        if other is not None:
            self._use(row, other, is_own=False)
            return
        if self._is_settled(row):
            row.reason = None
        if not has_lasted and not row.is_let_go:
            row.tries += 1
        self._step(row, UplinkStep.LOST)
        if not self._forget_dropped(row):
            self._dial_in(row, self._wait(row, DOUBLINGS_MAX if row.reason is Reason.CLONED else row.tries))

    def shown(self, home: LinkId | None) -> tuple[UplinkRow, ...]:
        """How each of them is; `home` is the link over which the node reports."""
        return tuple(
            UplinkRow(
                row.node,
                row.endpoint,
                row.state.value,
                row.link is not None and row.link == home,
                None if self._is_settled(row) else row.reason,
                row.is_told,
            )
            for row in self.rows.values()
        )

    def _dial(self, row: Uplink) -> None:
        if row.state is not UplinkState.WAITING:
            return
        other = self._other_link(row, None)
        if other is not None:
            self._linked(row, other, is_own=False)
            return
        row.endpoint = row.addresses.following
        if not row.endpoint:  # it is dialled when somebody says where it is
            row.reason = Reason.NO_ADDRESS
            return
        row.reason = None if row.reason is Reason.NO_ADDRESS else row.reason
        self._step(row, UplinkStep.DIALLED)

        def dialled(completion: Connected | ConnectFailed) -> None:
            if isinstance(completion, Connected):
                self._connected(row, completion.link)
            elif row.state is UplinkState.DIALLING:
                self._failed(row, completion.reason)

        self._context.out.append(DialCoordinator(self._context.ops.begin(dialled), row.node, row.endpoint))

    def _connected(self, row: Uplink, link: LinkId) -> None:
        """The dial brought a link, which may be gone again, or one too many."""
        row.addresses.worked(row.endpoint)
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
            self._use(row, link, is_own=True)

    def _linked(self, row: Uplink, link: LinkId, *, is_own: bool) -> None:
        self._use(row, link, is_own=is_own)
        row.reason = row.reason if row.reason is Reason.CLONED else None  # it may be so still
        self._context.timers.cancel((_TIMER, row.node))
        self._step(row, UplinkStep.LINKED)

    def _use(self, row: Uplink, link: LinkId, *, is_own: bool) -> None:
        """This is the link from now on; how long another one was up says nothing of it."""
        row.link, row.is_own, row.up_at, row.is_let_go = link, is_own, self._context.now, False

    def _failed(self, row: Uplink, reason: Reason) -> None:
        row.reason = reason
        self._step(row, UplinkStep.FAILED)
        if self._forget_dropped(row):
            return
        if not row.addresses.tried(row.endpoint):  # there is another one
            self._dial_in(row, self._wait(row, 0))
            return
        row.tries += 1
        self._dial_in(row, self._wait(row, DOUBLINGS_MAX if reason in HOPELESS else row.tries - 1))

    def _other_link(self, row: Uplink, lost: LinkId | None) -> LinkId | None:
        return next((link.id for link in self._links.values() if link.node == row.node and link.id != lost), None)

    def _is_settled(self, row: Uplink) -> bool:
        """Whether the link has been up for long enough that its coordinator wants it."""
        is_long = self._context.now - row.up_at >= SETTLED_MS * MILLI
        return row.state is UplinkState.UP and is_long and not row.is_let_go

    def _hasten(self, row: Uplink) -> None:
        """There is a new address: dial soon, if there is no link."""
        if self._is_started and row.state is UplinkState.WAITING:
            self._dial_in(row, self._spread())

    def _forget_dropped(self, row: Uplink) -> bool:
        """Forget a spare that is none any more, once nothing is under way."""
        if not row.is_dropped or row.state is not UplinkState.WAITING:
            return False
        self._context.timers.cancel((_TIMER, row.node))
        del self.rows[row.node]
        return True

    def _browse(self) -> None:
        wanted = tuple(self.rows)
        if self._is_browsing and wanted != self._browsed:
            self._browsed = wanted
            self._context.out.append(Browse(wanted))

    def _wait(self, row: Uplink, doublings: int) -> Micros:
        config = self._context.config
        longest_ms = config.dial_retry_max_ms
        if row.is_told and row.reason in HOPELESS:
            longest_ms = max(longest_ms, SPARE_REFUSED_MS)
        wait_us = min(config.dial_retry_ms << min(doublings, DOUBLINGS_MAX), longest_ms) * MILLI
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
