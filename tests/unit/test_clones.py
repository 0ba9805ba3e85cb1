"""Two machines with one node's key: noticed, said to all three, and settled; a node that comes again is none of it."""

from __future__ import annotations

import pytest

from edgecoder.config import NodeConfig
from edgecoder.coordinator.clones import CLONE_TABLE, ROWS_MAX, CloneState, CloneStep
from edgecoder.core.effects import Clones
from edgecoder.core.events import LinkDown, LinkUp, QueryClones
from edgecoder.core.ids import LinkId, Medium, NodeId, Role
from edgecoder.errors import Reason
from edgecoder.trace import CloneSeen, IdentityShared, OnlineChanged
from edgecoder.wire.messages import Cloned, Identity, Stale
from edgecoder_sim.crypto import crypto, node_id
from tests.catalogs import SMALL
from tests.harness import Cable, Cluster
from tests.hosts import Host
from tests.unit.test_uplinks import address, dials, hub, links_between

CONFIG = NodeConfig()
ANSWER_MS = CONFIG.clone_answer_ms
LONGEST_MS = CONFIG.dial_retry_max_ms


def machine(cluster: Cluster, name: str, key: str = "node", wall_ms: int = 0) -> Host:
    """A machine that runs with the key of `key`, and dials the coordinator."""
    config = NodeConfig(coordinators=(address("hub"),))
    host = cluster.add(name, Role.AGENT, config=config, start=False)
    signer, verifier = crypto(node_id(key), cluster.config.network_id, encoded=cluster.encoded)
    host._signer, host._verifier, host.node_id = signer, verifier, signer.node_id
    host.furnish([SMALL], SMALL)
    host.wall_ms = wall_ms
    host.start()
    return host


def is_online(host: Host) -> bool:
    return host.member.heartbeat.is_online


def rows(host: Host) -> list[tuple[NodeId, int]]:
    """What a coordinator says of clones."""
    reply = host.result(host.ask(QueryClones), Clones)
    return [(row.node, row.times) for row in reply.rows]


def said(host: Host) -> list[bool]:
    """What a machine was told: whether it stays."""
    return [record.stays for record in host.traced(IdentityShared)]


@pytest.mark.parametrize("clocks", [(0, 0), (1_700_000_000_000, 0), (0, 1_700_000_000_000)])
def test_two_machines_with_one_key_are_noticed_and_the_first_stays(cluster: Cluster, clocks: tuple[int, int]) -> None:
    """Whichever of their clocks is right, and where they chose one epoch."""
    home = hub(cluster, "hub")
    first = machine(cluster, "first", wall_ms=clocks[0])
    cluster.run_for(20_000)
    second = machine(cluster, "second", wall_ms=clocks[1])
    cluster.run_for(2_000)
    assert [record.node for record in home.traced(CloneSeen)] == [first.node_id]
    assert said(first) == [True]
    assert said(second) == [False]
    assert is_online(first)
    assert not is_online(second)
    (shown,) = second.member.uplinks.shown(None)
    assert shown.reason is Reason.CLONED


def test_a_third_that_comes_while_the_first_is_asked_is_judged_too(cluster: Cluster) -> None:
    hub(cluster, "hub")
    first = machine(cluster, "first")
    cluster.run_for(20_000)
    others = [machine(cluster, name) for name in ("second", "third")]
    cluster.run_for(120_000)
    assert is_online(first)
    assert [said(other) for other in others] == [[False], [False]]


def test_two_restarts_within_one_answer_leave_nothing_waiting(cluster: Cluster) -> None:
    hub(cluster, "hub")
    node = machine(cluster, "node")
    cluster.run_for(20_000)
    for _ in range(3):
        node.stop()  # no link goes down
        node.start()
        cluster.run_for(ANSWER_MS // 4)
    cluster.run_for(3 * ANSWER_MS)
    assert is_online(node)


def test_they_do_not_take_each_others_place_for_ever(cluster: Cluster) -> None:
    home = hub(cluster, "hub")
    first = machine(cluster, "first")
    cluster.run_for(20_000)
    second = machine(cluster, "second")
    cluster.run_for(600_000)
    assert first.traced(OnlineChanged) == [OnlineChanged(online=True)], "it was never offline"
    assert second.traced(OnlineChanged) == []
    assert len(dials(first)) == 1
    assert len(dials(second)) <= 600_000 // (LONGEST_MS // 2) + 2, "as rarely as who is not enrolled"
    assert len(home.traced(CloneSeen)) <= 2, "it is not said each time"
    assert said(second) == [False], "nor here"
    assert rows(home)[0][1] > 10
    assert links_between(cluster, home, first) == 1


def test_when_the_first_is_switched_off_the_second_takes_its_place(cluster: Cluster) -> None:
    home = hub(cluster, "hub")
    first = machine(cluster, "first")
    cluster.run_for(20_000)
    second = machine(cluster, "second")
    cluster.run_for(10_000)
    cluster.stop(first)
    cluster.run_for(2 * LONGEST_MS)
    assert is_online(second)
    assert home.hub.registry.agent_count() == 1
    cluster.run_for(60_000)
    (shown,) = second.member.uplinks.shown(None)
    assert (shown.state, shown.reason) == ("up", None)
    cluster.run_for(3_600_000)
    assert rows(home) == [], "an hour later it is no news"


@pytest.mark.parametrize("is_crashed", [True, False])
def test_a_restart_is_no_clone(cluster: Cluster, is_crashed: bool) -> None:
    """Also where the end of the life before has not been noticed: its link looks alive, and nobody answers there."""
    home = hub(cluster, "hub")
    node = machine(cluster, "node")
    cluster.run_for(20_000)
    for _ in range(3):
        if is_crashed:
            node.stop()  # no link goes down
        else:
            cluster.stop(node)
        node.start()
        cluster.run_for(ANSWER_MS + 2_000)
        assert is_online(node)
        assert home.hub.registry.rows[node.node_id].epoch == node.alive.context.epoch
        cluster.run_for(20_000)
    assert home.traced(CloneSeen) == []
    assert rows(home) == []
    assert said(node) == []
    assert links_between(cluster, home, node) == 1, "what nobody answered was closed"


def test_a_reconnect_is_no_clone(cluster: Cluster) -> None:
    """The node lost its link, and the coordinator does not know it yet."""
    home = hub(cluster, "hub")
    node = machine(cluster, "node")
    cluster.run_for(20_000)
    for _ in range(3):
        (link,) = cluster.links_of(node)
        half_lost(cluster, link, node)
        cluster.run_for(LONGEST_MS + 10_000)
        assert is_online(node)
    assert home.traced(CloneSeen) == []
    assert rows(home) == []


def half_lost(cluster: Cluster, link: LinkId, end: Host) -> None:
    """A link that one end alone knows to be gone."""
    cable = cluster.cables[link]
    cluster.cables[link] = Cable((cable.other(end), cluster.puppet("nobody")), cable.medium, cable.latency_us)
    end.take(LinkDown(link))


def test_two_links_of_one_life_are_no_clone(cluster: Cluster) -> None:
    home = hub(cluster, "hub")
    node = machine(cluster, "node")
    cluster.run_for(20_000)
    cluster.link(node, home)
    cluster.run_for(20_000)
    assert len(cluster.sent(Identity, home, node)) > 2, "both were asked"
    assert home.traced(CloneSeen) == []
    assert links_between(cluster, home, node) == 2


def test_two_lives_that_chose_one_epoch_and_are_both_heard_are_told_apart(cluster: Cluster) -> None:
    """The second has sent more than the first, so nothing of it counts as a replay."""
    home = hub(cluster, "hub")
    first = machine(cluster, "first")
    cluster.run_for(2_000)
    second = machine(cluster, "second")
    second.alive.context.seq = 1_000
    second.alive.context.rng_seed = 2  # a host draws one for each life
    cluster.run_for(5_000)
    assert first.alive.context.epoch != second.alive.context.epoch
    assert said(second) == [False]
    cluster.run_for(20_000)
    assert is_online(first)
    assert home.hub.registry.rows[first.node_id].epoch == first.alive.context.epoch
    assert len(home.traced(CloneSeen)) == 1


def test_the_first_is_found_out_when_it_is_heard_again(cluster: Cluster) -> None:
    """Its network was gone while the second came, which took its place; that one stays then."""
    home = hub(cluster, "hub")
    first = machine(cluster, "first")
    cluster.run_for(20_000)
    (link,) = cluster.links_of(first)
    cluster.cables[link].cut = True
    second = machine(cluster, "second", wall_ms=1_700_000_000_000)
    cluster.drop(Identity, 1, source=home, target=first)
    cluster.run_for(ANSWER_MS // 2)
    assert not is_online(second)
    cluster.run_for(ANSWER_MS)
    assert is_online(second)
    cluster.heal()
    cluster.run_for(60_000)
    assert is_online(second)
    assert said(first) == [False]
    assert not is_online(first)


def test_frames_of_a_life_that_is_over_are_answered_where_nobody_else_is_there(cluster: Cluster) -> None:
    """A life whose place was taken by one that has gone again goes on in a new epoch."""
    home = hub(cluster, "hub")
    node = machine(cluster, "node")
    cluster.run_for(20_000)
    home.alive.gate._windows[node.node_id].epoch += 5
    cluster.run_for(40_000)
    assert cluster.sent(Stale, home, node)
    assert is_online(node)
    assert home.traced(CloneSeen) == []


def test_who_has_not_the_key_makes_nobody_a_clone(cluster: Cluster) -> None:
    """An identity of an earlier life, which somebody has recorded, comes over a link of his."""
    home = hub(cluster, "hub")
    node = machine(cluster, "node")
    cluster.run_for(5_000)
    recorded = next(sent.frame for sent in cluster.carried if sent.kind == "identity" and sent.source == "node")
    cluster.restart(node)
    cluster.run_for(LONGEST_MS)
    thief = cluster.puppet("thief")
    link = cluster.link(thief, home, identify=False)
    for _ in range(5):
        cluster.carry(thief, link, recorded)
        cluster.run_for(5_000)
    assert home.traced(CloneSeen) == []
    assert is_online(node)


def test_only_a_coordinator_may_say_so(cluster: Cluster) -> None:
    node = cluster.add("node")
    peer = cluster.puppet("peer", Role.AGENT)
    link = cluster.link(node, peer, Medium.BLE)
    cluster.run_for(100)
    peer.say(link, Cloned(stays=False))
    cluster.run_for(100)
    assert said(node) == []


def test_what_is_shown_is_bounded(cluster: Cluster) -> None:
    home = hub(cluster, "hub")
    for number in range(ROWS_MAX + 5):
        key = f"key-{number}"
        for name in ("first", "second"):
            puppet = cluster.puppet(key, Role.AGENT)
            puppet.epoch = 1 if name == "first" else 2
            link = cluster.link(puppet, home)
            cluster.run_for(30)
            for asked in puppet.all(Identity):
                if asked.ask:
                    answer = Identity(
                        role=Role.AGENT, device_type=CONFIG.device_type, cluster_config_hash=b"", echo=asked.ask
                    )
                    puppet.say(link, answer)
            if name == "first":
                keep = (puppet, link)
        cluster.run_for(30)
        puppet, link = keep
        asked = puppet.all(Identity)[-1]
        puppet.say(
            link, Identity(role=Role.AGENT, device_type=CONFIG.device_type, cluster_config_hash=b"", echo=asked.ask)
        )
        cluster.run_for(100)
    assert len(rows(home)) == ROWS_MAX
    assert len(home.hub.clones.known) == ROWS_MAX


def test_the_addresses_are_said(cluster: Cluster) -> None:
    home = hub(cluster, "hub")
    puppets = [cluster.puppet("key", Role.AGENT) for _ in range(2)]
    for number, puppet in enumerate(puppets):
        puppet.epoch = number + 1
        cluster.cables[90 + number] = Cable((puppet, home), Medium.LAN, 1_000)
        home.take(LinkUp(90 + number, Medium.LAN, peer=puppet.node_id, role=Role.AGENT, where=f"10.0.0.{number}"))
        puppet.say(90 + number, Identity(role=Role.AGENT, device_type=CONFIG.device_type, cluster_config_hash=b""))
        cluster.run_for(100)
    ask = puppets[0].all(Identity)[-1].ask
    puppets[0].say(90, Identity(role=Role.AGENT, device_type=CONFIG.device_type, cluster_config_hash=b"", echo=ask))
    cluster.run_for(100)
    assert home.traced(CloneSeen) == [CloneSeen(puppets[0].node_id, "10.0.0.0", "10.0.0.1")]
    assert puppets[0].last(Cloned) == Cloned(stays=True, where="10.0.0.1")
    assert puppets[1].last(Cloned) == Cloned(stays=False, where="10.0.0.0")


def test_every_state_has_a_way_out() -> None:
    assert {state for state, _ in CLONE_TABLE} == set(CloneState)
    assert set(CLONE_TABLE.values()) == set(CloneState)
    assert {step for _, step in CLONE_TABLE} == set(CloneStep)
