"""The neighbours: devices that the radio hears, whom of them to dial, and when to let a link go.

A device is dialled to read who it is and what it offers, once for each generation that its advertisement tells of, and
when a task wants it. A link that no task uses is closed soon, so that a few slots serve a crowd. What is read stands in
the peer table (`peers`); how a dial is done is the host's.

One device is dialled at a time, as controllers do (Bluetooth Core, Vol 4 Part E, 7.8.12: a second LE Create Connection
is disallowed while one is pending).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from edgecoder.core.context import MILLI, Context
from edgecoder.core.effects import CancelOp, Connect, Disconnect, Scan, ScanMode
from edgecoder.core.events import Connected, ConnectFailed, Heard, LinkUp, PeersHeard, PeersSilent
from edgecoder.core.ids import Address, LinkId, Medium, Micros, NodeId, OpId
from edgecoder.errors import Reason
from edgecoder.mesh.dial_table import DIAL_TABLE, DialState, DialStep
from edgecoder.mesh.gate import Gate, Link
from edgecoder.mesh.peers import Peers
from edgecoder.wire.advertisement import TAG_WINDOW_MS, Bits, is_later, tag

_TURN = ("radio.turn", 0)
_TIMEOUT = ("radio.timeout", 0)
_RADIOS = (Medium.BLE, Medium.WIFI_DIRECT)
OnLink = Callable[[LinkId | None], None]
"""Takes the link to a peer that was asked for, None where there is none."""
Uses = Callable[[LinkId], bool]
"""Whether a task or a transfer needs a link."""
Seeks = Callable[[NodeId], Micros | None]
"""From when on a peer is worth a call for its files; None: it is not."""


class HeardPeer(msgspec.Struct):
    """One device that is heard, or linked."""

    address: Address
    rssi_dbm: int
    bits: Bits | None
    is_heard: bool
    state: DialState = DialState.HEARD
    node: NodeId | None = None
    """Who it is, once that was read."""
    heard_at: Micros = 0
    """When it said what it says,"""
    read_at: Micros = 0
    """and when it told over a link what it offers."""
    tries: int = 0
    """Dials in a row that brought nothing."""
    not_before: Micros = 0
    """When it may be dialled to read."""
    links: list[LinkId] = msgspec.field(default_factory=list)


class _Call(msgspec.Struct):
    """A link from device to device."""

    row: HeardPeer
    medium: Medium
    is_dialled: bool = False
    was_used: bool = False
    is_read: bool = False
    """Whether the peer has told what it offers."""
    is_let_go: bool = False
    """Whether it is being closed."""


class Neighbours:
    """Neighbours by address, in the order in which they were heard."""

    def __init__(self, context: Context, gate: Gate, peers: Peers, uses: Uses, seeks: Seeks) -> None:
        self._context = context
        self._gate = gate
        self._peers = peers
        self._uses = uses
        self._seeks = seeks
        self._stream = context.stream("radio")
        self.rows: dict[Address, HeardPeer] = {}
        self._of_node: dict[NodeId, HeardPeer] = {}
        self._calls: dict[LinkId, _Call] = {}
        self._unread: dict[Address, None] = {}
        """Whom to dial to read, in this order."""
        self._asked: dict[Address, list[OnLink]] = {}
        """Whom a task waits for."""
        self._passed: dict[Address, Heard] = {}
        """Devices that are heard and for which there was no room, at most as many as there are rows."""
        self._wide: dict[Address, None] = {}
        """Whom it wants over Wi-Fi Direct."""
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
            self._take(row, heard)
        self._dial_next()

    def _take(self, row: HeardPeer, heard: Heard) -> None:
        self._passed.pop(row.address, None)
        row.is_heard, row.rssi_dbm, row.bits = True, heard.rssi_dbm, heard.bits
        row.heard_at = self._context.now
        row.tries = 0
        self._step(row, DialStep.NEWS)
        self._peers.signal_measured(row.node, heard.rssi_dbm)
        self._judge(row, self._first_wait(row))

    def silent(self, event: PeersSilent) -> None:
        """Devices were not heard for long: they are forgotten, unless there is a link to them still."""
        for address in event.addresses:
            self._passed.pop(address, None)
            row = self.rows.get(address)
            if row is not None:
                row.is_heard = False
                self._forget_if_gone(row)
        self._dial_next()

    def _meet_passed(self) -> None:
        """There may be room again: the host tells of a device once."""
        while self._passed and len(self.rows) < self._context.config.peers_max:
            nearest = max(self._passed.values(), key=lambda heard: heard.rssi_dbm)
            row = self._meet(nearest)
            assert row is not None, "there is room"
            self._take(row, nearest)

    def _pass_over(self, heard: Heard) -> None:
        if heard.address in self._passed or len(self._passed) < self._context.config.peers_max:
            self._passed[heard.address] = heard

    def _meet(self, heard: Heard) -> HeardPeer | None:
        """A row for a device that was not known; None where there are too many that are nearer."""
        if len(self.rows) >= self._context.config.peers_max:
            weakest = min(filter(self._is_free, self.rows.values()), key=lambda row: row.rssi_dbm, default=None)
            if weakest is None or weakest.rssi_dbm >= heard.rssi_dbm:
                self._pass_over(heard)
                return None
            weakest.is_heard = False
            self._forget_if_gone(weakest)
            self._pass_over(Heard(weakest.address, weakest.rssi_dbm, weakest.bits))
        self._passed.pop(heard.address, None)
        row = self.rows[heard.address] = HeardPeer(heard.address, heard.rssi_dbm, heard.bits, True)
        if heard.bits is not None and (node := self._recognise(heard.bits.tag)) is not None:
            self._name(row, node)
        return row

    def _is_free(self, row: HeardPeer) -> bool:
        """Whether nothing would be lost with a row but what was heard."""
        is_idle = row.state in (DialState.HEARD, DialState.LEFT_ALONE) and not self._is_dialled(row)
        return is_idle and row.address not in self._asked

    def _is_dialled(self, row: HeardPeer) -> bool:
        """Whether a dial is under way, perhaps over another radio than the one that it is linked by."""
        return self._dialling is not None and self._dialling[1] is row

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
            self._peers.heard(row.node, self._said(row))
        due = self._read_due(row)
        if due is None:
            self._unread.pop(row.address, None)
        else:
            row.not_before = max(self._context.now + wait, due)
            self._unread[row.address] = None

    def _needs_reading(self, row: HeardPeer) -> bool:
        due = self._read_due(row)
        return due is not None and due <= self._context.now

    def _read_due(self, row: HeardPeer) -> Micros | None:
        """From when on there is something to read or to fetch; None: nothing is to be expected."""
        if not row.is_heard or row.links:
            return None
        due = self._news_due(row)
        sought = None if row.node is None else self._seeks(row.node)
        return due if sought is None else sought if due is None else min(due, sought)

    def _news_due(self, row: HeardPeer) -> Micros | None:
        known = None if row.node is None else self._peers.capabilities_of(row.node)
        if row.bits is not None and row.bits.loading:
            return None  # the bit says all there is to know
        if known is None or (row.node is not None and self._peers.is_outdated(row.node)):
            return 0
        bits = self._said(row)
        if bits is None:
            return row.read_at + self._context.config.reread_ms * MILLI
        return 0 if is_later(bits.generation, known.generation) else None

    def _said(self, row: HeardPeer) -> Bits | None:
        """What a device says, as far as it is to be believed: what looks newer than what was read after it is of a life
        that is over, since epochs are cut short."""
        known = None if row.node is None else self._peers.capabilities_of(row.node)
        if row.bits is None or known is None or row.heard_at >= row.read_at:
            return row.bits
        return None if is_later(row.bits.generation, known.generation) else row.bits

    def look_again(self) -> None:
        """Other peers than before may be worth a call."""
        for row in self.rows.values():
            self._judge(row, self._first_wait(row))
        self._dial_next()

    def _forget_if_gone(self, row: HeardPeer) -> None:
        if row.is_heard or row.links or self._is_dialled(row) or self.rows.get(row.address) is not row:
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
            if before.address in self._asked:
                self._asked.setdefault(row.address, []).extend(self._asked.pop(before.address))
            before.is_heard = False
            self._forget_if_gone(before)

    # -- dialling ------------------------------------------------------------------------------------------------------

    def goes_wide(self, node: NodeId, size_bytes: int) -> bool:
        """Whether so much to a peer is worth a link over Wi-Fi Direct, which it has not and could have."""
        config, row = self._context.config, self._of_node.get(node)
        if size_bytes < config.wifi_direct_bytes_min or row is None or row.bits is None:
            return False
        has_room = self._held(Medium.WIFI_DIRECT) < config.wifi_direct_links_max
        is_wide = any(self._calls[link].medium is Medium.WIFI_DIRECT for link in row.links)
        return has_room and row.is_heard and row.bits.wifi_direct and not is_wide

    def dial(self, node: NodeId, on_link: OnLink, size_bytes: int = 0) -> None:
        """Get a link to a peer for a task: the one there is, or a new one."""
        link = self._peers.link_to(node)
        row = self._of_node.get(node)
        is_wide = self.goes_wide(node, size_bytes)
        if row is None or not (is_wide or (link is None and self._has_room_for(row))):
            on_link(link)
            return
        if is_wide:
            self._wide[row.address] = None
        self._asked.setdefault(row.address, []).append(on_link)
        if self._dialling is not None and self._dialling[1].address not in self._asked:
            self._is_preempted = True  # a task goes before reading
            self._context.out.append(CancelOp(self._dialling[0]))
        self._dial_next()

    def _has_room_for(self, row: HeardPeer) -> bool:
        """Whether there is a free slot, one on its way, or one that an idle link can give up."""
        if row.links or row.state is DialState.DIALLING or self._held(Medium.BLE) < self._slots:
            return True
        held = (link for link, call in self._calls.items() if call.medium is Medium.BLE)
        idle = next((link for link in held if not self._is_used(link)), None)
        if idle is not None:
            self._context.out.append(Disconnect(idle, if_quiet=True))
        return idle is not None

    @property
    def _slots(self) -> int:
        return self._context.config.radio_links_max

    def _held(self, medium: Medium) -> int:
        return sum(call.medium is medium for call in self._calls.values())

    def _dial_next(self) -> None:
        self._meet_passed()
        is_full = len(self._calls) >= self._slots and self._held(Medium.BLE) >= self._slots
        if self._dialling is not None or (is_full and not self._wide):
            return
        row = self._next()
        medium = Medium.WIFI_DIRECT if row is not None and row.address in self._wide else Medium.BLE
        if row is None or (is_full and medium is Medium.BLE):
            return
        self._unread.pop(row.address, None)
        self._step(row, DialStep.DIALLED)
        op = self._context.ops.begin(self._dialled)
        self._dialling, self._is_preempted = (op, row), False
        self._context.out.append(Connect(op, row.address, medium))
        deadline = self._context.in_ms(self._context.config.dial_timeout_ms)
        self._context.timers.set(_TIMEOUT, deadline, lambda: self._context.out.append(CancelOp(op)))

    def _next(self) -> HeardPeer | None:
        """Whom to dial now: for a task, else to read; a timer is set for the first whose time has not come."""
        for address in self._asked:
            row = self.rows[address]
            if not row.links or address in self._wide:
                return row
        soonest: Micros | None = None
        for address in list(self._unread):
            row = self.rows[address]
            if self._read_due(row) is None:
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
            self._wide.pop(row.address, None)
            call = self._calls.get(completion.link)
            if call is not None:
                call.is_dialled = True
                self._watch_idle(completion.link)
        elif row.address in self._wide:  # Bluetooth has to do
            del self._wide[row.address]
            self._step(row, DialStep.CANCELLED)
            if row.links:
                self._answer(row, None if row.node is None else self._peers.link_to(row.node))
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
        self._wide.pop(row.address, None)
        for on_link in self._asked.pop(row.address, ()):
            on_link(link)

    def _step(self, row: HeardPeer, step: DialStep) -> None:
        row.state = DIAL_TABLE.get((row.state, step), row.state)

    # -- links ---------------------------------------------------------------------------------------------------------

    def link_up(self, event: LinkUp) -> None:
        """A link opened. One too many is closed again."""
        if event.link not in self._gate.links:
            self._context.out.append(Disconnect(event.link))
        if event.medium not in _RADIOS or event.link not in self._gate.links or event.address is None:
            return
        row = self.rows.get(event.address)
        if row is None:  # it called before it was heard, or was passed over
            passed = self._passed.pop(event.address, None)
            bits = None if passed is None else passed.bits
            row = HeardPeer(event.address, event.rssi_dbm or 0, bits, passed is not None)
            self.rows[event.address] = row
        row.links.append(event.link)
        self._unread.pop(row.address, None)
        self._step(row, DialStep.LINK_UP)
        self._calls[event.link] = _Call(row, event.medium)
        is_wide = event.medium is Medium.WIFI_DIRECT
        if self._held(event.medium) > (self._context.config.wifi_direct_links_max if is_wide else self._slots):
            self._context.drop("link", Reason.OVERFLOW)
            self._let_go(event.link)
        else:
            self._watch_idle(event.link)

    def link_bound(self, link: Link) -> None:
        """A neighbour said who it is."""
        call = self._calls.get(link.id)
        if call is None or link.peer is None:
            return
        row = call.row
        self._name(row, link.peer)
        if row.is_heard:
            self._peers.heard(link.peer, self._said(row))
        self._close_double(link)

    def told(self, link: Link) -> None:
        """A neighbour said what it offers: a task may ask it now; a link that was dialled to read is let go soon."""
        call = self._calls.get(link.id)
        if call is None:
            return
        call.row.read_at = self._context.now
        if call.is_read:
            return
        call.is_read = True
        if call.is_dialled and call.row.address not in self._asked and not self._uses(link.id):
            self._watch_idle(link.id, self._context.config.link_read_ms)
        self._answer(call.row, self._peers.link_to(link.peer or b""))

    def _close_double(self, link: Link) -> None:
        """Of two links to one peer keep that which the node with the smaller id dialled; of one dialler, the newer."""
        for other in list(self._calls):
            held = self._gate.links.get(other)
            if other == link.id or held is None or held.peer != link.peer:
                continue
            is_mine_first = self._context.node_id < (link.peer or b"")
            new, old = self._calls[link.id], self._calls[other]
            if new.medium is not old.medium or new.is_let_go or old.is_let_go:
                continue
            goes = other if new.is_dialled == old.is_dialled or new.is_dialled is is_mine_first else link.id
            if not self._uses(goes):
                self._let_go(goes)

    def _let_go(self, link: LinkId) -> None:
        """Close a link in any case."""
        self._calls[link].is_let_go = True
        self._context.out.append(Disconnect(link))

    def link_down(self, link: Link) -> None:
        """A link is gone. One that was dialled and brought nothing counts as a failed dial."""
        call = self._calls.pop(link.id, None)
        if call is None:
            return
        self._context.timers.cancel(("radio.idle", link.id))
        row = call.row
        row.links.remove(link.id)
        if not row.links:
            self._step(row, DialStep.LINKS_DOWN)
            is_wide = row.address in self._wide  # then the dial that is under way says what comes of it
            if call.is_dialled and self._needs_reading(row) and not is_wide:
                self._failed(row)
            else:
                row.tries = 0
                self._judge(row, self._stream.below(self._context.config.dial_spread_ms * MILLI))
                if not is_wide:
                    self._answer(row, None)
            self._forget_if_gone(row)
        self._dial_next()

    def _is_used(self, link: LinkId) -> bool:
        """Whether a task needs a link, or waits for a better one to the same peer."""
        return self._uses(link) or self._calls[link].row.address in self._wide

    def _watch_idle(self, link: LinkId, patience_ms: int | None = None) -> None:
        config = self._context.config
        if patience_ms is None:
            patience_ms = config.link_idle_ms if self._calls[link].is_dialled else config.link_idle_max_ms
        self._context.timers.set(("radio.idle", link), self._context.in_ms(patience_ms), lambda: self._idle(link))

    def _idle(self, link: LinkId) -> None:
        """Close a link that no task uses and none has used since it was last looked at."""
        call = self._calls[link]
        is_used = self._is_used(link)
        if is_used or call.was_used:
            call.was_used = is_used
            self._watch_idle(link)
        else:
            self._context.out.append(Disconnect(link, if_quiet=True))
            self._watch_idle(link)
