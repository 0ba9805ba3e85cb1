"""Bluetooth links: when a frame arrives, what writes cost, and how a radio divides its time."""

from __future__ import annotations

import math
from typing import cast

import pytest

from edgecoder.core.ids import LinkId
from edgecoder.core.rng import Stream
from edgecoder.wire.envelope import Envelope, Header
from edgecoder.wire.messages import LedgerAck, Message, Release
from edgecoder_sim.host import SimNode
from edgecoder_sim.profiles import DEVICES
from edgecoder_sim.radio import NEVER_US, Antenna, Antennas, BleLink
from edgecoder_sim.radio_model import SYSTEMS, Ble, Radio, System

SECOND_US = 1_000_000
NOTIFIED, WRITTEN = LedgerAck(), Release(task_id=bytes(16))
CALM = Ble(packet_loss_pct=0.0)


class FakeNode:
    """A node that notes what reaches it."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.device = DEVICES["laptop"]
        self.arrivals_us: list[int] = []

    def stream(self, purpose: str) -> Stream:
        return Stream(1, self.index.to_bytes(4, "big"), purpose)

    def deliver_at(self, at_us: int, *_: object) -> None:
        self.arrivals_us.append(at_us)


def sealed(message: Message, size_bytes: int) -> Envelope:
    """A frame that is said to have some size."""
    return Envelope(Header("n", b"", 1, 1, 1), message, b"", size_bytes, b"")


class Air:
    """A few nodes and links between them."""

    def __init__(self, ble: Ble = CALM, system: System = SYSTEMS["desktop"], count: int = 4) -> None:
        self.nodes = [FakeNode(index) for index in range(count)]
        self.antennas = Antennas(Radio(ble=ble), {"desktop": system})

    def antenna(self, node: FakeNode) -> Antenna:
        return self.antennas.of(cast("SimNode", node))

    def link(self, a: int, b: int, link: LinkId) -> BleLink:
        first, second = (cast("SimNode", self.nodes[index]) for index in (a, b))
        return BleLink(link, self.antennas, first, second, -60)

    def send(self, link: BleLink, sender: int, size_bytes: int, depart_us: int, message: Message = NOTIFIED) -> int:
        return link.send(cast("SimNode", self.nodes[sender]), sealed(message, size_bytes), depart_us)


def test_a_frame_waits_for_the_next_connection_event() -> None:
    air = Air()
    link = air.link(0, 1, 7)
    waits_us = [air.send(link, 0, 100, at_us) - at_us for at_us in range(SECOND_US, 2 * SECOND_US, 31_001)]
    assert all(0 < wait_us <= 30_000 + 1_000 for wait_us in waits_us)
    assert sum(waits_us) / len(waits_us) == pytest.approx(15_000, rel=0.2)


def test_notifications_follow_one_another_in_order_at_the_rate_of_the_link() -> None:
    air = Air()
    link = air.link(0, 1, 7)
    size_bytes, frames = 10_000, 40
    for _ in range(frames):
        air.send(link, 0, size_bytes, SECOND_US)
    arrivals_us = air.nodes[1].arrivals_us
    assert arrivals_us == sorted(arrivals_us)
    kbit_per_s = frames * size_bytes * 8 * 1000 / (arrivals_us[-1] - SECOND_US)
    assert kbit_per_s == pytest.approx(1229, rel=0.05)
    assert link.quiet_us == arrivals_us[-1]
    assert air.send(link, 1, 100, SECOND_US) < SECOND_US + 31_000  # the other direction is free


def test_lost_packets_are_sent_again() -> None:
    ends_us = []
    for loss_pct in (0.0, 50.0):
        air = Air(Ble(packet_loss_pct=loss_pct))
        ends_us.append(air.send(air.link(0, 1, 7), 0, 500_000, SECOND_US) - SECOND_US)
    assert ends_us[1] / ends_us[0] == pytest.approx(2, rel=0.02)


@pytest.mark.parametrize("values", [1, 2, 10])
def test_each_value_of_a_write_takes_two_intervals(values: int) -> None:
    air = Air(system=SYSTEMS["ios"])
    link = air.link(0, 1, 7)
    size_bytes = 170 + 179 * (values - 1)
    arrival_us = air.send(link, 0, size_bytes, SECOND_US, WRITTEN)
    after_us = air.send(link, 0, 10, SECOND_US)
    waited_us = after_us - arrival_us
    assert arrival_us - SECOND_US == pytest.approx((values - 1) * 60_000 + 15_000, abs=16_500)
    assert 58_000 <= waited_us <= 61_000  # for the response to the last
    bare_us = Air(system=SYSTEMS["ios"]).send(link, 0, size_bytes, arrival_us + SECOND_US) - arrival_us - SECOND_US
    assert bare_us <= 30_000 * (1 + values // 5) + 31_000


def test_a_relay_on_one_radio_halves() -> None:
    alone, relay = Air(), Air()
    straight = alone.link(0, 1, 1)
    into, out = relay.link(0, 1, 1), relay.link(1, 2, 2)
    for _ in range(100):
        end_us = alone.send(straight, 0, 10_000, SECOND_US)
        relay.send(into, 0, 10_000, SECOND_US)
        relay_end_us = relay.send(out, 1, 10_000, SECOND_US)
    slower = (relay_end_us - SECOND_US) / (end_us - SECOND_US)
    assert slower == pytest.approx(2 * into_share(), rel=0.05)
    apart = Air()
    first, second = apart.link(0, 1, 1), apart.link(2, 3, 2)
    for _ in range(100):
        apart.send(first, 0, 10_000, SECOND_US)
        apart_end_us = apart.send(second, 2, 10_000, SECOND_US)
    assert apart_end_us - SECOND_US == pytest.approx(end_us - SECOND_US, rel=0.02)


def into_share() -> float:
    """Share of its time that a radio of `desktop` is on the air for one link that has much to carry."""
    return 27 * 1080 / 30_000


def test_links_that_fit_beside_each_other_do_not_slow_each_other_down() -> None:
    air = Air(system=SYSTEMS["ios"])
    first, second = air.link(0, 1, 1), air.link(1, 2, 2)
    alone_us = Air(system=SYSTEMS["ios"]).send(air.link(1, 2, 2), 1, 20_000, SECOND_US)
    air.send(first, 0, 20_000, SECOND_US)
    assert air.send(second, 1, 20_000, SECOND_US) == alone_us


def test_a_system_is_drawn_once_by_its_weight() -> None:
    antennas = Antennas(Radio(), SYSTEMS)
    nodes = [FakeNode(index) for index in range(2000)]
    drawn = []
    for node in nodes:
        node.device = DEVICES["phone_mid"]
        drawn.append(antennas.of(cast("SimNode", node)).system_name)
    assert [antennas.of(cast("SimNode", node)).system_name for node in nodes] == drawn
    assert drawn.count("ios") / len(drawn) == pytest.approx(0.25, abs=0.03)


def test_a_crowd_that_transfers_loses_packets() -> None:
    """Ten busy links in range of each other: each meets the nine others on one of 37 channels."""

    def rate(others: tuple[tuple[int, int], ...]) -> float:
        air = Air(count=20)
        for node in air.nodes:
            air.antenna(node).near = {other.index for other in air.nodes if other is not node}
        links = [air.link(a, b, 1 + a) for a, b in ((0, 1), *others)]
        for step in range(3000):
            for link in links:
                air.send(link, link.first.index, 28_000, 5 * SECOND_US + step * 100_000)
        return 3000 * 28_000 * 8 / (links[0].quiet_us - 5 * SECOND_US)

    alone, crowd = rate(()), rate(tuple((a, a + 1) for a in range(2, 20, 2)))
    duty = into_share()
    assert crowd / alone == pytest.approx(math.exp(-2 * 9 * duty / 37), rel=0.05)


def test_a_share_of_a_system_has_the_app_in_the_background() -> None:
    antennas = Antennas(Radio(), {"desktop": System(in_background_pct=30.0)})
    hidden = [antennas.of(cast("SimNode", FakeNode(index))).is_in_background for index in range(2000)]
    assert sum(hidden) / len(hidden) == pytest.approx(0.3, abs=0.03)


def carried(air: Air, link: BleLink, sender: int, parts: int, depart_us: int) -> int:
    """When so many parts of a piece have arrived, of which the link has two at once."""
    node = cast("SimNode", air.nodes[sender])
    ahead = [link.carry(node, link.bulk_bytes, depart_us) for _ in range(2)]
    for _ in range(parts - 2):
        ahead.append(link.carry(node, link.bulk_bytes, ahead.pop(0)))
    return ahead[-1]


def test_parts_of_a_piece_follow_one_another_at_the_rate_of_the_link() -> None:
    air = Air()
    link = air.link(0, 1, 7)
    parts = 100
    end_us = carried(air, link, 0, parts, SECOND_US)
    kbit_per_s = parts * link.bulk_bytes * 8 * 1000 / (end_us - SECOND_US)
    assert kbit_per_s == pytest.approx(1229, rel=0.05)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_frame_waits_for_two_parts_of_a_piece_and_no_more(system: str) -> None:
    air = Air(system=SYSTEMS[system])
    link = air.link(0, 1, 7)
    alone_us = air.send(link, 0, 100, SECOND_US) - SECOND_US
    link = air.link(0, 1, 8)
    for _ in range(2):
        link.carry(cast("SimNode", air.nodes[0]), link.bulk_bytes, SECOND_US)
    assert alone_us < air.send(link, 0, 100, SECOND_US) - SECOND_US <= 200_000


def test_pieces_in_both_directions_slow_each_other_down_and_links_do_not_carry_while_parted() -> None:
    air = Air()
    one_way, both_ways = air.link(0, 1, 7), air.link(2, 3, 8)
    alone_us = carried(air, one_way, 0, 50, SECOND_US) - SECOND_US
    first, second = (cast("SimNode", air.nodes[index]) for index in (2, 3))
    end_us = SECOND_US
    for _ in range(50):
        end_us = both_ways.carry(first, both_ways.bulk_bytes, SECOND_US)
        both_ways.carry(second, both_ways.bulk_bytes, SECOND_US)
    assert 1.4 < (end_us - SECOND_US) / alone_us < 2.0
    both_ways.part()
    assert both_ways.carry(first, 100, end_us) == NEVER_US
