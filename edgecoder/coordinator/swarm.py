"""The swarm of one file: who has what, and which pieces are to go from whom to whom.

A sender with room gets one of its neighbours to serve: the one with the fewest pieces on their way, among these the one
that has least; and the piece that the fewest have. What no live member holds comes from the CDN, each piece once. It
knows nodes, pieces and capacities only; messages, tickets and credits are `broker`'s.

Have-maps are Python ints. Pieces are kept in levels by the number of their copies, so that the rarest of a set is found
by some ten intersections of whole maps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import heappop, heappush

import msgspec

from edgecoder.core.context import SECOND_US
from edgecoder.core.ids import LinkId, Micros, NodeId
from edgecoder.core.rng import Stream
from edgecoder.protocol import CDN_ID
from edgecoder.seeding.pieces import Layout, bits, first_from

LEVELS_EXACT = 16
"""Pieces with fewer copies than this are told apart exactly; above, four levels to each doubling."""

ORDER_US_MAX: Micros = 120_000_000
"""No order is expected to take longer, whatever the two say of their links: 16 MiB at 1.1 Mbit/s."""
LATE_FACTOR = 2
"""What takes so many times as long as it should,"""
LATE_US: Micros = 2_000_000
"""and this, does not come."""
TRIAL_US: Micros = 60_000_000
"""A member that is not believed is tried so often."""
AHEAD_MAX = 64
"""Orders that a member has open at most beyond the first, whatever it says of its uplink."""
SAMPLE = 64
"""Members that are looked at for one who needs something of a sender that none of its targets needs."""


def level_of(copies: int) -> int:
    """The level of a piece with so many copies."""
    if copies < LEVELS_EXACT:
        return copies
    octave = copies.bit_length()
    return LEVELS_EXACT + 4 * (octave - 5) + (copies >> (octave - 3) & 3)


class Peer(msgspec.Struct, gc=False, eq=False):
    """One member."""

    node: NodeId
    link: LinkId
    have: int
    wants: bool
    up_bytes_per_s: int
    """What it sends; 0: not known."""
    slots: int
    endpoint: str
    is_dialable: bool = True
    """Whether others can open connections to it, as far as it knows."""
    unreached: set[NodeId] = set()
    """Senders to which it could not open a connection: they are to dial it."""
    down_bytes_per_s: int = 0
    """What it receives; 0: not known."""
    pending: int = 0
    """Pieces that are on their way to it."""
    taken: int = 0
    """Those that it fetches by itself."""
    taken_until: Micros = 0
    """When the next of them is overdue."""
    overdue: int = 0
    """Pieces that it said it would fetch, and did not in time: that it fetches them counts for nothing."""
    inbound: int = 0
    """Orders among them; the others it fetches by itself."""
    held: int = 0
    """How many pieces it has."""
    inbound_max: int = 3
    """Orders that may be open to it: more where pieces are short beside the way to the broker and back, none where it
    has not said a word though something should have come."""
    target: int = 2
    """How many it is given to send at once."""
    targets: dict[NodeId, Peer] = {}
    """Whom it may be given to send to."""
    sources: dict[NodeId, Peer] = {}
    """Whose targets it is among."""
    credited_bytes: int = 0
    """For which it has given others credit, in this life of the swarm."""
    place: int = 0
    """In the list of members."""
    refused: dict[NodeId, Micros] = {}
    """Senders that it is not given, until when."""
    tickets: dict[NodeId, int] = {}
    """Until when it has a ticket for a sender, Unix time, ms."""
    is_doubted: bool = False
    """Whether it gives nothing, or is not believed: it is given nothing to send but a trial now and then, and what it
    has counts for nothing."""
    heard_at: Micros = 0
    """When it said something last."""
    missed_by: set[NodeId] = set()
    """Who could not reach it since then."""
    silent_since: Micros = 0
    """Since when it has not said a word though something should have come; 0: it has."""
    tried_at: Micros = 0
    busy_until: Micros = 0
    """When it should have sent what it was given."""
    is_due: bool = False
    """Whether it waits for its turn to be given more."""
    is_idle: bool = False
    """Whether it has room to send and nobody to send to."""
    sending: dict[tuple[NodeId, int], Order] = {}
    """The orders that it is to send, by receiver and piece."""


class Order(msgspec.Struct, gc=False, eq=False):
    """A piece that goes from one member, or the CDN (`sender` None), to another."""

    receiver: Peer
    sender: Peer | None
    piece: int
    at: Micros
    expect: Micros
    """How long it should take."""
    repeated_at: Micros = 0
    """When it was told again; 0: it was told once."""
    dial_from: Micros = 0
    """Its sender is not asked to dial its receiver before this."""


class Swarm:
    """The members of one file, and the orders that are open."""

    def __init__(self, layout: Layout, stream: Stream, *, degree: int, inbound: int, delay: Micros) -> None:
        """A sender has up to `degree` neighbours, a receiver `inbound` pieces on their way; news takes `delay`."""
        self.layout = layout
        self.peers: dict[NodeId, Peer] = {}
        self._list: list[Peer] = []
        self.orders: dict[tuple[NodeId, int], Order] = {}
        self._stream = stream
        self._degree = degree
        self._inbound = inbound
        self._delay = delay
        self._copies = [0] * layout.piece_count
        self._levels = [layout.all_pieces] + [0] * level_of(1 << 20)
        self.origin_target = 1
        self.origin_open = 0
        """Orders to fetch from the CDN that are open."""
        self._due: list[tuple[Micros, NodeId]] = []
        """Senders that are to be given more, and when: a heap."""
        self.origin_bytes_per_s = 0
        """What one who fetches from the CDN gets of it when nobody else does; 0: not known."""
        self.seeders = 0
        """Members that have all, and are believed to give it."""
        self.receivers = 0
        """Members that want more."""

    # -- members -------------------------------------------------------------------------------------------------------

    def join(self, peer: Peer) -> Peer:
        """Take a member, or what it says anew of itself. Over the link that it had before it is in the same life, and
        the orders that still make sense go on; over another one they are void. Returns the member as it is kept."""
        before = self.peers.get(peer.node)
        if before is not None and before.link == peer.link:
            self._update(before, peer)
            return before
        if before is not None:
            peer.refused, peer.credited_bytes = before.refused, before.credited_bytes
            self.leave(before.node)
        self.peers[peer.node] = peer
        peer.held = peer.have.bit_count()
        self.seeders += self._is_seeder(peer)
        self.receivers += peer.wants
        peer.targets, peer.sources, peer.sending, peer.place = {}, {}, {}, len(self._list)
        peer.missed_by = set()
        self._list.append(peer)
        for piece in bits(peer.have):
            self._count(piece, 1)
        peer.target = self._target_of(peer)
        self._befriend(peer)
        return peer

    def _target_of(self, peer: Peer) -> int:
        """One piece that it sends, and as many as it could send until news of that gets here and back."""
        rate = peer.up_bytes_per_s
        ahead = -(-self._delay * rate // (self.layout.piece_size_bytes * SECOND_US)) if rate else 1
        ahead = min(ahead, AHEAD_MAX)
        peer.inbound_max = self._inbound + max(0, ahead - 1)
        return (1 + ahead) if peer.slots else 0

    def _update(self, peer: Peer, said: Peer) -> None:
        """A member says anew what it has, wants and gives."""
        for piece in bits(said.have & ~peer.have):
            self.settle(peer, piece, arrived=True)
        gone = peer.have & ~said.have
        if gone:
            self.seeders -= self._is_seeder(peer)
            for piece in bits(0 if peer.is_doubted else gone):
                self._count(piece, -1)
            peer.have, peer.held = said.have, said.have.bit_count()
            for order in list(peer.sending.values()):
                if gone >> order.piece & 1:
                    self.settle(order.receiver, order.piece, arrived=False)
        if not said.wants:
            for piece in bits(peer.pending):
                self.settle(peer, piece, arrived=False)
        self.receivers += said.wants - peer.wants
        peer.wants, peer.slots = said.wants, said.slots
        peer.up_bytes_per_s, peer.endpoint, peer.is_dialable = said.up_bytes_per_s, said.endpoint, said.is_dialable
        peer.down_bytes_per_s = said.down_bytes_per_s
        peer.target = self._target_of(peer)

    def heard(self, peer: Peer, now: Micros) -> None:
        """A member has said something."""
        peer.heard_at = now
        if peer.silent_since:
            peer.silent_since = 0
            peer.target = self._target_of(peer)

    def open_orders(self, peer: Peer) -> list[Order]:
        """What a member is to send; where that is nothing, what it is to be sent."""
        to_it = (self.orders.get((peer.node, piece)) for piece in bits(peer.pending))
        return list(peer.sending.values()) or [order for order in to_it if order is not None]

    def leave(self, node: NodeId) -> None:
        """A member is gone, and its orders are void."""
        peer = self.peers.pop(node, None)
        if peer is None:
            return
        self.receivers -= peer.wants
        for other in peer.targets.values():
            del other.sources[node]
        for other in peer.sources.values():
            del other.targets[node]
        last = self._list.pop()
        if last is not peer:
            self._list[peer.place], last.place = last, peer.place
        self.doubt(peer, is_doubted=True)
        for piece in bits(peer.pending):
            self.settle(peer, piece, arrived=False)
        for order in list(peer.sending.values()):
            self.settle(order.receiver, order.piece, arrived=False)

    def _befriend(self, peer: Peer) -> None:
        """Give a member others to send to, and to be sent things by."""
        for _ in range(self._degree // 2):
            other = self._list[self._stream.below(len(self._list))]
            if other is not peer:
                self._link(peer, other)
                if len(other.targets) < self._degree:
                    self._link(other, peer)

    def _link(self, sender: Peer, receiver: Peer) -> None:
        sender.targets[receiver.node] = receiver
        receiver.sources[sender.node] = sender

    def _rewire(self, sender: Peer, now: Micros) -> bool:
        """None of its targets needs anything of a member: look among some others, and give it one who does, in place of
        the target that it has had for longest."""
        have, members = sender.have, self._list
        start = self._stream.below(len(members))
        left = SAMPLE - (len(members) - start)
        for peer in members[start : start + SAMPLE] + members[: max(0, min(left, start))]:
            if (
                peer.wants
                and peer.inbound < peer.inbound_max
                and have & ~(peer.have | peer.pending)
                and peer is not sender
                and (peer.is_dialable or sender.is_dialable)
                and peer.refused.get(sender.node, 0) <= now
            ):
                if len(sender.targets) >= self._degree:
                    oldest = next(iter(sender.targets))
                    del sender.targets.pop(oldest).sources[sender.node]
                self._link(sender, peer)
                return True
        return False

    def doubt(self, peer: Peer, *, is_doubted: bool) -> None:
        """Count what a member says that it has, or fetches, no more, or again."""
        if is_doubted is not peer.is_doubted:
            self.seeders -= self._is_seeder(peer)
            peer.is_doubted = is_doubted
            self.seeders += self._is_seeder(peer)
            for piece in bits(peer.have | peer.pending & ~peer.overdue):
                self._count(piece, -1 if is_doubted else 1)

    def _is_seeder(self, peer: Peer) -> bool:
        return peer.held == self.layout.piece_count and not peer.is_doubted

    # -- orders --------------------------------------------------------------------------------------------------------

    def take(self, peer: Peer, pieces: int, now: Micros) -> None:
        """A member fetches pieces by itself, from the CDN or from somebody else who was late."""
        pieces &= ~(peer.have | peer.pending)
        is_first = not peer.taken
        peer.pending |= pieces
        peer.taken |= pieces
        if is_first:
            self.await_taken(peer, now)
        for piece in bits(0 if peer.is_doubted else pieces & ~peer.overdue):
            self._count(piece, 1)

    def await_taken(self, peer: Peer, now: Micros) -> None:
        """The next of the pieces that a member fetches by itself should come in time."""
        peer.taken_until = now + LATE_FACTOR * self._from_origin(peer) + LATE_US

    def void_taken(self, now: Micros) -> None:
        """Believe no longer in what members fetch by themselves and is overdue."""
        for peer in [peer for peer in self.peers.values() if peer.taken and now > peer.taken_until]:
            taken = peer.taken
            for piece in bits(taken):
                self.settle(peer, piece, arrived=False)
            peer.overdue |= taken

    def settle(self, receiver: Peer, piece: int, *, arrived: bool) -> Order | None:
        """A piece has come to a member, or will not. The order that it was, if it was one."""
        bit = 1 << piece
        has_counted = receiver.pending & ~receiver.overdue & bit
        receiver.pending &= ~bit
        receiver.taken &= ~bit
        if arrived and not receiver.have & bit:
            receiver.have |= bit
            receiver.held += 1
            if receiver.held == self.layout.piece_count:
                self.seeders += self._is_seeder(receiver)
                self.receivers -= receiver.wants
                receiver.wants = False
            if not has_counted and not receiver.is_doubted:
                self._count(piece, 1)
        elif has_counted and not receiver.is_doubted:
            self._count(piece, -1)
        order = self.orders.pop((receiver.node, piece), None)
        if order is not None:
            receiver.inbound -= 1
            if order.sender is None:
                self.origin_open -= 1
            else:
                del order.sender.sending[receiver.node, piece]
        return order

    def fill(self, sender: Peer, now: Micros) -> Sequence[Order]:
        """Orders for a member that has room to send."""
        if sender.is_doubted:
            return ()
        sender.is_idle = False
        orders: list[Order] = []
        while len(sender.sending) < sender.target:
            if sender.sending and sender.busy_until > now + self._delay:
                if not sender.is_due:
                    sender.is_due = True
                    heappush(self._due, (sender.busy_until - self._delay, sender.node))
                break
            order = self._order(sender, now)
            if order is None and self._rewire(sender, now):
                order = self._order(sender, now)
            if order is None:
                sender.is_idle = True
                break
            orders.append(order)
        return orders

    @property
    def due_at(self) -> Micros | None:
        """When a sender has so little left to send that it should be given more."""
        return self._due[0][0] if self._due else None

    def fill_due(self, now: Micros) -> Iterator[Order]:
        """Orders for senders that have little left to send: what is rarest is known better then than before."""
        while self._due and self._due[0][0] <= now:
            sender = self.peers.get(heappop(self._due)[1])
            if sender is not None:
                sender.is_due = False
                yield from self.fill(sender, now)

    def trial(self, sender: Peer, now: Micros) -> Iterator[Order]:
        """One order for a member that is not believed, now and then: it may have mended its ways."""
        if sender.is_doubted and sender.target and not sender.sending and now >= sender.tried_at + TRIAL_US:
            sender.tried_at = now
            order = self._order(sender, now)
            if order is None and self._rewire(sender, now):
                order = self._order(sender, now)
            if order is not None:
                yield order

    def fill_idle(self, receiver: Peer, now: Micros) -> Iterator[Order]:
        """Orders for the neighbours of a member that may be sent something again, which had nobody to send to."""
        if receiver.inbound < receiver.inbound_max:
            for other in list(receiver.sources.values()):
                if other.is_idle and other.have & ~(receiver.have | receiver.pending):
                    yield from self.fill(other, now)

    def _order(self, sender: Peer, now: Micros) -> Order | None:
        have, node, is_dialable = sender.have, sender.node, sender.is_dialable
        best: Peer | None = None
        best_key = 1 << 62
        for peer in sender.targets.values():
            inbound = peer.inbound
            if inbound >= peer.inbound_max or not peer.wants or not have & ~(peer.have | peer.pending):
                continue
            key = inbound << 32 | peer.held
            is_near = key < best_key and (is_dialable or peer.is_dialable)
            if is_near and (not peer.refused or peer.refused.get(node, 0) <= now):
                best, best_key = peer, key
        if best is None:
            return None
        piece = self._rarest(have & ~(best.have | best.pending))
        takes = min(self.layout.piece_size_bytes * SECOND_US // (sender.up_bytes_per_s or 125_000), ORDER_US_MAX)
        expect = min(max((len(sender.sending) + 1) * takes, self._arrival(best)), ORDER_US_MAX) + self._delay
        begins = sender.busy_until if sender.sending else 0
        sender.busy_until = max(begins, now + self._delay // 2) + takes
        return self._place(best, sender, piece, now, expect)

    def fill_from_origin(self, now: Micros) -> Iterator[Order]:
        """Orders to fetch what nobody holds from the CDN, for those who pass it on: others know when to ask it."""
        while self.origin_open < self.origin_target:
            missing = self._levels[0]
            if not missing:
                return
            wanting = [
                peer
                for peer in self.peers.values()
                if peer.wants
                and peer.inbound < peer.inbound_max
                and not peer.is_doubted
                and peer.refused.get(CDN_ID, 0) <= now
            ]
            if not wanting:
                return
            least = min(_before(peer) for peer in wanting)
            wanting = [peer for peer in wanting if _before(peer) == least]
            receiver = wanting[self._stream.below(len(wanting))]
            missing &= ~(receiver.have | receiver.pending)
            if not missing:
                return
            expect = self._from_origin(receiver)
            self.origin_open += 1
            yield self._place(receiver, None, self._some(missing), now, expect)

    def _from_origin(self, receiver: Peer) -> Micros:
        """How long one more piece takes from the CDN to a member."""
        takes = self.layout.piece_size_bytes * SECOND_US // (self.origin_bytes_per_s or 125_000)
        return min(max((self.origin_open + 1) * takes, self._arrival(receiver)), ORDER_US_MAX)

    def _arrival(self, receiver: Peer) -> Micros:
        """How long one more piece takes through a member's downlink, with all that is on its way to it."""
        size = (receiver.pending.bit_count() + 1) * self.layout.piece_size_bytes
        return size * SECOND_US // receiver.down_bytes_per_s if receiver.down_bytes_per_s else 0

    def _place(self, receiver: Peer, sender: Peer | None, piece: int, now: Micros, expect: Micros) -> Order:
        receiver.pending |= 1 << piece
        receiver.overdue &= ~(1 << piece)
        receiver.inbound += 1
        if not receiver.is_doubted:
            self._count(piece, 1)
        key = receiver.node, piece
        order = self.orders[key] = Order(receiver, sender, piece, now, expect)
        if sender is not None:
            sender.sending[key] = order
        return order

    # -- copies --------------------------------------------------------------------------------------------------------

    def _count(self, piece: int, change: int) -> None:
        copies = self._copies
        before = level_of(copies[piece])
        copies[piece] += change
        after = level_of(copies[piece])
        if after != before:
            bit = 1 << piece
            self._levels[before] ^= bit
            self._levels[after] |= bit

    def _rarest(self, pieces: int) -> int:
        """One of the pieces that fewest have."""
        for level in self._levels:
            found = level & pieces
            if found:
                return self._some(found)
        raise AssertionError("every piece has a level")

    def _some(self, pieces: int) -> int:
        """One of a set, by lot: the first from a random place on."""
        return first_from(pieces, self._stream.below(self.layout.piece_count))


def _before(peer: Peer) -> tuple[int, int]:
    """Who gets what nobody has: who has least on its way, then who has least."""
    return peer.inbound, peer.held


def sender_id(order: Order) -> NodeId:
    """Who is to send: a member or the CDN."""
    return CDN_ID if order.sender is None else order.sender.node
