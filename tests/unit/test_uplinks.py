"""The coordinators of a configuration are dialled, dialled again, and never given up; two that dial each other end with
one link."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from edgecoder.config import NodeConfig, server
from edgecoder.core.effects import DialCoordinator
from edgecoder.core.events import Connected
from edgecoder.core.ids import LinkId, NodeId, Role
from edgecoder.errors import Reason
from edgecoder.mesh.uplinks import HOPELESS, SETTLED_MS, TURN_MS
from edgecoder.trace import HomeChanged, UplinkChanged
from edgecoder.wire.messages import Cloned
from edgecoder_sim.crypto import node_id
from tests.catalogs import SMALL
from tests.harness import Cluster
from tests.hosts import HANGS, Host, Outcome

CONFIG = NodeConfig()
RETRY_MS = CONFIG.dial_retry_ms
LONGEST_MS = CONFIG.dial_retry_max_ms


def address(name: str) -> str:
    """Where a node of the harness would listen."""
    return f"{node_id(name).hex()}@{name}.example:4301"


def hub(cluster: Cluster, name: str, *neighbours: str, listens: bool = True) -> Host:
    """A coordinator that was told of others."""
    config = server()
    host = cluster.add(name, Role.COORDINATOR, config=_with(config, *neighbours), start=False)
    if listens:
        cluster.listening[host.node_id] = host
    host.start()
    return host


def phone(cluster: Cluster, *coordinators: str) -> Host:
    return cluster.add("phone", config=_with(CONFIG, *coordinators), installed=[SMALL], active=SMALL)


def _with(config: NodeConfig, *names: str) -> NodeConfig:
    return msgspec.structs.replace(config, coordinators=tuple(address(name) for name in names))


def dials(host: Host) -> list[DialCoordinator]:
    return [effect for effect in host.effects if isinstance(effect, DialCoordinator)]


def links_between(cluster: Cluster, a: Host, b: Host) -> int:
    return sum(1 for cable in cluster.cables.values() if a in cable.ends and b in cable.ends)


def test_a_node_dials_its_coordinator_and_reports_to_it(cluster: Cluster) -> None:
    home = hub(cluster, "home")
    node = phone(cluster, "home")
    cluster.run_for(2 * TURN_MS)
    (dial,) = dials(node)
    assert (dial.coordinator, dial.endpoint) == (home.node_id, "home.example:4301")
    assert home.hub.registry.agent_count() == 1
    assert node.member.heartbeat.is_online
    assert [record.state for record in node.traced(UplinkChanged)] == ["dialling", "up"]


def test_the_first_of_the_list_is_home_and_the_others_are_spares(cluster: Cluster) -> None:
    hubs = [hub(cluster, name) for name in ("c", "a", "b")]
    node = phone(cluster, "c", "a", "b")
    cluster.run_for(5 * TURN_MS)
    assert [record.coordinator for record in node.traced(HomeChanged)] == [hubs[0].node_id]
    assert [links_between(cluster, node, each) for each in hubs] == [1, 1, 1]
    cluster.stop(hubs[0])
    cluster.run_for(100)
    assert hubs[1].hub.registry.agent_count() == 1, "the spare's link was there already"


def test_a_coordinator_that_is_not_there_is_dialled_at_growing_intervals_for_ever(cluster: Cluster) -> None:
    node = phone(cluster, "home")
    cluster.run_for(10 * 60_000)
    count = len(dials(node))
    times = [at for at, _, effects in node.log for effect in effects if isinstance(effect, DialCoordinator)]
    waits_ms = [(later - earlier) // 1000 for earlier, later in itertools.pairwise(times)]
    for number, wait_ms in enumerate(waits_ms):
        longest = min(RETRY_MS << number, LONGEST_MS)
        assert longest // 2 <= wait_ms <= longest * 3 // 2 + 1, f"dial {number + 2} of {count}"
    assert len({wait // 100 for wait in waits_ms[7:]}) > 3, "they are drawn"
    home = hub(cluster, "home")
    cluster.run_for(2 * LONGEST_MS)
    assert home.hub.registry.agent_count() == 1


@pytest.mark.parametrize("reason", sorted(HOPELESS, key=str))
def test_who_is_refused_for_what_it_is_waits_longest(cluster: Cluster, reason: Reason) -> None:
    hub(cluster, "home")
    node = phone(cluster, "home")
    node.plan(DialCoordinator, Outcome(reason=reason))
    cluster.run_for(LONGEST_MS // 2)
    assert len(dials(node)) == 1
    assert node.traced(UplinkChanged)[-1].reason is reason
    cluster.run_for(LONGEST_MS * 3 // 2)
    assert node.member.heartbeat.is_online, "once it is enrolled"


def test_a_lost_link_is_dialled_anew(cluster: Cluster) -> None:
    home = hub(cluster, "home")
    node = phone(cluster, "home")
    cluster.run_for(5_000)
    for _ in range(3):
        cluster.unlink(cluster.links_of(node)[0])
        cluster.run_for(LONGEST_MS + 1)
        assert links_between(cluster, node, home) == 1


def test_links_that_do_not_last_are_dialled_at_growing_intervals(cluster: Cluster) -> None:
    """A coordinator that takes links and drops them at once is not asked each half second."""
    home = hub(cluster, "home")
    node = phone(cluster, "home")
    for _ in range(600):
        cluster.run_for(500)
        for link in cluster.links_of(node):
            cluster.unlink(link)
    assert 10 <= len(dials(node)) <= 30
    cluster.run_for(2 * LONGEST_MS)
    cluster.unlink(cluster.links_of(node)[0])
    cluster.run_for(RETRY_MS * 3 // 2 + 100)
    assert links_between(cluster, node, home) == 1, "one that lasted counts as a new begin"


def test_a_node_is_not_its_own_coordinator(cluster: Cluster) -> None:
    lonely = hub(cluster, "hub", "hub")
    cluster.run_for(60_000)
    assert dials(lonely) == []


def test_one_that_stands_twice_is_dialled_once(cluster: Cluster) -> None:
    hub(cluster, "home")
    node = phone(cluster, "home", "home")
    cluster.run_for(10_000)
    assert len(dials(node)) == 1


@pytest.mark.parametrize("late", [None, "a", "b"])
def test_coordinators_that_know_each_other_keep_one_link(cluster: Cluster, late: str | None) -> None:
    """Whoever starts first, and where both start at once."""
    names = ["a", "b"]
    if late is not None:
        names = [name for name in names if name != late] + [late]
    first = hub(cluster, names[0], names[1])
    if late is not None:
        cluster.run_for(5_000)
    second = hub(cluster, names[1], names[0])
    cluster.run_for(LONGEST_MS * 2)
    assert links_between(cluster, first, second) == 1
    assert len(first.hub.summaries.links) == len(second.hub.summaries.links) == 1
    dialled = len(dials(first)) + len(dials(second))
    cluster.run_for(10 * LONGEST_MS)
    assert len(dials(first)) + len(dials(second)) == dialled, "and leave it alone"
    cluster.unlink(cluster.links_of(first)[0])
    cluster.run_for(LONGEST_MS)
    assert links_between(cluster, first, second) == 1


def test_two_dials_that_cross_end_with_the_link_of_the_smaller_id(cluster: Cluster) -> None:
    first, second = hub(cluster, "a", "b"), hub(cluster, "b", "a")
    for host in (first, second):
        host.plan(DialCoordinator, HANGS)
    cluster.run_for(TURN_MS)
    waiting = {
        host.name: next(op for op in host.open.values() if isinstance(op, DialCoordinator)) for host in (first, second)
    }
    links: dict[NodeId, int] = {}
    for host in (first, second):
        other = second if host is first else first
        links[host.node_id] = cluster.link(host, other)
        op = waiting[host.name].op
        del host.open[op]
        host.take(Connected(op, links[host.node_id]))
    cluster.run_for(5_000)
    smaller = min(links)
    assert list(cluster.cables) == [links[smaller]]
    assert {first.hub.uplinks.rows[second.node_id].link, second.hub.uplinks.rows[first.node_id].link} == {
        links[smaller]
    }


def told_of_a_clone(node: Host, link: LinkId) -> None:
    """Its coordinator says that another machine has its key, and was there first."""
    node.member.uplinks.cloned(node.alive.gate.links[link], Cloned(stays=False, where="192.0.2.7"))


def next_dial_ms(cluster: Cluster, node: Host) -> int:
    """After how long it dials again."""
    count, since = len(dials(node)), cluster.now
    while len(dials(node)) == count:
        cluster.run_for(100)
    return (cluster.now - since) // 1_000


@pytest.mark.parametrize("up_ms", [1_000, 20_000, 600_000])
def test_who_is_let_go_as_a_clone_waits_longest_however_long_the_link_was_up(cluster: Cluster, up_ms: int) -> None:
    """A machine that was taken for dead, and was found out when it was heard again, came back after half a second."""
    hub(cluster, "home")
    node = phone(cluster, "home")
    cluster.run_for(up_ms)
    (link,) = cluster.links_of(node)
    told_of_a_clone(node, link)
    cluster.unlink(link)
    (shown,) = node.member.uplinks.shown(None)
    assert shown.reason is Reason.CLONED
    assert next_dial_ms(cluster, node) >= LONGEST_MS // 2


def test_links_that_end_for_a_clone_do_not_count_as_links_that_do_not_last(cluster: Cluster) -> None:
    hub(cluster, "home")
    node = phone(cluster, "home")
    for _ in range(5):
        cluster.run_for(1_000)
        (link,) = cluster.links_of(node)
        told_of_a_clone(node, link)
        cluster.unlink(link)
        next_dial_ms(cluster, node)
    cluster.run_for(SETTLED_MS + 1_000)  # the other machine is gone
    cluster.unlink(cluster.links_of(node)[0])
    assert next_dial_ms(cluster, node) <= 2 * RETRY_MS * 3 // 2 + 100


def test_a_link_that_takes_the_place_of_another_has_still_to_last(cluster: Cluster) -> None:
    home = hub(cluster, "home")
    node = phone(cluster, "home")
    cluster.run_for(2 * LONGEST_MS)
    (first,) = cluster.links_of(node)
    second = cluster.link(node, home)
    cluster.run_for(100)
    told_of_a_clone(node, first)
    cluster.unlink(first)
    assert node.member.uplinks.rows[home.node_id].link == second
    cluster.unlink(second)
    assert next_dial_ms(cluster, node) >= LONGEST_MS // 2, "it may be so still"
