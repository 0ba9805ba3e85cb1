"""The broker: what a coordinator does for the files that it brokers.

Members announce what they have; it grants pieces to receivers, with tickets for pairs, and settles a grant by what the
receiver says. Of several coordinators one brokers a file: the first by rendezvous hash among those that are alive; the
others send their nodes there. Grants carry an epoch, which is the Unix time, ms, at which the brokerage of a file came
here, and so grows whenever it moves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping

import msgspec

from edgecoder.coordinator.alone import LoneOrigin
from edgecoder.coordinator.earnings import Earnings
from edgecoder.coordinator.judge import Judge
from edgecoder.coordinator.origin_watch import OriginWatch
from edgecoder.coordinator.swarm import LATE_FACTOR, LATE_US, Order, Peer, Swarm, sender_id
from edgecoder.core.context import MILLI, SECOND_US, Context
from edgecoder.core.ids import FileId, LinkId, Micros, NodeId, Role
from edgecoder.errors import Reason, RemoteProtocolError
from edgecoder.mesh.gate import Link
from edgecoder.models.catalog import Catalog, CatalogEntry
from edgecoder.protocol import CDN_ID, PIECES_PER_MESSAGE
from edgecoder.seeding.credits import CreditBook, SeedRule
from edgecoder.seeding.pieces import bytes_to_bitmap
from edgecoder.seeding.tickets import issue
from edgecoder.trace import SwarmChanged
from edgecoder.wire.messages import Announce, DialRequest, Grant, Granted, Have, Redirect, Ticket

_TTL_MS = 60_000
_SWEEP = "broker.sweep"
_DUE = "broker.due"
DUE_PARTS = 4
"""Senders whose turn comes within a quarter of the broker's delay are served together."""
SWEEP_MS = 2_000
"""Orders are looked at so often, or four times in the time that one takes, but no less often than"""
SWEEP_MS_MAX = 8_000
"""this and no more often than"""
SWEEP_MS_MIN = 500
"""this."""
SWEEP_PARTS = 4
LATE_PARTS = 4
"""An order is told again when it is late by one part of so many of the time that it should take."""
SILENT_MS = 8_000
"""A receiver that is not heard of is tried with one order so often."""
DIAL_MS = 1_000
"""A sender is asked to dial one receiver no more often than this."""
EPOCH_AHEAD_MS = 86_400_000
"""So far ahead of this coordinator's clock an epoch may be that a member names: the clock of the broker before may have
been wrong. Nobody can push a file's epochs farther."""


class _File(msgspec.Struct):
    entry: CatalogEntry
    file: FileId
    swarm: Swarm
    origin: LoneOrigin
    epoch: int
    """That of its grants."""
    judge: Judge
    earnings: Earnings
    watch: OriginWatch
    due_at: Micros = 0
    """For which its timer is set."""
    told: tuple[int, int] = (-1, -1)
    shares_told: int = 0
    """The shares of the origin that all who waited were told last."""
    follows_at: Micros = 0
    """From when on the epoch may follow one that a member names."""
    first: NodeId | None = None
    """The coordinator that is first for it, as it was last looked at."""


class Broker:
    """The files that one coordinator brokers."""

    def __init__(
        self,
        context: Context,
        links: Mapping[LinkId, Link],
        catalog: Catalog,
        unix_ms: Callable[[], int],
        coordinators: Callable[[], Iterable[NodeId]],
        where: Callable[[NodeId], str],
    ) -> None:
        """`coordinators` are the others that are alive, `where` says at which address one is; empty is unknown."""
        self._context = context
        self._links = links
        self._entries: dict[FileId, CatalogEntry] = {}
        self.know(catalog)
        self._unix_ms = unix_ms
        self._coordinators = coordinators
        self._where = where
        self.files: dict[FileId, _File] = {}
        self.credits = CreditBook(SeedRule())
        self._files_of: dict[LinkId, dict[FileId, NodeId]] = {}
        """Who announced what over a link."""

    def know(self, catalog: Catalog) -> None:
        """Take the files of a catalog, as it is now."""
        self._entries = {bytes.fromhex(entry.sha256): entry for entry in catalog.entries if entry.piece_root}

    def broker_of(self, file: FileId) -> NodeId:
        """The coordinator that is first for a file, among those that are alive (highest random weight: Thaler and
        Ravishankar, 1998)."""
        candidates = (self._context.node_id, *self._coordinators())
        return max(candidates, key=lambda node: hashlib.blake2b(file + node, digest_size=8).digest())

    # -- messages ------------------------------------------------------------------------------------------------------

    def announce(self, link: Link, message: Announce) -> None:
        """A node says what it has."""
        entry = self._entries.get(message.file)
        if entry is None or link.peer is None or link.role is Role.COORDINATOR:
            self._context.drop("announce", Reason.UNKNOWN_MODEL if entry is None else Reason.UNKNOWN_SENDER)
            return
        broker = self.broker_of(message.file)
        if broker != self._context.node_id and not message.redirected:
            if message.file in self.files:  # it came back once, and goes there now: nothing is granted to it here
                self._leave(self.files[message.file], link.peer)
            self._context.send(link.id, Redirect(message.file, broker, self._where(broker)), _TTL_MS)
            return
        try:
            have = bytes_to_bitmap(message.have, entry.layout.piece_count)
        except RemoteProtocolError:
            self._context.drop("announce", Reason.INVALID)
            return
        state = self._file(entry, message)
        if state is None:
            self._context.drop("announce", Reason.OVERFLOW)
            return
        if not have and not message.wants:
            self._leave(state, link.peer)
            return
        rate = message.up_kbit_per_s * 125
        peer = Peer(
            link.peer, link.id, have, message.wants, rate, message.slots, message.endpoint, refused={}, tickets={}
        )
        peer.down_bytes_per_s, peer.is_dialable = message.down_kbit_per_s * 125, message.dialable
        before = state.swarm.peers.get(peer.node)
        if before is None:
            state.earnings.joined(peer)
        peer = state.swarm.join(peer)
        state.judge.heard(peer)
        state.judge.judge(peer)
        if message.wants:
            left_bytes = entry.file_size_bytes - entry.layout.held_bytes(have)
            state.origin.join(peer.node, message.down_kbit_per_s * 125, left_bytes, self._context.now)
        self._files_of.setdefault(link.id, {})[message.file] = link.peer
        self._told(state)
        swarm, now = state.swarm, self._context.now
        orders = [*self._from_origin(state), *swarm.fill(peer, now)]
        if peer.wants:
            for other in list(peer.sources.values()):
                orders += swarm.fill(other, now)
        self._grant(state, orders, self._to_tell(state, peer))

    def _to_tell(self, state: _File, peer: Peer) -> list[Peer]:
        """Who hears how things stand, with orders or without: who has just come, or all."""
        return self._all_to_tell(state) or [peer]

    def _all_to_tell(self, state: _File) -> list[Peer]:
        """All who wait, where they know a share of the origin that is a quarter more than it is, or a fifth less."""
        shares, told = state.origin.shares(state.swarm.receivers, self._context.now), state.shares_told
        if 4 * told <= 5 * shares and 4 * shares <= 5 * told and told:
            return []
        state.shares_told = shares
        return [other for other in state.swarm.peers.values() if other.wants]

    def _file(self, entry: CatalogEntry, message: Announce) -> _File | None:
        state = self.files.get(message.file)
        if state is None:
            config = self._context.config
            if len(self.files) >= config.swarm_files_max and not self._forget_one():
                return None
            swarm = Swarm(
                entry.layout,
                self._context.stream(f"swarm {entry.sha256[:16]}"),
                degree=config.swarm_degree_max,
                inbound=config.swarm_inbound_max,
                delay=config.broker_delay_ms * MILLI,
            )
            egress = self._context.cluster.cdn_egress_kbit_per_s * 125
            size = entry.layout.piece_size_bytes * SECOND_US
            delay = config.broker_delay_ms * MILLI
            swarm.origin_target = 1 + -(-delay * egress // size) if egress else entry.layout.piece_count
            connection = self._context.cluster.cdn_kbit_per_s * 125
            swarm.origin_bytes_per_s = min(egress, connection) if egress else connection
            origin, judge = LoneOrigin(egress, connection), Judge(self._context, swarm)
            earnings = Earnings(self._context, swarm, self.credits, entry.model_id)
            first = self.broker_of(message.file)
            watch = OriginWatch(self._context, swarm)
            state = _File(entry, message.file, swarm, origin, self._unix_ms(), judge, earnings, watch, first=first)
            self.files[message.file] = state
        self._sweep_later(state)
        self._follow(state, message.broker_epoch)
        return state

    def _follow(self, state: _File, epoch: int) -> None:
        """A member names the epoch of its last broker. If it is newer, the file was brokered elsewhere and a new one
        begins, with new tickets: no more often than they are renewed anyway, as members may lie."""
        now, now_ms = self._context.now, self._unix_ms()
        if not state.epoch < epoch <= now_ms + EPOCH_AHEAD_MS or now < state.follows_at:
            return
        state.follows_at = self._context.in_ms(self._context.config.ticket_ms // 2)
        state.epoch = max(now_ms, epoch + 1)
        for peer in state.swarm.peers.values():
            peer.tickets.clear()

    def _forget_one(self) -> bool:
        """Forget the oldest file that nobody has or wants, so that there is room for another."""
        empty = next((state for state in self.files.values() if not state.swarm.peers), None)
        if empty is None:
            return False
        del self.files[empty.file]
        self._context.timers.cancel((_DUE, empty.file))
        self._context.timers.cancel((_SWEEP, empty.file))
        return True

    def have(self, link: Link, message: Have) -> None:
        """A member tells what came and what did not; with neither, that it does nothing."""
        state = self.files.get(message.file)
        peer = None if state is None or link.peer is None else state.swarm.peers.get(link.peer)
        if state is None or peer is None:
            self._context.drop("have", Reason.UNKNOWN_SENDER)
            return
        swarm, now = state.swarm, self._context.now
        state.judge.heard(peer)
        settled = self._settle(state, peer, message)
        self._told(state)
        orders: list[Order] = []
        if not (message.got or message.taking or message.lost):
            delay = self._context.config.broker_delay_ms * MILLI
            open_orders = swarm.open_orders(peer)
            orders += self._again(order for order in open_orders if now > max(order.at, order.repeated_at) + delay)
            orders += swarm.fill(peer, now)
        if message.lost or any(order.sender is None for order in settled):
            orders += self._from_origin(state)
        for sender in {order.sender.node: order.sender for order in settled if order.sender is not None}.values():
            orders += swarm.fill(sender, now)
        if message.got:
            orders += swarm.fill(peer, now)
        orders += swarm.fill_idle(peer, now)
        self._grant(state, orders)

    def dial(self, link: Link, message: DialRequest) -> None:
        """A receiver would have a sender that nobody can dial, and of which it was granted something, dial it."""
        state = self.files.get(message.file)
        receiver = None if state is None or link.peer is None else state.swarm.peers.get(link.peer)
        sender = None if state is None else state.swarm.peers.get(message.peer)
        if state is None or receiver is None or sender is None or sender.link not in self._links:
            self._context.drop("dialRequest", Reason.UNKNOWN_SENDER)
            return
        now = self._context.now
        orders = [order for order in sender.sending.values() if order.receiver is receiver]
        is_soon = any(now < order.dial_from for order in orders)
        if not orders or is_soon or not receiver.is_dialable or not self._is_reverse(state, receiver, sender.node):
            self._context.drop("dialRequest", Reason.INVALID)
            return
        for order in orders:
            order.dial_from = self._context.in_ms(DIAL_MS)
        ticket = self._sign(state, receiver, sender.node, is_offer=True)
        request = DialRequest(file=state.file, peer=receiver.node, endpoint=receiver.endpoint, ticket=ticket)
        self._context.send(sender.link, request, self._context.config.reverse_ask_ms)

    def _settle(self, state: _File, peer: Peer, message: Have) -> list[Order]:
        """Note what a member says. Returns the orders that have ended."""
        swarm, count = state.swarm, state.entry.layout.piece_count
        settled: list[Order | None] = []
        for got in message.got:
            if got.piece < count:
                if peer.taken >> got.piece & 1:
                    swarm.await_taken(peer, self._context.now)
                is_news = not peer.have >> got.piece & 1
                settled.append(swarm.settle(peer, got.piece, arrived=True))
                if got.sender == CDN_ID and got.size_bytes:
                    state.watch.gave()
                if is_news and _is_of(settled[-1], got.sender):
                    state.judge.praise(peer, got.sender)
                if is_news:
                    state.earnings.credit(peer, got.sender, got.piece, got.size_bytes)
        taken = sum(1 << piece for piece in set(message.taking) if piece < count)
        swarm.take(peer, taken, self._context.now)
        for lost in message.lost:
            if lost.piece < count:
                settled.append(swarm.settle(peer, lost.piece, arrived=False))
                if lost.reason is Reason.DUPLICATE:  # it is on its way from somebody else
                    swarm.take(peer, 1 << lost.piece, self._context.now)
                if lost.sender == CDN_ID:
                    state.watch.failed(peer, lost.reason)
                state.judge.blame(peer, lost.sender, lost.reason, is_order=_is_of(settled[-1], lost.sender))
                if lost.size_bytes and not peer.have >> lost.piece & 1:
                    state.earnings.credit(peer, lost.sender, lost.piece, lost.size_bytes)
        return [order for order in settled if order is not None]

    def _again(self, orders: Iterable[Order]) -> list[Order]:
        """Orders to be told again, as the grant may have got lost, and the ticket with it; or the news that it came."""
        again = list(orders)
        for order in again:
            order.repeated_at = self._context.now
            if order.sender is not None:
                order.receiver.tickets.pop(order.sender.node, None)
        return again

    # -- members come and go -------------------------------------------------------------------------------------------

    def link_down(self, link: LinkId) -> None:
        """Whoever was at the other end of a link takes part no more until it announces again."""
        for file, node in self._files_of.pop(link, {}).items():
            state = self.files.get(file)
            peer = None if state is None else state.swarm.peers.get(node)
            if state is not None and peer is not None and peer.link == link:
                self._leave(state, node)

    def _leave(self, state: _File, node: NodeId) -> None:
        peer = state.swarm.peers.get(node)
        if peer is None:
            return
        self._files_of.get(peer.link, {}).pop(state.file, None)
        state.origin.leave(node)
        neighbours = list(peer.sources.values())
        state.swarm.leave(node)
        self._told(state)
        now = self._context.now
        orders = self._from_origin(state)
        for other in neighbours:
            orders += state.swarm.fill(other, now)
        self._grant(state, orders)

    def _hand_over(self, state: _File) -> None:
        """Another coordinator has become first for a file: send its members there. Who cannot reach it comes back."""
        first = self.broker_of(state.file)
        if first == state.first:
            return
        state.first = first
        if first == self._context.node_id:
            return
        redirect = Redirect(state.file, first, self._where(first))
        for peer in list(state.swarm.peers.values()):
            state.origin.leave(peer.node)
            state.swarm.leave(peer.node)
            if peer.link in self._links:
                self._context.send(peer.link, redirect, _TTL_MS)
        self._told(state)

    def _sweep_later(self, state: _File, after_ms: int = SWEEP_MS) -> None:
        name = (_SWEEP, state.file)
        if self._context.timers.is_idle(name):
            self._context.timers.set(name, self._context.in_ms(after_ms), lambda: self._sweep(state))

    def _sweep(self, state: _File) -> None:
        """Look for orders that are late, and for members that could be given something again."""
        self._hand_over(state)
        if not state.swarm.peers:
            return
        open_orders = state.swarm.orders
        if open_orders:
            takes_ms = sum(order.expect for order in open_orders.values()) // (len(open_orders) * MILLI)
            self._sweep_later(state, min(max(takes_ms // SWEEP_PARTS, SWEEP_MS_MIN), SWEEP_MS_MAX))
        self._sweep_later(state)
        now = self._context.now
        orders = self._late(state)
        for peer in state.swarm.peers.values():
            if not peer.inbound_max and now >= peer.silent_since + SILENT_MS * MILLI:
                peer.inbound_max = 1  # one order, and none again where it is late
            if peer.refused:
                peer.refused = {node: until for node, until in peer.refused.items() if until > now}
            if peer.is_doubted:
                orders += state.swarm.trial(peer, now)
            elif peer.is_idle or not peer.sending:
                orders += state.swarm.fill(peer, now)
        self._grant(state, orders, self._all_to_tell(state))

    def _late(self, state: _File) -> list[Order]:
        """Tell orders again that are late, and void what is far too late: its receiver may never say so. Who is not
        heard of is sent nothing until it is."""
        swarm, now, slack = state.swarm, self._context.now, 2 * self._context.config.broker_delay_ms * MILLI
        late = [
            order
            for order in swarm.orders.values()
            if now > order.at + order.expect + order.expect // LATE_PARTS + slack
        ]
        orders = self._again(order for order in late if not order.repeated_at)
        for order in late:
            if order.receiver.heard_at < order.at and order.receiver.inbound_max:
                order.receiver.inbound_max, order.receiver.silent_since = 0, now
            if now > order.at + LATE_FACTOR * order.expect + LATE_US:
                swarm.settle(order.receiver, order.piece, arrived=False)
                if order.sender is not None:
                    orders += swarm.fill(order.sender, now)
        swarm.void_taken(now)
        return [*orders, *self._from_origin(state)]

    def _from_origin(self, state: _File) -> list[Order]:
        """Orders to fetch what nobody has, unless the origin is down."""
        now = self._context.now
        return [] if now < state.watch.waits_until else list(state.swarm.fill_from_origin(now))

    # -- grants --------------------------------------------------------------------------------------------------------

    def _fill_due(self, state: _File) -> None:
        self._grant(state, list(state.swarm.fill_due(self._context.now)))

    def _grant(self, state: _File, orders: list[Order], tell: Iterable[Peer] = ()) -> None:
        """Tell each receiver its orders; `tell` hear how things stand in any case. Then wait for who is next to have
        little left to send: several at once, so that a crowd costs no timer a piece."""
        due_at = state.swarm.due_at
        if due_at is not None and due_at != state.due_at:
            state.due_at = due_at
            grid = self._context.config.broker_delay_ms * MILLI // DUE_PARTS
            self._context.timers.set((_DUE, state.file), -(-due_at // grid) * grid, lambda: self._fill_due(state))
        rows: dict[NodeId, tuple[Peer, list[Granted]]] = {peer.node: (peer, []) for peer in tell}
        for order in orders:
            receiver = order.receiver
            found = rows.get(receiver.node)
            if found is None:
                found = rows[receiver.node] = (receiver, [])
            sender = order.sender
            found[1].append(
                Granted(
                    order.piece,
                    sender_id(order),
                    order.expect // MILLI,
                    "" if sender is None else sender.endpoint,
                    None if sender is None else self._ticket(state, receiver, sender.node),
                )
            )
        receivers = state.origin.shares(state.swarm.receivers, self._context.now)
        for peer, granted in rows.values():
            for start in range(0, max(1, len(granted)), PIECES_PER_MESSAGE):
                part = tuple(granted[start : start + PIECES_PER_MESSAGE])
                reverse = tuple({row.sender: None for row in part if self._is_reverse(state, peer, row.sender)})
                message = Grant(
                    file=state.file, broker_epoch=state.epoch, receivers=receivers, pieces=part, reverse=reverse
                )
                if peer.link in self._links:
                    self._context.send(peer.link, message, _TTL_MS)

    @staticmethod
    def _is_reverse(state: _File, receiver: Peer, sender: NodeId) -> bool:
        """Whether a sender is to dial a receiver, which cannot dial it."""
        peer = state.swarm.peers.get(sender)
        return peer is not None and (not peer.is_dialable or sender in receiver.unreached)

    def _ticket(self, state: _File, receiver: Peer, sender: NodeId) -> Ticket | None:
        """A ticket for a pair, if the one that it has is about to end."""
        now_ms, config = self._unix_ms(), self._context.config
        until = receiver.tickets.get(sender, 0)
        if until > now_ms + config.ticket_ms // 2:
            return None
        ticket = self._sign(state, receiver, sender)
        receiver.tickets[sender] = ticket.expires_ms
        return ticket

    def _sign(self, state: _File, receiver: Peer, sender: NodeId, *, is_offer: bool = False) -> Ticket:
        context, until = self._context, self._unix_ms() + self._context.config.ticket_ms
        network = context.cluster.network_id
        return issue(network, context.signer, receiver.node, sender, state.file, state.epoch, until, is_offer=is_offer)

    def _told(self, state: _File) -> None:
        now = (state.swarm.seeders, state.swarm.receivers)
        if now != state.told:
            state.told = now
            self._context.trace(SwarmChanged(state.entry.model_id, *now))


def _is_of(order: Order | None, sender: NodeId) -> bool:
    """Whether a piece was ordered of a sender."""
    return order is not None and order.sender is not None and order.sender.node == sender
