"""Wi-Fi Direct: who is dialled over it, for what, and what happens where that fails."""

from __future__ import annotations

import pytest

from edgecoder.config import NodeConfig
from edgecoder.core.effects import Connect, Disconnect
from edgecoder.core.events import PeersSilent
from edgecoder.core.ids import LinkId, Medium, Role
from edgecoder.mesh.gate import Link
from edgecoder.mesh.peers import Peers
from edgecoder.trace import TaskEnded, TaskRouted
from edgecoder.wire.advertisement import Bits, short_generation
from tests.catalogs import SMALL
from tests.harness import Cluster
from tests.hosts import Host, Outcome
from tests.neighbourhood import hear, phone_of

LONG, SHORT = "x" * 70_000, "x" * 1_000
WIDE = {"wifi_direct_links_max": 1}


def said(host: Host, *, wifi_direct: bool = True) -> Bits:
    generation = (host.alive.context.epoch << 32) | 2
    return Bits(False, short_generation(generation), b"\xff\xff\xff", wifi_direct)


def pair(cluster: Cluster, *, wifi_direct: bool = True, **config: object) -> tuple[Host, Host]:
    """A phone without a model that has read one with a model."""
    asks = phone_of(cluster, **(WIDE | config))
    serves = cluster.add("serves", config=phone_config(), installed=[SMALL], active=SMALL)
    cluster.run_for(1_000)
    cluster.put(asks, 1)
    cluster.put(serves, 2)
    hear(asks, 2, said(serves, wifi_direct=wifi_direct))
    cluster.run_for(10_000)
    assert asks.alive.gate.links == {}
    return asks, serves


def phone_config() -> NodeConfig:
    return NodeConfig(**WIDE)  # type: ignore[arg-type]  # by name


def media(asks: Host) -> list[Medium]:
    return [effect.medium for effect in asks.did(Connect)]


def test_a_long_request_goes_over_wifi_direct_and_the_link_is_let_go(cluster: Cluster) -> None:
    asks, serves = pair(cluster)
    command = asks.submit(model="small", prompt=LONG)
    cluster.run_for(5_000)
    assert asks.task(command).served_by == serves.node_id
    assert media(asks)[-1] is Medium.WIFI_DIRECT
    cluster.run_for(12_000)
    assert asks.alive.gate.links == serves.alive.gate.links == {}


@pytest.mark.parametrize(("prompt", "wifi_direct", "links"), [(SHORT, True, 1), (LONG, False, 1), (LONG, True, 0)])
def test_a_short_request_and_one_to_or_of_a_node_without_it_go_over_bluetooth(
    prompt: str, wifi_direct: bool, links: int, cluster: Cluster
) -> None:
    asks, serves = pair(cluster, wifi_direct=wifi_direct, wifi_direct_links_max=links)
    command = asks.submit(model="small", prompt=prompt)
    cluster.run_for(5_000)
    assert asks.task(command).served_by == serves.node_id
    assert set(media(asks)) == {Medium.BLE}


def test_where_no_group_is_formed_bluetooth_has_to_do(cluster: Cluster) -> None:
    asks, serves = pair(cluster)
    dial = cluster.connect

    def no_groups(source: Host, address: int, medium: Medium = Medium.BLE) -> LinkId | None:
        return None if medium is Medium.WIFI_DIRECT else dial(source, address, medium)

    cluster.connect = no_groups  # type: ignore[method-assign, assignment]
    command = asks.submit(model="small", prompt=LONG)
    cluster.run_for(5_000)
    assert asks.task(command).served_by == serves.node_id
    assert Medium.WIFI_DIRECT in media(asks)


def test_a_link_too_many_is_let_go(cluster: Cluster) -> None:
    asks, serves = pair(cluster)
    before = len(asks.did(Disconnect))
    first = cluster.connect(serves, 1, Medium.WIFI_DIRECT)
    second = cluster.connect(serves, 1, Medium.WIFI_DIRECT)
    cluster.run_for(500)
    assert asks.did(Disconnect)[before:] == [Disconnect(second or 0)]
    assert list(asks.alive.gate.links) == [first]


def test_forming_a_group_takes_its_time_and_the_task_waits(cluster: Cluster) -> None:
    asks, serves = pair(cluster)
    asks.plan(Connect, Outcome(), Outcome(after_us=5_000_000))
    command = asks.submit(model="small", prompt=LONG)
    cluster.run_for(30_000)
    assert asks.task(command).served_by == serves.node_id
    (ended,) = asks.traced(TaskEnded)
    assert ended.attempts == 1
    assert len(asks.traced(TaskRouted)) == 1
    assert asks.member.peers.rows[serves.node_id].stats.failed == 0
    assert len(serves.member.executor.reservations) == 0
    assert media(asks).count(Medium.WIFI_DIRECT) == 1


def test_a_device_may_fall_silent_while_a_group_is_formed(cluster: Cluster) -> None:
    asks, _ = pair(cluster)
    asks.plan(Connect, Outcome(), Outcome(after_us=4_000_000))
    command = asks.submit(model="small", prompt=LONG, deadline_ms=20_000)
    cluster.run_for(2_500)
    asks.take(PeersSilent((2,)))
    cluster.run_for(30_000)
    assert asks.task(command).reason is None, "the group is formed all the same"
    assert asks.alive.gate.links == {}


def test_of_two_links_to_a_peer_the_faster_is_used_whichever_came_first(cluster: Cluster) -> None:
    peers = Peers(phone_of(cluster).alive.context)
    slow, fast = (
        Link(number, medium, -60, b"peer", Role.PHONE) for number, medium in enumerate((Medium.BLE, Medium.WIFI_DIRECT))
    )
    peers.link_bound(slow)
    peers.link_bound(fast)
    assert peers.link_to(b"peer") == fast.id
    peers.link_bound(slow)
    assert peers.link_to(b"peer") == fast.id
    peers.link_down(fast)
    peers.link_bound(slow)
    assert peers.link_to(b"peer") == slow.id
