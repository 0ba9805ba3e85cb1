"""The oracle of distribution: against closed forms, by hand, and by what more of anything must do."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecoder_sim.bounds.closed import Peer, cdn_bytes_min, fluid_s
from edgecoder_sim.bounds.oracle import Cdn, NodeClass, cdn_alone_s, deadlines_s, fewest_cdn_bytes

CDN = Cdn(egress_bytes_per_s=100, price_per_gb=5e8)


def swarm(count: int = 4, up: float = 100, down: float = 1000, **more: Any) -> NodeClass:
    """Equal nodes that want file 0."""
    given: dict[str, Any] = {"name": "phones", "wants": (0,), **more}
    return NodeClass(count=count, up_bytes_per_s=up, down_bytes_per_s=down, **given)


@pytest.mark.parametrize(
    ("classes", "cdn", "expected_s"),
    [
        ([swarm()], CDN, [40]),
        ([swarm(1), swarm(1, down=20)], CDN, [12.5, 50]),  # 80 and 20 B/s
        ([swarm(1), swarm(1, come_s=5)], CDN, [15, 20]),  # 100 alone, then 50 each
        ([swarm(2, leave_s=5), swarm(1)], CDN, [inf, 5 + (1000 - 500 / 3) / 100]),
        ([swarm(4)], Cdn(per_connection_bytes_per_s=10), [100]),
        ([swarm(wants=()), swarm(1)], CDN, [0, 10]),
        ([swarm(down=0)], CDN, [inf]),
    ],
)
def test_the_cdn_alone_shares_its_egress(classes: list[NodeClass], cdn: Cdn, expected_s: list[float]) -> None:
    assert cdn_alone_s([1000], classes, cdn) == pytest.approx(expected_s)


def test_deadlines_count_from_when_nodes_come() -> None:
    assert deadlines_s([1000], [swarm(1), swarm(1, come_s=5)], CDN) == pytest.approx([15.45, 20.45])


@pytest.mark.parametrize(("count", "within_s"), [(4, 10), (4, 20), (4, 13), (40, 12), (1, 10)])
def test_equal_nodes_have_the_closed_form(count: int, within_s: float) -> None:
    cdn = Cdn(egress_bytes_per_s=inf)
    outcome = fewest_cdn_bytes([1000], [swarm(count, up=60)], cdn, [within_s], slots=10)
    peers_up = 60 * count if count > 1 else 0
    assert outcome.cdn_bytes == pytest.approx(cdn_bytes_min(1000, count, peers_up, within_s), rel=1e-5)
    assert sum(outcome.bytes_by_tier["cdn"]) == pytest.approx(outcome.cdn_bytes, rel=1e-4)
    assert sum(map(sum, outcome.bytes_by_tier.values())) == pytest.approx(1000 * count, rel=1e-5)
    assert outcome.finish_s["phones"] <= within_s


def test_a_class_is_its_nodes() -> None:
    one_by_one = [swarm(1, up=30, name=str(number)) for number in range(5)]
    alone = fewest_cdn_bytes([1000], one_by_one, CDN, [22] * 5, slots=7)
    together = fewest_cdn_bytes([1000], [swarm(5, up=30)], CDN, [22], slots=7)
    assert alone.cdn_bytes == pytest.approx(together.cdn_bytes, rel=1e-5)
    assert together.cdn_bytes == pytest.approx(5000 - 150 * 22, rel=1e-5)
    assert together.cost == pytest.approx(together.cdn_bytes / 2)


def test_the_fluid_bound_is_where_it_becomes_impossible() -> None:
    peers = [swarm(3, up=100, name="givers"), swarm(7, up=0, name="takers")]
    bound_s = fluid_s(1000, 100, [Peer(100)] * 3 + [Peer(0)] * 7)
    assert fewest_cdn_bytes([1000], peers, CDN, [bound_s * 1.001] * 2, slots=10).cdn_bytes >= 1000 - 1e-3
    with pytest.raises(ValueError, match="cannot be met"):
        fewest_cdn_bytes([1000], peers, CDN, [bound_s * 0.999] * 2, slots=10)


def test_who_has_it_saves_the_cdn_all() -> None:
    holders = NodeClass(name="holders", up_bytes_per_s=100, down_bytes_per_s=100, holds=(0,))
    assert fewest_cdn_bytes([1000], [swarm(), holders], CDN).cdn_bytes == pytest.approx(0, abs=1e-3)
    gone = NodeClass(name="holders", up_bytes_per_s=100, down_bytes_per_s=100, holds=(0,), leave_s=3)
    # 300 bytes before they leave; the other 700 once
    assert fewest_cdn_bytes([1000], [swarm(), gone], CDN).cdn_bytes == pytest.approx(700, rel=1e-5)


def test_one_node_does_not_serve_itself() -> None:
    # in 10 s the slow one sends 100 bytes; the fast one could send 5000, but has one to send to
    pair = [swarm(1, up=500, name="fast"), swarm(1, up=10, name="slow")]
    assert fewest_cdn_bytes([1000], pair, Cdn(egress_bytes_per_s=1000), [10, 10]).cdn_bytes == pytest.approx(1000)
    late = [swarm(1, up=500, name="fast"), swarm(1, up=10, name="slow", come_s=9)]
    # the slow one gets at most 500 from the fast one in its second
    assert fewest_cdn_bytes([1000], late, Cdn(egress_bytes_per_s=1000), [9, 10]).cdn_bytes == pytest.approx(1500)


def test_a_radio_divides_its_time_and_a_group_needs_its_own_copy() -> None:
    near = [swarm(2, up=0, near_bytes_per_s=100, group=name, name=name) for name in ("east", "west")]
    outcome = fewest_cdn_bytes([1000], near, Cdn(egress_bytes_per_s=1000), [20, 20], slots=10)
    assert outcome.cdn_bytes == pytest.approx(2000, rel=1e-5)
    assert sum(outcome.bytes_by_tier["ble"]) == pytest.approx(2000, rel=1e-4)
    # in 10 s the two radios of a group have 2000 bytes of time: 1000 received as well as sent; in 5 s half
    hurried = fewest_cdn_bytes([1000], near, Cdn(egress_bytes_per_s=1000), [5, 5], slots=10)
    assert hurried.cdn_bytes == pytest.approx(3000, rel=1e-5)


def test_two_files_share_the_links() -> None:
    classes = [swarm(2, up=50, wants=(0, 1), name="both"), swarm(2, up=50, wants=(1,), name="one")]
    outcome = fewest_cdn_bytes([1000, 400], classes, Cdn(egress_bytes_per_s=1000), [10, 10], slots=10)
    assert outcome.cdn_bytes == pytest.approx(2 * 1400 + 2 * 400 - 4 * 50 * 10, rel=1e-5)


def test_what_cannot_be_is_refused_and_nothing_to_do_is_nothing() -> None:
    with pytest.raises(ValueError, match="takes time"):
        fewest_cdn_bytes([1000], [swarm(come_s=5)], CDN, [5])
    idle = fewest_cdn_bytes([1000], [swarm(wants=(), come_s=3)], CDN)
    assert (idle.cdn_bytes, idle.finish_s) == (0, {"phones": 3})


some = st.builds(
    lambda count, up, down, come: {"count": count, "up": up, "down": down, "come_s": come},
    st.integers(1, 5),
    st.floats(0, 300),
    st.floats(20, 500),
    st.floats(0, 20),
)


@settings(max_examples=25)
@given(st.lists(some, min_size=1, max_size=3), st.floats(50, 500))
def test_it_can_always_be_done_and_more_of_anything_helps(given_: list[dict[str, Any]], egress: float) -> None:
    cdn = Cdn(egress_bytes_per_s=egress)
    classes = [swarm(**each, name=str(number)) for number, each in enumerate(given_)]
    due_s = deadlines_s([1000], classes, cdn)
    outcome = fewest_cdn_bytes([1000], classes, cdn, due_s, slots=8)
    count = sum(each.count for each in classes)
    assert 1000 * (1 - 1e-5) <= outcome.cdn_bytes <= 1000 * count * (1 + 1e-5)
    assert all(outcome.finish_s[each.name] <= due * (1 + 1e-6) for each, due in zip(classes, due_s, strict=True))
    narrow = fewest_cdn_bytes([1000], classes, cdn, due_s, slots=16)
    assert narrow.cdn_bytes >= outcome.cdn_bytes * (1 - 1e-5)
    helper = NodeClass(name="helper", up_bytes_per_s=50, down_bytes_per_s=0, holds=(0,))
    assert (
        fewest_cdn_bytes([1000], [*classes, helper], cdn, [*due_s, inf], slots=8).cdn_bytes <= outcome.cdn_bytes + 0.1
    )
