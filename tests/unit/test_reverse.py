"""Senders that nobody can dial: who is asked to dial whom, what is taken of what is offered, and what ends in vain."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from edgecoder.config import ClusterConfig, NodeConfig
from edgecoder.core.context import Context
from edgecoder.core.effects import CancelOp, CloseChannel, DialPeer, Effect, TakeChannel, Trace
from edgecoder.core.giving import ChannelLost, ChannelOffered, DialFailed, PeerDialled
from edgecoder.core.ids import FileId, Medium, NodeId, Role
from edgecoder.errors import Reason
from edgecoder.mesh.gate import Link
from edgecoder.seeding.reverse import Channels, Dials
from edgecoder.seeding.tickets import issue
from edgecoder.trace import Dropped
from edgecoder.trace import PeerDialled as Dialled
from edgecoder.wire.messages import DialRequest, Granted, Ticket
from edgecoder_sim.crypto import crypto, node_id

FILE, OTHER_FILE = bytes([7]) * 32, bytes([8]) * 32
HERE, PEER, BROKER = node_id("here"), node_id("peer"), node_id("broker")
NOW_MS = 1_000_000
"""Unix time, which stands still."""
ASK_MS, ASKS = NodeConfig().reverse_ask_ms, NodeConfig().reverse_asks_max


def offer(
    receiver: NodeId = HERE,
    sender: NodeId = PEER,
    *,
    file: FileId = FILE,
    broker: NodeId = BROKER,
    epoch: int = 1,
    expires_ms: int = NOW_MS + 60_000,
    is_offer: bool = True,
) -> Ticket:
    """A broker's leave."""
    signer, _ = crypto(broker, "edgecoder", encoded=False)
    return issue("edgecoder", signer, receiver, sender, file, epoch, expires_ms, is_offer=is_offer)


BAD = {
    "for requests": {"is_offer": False},
    "of an older broker": {"epoch": 0},
    "too old": {"expires_ms": NOW_MS - 30_001},
    "of who is no broker": {"broker": node_id("nobody")},
    "of another file": {"file": OTHER_FILE},
}
"""Tickets that are no leave to offer anything."""


class Node:
    """What both sides need of a node; it notes what it is told."""

    def __init__(self, **config: Any) -> None:
        signer, self.verifier = crypto(HERE, "edgecoder", encoded=False)
        self.context = Context(ClusterConfig(), NodeConfig(**config), signer, 1)
        self.context.epoch = self.context.ops.epoch = 1
        self.gives = True
        self.asked: list[tuple[FileId, NodeId]] = []
        self.near: list[tuple[FileId, list[int]]] = []
        self.far: list[tuple[FileId, list[int], Reason]] = []
        self.channels = Channels(self.context, self.verifier, self, self)
        self.dials = Dials(self.context, self.verifier, self)

    def trusts_broker(self, broker: NodeId, file: FileId) -> bool:  # noqa: ARG002
        return broker == BROKER

    def broker_epoch(self, file: FileId) -> int:  # noqa: ARG002
        return 1

    def unix_ms(self) -> int:
        return NOW_MS

    def may_give(self, file: FileId) -> bool:
        return self.gives and file == FILE

    def ask_dial(self, file: FileId, peer: NodeId) -> None:
        self.asked.append((file, peer))

    def reached(self, file: FileId, rows: Iterable[Granted]) -> None:
        self.near.append((file, [row.piece for row in rows]))

    def out_of_reach(self, file: FileId, rows: Iterable[Granted], reason: Reason) -> None:
        self.far.append((file, [row.piece for row in rows], reason))

    def awaits(self, piece: int, peer: NodeId = PEER, file: FileId = FILE) -> bool:
        return self.channels.awaits(file, Granted(piece, peer, 1000))

    def offered(self, channel: int, peer: NodeId = PEER, file: FileId = FILE, **how: Any) -> list[Effect]:
        """Somebody offers a connection; what comes of it."""
        self.channels.offered(ChannelOffered(channel, peer, file, offer(sender=peer, **how)))
        return self.did()

    def pass_ms(self, delay_ms: int) -> None:
        self.context.now += delay_ms * 1000
        self.context.timers.fire_due(self.context.now)

    def did(self) -> list[Effect]:
        """What it has wanted since it was looked at, but for what observers are told."""
        effects, self.context.out[:] = [*self.context.out], []
        self.told = [effect.record for effect in effects if isinstance(effect, Trace)]
        return [effect for effect in effects if not isinstance(effect, Trace)]

    def requested(self, message: DialRequest, peer: NodeId = BROKER) -> list[Effect]:
        """Somebody wants a receiver dialled; what comes of it."""
        self.dials.asked(Link(1, Medium.LAN, peer=peer, role=Role.COORDINATOR), message)
        return self.did()


@pytest.fixture
def node() -> Node:
    return Node()


# -- receivers ---------------------------------------------------------------------------------------------------------


def test_pieces_wait_for_the_connection_and_are_asked_for_when_it_is_there(node: Node) -> None:
    assert node.awaits(3)
    assert node.awaits(4)
    assert node.awaits(4), "it was told again"
    assert node.asked == [(FILE, PEER)]
    assert node.offered(1) == [TakeChannel(1)]
    assert node.near == [(FILE, [3, 4])]
    assert node.channels.to(PEER) == 1
    assert not node.awaits(5)
    node.pass_ms(ASKS * ASK_MS)
    assert (node.asked, node.far) == ([(FILE, PEER)], [])


def test_one_connection_serves_all_files_that_wait_for_it(node: Node) -> None:
    assert node.awaits(3)
    assert node.awaits(1, file=OTHER_FILE)
    node.offered(1)
    assert node.near == [(FILE, [3]), (OTHER_FILE, [1])]


def test_a_dial_that_does_not_come_is_asked_for_again_and_then_given_up(node: Node) -> None:
    assert node.awaits(3)
    node.pass_ms(ASK_MS)
    assert node.asked == 2 * [(FILE, PEER)]
    for _ in range(ASKS - 1):
        node.pass_ms(ASK_MS)
    assert (len(node.asked), node.far) == (ASKS, [(FILE, [3], Reason.PEER_LOST)])
    assert node.offered(1) == [CloseChannel(1, Reason.UNKNOWN_SENDER)], "it comes too late"
    assert node.awaits(4)
    assert len(node.asked) == ASKS + 1


def test_a_connection_that_is_gone_is_asked_for_anew(node: Node) -> None:
    node.awaits(3)
    node.offered(1)
    node.channels.lost(ChannelLost(9))
    assert node.channels.to(PEER) == 1
    node.channels.lost(ChannelLost(1))
    assert node.channels.to(PEER) is None
    assert node.awaits(4)
    assert node.asked == 2 * [(FILE, PEER)]


def test_who_is_not_awaited_gets_nothing_and_takes_no_place() -> None:
    node = Node(reverse_peers_max=1)
    for channel in range(1, 50):
        stranger = node_id(f"stranger {channel}")
        assert node.offered(channel, stranger) == [CloseChannel(channel, Reason.UNKNOWN_SENDER)]
    assert node.awaits(3)
    assert node.asked == [(FILE, PEER)]
    assert node.offered(50) == [TakeChannel(50)]


@pytest.mark.parametrize("how", BAD.values(), ids=BAD)
def test_a_ticket_that_is_no_leave_opens_nothing_and_the_right_one_still_does(node: Node, how: dict[str, Any]) -> None:
    node.awaits(3)
    node.channels.offered(ChannelOffered(1, PEER, FILE, offer(**how)))
    assert node.did() == [CloseChannel(1, Reason.NO_TICKET)]
    assert node.near == []
    assert node.offered(2) == [TakeChannel(2)]


def test_a_leave_is_for_one_receiver_and_one_sender(node: Node) -> None:
    node.awaits(3)
    for ticket in (offer(receiver=node_id("other")), offer(sender=node_id("other"))):
        node.channels.offered(ChannelOffered(1, PEER, FILE, ticket))
        assert node.did() == [CloseChannel(1, Reason.NO_TICKET)]


def test_a_leave_that_was_used_opens_no_second_connection(node: Node) -> None:
    node.awaits(3)
    node.offered(1)
    assert node.offered(2) == [CloseChannel(2, Reason.UNKNOWN_SENDER)]
    assert node.channels.to(PEER) == 1


def test_no_more_are_awaited_than_may_be() -> None:
    node = Node(reverse_peers_max=2)
    first, second, third = (node_id(name) for name in ("first", "second", "third"))
    assert node.awaits(1, first)
    node.offered(1, first)
    assert node.awaits(1, second)
    assert node.awaits(1, third)
    assert node.far == [(FILE, [1], Reason.NO_SOURCE)]
    assert [peer for _, peer in node.asked] == [first, second]
    node.channels.lost(ChannelLost(1))
    assert node.awaits(1, third)
    assert [peer for _, peer in node.asked] == [first, second, third]


def test_nobody_is_asked_for_a_file_that_is_not_wanted_any_more(node: Node) -> None:
    assert node.awaits(3)
    node.channels.ended(OTHER_FILE)
    assert node.far == []
    node.channels.ended(FILE)
    assert node.far == [(FILE, [3], Reason.CANCELLED)]
    node.pass_ms(ASKS * ASK_MS)
    assert node.asked == [(FILE, PEER)]
    assert node.offered(1) == [CloseChannel(1, Reason.UNKNOWN_SENDER)]


def test_a_peer_is_awaited_on_for_the_other_file(node: Node) -> None:
    assert node.awaits(3)
    assert node.awaits(1, file=OTHER_FILE)
    node.channels.ended(FILE)
    node.pass_ms(ASK_MS)
    assert node.asked == [(FILE, PEER), (OTHER_FILE, PEER)]


# -- senders -----------------------------------------------------------------------------------------------------------

REQUEST = DialRequest(file=FILE, peer=PEER, endpoint="192.0.2.7:4303", ticket=offer(PEER, HERE))


def test_a_receiver_is_dialled_with_the_leave(node: Node) -> None:
    (dial,) = node.requested(REQUEST)
    assert dial == DialPeer(dial.op, PEER, "192.0.2.7:4303", FILE, offer(PEER, HERE))  # type: ignore[attr-defined]
    node.context.ops.complete(PeerDialled(dial.op))
    assert node.did() == []
    assert node.told == [Dialled(PEER, None)]
    node.pass_ms(ASKS * ASK_MS)
    assert node.did() == [], "what has ended is not called off"


def test_one_receiver_is_dialled_once_at_a_time(node: Node) -> None:
    (dial,) = node.requested(REQUEST)
    assert isinstance(dial, DialPeer)
    assert node.requested(REQUEST) == []
    node.context.ops.complete(DialFailed(dial.op, Reason.PEER_LOST))
    node.did()
    assert node.told == [Dialled(PEER, Reason.PEER_LOST)]
    assert len(node.requested(REQUEST)) == 1


def test_a_dial_that_takes_too_long_is_called_off(node: Node) -> None:
    (dial,) = node.requested(REQUEST)
    assert isinstance(dial, DialPeer)
    node.pass_ms(ASKS * ASK_MS)
    assert node.did() == [CancelOp(dial.op)]
    node.context.ops.complete(DialFailed(dial.op, Reason.CANCELLED))
    assert len(node.requested(REQUEST)) == 1


def test_no_more_are_dialled_at_once_than_may_be() -> None:
    node = Node(reverse_peers_max=2)
    for number in range(4):
        peer = node_id(f"peer {number}")
        node.requested(DialRequest(file=FILE, peer=peer, ticket=offer(peer, HERE)))
    assert node.told == [Dropped("dialRequest", Reason.OVERFLOW)]
    assert len(node.context.ops) == 2


@pytest.mark.parametrize("how", BAD.values(), ids=BAD)
def test_nobody_is_dialled_without_a_brokers_leave(node: Node, how: dict[str, Any]) -> None:
    ticket = offer(PEER, HERE, **how)
    assert node.requested(DialRequest(file=FILE, peer=PEER, endpoint="192.0.2.7:1", ticket=ticket), ticket.broker) == []


def test_only_the_broker_that_gives_the_leave_may_ask(node: Node) -> None:
    assert node.requested(REQUEST, node_id("somebody")) == []
    assert node.requested(DialRequest(file=FILE, peer=PEER)) == []
    assert node.requested(DialRequest(file=FILE, peer=HERE, ticket=offer(HERE, HERE))) == []
    assert node.requested(DialRequest(file=FILE, peer=PEER, ticket=offer(node_id("other"), HERE))) == []


@pytest.mark.parametrize("endpoint", ["", "no address", "host:0"])
def test_what_is_no_address_is_not_dialled(endpoint: str) -> None:
    node = Node(coordinators=(f"{BROKER.hex()}@broker.example:4301",))
    assert node.requested(DialRequest(file=FILE, peer=PEER, endpoint=endpoint, ticket=REQUEST.ticket)) == []
    assert node.told == [Dropped("dialRequest", Reason.NO_ADDRESS)]


def test_who_gives_nothing_now_dials_nobody(node: Node) -> None:
    node.gives = False
    assert node.requested(REQUEST) == []
    assert node.told == [Dropped("dialRequest", Reason.NOT_SEEDING)]
