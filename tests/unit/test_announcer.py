"""Announcing: a model change at once, a change of load within the interval, and generations that only grow."""

from __future__ import annotations

import pytest

from edgecoder.config import NodeConfig
from edgecoder.core.effects import Advertise, Persist, RunTask
from edgecoder.core.events import PowerChanged, PullModel
from edgecoder.core.ids import Medium, Role
from edgecoder.errors import Reason
from edgecoder.models.catalog import Platform
from edgecoder.trace import CapabilitiesChanged, Dropped
from edgecoder.wire.messages import Capabilities, Heartbeat, Load
from tests.catalogs import LARGE, SMALL
from tests.harness import Cluster
from tests.hosts import HANGS, Host, Outcome, fails
from tests.strategies import task_request

INTERVAL_MS = NodeConfig().readvertise_interval_ms


@pytest.fixture
def phone(cluster: Cluster) -> Host:
    """A phone that serves `small` and has been quiet for a while."""
    host = cluster.add("phone", installed=[SMALL, LARGE], active=SMALL)
    cluster.drive()
    cluster.run_for(10_000)
    host.effects.clear()
    return host


def said(host: Host) -> list[Load]:
    """The load in each advertisement."""
    return [effect.capabilities.current_load for effect in host.did(Advertise)]


def test_a_node_announces_itself_when_it_starts(cluster: Cluster) -> None:
    phone = cluster.add("phone")
    cluster.drive()
    (first,) = phone.did(Advertise)
    assert first.capabilities.active_model is None
    assert first.capabilities.generation == (1 << 32) + 1
    assert first.capabilities.agent_id == phone.node_id


def test_capabilities_say_what_the_node_is(cluster: Cluster) -> None:
    config = NodeConfig(memory_mb=4_000, slots=3)
    agent = cluster.add(
        "agent",
        Role.AGENT,
        config=config,
        platform=Platform.NODE,
        languages=("python", "go"),
        installed=[SMALL],
        active=SMALL,
    )
    cluster.drive()
    told = agent.member.announcer.current
    assert told is not None
    assert (told.active_model, told.active_model_param_size, told.tokens_per_s) == ("small", 1.5, 20)
    assert (told.memory_mb, told.slots, told.languages) == (4_000, 3, ("python", "go"))
    assert told.piece_map_digest == agent.member.inventory.digest()
    assert told.battery_pct == 100


@pytest.mark.parametrize("platform", Platform)
def test_the_name_that_is_advertised_is_the_catalogs_id(platform: Platform, cluster: Cluster) -> None:
    """One name for one file in every table; queries find it by any alias."""
    agent = cluster.add("agent", platform=platform, active=SMALL)
    cluster.drive()
    told = agent.member.announcer.current
    assert told is not None
    assert told.active_model == SMALL.model_id


def test_the_first_change_of_load_goes_out_at_once(phone: Host) -> None:
    phone.plan(RunTask, HANGS)
    phone.submit()
    assert said(phone) == [Load.of(1)]


def test_changes_of_load_within_the_interval_go_out_as_one(cluster: Cluster, phone: Host) -> None:
    phone.plan(RunTask, *[Outcome(after_us=100_000)] * 4)
    for _ in range(4):
        phone.submit()
    cluster.run_for(INTERVAL_MS - 1)
    assert said(phone) == [Load.of(1)]
    cluster.run_for(2)
    assert said(phone) == [Load.of(1), Load.of(0)]


def test_a_load_that_is_back_where_it_was_is_no_news(cluster: Cluster, phone: Host) -> None:
    phone.submit()
    cluster.run_for(INTERVAL_MS + 10)
    assert said(phone) == [Load.of(1), Load.of(0)]
    phone.submit()
    cluster.run_for(INTERVAL_MS // 2)
    cluster.run_for(5 * INTERVAL_MS)
    assert said(phone)[-1] == Load.of(0)
    assert len(said(phone)) <= 4


def test_a_busy_node_does_not_drown_its_neighbours(cluster: Cluster, phone: Host) -> None:
    for _ in range(100):
        phone.submit()
        cluster.run_for(50)
    assert len(said(phone)) <= 5_000 // INTERVAL_MS + 1


def test_a_model_change_does_not_wait(cluster: Cluster, phone: Host) -> None:
    phone.submit()
    cluster.run_for(10)
    phone.swap("large")
    cluster.run_for(10)
    assert Load.LOADING in said(phone)


def test_a_change_of_battery_is_told(cluster: Cluster, phone: Host) -> None:
    phone.take(PowerChanged(40, False))
    assert [effect.capabilities.battery_pct for effect in phone.did(Advertise)] == [40]
    phone.take(PowerChanged(40, False))
    cluster.run_for(2 * INTERVAL_MS)
    assert len(phone.did(Advertise)) == 1


def test_a_new_file_is_told(cluster: Cluster, phone: Host) -> None:
    before = phone.member.inventory.digest()
    phone.ask(PullModel, model="tiny")
    cluster.drive()
    phone.submit()
    cluster.run_for(2 * INTERVAL_MS)
    assert phone.did(Advertise)[-1].capabilities.piece_map_digest == phone.member.inventory.digest() != before


def test_generations_grow_within_a_life_and_across_restarts(cluster: Cluster) -> None:
    phone = cluster.add("phone", installed=[SMALL, LARGE], active=SMALL)
    generations: list[int] = []
    for life in range(3):
        cluster.drive()
        phone.swap("large" if life % 2 == 0 else "small")
        cluster.drive()
        generations = [record.generation for record in phone.traced(CapabilitiesChanged)]
        cluster.restart(phone)
    assert generations == sorted(set(generations))
    assert [generation >> 32 for generation in (generations[0], generations[-1])] == [1, 3]


def test_each_advertisement_is_sealed_for_the_peers(both: Cluster) -> None:
    phone, near = both.add("phone", installed=[SMALL], active=SMALL), both.add("near")
    far = both.add("far")
    both.link(phone, near, Medium.BLE)
    both.link(phone, far, Medium.LAN)
    both.drive()
    both.run_for(2_000)
    before = len(both.sent(Capabilities, phone))
    phone.take(PowerChanged(40, False))
    both.drive()
    told = both.sent(Capabilities, phone, near)
    assert told[-1].battery_pct == 40
    assert len(both.sent(Capabilities, phone)) == before + 1


def test_a_radio_that_fails_is_counted(cluster: Cluster, phone: Host) -> None:
    phone.plan(Advertise, fails(Reason.ADVERTISE_FAILED))
    phone.take(PowerChanged(40, False))
    cluster.drive()
    assert phone.traced(Dropped) == [Dropped("advertise", Reason.ADVERTISE_FAILED)]


def test_without_a_radio_the_heartbeat_tells(cluster: Cluster) -> None:
    agent = cluster.add("agent", Role.AGENT, config=NodeConfig(has_radio=False), installed=[SMALL], active=SMALL)
    hub, asker = cluster.add("hub", Role.COORDINATOR), cluster.puppet("asker")
    cluster.link(agent, hub)
    link = cluster.link(asker, agent)
    cluster.drive()
    cluster.run_for(3_000)
    agent.plan(RunTask, HANGS)
    asker.say(link, task_request())
    cluster.run_for(1_100)
    assert agent.did(Advertise) == []
    assert cluster.sent(Heartbeat)[-1].current_load == Load.of(1)


def test_what_is_said_again_is_true_still(cluster: Cluster, phone: Host) -> None:
    half_ms = phone.setup.config.capabilities_ttl_ms // 2
    cluster.run_for(half_ms - 10_000 - 1_000)
    phone.effects.clear()
    phone.plan(Persist, HANGS)
    phone.swap("large")
    cluster.run_for(half_ms)
    assert phone.opened(Persist)
    assert said(phone)
    assert all(load.is_loading for load in said(phone))
