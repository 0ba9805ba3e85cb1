"""The picker of a swarm: whatever members say, and whenever they come and go, its books agree."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edgecoder.coordinator.swarm import Order, Peer, Swarm
from edgecoder.core.rng import Stream
from edgecoder.seeding.pieces import Layout

PIECES = 12
LAYOUT = Layout(PIECES << 16, 1 << 16)
DEGREE, INBOUND = 4, 2
NAMES = [bytes([number]) * 32 for number in range(7)]
members = st.sampled_from(NAMES)
maps = st.integers(0, LAYOUT.all_pieces)


def peer(node: bytes, link: int, have: int, *, wants: bool, slots: int) -> Peer:
    """A member that sends a piece a second."""
    return Peer(node, link, have, wants, 1 << 16, slots, "", refused={}, tickets={})


def counted(member: Peer) -> int:
    """What a member has, or will have, as far as it is believed."""
    return 0 if member.is_doubted else member.have | member.pending & ~member.overdue


class Books(RuleBasedStateMachine):
    """A swarm of up to seven members, and what is known of it without looking inside."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.swarm = Swarm(LAYOUT, Stream(1, b"", "swarm"), degree=DEGREE, inbound=INBOUND, delay=1_500_000)

    def place(self, orders: list[Order]) -> None:
        """What was ordered can be carried out."""
        for order in orders:
            bit = 1 << order.piece
            assert not order.receiver.have & bit
            assert order.receiver.wants
            assert order.sender is not order.receiver
            if order.sender is not None:
                assert order.sender.have & bit
                assert order.receiver.refused.get(order.sender.node, 0) <= self.now

    @rule(node=members, link=st.integers(1, 2), have=maps, wants=st.booleans(), slots=st.integers(0, 2))
    def say(self, node: bytes, link: int, have: int, wants: bool, slots: int) -> None:
        """A member comes, or says anew what it has, over the same link or another one."""
        wants = wants and have != LAYOUT.all_pieces
        before = self.swarm.peers.get(node)
        open_before = {} if before is None else dict(before.sending)
        kept = self.swarm.join(peer(node, link, have, wants=wants, slots=slots))
        assert self.swarm.peers[node] is kept
        assert (kept.have, kept.wants) == (have, wants)
        if before is not None and before.link == link:
            still = {key for key, order in open_before.items() if have >> order.piece & 1}
            assert kept.sending.keys() == still
        else:
            assert not kept.sending
            assert not kept.pending

    @rule(node=members)
    def go(self, node: bytes) -> None:
        """A member leaves."""
        self.swarm.leave(node)

    @rule(node=members)
    def fill(self, node: bytes) -> None:
        """A member has room to send."""
        sender = self.swarm.peers.get(node)
        if sender is not None:
            self.place(list(self.swarm.fill(sender, self.now)))
            self.place(list(self.swarm.fill_idle(sender, self.now)))

    @rule()
    def fill_from_origin(self) -> None:
        """The CDN has room."""
        orders = list(self.swarm.fill_from_origin(self.now))
        self.place(orders)
        for order in orders:
            assert order.sender is None
            assert not any(
                counted(other) >> order.piece & 1 for other in self.swarm.peers.values() if other is not order.receiver
            )

    @precondition(lambda self: self.swarm.orders)
    @rule(data=st.data(), arrived=st.booleans())
    def end(self, data: st.DataObject, arrived: bool) -> None:
        """An order is carried out, or fails."""
        key = data.draw(st.sampled_from(sorted(self.swarm.orders)))
        order = self.swarm.orders[key]
        assert self.swarm.settle(order.receiver, order.piece, arrived=arrived) is order
        assert bool(order.receiver.have >> order.piece & 1) is arrived
        assert self.swarm.settle(order.receiver, order.piece, arrived=arrived) is None
        if not arrived and order.sender is not None:
            order.receiver.refused[order.sender.node] = self.now + 5

    @rule(node=members, pieces=maps)
    def take(self, node: bytes, pieces: int) -> None:
        """A member fetches pieces by itself."""
        member = self.swarm.peers.get(node)
        if member is not None:
            self.swarm.take(member, pieces, self.now)

    @rule()
    def void_taken(self) -> None:
        """What was taken long ago does not count any more."""
        self.now += 300_000_000
        taken = {node: member.taken for node, member in self.swarm.peers.items() if member.taken}
        self.swarm.void_taken(self.now)
        for node, pieces in taken.items():
            assert not counted(self.swarm.peers[node]) & pieces

    @rule(node=members, is_doubted=st.booleans())
    def doubt(self, node: bytes, is_doubted: bool) -> None:
        """A member is believed no more, or again."""
        member = self.swarm.peers.get(node)
        if member is not None:
            self.swarm.doubt(member, is_doubted=is_doubted)

    @rule()
    def wait(self) -> None:
        """Time passes."""
        self.now += 3

    @invariant()
    def books_agree(self) -> None:
        """Everything that is kept twice is the same twice, and no bound is passed."""
        swarm, members = self.swarm, self.swarm.peers
        for (node, piece), order in swarm.orders.items():
            assert members[node] is order.receiver
            assert order.receiver.pending >> piece & 1
            if order.sender is not None:
                assert members[order.sender.node] is order.sender
                assert order.sender.sending[node, piece] is order
        for node, member in members.items():
            assert not member.have & member.pending
            assert not member.taken & ~member.pending
            assert member.held == member.have.bit_count()
            assert member.inbound == sum(key[0] == node for key in swarm.orders) <= member.inbound_max
            assert all(swarm.orders[key] is order for key, order in member.sending.items())
            assert len(member.targets) <= DEGREE
            assert all(members[other].sources[node] is member for other in member.targets)
            assert all(members[other].targets[node] is member for other in member.sources)
        assert swarm.receivers == sum(member.wants for member in members.values())
        assert swarm.seeders == sum(m.have == LAYOUT.all_pieces and not m.is_doubted for m in members.values())
        assert swarm.origin_open == sum(order.sender is None for order in swarm.orders.values())
        for piece in range(PIECES):
            copies = sum(counted(member) >> piece & 1 for member in members.values())
            assert swarm._copies[piece] == copies


TestBooks = Books.TestCase
TestBooks.settings = settings(stateful_step_count=40)
