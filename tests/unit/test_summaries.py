"""Capability summaries: their period, their order and expiry, and the query for who has a model."""

from __future__ import annotations

from itertools import pairwise

import pytest

from edgecoder.config import ClusterConfig, NodeConfig
from edgecoder.core.effects import CoordinatorRow, MeshCapabilities, Send
from edgecoder.core.events import FrameReceived, QueryMesh
from edgecoder.core.ids import LinkId, Medium, Role
from edgecoder.errors import Reason
from edgecoder.models.catalog import Platform
from edgecoder.trace import Dropped, SummaryExpired, SummaryLearned, SummarySent
from edgecoder.wire.messages import Load, ModelAvailability, Summary
from tests.catalogs import LATEST
from tests.harness import Cluster, Puppet
from tests.hosts import Host
from tests.invariants import order_of
from tests.strategies import full_heartbeat

PERIOD_MS = ClusterConfig().summary_interval_ms
LIFETIME_MS = PERIOD_MS * ClusterConfig().summary_periods_max


@pytest.fixture
def hub(cluster: Cluster) -> Host:
    """A coordinator with nobody."""
    host = cluster.add("hub", Role.COORDINATOR)
    cluster.drive()
    return host


def offer(agents: int = 1, param_size: float = 1.5, load: float = 0.0, free: int = 2) -> ModelAvailability:
    """Agents that serve one model."""
    return ModelAvailability(agents, agents * param_size, load, free)


def summary(puppet: Puppet, agent_count: int = 1, **availability: ModelAvailability) -> Summary:
    """What a coordinator's agents offer."""
    return Summary(coordinator_id=puppet.node_id, agent_count=agent_count, model_availability=availability)


def join(cluster: Cluster, hub: Host, name: str, told: Summary | None = None) -> tuple[Puppet, LinkId]:
    """Another coordinator comes, with its summary."""
    other = cluster.puppet(name, Role.COORDINATOR)
    link = cluster.link(other, hub, Medium.WAN)
    other.say(link, told or summary(other, small=offer()))
    cluster.run_for(25)
    return other, link


def query(hub: Host, **fields: object) -> tuple[CoordinatorRow, ...]:
    """The answer to `GET /mesh/capabilities`."""
    return hub.result(hub.ask(QueryMesh, **fields), MeshCapabilities).coordinators


def ids(rows: tuple[CoordinatorRow, ...]) -> list[bytes]:
    """Who is in an answer, in order."""
    return [row.coordinator_id for row in rows]


# -- telling -----------------------------------------------------------------------------------------------------------


def test_a_summary_goes_out_at_k_times_the_period(cluster: Cluster, hub: Host) -> None:
    cluster.run_for(10 * PERIOD_MS)
    moments = [
        at
        for at, _, effects in hub.log
        for effect in effects
        if isinstance(getattr(effect, "record", None), SummarySent)
    ]
    assert len(moments) == 10
    assert {later - earlier for earlier, later in pairwise(moments)} == {PERIOD_MS * 1000}


def test_every_coordinator_in_reach_gets_it(cluster: Cluster, hub: Host) -> None:
    others = [join(cluster, hub, name)[0] for name in ("a", "b")]
    agent = cluster.puppet("agent", Role.AGENT)
    cluster.link(agent, hub)
    cluster.run_for(PERIOD_MS)
    for other in others:
        assert len(other.all(Summary)) == 2, "one to greet it and one when the period ended"
    assert agent.all(Summary) == []
    newest = hub.traced(SummarySent)[-1]
    assert newest.peers == 2
    sealed = {order_of(send.frame) for send in hub.did(Send)[-2:]}
    assert sealed == {(newest.epoch, newest.seq)}, "one summary is one envelope, whoever gets it"


def test_a_newcomer_is_told_at_once(cluster: Cluster, hub: Host) -> None:
    agent = cluster.puppet("agent", Role.AGENT)
    agent.say(cluster.link(agent, hub), full_heartbeat("large", 7.0, Load.of(1)))
    cluster.run_for(25)
    other, _ = join(cluster, hub, "other")
    told = other.last(Summary)
    assert (told.coordinator_id, told.agent_count) == (hub.node_id, 1)
    assert told.model_availability == {"large": ModelAvailability(1, 7.0, 1.0, 1)}


def test_a_coordinator_that_left_gets_no_more(cluster: Cluster, hub: Host) -> None:
    other, link = join(cluster, hub, "other")
    cluster.unlink(link)
    before = len(other.heard)
    cluster.run_for(2 * PERIOD_MS)
    assert len(other.heard) == before


def test_a_late_wake_up_is_not_made_up_for(cluster: Cluster, hub: Host) -> None:
    other, _ = join(cluster, hub, "other")
    before = len(other.all(Summary))
    cluster.jump(60 * PERIOD_MS)
    cluster.run_for(100)
    assert len(other.all(Summary)) == before + 1


# -- learning ----------------------------------------------------------------------------------------------------------


def test_a_newer_summary_replaces_an_older_and_never_the_reverse(cluster: Cluster, hub: Host) -> None:
    other, link = join(cluster, hub, "other")
    newer = other.seal(summary(other, 7, large=offer()), seq=20)
    older = other.seal(summary(other, 3), seq=19)
    earlier = other.seal(summary(other, 2), epoch=0, seq=99)
    for frame in (newer, older, earlier):
        hub.take(FrameReceived(link, frame))
    row = hub.hub.summaries.rows[other.node_id]
    assert (row.epoch, row.seq, row.summary.agent_count) == (1, 20, 7)
    assert hub.traced(SummaryLearned)[-1] == SummaryLearned(other.node_id, 1, 20)


def test_nobody_speaks_for_another_coordinator(cluster: Cluster, hub: Host) -> None:
    honest, _ = join(cluster, hub, "honest")
    liar, link = join(cluster, hub, "liar")
    liar.say(link, summary(honest, 99, large=offer(50)))
    cluster.run_for(25)
    assert hub.hub.summaries.rows[honest.node_id].summary.agent_count == 1
    assert Dropped("summary", Reason.UNKNOWN_SENDER) in hub.traced(Dropped)


def test_a_summary_is_served_for_three_periods(cluster: Cluster, hub: Host) -> None:
    other, _ = join(cluster, hub, "other")
    row = hub.hub.summaries.rows[other.node_id]
    assert row.expires_at - row.received_at == 60_000_000, "no longer than its envelope says"
    other.say(cluster.links_of(hub)[0], summary(other, small=offer()), ttl_ms=LIFETIME_MS * 2)
    cluster.run_for(25)
    row = hub.hub.summaries.rows[other.node_id]
    assert row.expires_at - row.received_at == LIFETIME_MS * 1000
    cluster.run_for((row.expires_at - cluster.now) // 1000 - 1)
    assert other.node_id in ids(query(hub))
    cluster.run_for(2)
    assert other.node_id not in ids(query(hub))
    cluster.run_for(PERIOD_MS)
    assert hub.hub.summaries.rows == {}
    assert hub.traced(SummaryExpired) == [SummaryExpired(other.node_id)]


def test_summaries_are_bounded(cluster: Cluster) -> None:
    hub = cluster.add("hub", Role.COORDINATOR, config=NodeConfig(coordinators_max=2, has_radio=False))
    cluster.drive()
    known, link = join(cluster, hub, "a")
    for name in ("b", "c"):
        join(cluster, hub, name)
    assert len(hub.hub.summaries.rows) == 2
    assert Dropped("summary", Reason.OVERFLOW) in hub.traced(Dropped)
    known.say(link, summary(known, 9), seq=50)
    cluster.run_for(25)
    assert hub.hub.summaries.rows[known.node_id].summary.agent_count == 9


# -- the query ---------------------------------------------------------------------------------------------------------


def test_a_query_without_a_model_lists_everybody(cluster: Cluster, hub: Host) -> None:
    other, _ = join(cluster, hub, "other", summary(cluster.puppet("other")))
    assert set(ids(query(hub))) == {hub.node_id, other.node_id}


def test_a_query_lists_who_has_the_model(cluster: Cluster, hub: Host) -> None:
    a, _ = join(cluster, hub, "a", summary(cluster.puppet("a"), 4, small=offer(), large=offer(2, 7.0)))
    join(cluster, hub, "b", summary(cluster.puppet("b"), 4, tiny=offer()))
    (row,) = query(hub, model="large")
    assert (row.coordinator_id, row.agent_count) == (a.node_id, 4)
    assert row.model_availability == {"large": offer(2, 7.0)}
    assert query(hub, model="nobody") == ()


def test_a_query_matches_any_alias_of_the_model(cluster: Cluster, hub: Host) -> None:
    told = Summary(
        coordinator_id=cluster.puppet("a").node_id,
        agent_count=2,
        model_availability={"small": offer(), "small-coder:1.5b": offer(), "tiny": offer()},
    )
    join(cluster, hub, "a", told)
    for name in ("small", "small-coder:1.5b", "SMALL:latest"):
        (row,) = query(hub, model=name)
        assert set(row.model_availability) == {"small", "small-coder:1.5b"}


def test_a_name_that_ends_in_latest_is_found_under_every_spelling(cluster: Cluster, hub: Host) -> None:
    agent = cluster.add("agent", Role.AGENT, platform=Platform.NODE, installed=[LATEST], active=LATEST)
    cluster.link(agent, hub)
    cluster.drive()
    for name in ("newest", "newest:latest", "newest-gguf"):
        (row,) = query(hub, model=name)
        assert row.coordinator_id == hub.node_id


@pytest.mark.parametrize(("min_param_size", "found"), [(0.0, True), (6.9, True), (7.0, True), (7.1, False)])
def test_a_query_for_a_least_size(min_param_size: float, found: bool, cluster: Cluster, hub: Host) -> None:
    join(cluster, hub, "a", summary(cluster.puppet("a"), 3, large=offer(3, 7.0)))
    assert bool(query(hub, min_param_size=min_param_size)) is found


@pytest.mark.parametrize("agents", [1, 3, 6, 10, 44, 57])
@pytest.mark.parametrize("size", [0.494, 1.54, 3.09, 7.61])
def test_agents_of_just_that_size_fit_however_many_they_are(
    agents: int, size: float, cluster: Cluster, hub: Host
) -> None:
    """A sum of equal floats need not be their product."""
    for number in range(agents):
        agent = cluster.puppet(f"agent {number}", Role.AGENT)
        agent.say(cluster.link(agent, hub), full_heartbeat("small", size))
    cluster.run_for(25)
    (row,) = query(hub, min_param_size=size)
    assert row.model_availability["small"].agent_count == agents


def test_best_first_most_free_slots_then_least_load_then_most_agents(cluster: Cluster, hub: Host) -> None:
    told = {
        "free": offer(1, load=5.0, free=9),
        "calm": offer(2, load=0.5, free=4),
        "busy": offer(2, load=1.5, free=4),
        "many": offer(9, load=1.5, free=4),
    }
    for name, availability in told.items():
        join(cluster, hub, name, summary(cluster.puppet(name), 1, small=availability))
    order = [
        next(name for name in told if cluster.puppet(name).node_id == node) for node in ids(query(hub, model="small"))
    ]
    assert order == ["free", "calm", "many", "busy"]


def test_ties_have_one_order(cluster: Cluster, hub: Host) -> None:
    for name in ("c", "a", "b"):
        join(cluster, hub, name)
    nodes = ids(query(hub, model="small"))
    assert nodes == sorted(nodes)


@pytest.mark.parametrize(("limit", "count"), [(2, 2), (0, 0), (-1, 0), (20, 3)])
def test_an_answer_is_limited(limit: int, count: int, cluster: Cluster, hub: Host) -> None:
    for name in ("a", "b", "c"):
        join(cluster, hub, name)
    assert len(query(hub, model="small", limit=limit)) == count


def test_rows_say_how_old_they_are(cluster: Cluster, hub: Host) -> None:
    join(cluster, hub, "other")
    cluster.run_for(5_000)
    (row,) = query(hub, model="small")
    assert 5_000 <= row.age_ms <= 5_030
    own = [row for row in query(hub) if row.coordinator_id == hub.node_id]
    assert own[0].age_ms == 0


def test_the_row_of_a_coordinator_that_left_is_served_until_it_expires(cluster: Cluster, hub: Host) -> None:
    other, link = join(cluster, hub, "other")
    cluster.unlink(link)
    cluster.run_for(50_000)
    assert ids(query(hub, model="small")) == [other.node_id]


def test_coordinators_learn_of_each_others_agents(both: Cluster) -> None:
    hubs = [both.add(name, Role.COORDINATOR) for name in ("first", "second")]
    both.link(hubs[0], hubs[1], Medium.WAN)
    agent = both.puppet("agent", Role.AGENT)
    link = both.link(agent, hubs[0])
    agent.say(link, full_heartbeat("large", 7.0))
    both.run_for(1)
    assert query(hubs[1], model="large") == ()
    both.run_for(30_000)
    agent.say(link, full_heartbeat("large", 7.0))
    both.run_for(30_000)
    (row,) = query(hubs[1], model="large")
    assert row.coordinator_id == hubs[0].node_id
