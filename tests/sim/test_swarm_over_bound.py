"""The picker in slots: everybody sends one piece a slot, and news takes none."""

from __future__ import annotations

import pytest

from edgecoder.coordinator.swarm import Order, Peer, Swarm
from edgecoder.core.rng import Stream
from edgecoder.seeding.pieces import Layout

PIECES = 280
LAYOUT = Layout(PIECES << 20, 1 << 20)


def slots_taken(nodes: int, rng_seed: int) -> int:
    """Slots until all of so many nodes have all pieces, from an origin that sends one a slot."""
    swarm = Swarm(LAYOUT, Stream(rng_seed, b"", "slots"), degree=20, inbound=3, delay=0)
    swarm.origin_target = 1
    for number in range(nodes):
        node = number.to_bytes(32, "big")
        swarm.join(Peer(node, number, 0, True, 1 << 20, 1, "", refused={}, tickets={}))
    slot = 0
    while swarm.receivers:
        orders: list[Order] = list(swarm.fill_from_origin(slot))
        for sender in swarm.peers.values():
            orders += swarm.fill(sender, slot)
        assert orders, "somebody lacks something, and nobody sends"
        for order in orders:
            swarm.settle(order.receiver, order.piece, arrived=True)
        slot += 1
    return slot


@pytest.mark.parametrize("rng_seed", [1, 2])
def test_a_crowd_is_done_near_the_piece_bound(rng_seed: int) -> None:
    nodes = 120
    bound = PIECES + nodes.bit_length() - 1
    assert bound <= slots_taken(nodes, rng_seed) <= 1.03 * bound
