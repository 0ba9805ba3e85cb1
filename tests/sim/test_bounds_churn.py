"""The fluid bound of nodes that come and go: by hand, against its closed form, and against schedules that exist."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecoder_sim.bounds.churn import Node, finish_s
from edgecoder_sim.bounds.closed import Peer, fluid_s

SOURCE = Node(up_bytes_per_s=100, is_holder=True)


def receiver(come_s: float = 0.0, up: float = 100.0, down: float = inf) -> Node:
    """Somebody who comes and stays."""
    return Node(up_s=((come_s, inf),), up_bytes_per_s=up, down_bytes_per_s=down, wants_bytes=1000)


@pytest.mark.parametrize(
    ("others", "expected_s"),
    [
        ([], 0),
        ([receiver()], 10),
        ([receiver()] * 3, 10),
        ([receiver(up=0)] * 3, 30),
        ([receiver(down=20)], 50),
        ([receiver(), receiver(50, up=0)], 55),  # both others send to the one that came last
        ([receiver(50, up=0)], 60),
        # a helper of 10 s, of no use to whom comes at 50 s
        ([receiver(50, up=0), receiver(50, up=0), Node(up_s=((0, 10),), up_bytes_per_s=900)], 70),
        # of use in 50..55: 5 × 400 of 3000 bytes, the rest at 100 B/s
        ([receiver(50, up=0)] * 3 + [Node(up_s=((0, 10), (50, 55)), up_bytes_per_s=300)], 65),
        ([Node(up_s=((0, 4), (20, inf)), down_bytes_per_s=125, wants_bytes=1000)], 24),
        ([Node(up_s=((0, 4),), down_bytes_per_s=125, wants_bytes=1000)], inf),
        ([Node(up_s=(), wants_bytes=1000)], inf),
    ],
)
def test_by_hand(others: list[Node], expected_s: float) -> None:
    assert finish_s([SOURCE, *others], 1000) == pytest.approx(expected_s)


def test_a_source_that_leaves_too_soon() -> None:
    source = Node(up_s=((0, 9),), up_bytes_per_s=100, is_holder=True)
    assert finish_s([source, receiver(), receiver()], 1000) == inf
    assert finish_s([source, receiver(), receiver()], 900) == 9
    back = Node(up_s=((0, 9), (30, inf)), up_bytes_per_s=100, is_holder=True)
    assert finish_s([back, receiver(), receiver()], 1000) == 31


def test_an_uplink_without_limit_serves_at_once() -> None:
    cdn = Node(up_s=((5, 6),), up_bytes_per_s=inf, is_holder=True)
    assert finish_s([cdn, receiver(), receiver(up=0)], 1000) == pytest.approx(5, abs=1e-5)
    assert finish_s([cdn, receiver(down=10)], 1000) == pytest.approx(100)


def test_a_lone_receiver_does_not_serve_itself() -> None:
    assert finish_s([SOURCE, receiver(up=1e6)], 0) == 10


def test_what_the_departed_got_counts_where_it_is_given() -> None:
    left = Node(up_s=((0, 5),), up_bytes_per_s=100)
    stays = [receiver(up=0), receiver(up=0)]
    assert finish_s([SOURCE, left, *stays], 1000) == 15
    served = Node(up_s=((0, 5),), up_bytes_per_s=100, down_bytes_per_s=100, wants_bytes=400)
    assert finish_s([SOURCE, served, *stays], 1000) == 19


peers = st.builds(Peer, st.one_of(st.just(0.0), st.floats(1, 1e6)), st.one_of(st.just(inf), st.floats(1, 1e6)))


@given(st.floats(1, 1e6), st.lists(peers, min_size=2, max_size=20))
def test_where_nobody_comes_or_goes_it_is_the_closed_form(source: float, swarm: list[Peer]) -> None:
    nodes = [Node(up_bytes_per_s=source, is_holder=True)]
    nodes += [receiver(0, peer.up_bytes_per_s, peer.down_bytes_per_s) for peer in swarm]
    assert finish_s(nodes, 1000) == pytest.approx(fluid_s(1000, source, swarm))


spans = st.lists(st.floats(0, 100), min_size=1, max_size=6, unique=True).map(sorted)


@st.composite
def nodes_that_come_and_go(draw: st.DrawFn) -> Node:
    """A node with some spans, the last of which may not end."""
    moments = draw(spans)
    ends = [*moments, inf] if len(moments) % 2 else moments
    up_s = tuple(zip(ends[::2], ends[1::2], strict=True))
    up, down = draw(st.floats(0, 100)), draw(st.floats(1, 100))
    return Node(
        up_s=up_s,
        up_bytes_per_s=up,
        down_bytes_per_s=down,
        wants_bytes=draw(st.one_of(st.just(0.0), st.floats(1, 500))),
    )


@given(st.lists(nodes_that_come_and_go(), min_size=1, max_size=8), nodes_that_come_and_go())
def test_more_helpers_never_finish_later_and_more_receivers_never_sooner(nodes: list[Node], other: Node) -> None:
    world = [SOURCE, receiver(), receiver(), *nodes]
    bound_s = finish_s(world, 500)
    helper = Node(up_s=other.up_s, up_bytes_per_s=other.up_bytes_per_s)
    mute = Node(up_s=other.up_s, down_bytes_per_s=other.down_bytes_per_s, wants_bytes=other.wants_bytes)
    assert finish_s([*world, helper], 500) <= bound_s * (1 + 1e-9)
    assert finish_s([*world, mute], 500) * (1 + 1e-9) >= bound_s


@given(st.lists(nodes_that_come_and_go(), min_size=1, max_size=6), st.integers(0, 2**32))
def test_no_schedule_is_faster(nodes: list[Node], seed: int) -> None:
    """Greedy sharing among those who are up, second by second, with no limit to what may be forwarded, and in an order
    that the seed shuffles, ends no sooner."""
    world = [SOURCE, *nodes]
    bound_s = finish_s(world, 0)
    left = [node.wants_bytes for node in world]
    order = sorted(range(len(world)), key=lambda index: (seed >> index) & 1)
    time_s, step_s = 0.0, 0.5
    while max(left) > 1e-9 and time_s < 400:
        share = [step_s * _overlap(node, time_s, step_s) for node in world]
        send = [part * node.up_bytes_per_s for part, node in zip(share, world, strict=True)]
        take = [part * node.down_bytes_per_s if part else 0.0 for part, node in zip(share, world, strict=True)]
        for sender in order:
            for taker in order:
                if sender != taker:
                    moved = min(send[sender], take[taker], left[taker])
                    send[sender] -= moved
                    take[taker] -= moved
                    left[taker] -= moved
        time_s += step_s
    if max(left) <= 1e-9:
        assert bound_s <= time_s + 1e-6


def _overlap(node: Node, time_s: float, step_s: float) -> float:
    """The share of a step in which a node is up."""
    return sum(max(0.0, min(end, time_s + step_s) - max(begin, time_s)) for begin, end in node.up_s) / step_s


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (Node(up_bytes_per_s=-1), "below 0"),
        (Node(wants_bytes=float("nan")), "below 0, or none"),
        (Node(up_s=((5, 3),)), "in order"),
        (Node(up_s=((0, 5), (3, 9))), "in order"),
        (Node(up_s=((-1, 5),)), "in order"),
        (Node(is_holder=True, wants_bytes=1), "holds"),
    ],
)
def test_what_makes_no_sense_is_refused(node: Node, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        finish_s([SOURCE, node], 1000)
