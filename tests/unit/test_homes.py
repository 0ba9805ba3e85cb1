"""Which coordinator a node reports to: a spare takes over from a home that is gone or silent, and only then."""

from __future__ import annotations

from edgecoder.config import ClusterConfig
from edgecoder.core.ids import LinkId, Role
from edgecoder.mesh.heartbeat import PATIENCE_MAX
from edgecoder.trace import HomeChanged, OnlineChanged
from edgecoder.wire.messages import Heartbeat, HeartbeatAck
from tests.catalogs import SMALL
from tests.harness import Cluster, Puppet
from tests.hosts import Host

PERIOD_MS = ClusterConfig().heartbeat_interval_ms


def world(cluster: Cluster, hubs: int = 2) -> tuple[Host, list[Host], list[LinkId]]:
    """A phone and so many coordinators, of which the first is its home."""
    phone = cluster.add("phone", installed=[SMALL], active=SMALL)
    all_hubs = [cluster.add(f"hub-{number}", Role.COORDINATOR) for number in range(hubs)]
    cluster.drive()
    links = []
    for hub in all_hubs:
        links.append(cluster.link(hub, phone))
        cluster.run_for(100)
    cluster.run_for(PERIOD_MS)
    return phone, all_hubs, links


def homes(phone: Host) -> list[bytes]:
    """The coordinators that it has reported to, in order."""
    return [record.coordinator for record in phone.traced(HomeChanged)]


def counts(hubs: list[Host]) -> list[int]:
    """How many nodes each coordinator says that it has."""
    return [hub.hub.registry.agent_count() for hub in hubs]


def test_the_first_coordinator_is_home_and_the_others_are_spares(cluster: Cluster) -> None:
    phone, hubs, _ = world(cluster, 3)
    cluster.run_for(10 * PERIOD_MS)
    assert homes(phone) == [hubs[0].node_id]
    assert counts(hubs) == [1, 0, 0]


def test_a_lost_link_leads_to_the_spare_at_once(cluster: Cluster) -> None:
    phone, hubs, links = world(cluster)
    cluster.unlink(links[0])
    cluster.run_for(100)
    assert homes(phone) == [hub.node_id for hub in hubs]
    assert hubs[1].hub.registry.agent_count() == 1
    assert phone.member.heartbeat.is_online
    cluster.run_for(4 * PERIOD_MS)
    assert counts(hubs) == [0, 1], "the old home forgets it"
    assert OnlineChanged(online=False) not in phone.traces


def test_a_silent_home_is_left_after_two_heartbeats(cluster: Cluster) -> None:
    phone, hubs, _ = world(cluster)
    cluster.partition(hubs[0])
    cluster.run_for(3 * PERIOD_MS)
    assert homes(phone) == [hub.node_id for hub in hubs]
    assert phone.member.heartbeat.is_online
    cluster.heal()
    cluster.run_for(20 * PERIOD_MS)
    assert homes(phone) == [hub.node_id for hub in hubs], "there is no way back but a fall of the new home"
    assert counts(hubs) == [0, 1]


def test_nobody_runs_to_and_fro_when_no_coordinator_answers(cluster: Cluster) -> None:
    phone, _, _ = world(cluster, 3)
    cluster.partition(phone)
    cluster.run_for(100 * PERIOD_MS)
    assert 4 <= len(homes(phone)) <= 5 + 100 // PATIENCE_MAX
    assert not phone.member.heartbeat.is_online
    cluster.heal()
    cluster.run_for(PERIOD_MS + 100)
    assert phone.member.heartbeat.is_online, "whichever is home answers the next heartbeat"


def test_a_home_that_answers_again_restores_patience(cluster: Cluster) -> None:
    phone, hubs, _ = world(cluster)
    for silent in (hubs[0], hubs[1], hubs[0]):
        cluster.partition(silent)
        cluster.run_for(4 * PERIOD_MS)
        assert homes(phone)[-1] != silent.node_id
        cluster.heal()
        cluster.run_for(5 * PERIOD_MS)


def test_a_newer_link_to_the_home_takes_the_place_of_the_older(cluster: Cluster) -> None:
    """The older may be dead without anybody having noticed."""
    phone, hubs, links = world(cluster)
    fresh = cluster.link(hubs[0], phone)
    cluster.run_for(100)
    assert phone.member.heartbeat.link == fresh
    assert homes(phone) == [hubs[0].node_id]
    cluster.unlink(links[0])
    cluster.run_for(2 * PERIOD_MS)
    assert phone.member.heartbeat.link == fresh
    assert counts(hubs) == [1, 0]


def test_a_coordinator_without_room_is_left(cluster: Cluster) -> None:
    phone = cluster.add("phone", installed=[SMALL], active=SMALL)
    cluster.drive()
    full: Puppet = cluster.puppet("full", Role.COORDINATOR)
    link = cluster.link(full, phone)
    hub = cluster.add("hub", Role.COORDINATOR)
    cluster.link(hub, phone)
    heard = 0
    for _ in range(4 * PERIOD_MS // 100):
        cluster.run_for(100)
        beats = full.all(Heartbeat)
        if len(beats) > heard:
            heard = len(beats)
            seq = phone.alive.context.seq
            full.say(link, HeartbeatAck(epoch=1, seq=seq, coordinator_time_ms=0, known=False))
    assert homes(phone) == [full.node_id, hub.node_id]
    assert phone.member.heartbeat.is_online
