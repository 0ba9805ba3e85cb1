"""The neighbours: devices that the radio hears, whom of them to dial, and when to let a link go.

A device is dialled to read who it is and what it offers, once for each generation that its advertisement tells of, and
when a task wants it. A link that no task uses is closed soon, so that a few slots serve a crowd. What is read stands in
the peer table (`peers`); how a dial is done is the host's.

One device is dialled at a time, as controllers do (Bluetooth Core, Vol 4 Part E, 7.8.12: a second LE Create Connection
is disallowed while one is pending).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from types import MappingProxyType

import msgspec

from edgecoder.core.context import MILLI, Context
from edgecoder.core.effects import CancelOp, Connect, Disconnect, Scan, ScanMode
from edgecoder.core.events import Connected, ConnectFailed, Heard, LinkUp, PeersHeard, PeersSilent
from edgecoder.core.ids import Address, LinkId, Medium, Micros, NodeId, OpId
from edgecoder.errors import Reason
from edgecoder.mesh.gate import Gate, Link
from edgecoder.mesh.peers import Peers
from edgecoder.wire.advertisement import TAG_WINDOW_MS, Bits, is_later, tag

_TURN = ("radio.turn", 0)
_TIMEOUT = ("radio.timeout", 0)
OnLink = Callable[[LinkId | None], None]
"""Takes the link to a peer that was asked for, None where there is none."""


class DialState(Enum):
    """Where a device that is heard stands."""

    HEARD = "heard"
    DIALLING = "dialling"
    LINKED = "linked"
    LEFT_ALONE = "leftAlone"


class DialStep(Enum):
    """What can happen to it."""

    DIALLED = "dialled"
    LINK_UP = "linkUp"
    FAILED = "failed"
    FAILED_TOO_OFTEN = "failedTooOften"
    CANCELLED = "cancelled"
    LINKS_DOWN = "linksDown"
    NEWS = "news"


DIAL_TABLE: Mapping[tuple[DialState, DialStep], DialState] = MappingProxyType(
    {
        (DialState.HEARD, DialStep.DIALLED): DialState.DIALLING,
        (DialState.HEARD, DialStep.LINK_UP): DialState.LINKED,
        (DialState.HEARD, DialStep.FAILED_TOO_OFTEN): DialState.LEFT_ALONE,
        (DialState.DIALLING, DialStep.LINK_UP): DialState.LINKED,
        (DialState.DIALLING, DialStep.FAILED): DialState.HEARD,
        (DialState.DIALLING, DialStep.FAILED_TOO_OFTEN): DialState.LEFT_ALONE,
        (DialState.DIALLING, DialStep.CANCELLED): DialState.HEARD,
        (DialState.LINKED, DialStep.LINKS_DOWN): DialState.HEARD,
        (DialState.LEFT_ALONE, DialStep.DIALLED): DialState.DIALLING,
        (DialState.LEFT_ALONE, DialStep.LINK_UP): DialState.LINKED,
        (DialState.LEFT_ALONE, DialStep.NEWS): DialState.HEARD,
    }
)


class HeardPeer(msgspec.Struct):
    """One device that is heard, or linked."""

    address: Address
    rssi_dbm: int
    bits: Bits | None
    is_heard: bool
    state: DialState = DialState.HEARD
    node: NodeId | None = None
    """Who it is, once that was read."""
    read_at: Micros = 0
    tries: int = 0
    """Dials in a row that brought nothing."""
    not_before: Micros = 0
    """When it may be dialled to read."""
    links: list[LinkId] = msgspec.field(default_factory=list)


class _Call(msgspec.Struct):
    """A link over BLE."""

    row: HeardPeer | None
    is_dialled: bool = False
    was_used: bool = False


class Neighbours:
    """Neighbours by address, in the order in which they were heard."""

    def __init__(self, context: Context, gate: Gate, peers: Peers, uses: Callable[[LinkId], bool]) -> None:
        """`uses` tells whether a task needs a link."""
        self._context = context
        self._gate = gate
        self._peers = peers
        self._uses = uses
        self._stream = context.stream("radio")
        self.rows: dict[Address, HeardPeer] = {}
        self._of_node: dict[NodeId, HeardPeer] = {}
        self._calls: dict[LinkId, _Call] = {}
        self._unread: dict[Address, None] = {}
        """Whom to dial to read, in this order."""
        self._asked: dict[Address, list[OnLink]] = {}
        """Whom a task waits for."""
        self._dialling: tuple[OpId, HeardPeer] | None = None
        self._is_preempted = False

    def start(self) -> None:
        """Begin to listen; until a coordinator answers, as much as the radio can."""
        self.online_changed(False)

    def online_changed(self, is_online: bool) -> None:
        """A node that is offline has only its neighbours, and listens for them more."""
        config = self._context.config
        if config.has_radio:
            mode = ScanMode.LOW_POWER if is_online else ScanMode.LOW_LATENCY
            self._context.out.append(Scan(mode, config.radio_links_max, config.peer_expiry_ms))

    # -- what is heard -------------------------------------------------------------------------------------------------

    def heard(self, event: PeersHeard) -> None:
        """Devices came, or say something new."""
        for heard in event.peers:
            row = self.rows.get(heard.address)
            if row is None:
                row = self._meet(heard)
                if row is None:
                    continue
            row.is_heard, row.rssi_dbm, row.bits = True, heard.rssi_dbm, heard.bits
            row.tries = 0
            self._step(row, DialStep.NEWS)
            self._judge(row, self._first_wait(row))
        self._dial_next()

    def silent(self, event: PeersSilent) -> None:
        """Devices were not heard for long: they are forgotten, unless there is a link to them still."""
        for address in event.addresses:
            row = self.rows.get(address)
            if row is not None:
                row.is_heard = False
                self._forget_if_gone(row)

    def _meet(self, heard: Heard) -> HeardPeer | None:
        """A row for a device that was not known; None where there are too many that are nearer."""
        if len(self.rows) >= self._context.config.peers_max:
            free = (row for row in self.rows.values() if row.state in (DialState.HEARD, DialState.LEFT_ALONE))
            weakest = min(free, key=lambda row: row.rssi_dbm, default=None)
            if weakest is None or weakest.rssi_dbm >= heard.rssi_dbm:
                return None
            weakest.is_heard = False
            self._forget_if_gone(weakest)
        row = self.rows[heard.address] = HeardPeer(heard.address, heard.rssi_dbm, heard.bits, True)
        if heard.bits is not None and (node := self._recognise(heard.bits.tag)) is not None:
            self._name(row, node)
        return row

    def _recognise(self, heard: bytes) -> NodeId | None:
        """Which of the known peers has this tag; clocks may differ by a window."""
        now = self._window
        for node in self._peers.rows:
            if heard in (tag(node, now), tag(node, now - 1), tag(node, now + 1)):
                return node
        return None

    @property
    def _window(self) -> int:
        return max(1, self._context.wall_ms // TAG_WINDOW_MS)

    def _first_wait(self, row: HeardPeer) -> Micros:
        """How long a dial to read waits: a little, and for a stranger who is to call first, longer."""
        config = self._context.config
        wait = self._stream.below(config.dial_spread_ms * MILLI)
        if row.node is None:
            me = tag(self._context.node_id, self._window)
            if row.bits is None or row.bits.tag < me:
                wait += config.dial_courtesy_ms * MILLI
        return wait

    def _judge(self, row: HeardPeer, wait: Micros) -> None:
        """Tell the peer table what is heard of a peer, and queue it to be read if there is something to read."""
        if row.node is not None:
            self._peers.heard(row.node, row.rssi_dbm, row.bits)
        if self._needs_reading(row):
            row.not_before = self._context.now + wait
            self._unread[row.address] = None
        else:
            self._unread.pop(row.address, None)

    def _needs_reading(self, row: HeardPeer) -> bool:
        if not row.is_heard or row.links:
            return False
        known = None if row.node is None else self._peers.capabilities_of(row.node)
        if known is None:
            return True
        if row.bits is None:
            return row.read_at + self._context.config.reread_ms * MILLI <= self._context.now
        return not row.bits.loading and is_later(row.bits.generation, known.generation)

    def _forget_if_gone(self, row: HeardPeer) -> None:
        if row.is_heard or row.links or row.state is DialState.DIALLING:
            return
        del self.rows[row.address]
        self._unread.pop(row.address, None)
        if row.node is not None and self._of_node.get(row.node) is row:
            del self._of_node[row.node]
            self._peers.silent(row.node)
        self._answer(row, None)

    def _name(self, row: HeardPeer, node: NodeId) -> None:
        """Note who it is. A row of the same node with another address is of the past."""
        before = self._of_node.get(node)
        row.node = node
        self._of_node[node] = row
        if before is not None and before is not row:
            before.is_heard = False
            self._forget_if_gone(before)

    # -- dialling ------------------------------------------------------------------------------------------------------

    def can_dial(self, node: NodeId) -> bool:
        """Whether a peer without a link is heard."""
        row = self._of_node.get(node)
        return row is not None and row.is_heard

    def dial(self, node: NodeId, on_link: OnLink) -> None:
        """Get a link to a peer for a task: the one there is, or a new one."""
        link = self._peers.link_to(node)
        row = self._of_node.get(node)
        if link is not None or row is None or not self._has_room_for(row):
            on_link(link)
            return
        self._asked.setdefault(row.address, []).append(on_link)
        if self._dialling is not None and self._dialling[1].address not in self._asked:
            self._is_preempted = True  # a task goes before reading
            self._context.out.append(CancelOp(self._dialling[0]))
        self._dial_next()

    def _has_room_for(self, row: HeardPeer) -> bool:
        """Whether there is a free slot, one on its way, or one that an idle link can give up."""
        if row.links or row.state is DialState.DIALLING or len(self._calls) < self._slots:
            return True
        idle = next((link for link in self._calls if not self._uses(link)), None)
        if idle is not None:
            self._context.out.append(Disconnect(idle))
        return idle is not None

    @property
    def _slots(self) -> int:
        return self._context.config.radio_links_max

    def _dial_next(self) -> None:
        if self._dialling is not None or len(self._calls) >= self._slots:
            return
        row = self._next()
        if row is None:
            return
        self._unread.pop(row.address, None)
        self._step(row, DialStep.DIALLED)
        op = self._context.ops.begin(self._dialled)
        self._dialling, self._is_preempted = (op, row), False
        self._context.out.append(Connect(op, row.address))
        deadline = self._context.in_ms(self._context.config.dial_timeout_ms)
        self._context.timers.set(_TIMEOUT, deadline, lambda: self._context.out.append(CancelOp(op)))

    def _next(self) -> HeardPeer | None:
        """Whom to dial now: for a task, else to read; a timer is set for the first whose time has not come."""
        for address in self._asked:
            row = self.rows[address]
            if not row.links:
                return row
        soonest: Micros | None = None
        for address in list(self._unread):
            row = self.rows[address]
            if not self._needs_reading(row):
                del self._unread[address]
            elif row.not_before <= self._context.now:
                return row
            elif soonest is None or row.not_before < soonest:
                soonest = row.not_before
        if soonest is not None:
            self._context.timers.set(_TURN, soonest, self._dial_next)
        return None

    def _dialled(self, completion: Connected | ConnectFailed) -> None:
        assert self._dialling is not None
        row, self._dialling = self._dialling[1], None
        self._context.timers.cancel(_TIMEOUT)
        if isinstance(completion, Connected):
            call = self._calls.get(completion.link)
            if call is not None:
                call.is_dialled = True
                self._watch_idle(completion.link)
        elif self._is_preempted and completion.reason is Reason.CANCELLED and row.address not in self._asked:
            self._step(row, DialStep.CANCELLED)
            self._judge(row, 0)
        else:
            self._failed(row)
        self._forget_if_gone(row)
        self._dial_next()

    def _failed(self, row: HeardPeer) -> None:
        """A dial brought nothing: again after a while, not for ever."""
        config = self._context.config
        row.tries += 1
        if row.tries >= config.dial_tries_max:
            self._step(row, DialStep.FAILED_TOO_OFTEN)
            self._unread.pop(row.address, None)
        else:
            self._step(row, DialStep.FAILED)
            wait_ms = min(config.dial_retry_ms << (row.tries - 1), config.dial_retry_max_ms)
            self._judge(row, wait_ms * (900 + self._stream.below(201)))  # ±10 %
        self._answer(row, None)

    def _answer(self, row: HeardPeer, link: LinkId | None) -> None:
        for on_link in self._asked.pop(row.address, ()):
            on_link(link)

    def _step(self, row: HeardPeer, step: DialStep) -> None:
        row.state = DIAL_TABLE.get((row.state, step), row.state)

    # -- links ---------------------------------------------------------------------------------------------------------

    def link_up(self, event: LinkUp) -> None:
        """A link opened. One too many is closed again."""
        if event.link not in self._gate.links:
            self._context.out.append(Disconnect(event.link))
        if event.medium is not Medium.BLE or event.link not in self._gate.links or event.address is None:
            return
        row = self.rows.get(event.address)
        if row is None:  # it called before it was heard
            row = HeardPeer(event.address, event.rssi_dbm or 0, None, False)
            self.rows[event.address] = row
        row.links.append(event.link)
        self._unread.pop(row.address, None)
        self._step(row, DialStep.LINK_UP)
        self._calls[event.link] = _Call(row)
        if len(self._calls) > self._slots:
            self._context.drop("link", Reason.OVERFLOW)
            self._context.out.append(Disconnect(event.link))
        else:
            self._watch_idle(event.link)

    def link_bound(self, link: Link) -> None:
        """A neighbour said who it is."""
        call = self._calls.get(link.id)
        if call is None or call.row is None or link.peer is None:
            return
        row = call.row
        self._name(row, link.peer)
        row.read_at = self._context.now
        if row.is_heard:
            self._peers.heard(link.peer, row.rssi_dbm, row.bits)
        self._close_double(link)
        self._answer(row, self._peers.link_to(link.peer))

    def _close_double(self, link: Link) -> None:
        """Of two links to one peer keep that which the node with the smaller id dialled; of one dialler, the newer."""
        for other in list(self._calls):
            held = self._gate.links.get(other)
            if other == link.id or held is None or held.peer != link.peer:
                continue
            is_mine_first = self._context.node_id < (link.peer or b"")
            new, old = self._calls[link.id], self._calls[other]
            goes = other if new.is_dialled == old.is_dialled or new.is_dialled is is_mine_first else link.id
            if not self._uses(goes):
                self._context.out.append(Disconnect(goes))

    def link_down(self, link: Link) -> None:
        """A link is gone. One that was dialled and brought nothing counts as a failed dial."""
        call = self._calls.pop(link.id, None)
        if call is None:
            return
        self._context.timers.cancel(("radio.idle", link.id))
        row = call.row
        if row is not None:
            row.links.remove(link.id)
            if not row.links:
                self._step(row, DialStep.LINKS_DOWN)
                if call.is_dialled and self._needs_reading(row):
                    self._failed(row)
                else:
                    row.tries = 0
                    self._judge(row, self._stream.below(self._context.config.dial_spread_ms * MILLI))
                    self._answer(row, None)
                self._forget_if_gone(row)
        self._dial_next()

    def _watch_idle(self, link: LinkId) -> None:
        config = self._context.config
        patience_ms = config.link_idle_ms if self._calls[link].is_dialled else config.link_idle_max_ms
        self._context.timers.set(("radio.idle", link), self._context.in_ms(patience_ms), lambda: self._idle(link))

    def _idle(self, link: LinkId) -> None:
        """Close a link that no task uses and none has used since it was last looked at."""
        call = self._calls[link]
        is_used = self._uses(link)
        if is_used or call.was_used:
            call.was_used = is_used
            self._watch_idle(link)
        else:
            self._context.out.append(Disconnect(link))
            self._watch_idle(link)
