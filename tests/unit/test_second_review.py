"""Regressions that a second review of the whole found: numbers out of bounds, wishes that undo each other, ends."""

from __future__ import annotations

import pytest

from edgecoder.config import ClusterConfig, NodeConfig
from edgecoder.core.effects import Advertise, FetchFile, Persist, SwapResult
from edgecoder.core.events import ShutDown, SwapCause, SwapModel, Wake
from edgecoder.core.ids import Role
from edgecoder.errors import Reason, RemoteProtocolError
from edgecoder.protocol import SLOTS_MAX
from edgecoder.wire.codec import decode_body, encode_body
from edgecoder.wire.messages import (
    MODELS_MAX,
    NAMES,
    Heartbeat,
    Message,
    Summary,
    TaskRequest,
    TaskResponse,
)
from tests.catalogs import LARGE, SMALL, TINY
from tests.harness import Cluster
from tests.hosts import Host, Outcome, fails
from tests.strategies import capabilities, full_heartbeat, task_request

HUGE = (1 << 63) - 1


# -- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        full_heartbeat(slots=SLOTS_MAX + 1),
        capabilities(bytes(32), slots=SLOTS_MAX + 1),
        task_request(hops=256),
    ],
    ids=lambda message: type(message).__name__,
)
def test_numbers_that_nobody_means_are_no_messages(message: Message) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_body(NAMES[type(message)], encode_body(message))


def test_the_most_slots_of_many_agents_still_fit_into_a_summary(cluster: Cluster) -> None:
    hub, other = cluster.add("hub", Role.COORDINATOR), cluster.puppet("other", Role.COORDINATOR)
    cluster.drive()
    for name in ("a", "b", "c"):
        agent = cluster.puppet(name, Role.AGENT)
        agent.say(cluster.link(agent, hub), full_heartbeat(slots=SLOTS_MAX))
    cluster.run_for(50)
    cluster.link(other, hub)
    cluster.run_for(50)
    assert other.last(Summary).model_availability["small"].free_slots == 3 * SLOTS_MAX


def test_a_request_that_was_passed_on_too_often_is_refused(cluster: Cluster) -> None:
    """One hop more, and nobody behind this coordinator could read it: an agent would be blamed for its silence."""
    hub = cluster.add("hub", Role.COORDINATOR)
    cluster.drive()
    agent, asker = cluster.puppet("agent", Role.AGENT), cluster.puppet("asker", Role.PHONE)
    agent.say(cluster.link(agent, hub), full_heartbeat())
    link = cluster.link(asker, hub)
    cluster.run_for(50)
    asker.say(link, task_request(hops=255))
    cluster.run_for(50)
    assert asker.last(TaskResponse).reason is Reason.INVALID
    assert agent.all(TaskRequest) == []


def test_a_summary_names_as_many_models_as_others_read(cluster: Cluster) -> None:
    config = NodeConfig(has_radio=False, links_max=2 * MODELS_MAX, agents_max=2 * MODELS_MAX)
    hub = cluster.add("hub", Role.COORDINATOR, config=config)
    cluster.drive()
    agents = [cluster.puppet(f"agent-{number}", Role.AGENT) for number in range(MODELS_MAX + 10)]
    for number, agent in enumerate(agents):
        agent.say(
            cluster.link(agent, hub), full_heartbeat(f"model-{number // 2}" if number < 20 else f"model-{number}")
        )
    cluster.run_for(50)
    other = cluster.puppet("other", Role.COORDINATOR)
    cluster.link(other, hub)
    cluster.run_for(50)
    told = other.last(Summary).model_availability
    assert len(told) == MODELS_MAX
    assert {f"model-{number}" for number in range(10)} <= set(told), "those that most agents serve are named"
    assert decode_body("summary", encode_body(other.last(Summary))) == other.last(Summary)


# -- time --------------------------------------------------------------------------------------------------------------


def test_a_host_that_slept_makes_up_for_nothing(cluster: Cluster) -> None:
    hub = cluster.add("hub", Role.COORDINATOR)
    cluster.drive()
    cluster.jump(8 * 3_600_000)
    before = len(hub.log)
    cluster.run_for(ClusterConfig().heartbeat_interval_ms)
    wakes = [event for _, event, _ in hub.log[before:] if isinstance(event, Wake)]
    assert len(wakes) <= 4


def test_a_coordinator_without_room_leaves_a_node_offline(cluster: Cluster) -> None:
    hub = cluster.add("hub", Role.COORDINATOR, config=NodeConfig(has_radio=False, agents_max=1))
    first, second = (cluster.add(name, Role.AGENT, config=NodeConfig(has_radio=False)) for name in ("a", "b"))
    for agent in (first, second):
        cluster.link(agent, hub)
    cluster.run_for(120_000)
    online = [agent.member.heartbeat.is_online for agent in (first, second)]
    assert sorted(online) == [False, True]


# -- wishes ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def phone(cluster: Cluster) -> Host:
    """A phone that serves `small` and has `large`."""
    host = cluster.add("phone", installed=[SMALL, LARGE], active=SMALL)
    cluster.drive()
    return host


def test_what_a_task_wishes_does_not_push_a_user_aside(cluster: Cluster) -> None:
    phone = cluster.add("phone", installed=[SMALL, LARGE, TINY], active=SMALL)
    cluster.drive()
    first, second = phone.swap("large"), phone.swap("tiny")
    task = phone.ask(SwapModel, model="small", cause=SwapCause.TASK)
    assert phone.result(task, SwapResult).reason is Reason.RESIDENT
    joined = phone.ask(SwapModel, model="large", cause=SwapCause.TASK)
    cluster.drive()
    assert phone.result(first, SwapResult).reason is None
    assert phone.result(joined, SwapResult).reason is None
    assert phone.result(second, SwapResult) == SwapResult("large", "tiny", TINY.param_size)


@pytest.mark.parametrize("refused", [("large", SwapCause.TASK), ("nothing", SwapCause.USER)], ids=["task", "user"])
def test_a_refused_wish_does_not_undo_a_pull(refused: tuple[str, SwapCause], cluster: Cluster, phone: Host) -> None:
    phone.plan(FetchFile, Outcome(after_us=500_000))
    pull = phone.ask(SwapModel, model="tiny", pull=True)
    model, cause = refused
    other = phone.ask(SwapModel, model=model, cause=cause)
    cluster.drive()
    assert phone.result(other, SwapResult).reason is not None
    assert phone.result(pull, SwapResult) == SwapResult("small", "tiny", TINY.param_size)


def test_two_pulls_to_one_model_are_one_wish(cluster: Cluster, phone: Host) -> None:
    phone.plan(FetchFile, Outcome(after_us=500_000))
    commands = [phone.ask(SwapModel, model="tiny", pull=True) for _ in range(2)]
    cluster.drive()
    assert [phone.result(command, SwapResult).reason for command in commands] == [None, None]
    assert phone.member.swap.serving is TINY


def test_a_model_has_served_since_it_was_loaded(cluster: Cluster, phone: Host) -> None:
    """A swap that changed nothing does not make the old model young again, and a new model is young."""
    cluster.run_for(2 * phone.setup.config.min_residency_ms)
    before = phone.swap("large")
    cluster.drive()
    assert phone.result(before, SwapResult).reason is None
    young = phone.ask(SwapModel, model="small", cause=SwapCause.TASK)
    assert phone.result(young, SwapResult).reason is Reason.RESIDENT
    cluster.run_for(phone.setup.config.min_residency_ms)
    phone.plan(Persist, fails(Reason.STORE_FAILED))
    abandoned = phone.swap("small")
    cluster.run_for(100)
    assert phone.result(abandoned, SwapResult).reason is Reason.STORE_FAILED
    old = phone.ask(SwapModel, model="small", cause=SwapCause.TASK)
    cluster.drive()
    assert phone.result(old, SwapResult).reason is None


# -- the end -----------------------------------------------------------------------------------------------------------


def test_everybody_who_shuts_a_coordinator_down_is_told(cluster: Cluster) -> None:
    hub = cluster.add("hub", Role.COORDINATOR)
    cluster.drive()
    agent, asker = cluster.puppet("agent", Role.AGENT), cluster.puppet("asker", Role.PHONE)
    agent.say(cluster.link(agent, hub), full_heartbeat())
    link = cluster.link(asker, hub)
    cluster.run_for(50)
    asker.say(link, task_request())
    cluster.run_for(50)
    commands = [hub.ask(ShutDown) for _ in range(2)]
    assert not hub.replies.keys() & set(commands)
    cluster.run_for(hub.setup.config.drain_ms + 1_000)
    assert hub.replies.keys() >= set(commands)


def test_a_node_that_shuts_down_says_that_it_is_unavailable(cluster: Cluster, phone: Host) -> None:
    hub = cluster.puppet("hub", Role.COORDINATOR)
    cluster.link(phone, hub)
    cluster.run_for(2_000)
    phone.ask(ShutDown)
    cluster.run_for(2_000)
    assert phone.did(Advertise)[-1].capabilities.current_load.is_loading
    assert hub.last(Heartbeat).current_load.is_loading
