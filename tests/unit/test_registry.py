"""The registry: heartbeats merged in their order, silence that expires, and what the live agents offer together."""

from __future__ import annotations

import msgspec
import pytest

from edgecoder.config import ClusterConfig, DeviceType, NodeConfig
from edgecoder.coordinator.registry import Registry
from edgecoder.core.events import FrameReceived
from edgecoder.core.ids import LinkId, Role
from edgecoder.mesh.models import fitting
from edgecoder.mesh.router import Why
from edgecoder.trace import AgentExpired, AgentLearned
from edgecoder.wire.messages import Heartbeat, HeartbeatAck, Load, ModelAvailability, Power
from tests.catalogs import CATALOG
from tests.harness import Cluster, Puppet
from tests.hosts import Host
from tests.strategies import full_heartbeat

ALIVE_MS = ClusterConfig().agent_alive_ms
DELTA = Heartbeat(
    generation=2,
    active_model="small",
    active_model_param_size=1.5,
    current_load=Load.of(1),
    model_swap_in_progress=False,
    full=False,
)


@pytest.fixture
def hub(cluster: Cluster) -> Host:
    """A coordinator with room for three nodes."""
    host = cluster.add("hub", Role.COORDINATOR, config=NodeConfig(agents_max=3, has_radio=False))
    cluster.drive()
    return host


def join(cluster: Cluster, hub: Host, name: str, beat: Heartbeat | None = None) -> tuple[Puppet, LinkId]:
    """An agent comes and says everything."""
    agent = cluster.puppet(name, Role.AGENT)
    link = cluster.link(agent, hub)
    agent.say(link, beat or full_heartbeat())
    cluster.run_for(25)
    return agent, link


def excluded(registry: Registry, model: str | None = None, tried: set[bytes] | None = None) -> dict[bytes, Why | None]:
    """Why a router would pass each node over."""
    judged = registry.candidates(fitting(model, 0.0, CATALOG.same_model), tried or set())
    return {candidate.node: candidate.excluded for candidate in judged}


def acks(agent: Puppet) -> list[bool]:
    """Whether each heartbeat was known."""
    return [ack.known for ack in agent.all(HeartbeatAck)]


def test_a_full_heartbeat_registers_a_node(cluster: Cluster, hub: Host) -> None:
    agent, _ = join(cluster, hub, "agent")
    row = hub.hub.registry.rows[agent.node_id]
    assert (row.slots, row.tokens_per_s, row.memory_mb) == (2, 30, 16_384)
    assert (row.device_type, row.load) == (DeviceType.WORKSTATION, Load.of(0))
    assert acks(agent) == [True]
    assert hub.traced(AgentLearned) == [AgentLearned(agent.node_id, 1, "small", False)]


def test_a_delta_is_added_to_what_is_known(cluster: Cluster, hub: Host) -> None:
    agent, link = join(cluster, hub, "agent")
    for fields, value in (("tokens_per_s", 7), ("slots", 5), ("memory_mb", 3), ("holdings_digest", b"new")):
        beat = full_heartbeat(full=False, power=None, device_type=None, memory_mb=None, slots=None)
        beat = Heartbeat(**{**{name: getattr(DELTA, name) for name in DELTA.__struct_fields__}, fields: value})
        agent.say(link, beat)
        cluster.run_for(25)
        assert getattr(hub.hub.registry.rows[agent.node_id], fields) == value
    row = hub.hub.registry.rows[agent.node_id]
    assert (row.tokens_per_s, row.slots, row.power.on_external_power, row.load) == (7, 5, True, Load.of(1))
    assert acks(agent) == [True] * 5


def test_a_delta_of_a_stranger_is_not_known(cluster: Cluster, hub: Host) -> None:
    agent, _ = join(cluster, hub, "agent", DELTA)
    assert acks(agent) == [False]
    assert hub.hub.registry.rows == {}


@pytest.mark.parametrize("late_is_full", [False, True])
def test_an_older_heartbeat_never_overwrites_a_newer(late_is_full: bool, cluster: Cluster, hub: Host) -> None:
    agent, link = join(cluster, hub, "agent")
    fresh = agent.seal(full_heartbeat("large", 7.0, Load.of(2), generation=9), seq=20)
    beat = full_heartbeat("small", 1.5, generation=5) if late_is_full else DELTA
    late = agent.seal(beat, seq=10)
    for frame in (fresh, late):
        hub.take(FrameReceived(link, frame))
    row = hub.hub.registry.rows[agent.node_id]
    assert (row.heartbeat.active_model, row.load, row.seq) == ("large", Load.of(2), 20)


def test_a_new_life_replaces_the_old_one(cluster: Cluster, hub: Host) -> None:
    agent, link = join(cluster, hub, "agent")
    agent.say(link, full_heartbeat("large", 7.0), epoch=2, seq=1)
    cluster.run_for(25)
    row = hub.hub.registry.rows[agent.node_id]
    assert (row.heartbeat.active_model, row.epoch, row.seq) == ("large", 2, 1)


def test_measurements_survive_a_new_full_heartbeat(cluster: Cluster, hub: Host) -> None:
    agent, link = join(cluster, hub, "agent")
    hub.hub.registry.rows[agent.node_id].stats.note_success(40)
    agent.say(link, full_heartbeat())
    cluster.run_for(25)
    assert hub.hub.registry.rows[agent.node_id].stats.succeeded == 1


def test_the_registry_is_bounded(cluster: Cluster, hub: Host) -> None:
    for name in ("a", "b", "c"):
        join(cluster, hub, name)
    late, _ = join(cluster, hub, "d")
    assert acks(late) == [False]
    assert len(hub.hub.registry.rows) == 3


# -- silence -----------------------------------------------------------------------------------------------------------


def test_a_silent_node_is_in_no_answer_and_is_dropped(cluster: Cluster, hub: Host) -> None:
    agent, link = join(cluster, hub, "agent")
    registry = hub.hub.registry
    heard = registry.rows[agent.node_id].last_seen
    cluster.run_for((heard + ALIVE_MS * 1000 - cluster.now) // 1000 - 1)
    agent.say(link, DELTA, seq=1)  # a replay wakes the node and is no sign of life
    cluster.run_for(0)
    assert registry.agent_count() == 1
    cluster.run_for(11)
    hub.alive.context.now = cluster.now
    assert registry.agent_count() == 0
    assert registry.availability() == {}
    assert excluded(registry) in ({agent.node_id: Why.EXPIRED}, {})
    cluster.run_for(20_000)
    assert registry.rows == {}
    assert hub.traced(AgentExpired) == [AgentExpired(agent.node_id)]


def test_a_node_that_was_dropped_is_asked_for_everything(cluster: Cluster, hub: Host) -> None:
    agent, link = join(cluster, hub, "agent")
    cluster.run_for(ALIVE_MS + 20_000)
    agent.say(link, DELTA)
    cluster.run_for(25)
    assert acks(agent) == [True, False]


def test_a_node_that_speaks_stays(cluster: Cluster, hub: Host) -> None:
    agent, link = join(cluster, hub, "agent")
    for _ in range(6):
        cluster.run_for(ALIVE_MS - 5_000)
        agent.say(link, DELTA)
        cluster.run_for(25)
    assert hub.hub.registry.agent_count() == 1
    assert hub.traced(AgentExpired) == []


# -- candidates --------------------------------------------------------------------------------------------------------


def test_reasons_to_pass_a_node_over(cluster: Cluster, hub: Host) -> None:
    idle, _ = join(cluster, hub, "idle")
    loading, _ = join(cluster, hub, "loading", full_heartbeat(load=Load.LOADING))
    gone, link = join(cluster, hub, "gone")
    cluster.unlink(link)
    registry = hub.hub.registry
    assert excluded(registry) == {idle.node_id: None, loading.node_id: Why.IS_LOADING, gone.node_id: Why.UNREACHABLE}
    assert excluded(registry, tried={idle.node_id})[idle.node_id] is Why.TRIED
    assert set(excluded(registry, "large").values()) == {Why.WRONG_MODEL}
    for _ in range(hub.setup.config.blacklist_failures):
        registry.rows[idle.node_id].stats.note_failure(cluster.now, hub.setup.config)
    assert excluded(registry)[idle.node_id] is Why.BLACKLISTED


def test_a_node_without_a_model(cluster: Cluster, hub: Host) -> None:
    agent, _ = join(cluster, hub, "agent", full_heartbeat(None, None))
    assert excluded(hub.hub.registry) == {agent.node_id: Why.HAS_NO_MODEL}


def test_candidates_carry_what_is_known(cluster: Cluster, hub: Host) -> None:
    power = Power(on_external_power=False, battery_pct=33)
    join(cluster, hub, "agent", full_heartbeat(load=Load.of(3), device_type=DeviceType.PHONE, power=power))
    (candidate,) = hub.hub.registry.candidates(fitting(None, 0.0, CATALOG.same_model), set())
    assert (candidate.param_size, candidate.load, candidate.battery_pct) == (1.5, Load.of(3), 33)
    assert (candidate.device_type, candidate.rssi_dbm, candidate.quality) == (DeviceType.PHONE, None, 50)


# -- what they offer ---------------------------------------------------------------------------------------------------


def test_availability_sums_over_the_nodes_of_a_model(cluster: Cluster, hub: Host) -> None:
    join(cluster, hub, "a", full_heartbeat("small", 1.5, Load.of(1)))
    join(cluster, hub, "b", full_heartbeat("small", 1.5, Load.of(5)))
    join(cluster, hub, "c", full_heartbeat("large", 7.0, Load.of(0)))
    assert hub.hub.registry.availability() == {
        "large": ModelAvailability(1, 7.0, 0.0, 2),
        "small": ModelAvailability(2, 3.0, 3.0, 1),
    }


def test_loading_and_empty_nodes_count_and_offer_nothing(cluster: Cluster, hub: Host) -> None:
    join(cluster, hub, "a", full_heartbeat("small", 1.5, Load.LOADING))
    join(cluster, hub, "b", full_heartbeat(None, None))
    join(cluster, hub, "c", full_heartbeat("", 0.0))
    assert hub.hub.registry.agent_count() == 3
    assert hub.hub.registry.availability() == {}


def test_candidates_come_fastest_first(cluster: Cluster) -> None:
    hub = cluster.add("hub", Role.COORDINATOR, config=NodeConfig(has_radio=False))
    cluster.drive()
    agents = [cluster.puppet(name, Role.AGENT) for name in ("slow", "fast", "middling")]
    links = [cluster.link(agent, hub) for agent in agents]
    cluster.run_for(15)
    for agent, link, speed in zip(agents, links, (10, 30, 20), strict=True):
        agent.say(link, msgspec.structs.replace(full_heartbeat("small", 1.5), tokens_per_s=speed))
    cluster.run_for(15)

    def order() -> list[str]:
        found = hub.hub.registry.candidates(fitting(None, 0.0, CATALOG.same_model), set())
        names = {agent.node_id: agent.name for agent in agents}
        return [names[candidate.node] for candidate in found]

    assert order() == ["fast", "middling", "slow"]
    agents[0].say(links[0], msgspec.structs.replace(DELTA, tokens_per_s=40))
    cluster.run_for(15)
    assert order() == ["slow", "fast", "middling"]
