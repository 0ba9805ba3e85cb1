"""The peer table: newest capabilities, unreachable and forgotten peers, and its bound."""

from __future__ import annotations

import pytest

from edgecoder.config import NodeConfig, Routing
from edgecoder.core.events import SignalMeasured, Wake
from edgecoder.core.ids import LinkId, Medium, Role
from edgecoder.mesh.models import fitting
from edgecoder.mesh.peers import Peers
from edgecoder.mesh.router import Why
from edgecoder.trace import PeerForgotten, PeerLearned
from edgecoder.wire.messages import Capabilities, Load, TaskRequest
from tests.catalogs import CATALOG, LARGE, SMALL
from tests.harness import Cluster, Puppet
from tests.hosts import Host
from tests.strategies import capabilities

ANY = fitting(None, 0.0, CATALOG.same_model)


@pytest.fixture
def phone(cluster: Cluster) -> Host:
    """A phone that remembers four peers."""
    host = cluster.add("phone", config=NodeConfig(peers_max=4, routing=Routing.COST))
    cluster.drive()
    return host


def meet(cluster: Cluster, phone: Host, name: str, medium: Medium = Medium.LAN) -> tuple[Puppet, LinkId]:
    """A peer comes and identifies itself."""
    puppet = cluster.puppet(name)
    link = cluster.link(puppet, phone, medium)
    cluster.run_for(15)
    return puppet, link


def reasons(peers: Peers) -> dict[bytes, Why | None]:
    """Why a router would pass each peer over."""
    return {candidate.node: candidate.excluded for candidate in peers.candidates(ANY, set())}


def test_a_peer_is_a_candidate_once_its_capabilities_came(cluster: Cluster, phone: Host) -> None:
    puppet, link = meet(cluster, phone, "peer")
    assert reasons(phone.member.peers) == {}
    puppet.say(link, capabilities(puppet.node_id, 5))
    cluster.run_for(15)
    assert reasons(phone.member.peers) == {puppet.node_id: None}
    assert phone.traced(PeerLearned) == [PeerLearned(puppet.node_id, 5, False, Medium.LAN)]


@pytest.mark.parametrize("generation", [4, 5])
def test_capabilities_that_are_not_newer_are_no_news(generation: int, cluster: Cluster, phone: Host) -> None:
    puppet, link = meet(cluster, phone, "peer")
    puppet.say(link, capabilities(puppet.node_id, 5, Load.LOADING))
    puppet.say(link, capabilities(puppet.node_id, generation, Load.of(0)))
    cluster.run_for(15)
    assert reasons(phone.member.peers) == {puppet.node_id: Why.IS_LOADING}
    assert len(phone.traced(PeerLearned)) == 1


def test_nobody_speaks_for_another(cluster: Cluster, phone: Host) -> None:
    honest, honest_link = meet(cluster, phone, "honest")
    liar, liar_link = meet(cluster, phone, "liar")
    honest.say(honest_link, capabilities(honest.node_id, 1))
    liar.say(liar_link, capabilities(honest.node_id, 9, Load.LOADING))
    cluster.run_for(15)
    assert reasons(phone.member.peers) == {honest.node_id: None}


def test_a_peer_tells_what_it_is_when_it_comes(cluster: Cluster) -> None:
    phone = cluster.add("phone", installed=[SMALL, LARGE], active=SMALL, languages=("python",))
    cluster.drive()
    puppet, _ = meet(cluster, phone, "peer")
    cluster.run_for(15)
    told = puppet.last(Capabilities)
    assert (told.agent_id, told.active_model, told.languages) == (phone.node_id, "small", ("python",))
    assert told == phone.member.announcer.current


def test_a_coordinator_is_no_peer(cluster: Cluster, phone: Host) -> None:
    hub = cluster.puppet("hub", Role.COORDINATOR)
    link = cluster.link(hub, phone)
    hub.say(link, capabilities(hub.node_id, 1))
    cluster.run_for(25)
    assert phone.member.peers.rows == {}
    assert hub.all(Capabilities) == []


def test_a_peer_whose_link_is_down_is_unreachable_then_forgotten(cluster: Cluster, phone: Host) -> None:
    puppet, link = meet(cluster, phone, "peer")
    puppet.say(link, capabilities(puppet.node_id, 1))
    cluster.run_for(15)
    cluster.unlink(link)
    expiry_ms = phone.setup.config.peer_expiry_ms
    cluster.run_for(expiry_ms - 10)
    assert reasons(phone.member.peers) == {puppet.node_id: Why.UNREACHABLE}
    cluster.run_for(20)
    assert reasons(phone.member.peers) == {}
    assert phone.traced(PeerForgotten) == [PeerForgotten(puppet.node_id)]


def test_a_peer_that_comes_back_is_known_still(cluster: Cluster, phone: Host) -> None:
    puppet, link = meet(cluster, phone, "peer")
    puppet.say(link, capabilities(puppet.node_id, 1), ttl_ms=600_000)
    cluster.run_for(15)
    cluster.unlink(link)
    cluster.run_for(30_000)
    cluster.link(puppet, phone)
    cluster.run_for(60_000)
    assert reasons(phone.member.peers) == {puppet.node_id: None}
    assert phone.member.peers.rows[puppet.node_id].stats.drops == 1


def test_each_peer_is_forgotten_in_its_own_time(cluster: Cluster, phone: Host) -> None:
    for name in ("first", "second"):
        _, link = meet(cluster, phone, name)
        cluster.unlink(link)
        cluster.run_for(20_000)
    cluster.run_for(25_000)
    assert len(phone.member.peers.rows) == 1
    cluster.run_for(20_000)
    assert phone.member.peers.rows == {}


def test_the_newer_of_two_links_is_used_and_an_old_one_that_goes_changes_nothing(cluster: Cluster, phone: Host) -> None:
    puppet, old = meet(cluster, phone, "peer")
    new = cluster.link(puppet, phone, Medium.BLE)
    puppet.say(new, capabilities(puppet.node_id, 1))
    cluster.run_for(15)
    assert phone.member.peers.link_to(puppet.node_id) == new
    cluster.unlink(old)
    assert phone.member.peers.link_to(puppet.node_id) == new
    assert phone.member.peers.rows[puppet.node_id].stats.drops == 0
    assert reasons(phone.member.peers) == {puppet.node_id: None}


def test_a_peer_stays_in_reach_while_another_link_to_it_is_up(cluster: Cluster, phone: Host) -> None:
    puppet, old = meet(cluster, phone, "peer")
    new = cluster.link(puppet, phone, Medium.BLE)
    puppet.say(new, capabilities(puppet.node_id, 1), ttl_ms=600_000)
    cluster.run_for(15)
    cluster.unlink(new)
    assert phone.member.peers.link_to(puppet.node_id) == old
    cluster.run_for(70_000)
    assert reasons(phone.member.peers) == {puppet.node_id: None}
    phone.submit()
    cluster.run_for(15)
    assert puppet.all(TaskRequest)


def test_the_table_is_bounded_and_the_stalest_goes_first(cluster: Cluster, phone: Host) -> None:
    links = {name: meet(cluster, phone, name) for name in ("a", "b", "c", "d")}
    cluster.unlink(links["c"][1])
    meet(cluster, phone, "e")
    assert links["c"][0].node_id not in phone.member.peers.rows, "one without a link goes before one with"
    meet(cluster, phone, "f")
    assert links["a"][0].node_id not in phone.member.peers.rows
    assert len(phone.member.peers.rows) == 4
    puppet, link = links["a"]
    puppet.say(link, capabilities(puppet.node_id, 1))
    cluster.run_for(15)
    assert puppet.node_id not in phone.member.peers.rows


def test_signals_are_kept_with_the_peer(cluster: Cluster, phone: Host) -> None:
    puppet = cluster.puppet("peer")
    link = cluster.link(puppet, phone, Medium.BLE, rssi_dbm=-40)
    puppet.say(link, capabilities(puppet.node_id, 1))
    cluster.run_for(15)
    phone.take(SignalMeasured(link, -60))
    phone.take(SignalMeasured(99, -10))
    (candidate,) = phone.member.peers.candidates(ANY, set())
    assert candidate.rssi_dbm == -50.0


def test_candidates_carry_what_is_known(cluster: Cluster, phone: Host) -> None:
    puppet, link = meet(cluster, phone, "peer")
    puppet.say(link, capabilities(puppet.node_id, 1, Load.of(2), battery_pct=55))
    cluster.run_for(15)
    phone.member.note_outcome(puppet.node_id, None)
    (candidate,) = phone.member.peers.candidates(ANY, {puppet.node_id})
    assert (candidate.param_size, candidate.load, candidate.battery_pct) == (1.5, Load.of(2), 55)
    assert (candidate.fail_rate, candidate.excluded) == (1.0, Why.TRIED)


def test_a_blacklisted_peer_is_passed_over_until_its_time_is_up(cluster: Cluster, phone: Host) -> None:
    puppet, link = meet(cluster, phone, "peer")
    puppet.say(link, capabilities(puppet.node_id, 1), ttl_ms=600_000)
    cluster.run_for(15)
    for _ in range(phone.setup.config.blacklist_failures):
        phone.member.note_outcome(puppet.node_id, None)
    assert reasons(phone.member.peers) == {puppet.node_id: Why.BLACKLISTED}
    cluster.run_for(phone.setup.config.blacklist_ms + 1)
    phone.take(Wake())
    assert reasons(phone.member.peers) == {puppet.node_id: None}
