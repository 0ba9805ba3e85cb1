"""Wi-Fi Direct: who is dialled over it, for what, and what happens where that fails."""

from __future__ import annotations

import pytest

from edgecoder.config import NodeConfig
from edgecoder.core.effects import Connect, Disconnect
from edgecoder.core.ids import LinkId, Medium, Role
from edgecoder.mesh.gate import Link
from edgecoder.mesh.peers import Peers
from edgecoder.wire.advertisement import Bits, short_generation
from tests.catalogs import SMALL
from tests.harness import Cluster
from tests.hosts import Host
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
    first = cluster.connect(serves, 1, Medium.WIFI_DIRECT)
    second = cluster.connect(serves, 1, Medium.WIFI_DIRECT)
    cluster.run_for(500)
    assert Disconnect(second or 0) in asks.did(Disconnect)
    assert Disconnect(first or 0) not in asks.did(Disconnect)[:1]


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
