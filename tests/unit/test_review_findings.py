"""Regressions that a review of the whole found: hostile tasks, lost identities, roles, bounds, late pulls."""

from __future__ import annotations

from typing import Any

import pytest

from edgecoder.config import NodeConfig, Routing
from edgecoder.core.effects import FetchFile, RunTask, SwapResult
from edgecoder.core.events import ShutDown, Started, SubmitTask, TaskChunk
from edgecoder.core.ids import Medium, Role
from edgecoder.core.node import EPOCH_KEY, Node
from edgecoder.errors import Reason
from edgecoder.mesh.router import Why
from edgecoder.models.catalog import Platform
from edgecoder.trace import Dropped
from edgecoder.wire.messages import (
    Cancel,
    Heartbeat,
    Identity,
    ResponseStatus,
    Summary,
    TaskRequest,
    TaskResponse,
)
from edgecoder_sim.crypto import crypto, node_id
from tests.catalogs import LARGE, SMALL
from tests.harness import Cluster
from tests.hosts import HANGS, Outcome
from tests.strategies import TASK_ID, capabilities, full_heartbeat, task_request

LONE_SURROGATE = "\ud800"


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": LONE_SURROGATE},
        {"model": LONE_SURROGATE},
        {"model": "x" * 400},
        {"model": "no such/name/at all"},
        {"max_tokens": 0},
        {"max_tokens": -1},
        {"max_tokens": 1 << 70},
        {"min_param_size": float("nan")},
        {"min_param_size": float("inf")},
        {"min_param_size": -1.0},
        {"deadline_ms": 0},
    ],
    ids=str,
)
def test_a_task_that_no_peer_could_read_is_refused_here(wrong: dict[str, Any]) -> None:
    cluster = Cluster()
    phone = cluster.add("phone", Role.PHONE, installed=[SMALL], active=SMALL)
    cluster.drive()
    command = phone.ask(SubmitTask, **({"prompt": "x"} | wrong))
    assert phone.replies[command] is Reason.INVALID
    assert phone.did(RunTask) == []


def test_an_engine_that_writes_no_text_is_read_as_well_as_can_be() -> None:
    cluster = Cluster()
    phone = cluster.add("phone", Role.PHONE, installed=[SMALL], active=SMALL)
    cluster.drive()
    phone.plan(RunTask, Outcome(parts=("a", LONE_SURROGATE)))
    command = phone.submit()
    cluster.drive()
    assert phone.task(command).text == "a?"


def test_an_answer_without_end_is_cut_off() -> None:
    config = NodeConfig(answer_chars_max=100, has_radio=False)
    cluster = Cluster()
    agent = cluster.add("agent", Role.AGENT, config=config, installed=[SMALL], active=SMALL)
    cluster.drive()
    agent.plan(RunTask, HANGS)
    command = agent.submit()
    run = agent.did(RunTask)[-1]
    for _ in range(30):
        agent.take(TaskChunk(run.op, "x" * 10, 1))
    cluster.drive()
    assert agent.task(command).reason is Reason.TOO_LARGE
    assert len(agent.task(command).text) <= 100


def test_a_peer_that_streams_without_end_is_left() -> None:
    config = NodeConfig(answer_chars_max=100, task_attempts_max=1, routing=Routing.COST)
    cluster = Cluster()
    phone = cluster.add("phone", Role.PHONE, config=config)
    talker = cluster.puppet("talker")
    cluster.drive()
    link = cluster.link(talker, phone)
    talker.say(link, capabilities(talker.node_id))
    cluster.run_for(100)
    command = phone.submit()
    cluster.run_for(100)
    task_id = talker.last(TaskRequest).task_id
    talker.say(link, TaskResponse(task_id=task_id, status=ResponseStatus.ACCEPTED, index=0))
    for index in range(1, 12):
        text = "x" * 10
        talker.say(link, TaskResponse(task_id=task_id, status=ResponseStatus.CHUNK, index=index, text=text, tokens=1))
    cluster.run_for(1000)
    assert phone.task(command).reason is Reason.TOO_LARGE
    assert talker.last(Cancel).reason is Reason.TOO_LARGE


def test_a_lost_identity_is_said_again() -> None:
    """Once a link on which it was lost stayed dead for ever."""
    cluster = Cluster()
    phone = cluster.add("phone", Role.PHONE, installed=[SMALL], active=SMALL)
    hub = cluster.add("hub", Role.COORDINATOR)
    cluster.drive()
    cluster.drop(Identity, times=3)
    link = cluster.link(phone, hub)
    cluster.run_for(30_000)
    for host in (phone, hub):
        assert host.alive.gate.links[link].peer is not None
    assert phone.member.heartbeat.is_online
    before = len(cluster.sent(Identity))
    cluster.run_for(60_000)
    assert len(cluster.sent(Identity)) == before, "who is known is not asked again"


def test_only_coordinators_send_summaries_and_only_members_beat() -> None:
    cluster = Cluster()
    hub = cluster.add("hub", Role.COORDINATOR)
    phone, other = cluster.puppet("phone", Role.PHONE), cluster.puppet("other", Role.COORDINATOR)
    cluster.drive()
    phone_link, other_link = cluster.link(phone, hub), cluster.link(other, hub)
    phone.say(phone_link, Summary(coordinator_id=phone.node_id, agent_count=1, model_availability={}))
    other.say(other_link, full_heartbeat())
    cluster.run_for(100)
    assert hub.hub.summaries.rows == {}
    assert hub.hub.registry.rows == {}
    assert hub.traced(Dropped) == [
        Dropped("summary", Reason.UNKNOWN_SENDER),
        Dropped("heartbeat", Reason.UNKNOWN_SENDER),
    ]


def test_a_silent_peers_row_is_not_believed_for_ever() -> None:
    cluster = Cluster()
    phone = cluster.add("phone", Role.PHONE)
    puppet = cluster.puppet("puppet")
    cluster.drive()
    puppet.say(cluster.link(puppet, phone), capabilities(puppet.node_id), ttl_ms=30_000)
    cluster.run_for(29_000)

    def why() -> Why | None:
        return next(iter(phone.member.peers.candidates(lambda *_: None, set()))).excluded

    assert why() is None
    cluster.run_for(2_000)
    assert why() is Why.EXPIRED


def test_capabilities_are_repeated_before_they_expire() -> None:
    config = NodeConfig(capabilities_ttl_ms=10_000)
    cluster = Cluster()
    a = cluster.add("a", Role.PHONE, config=config, installed=[SMALL], active=SMALL)
    b = cluster.add("b", Role.PHONE, config=config)
    cluster.drive()
    cluster.link(a, b, medium=Medium.BLE)
    for _ in range(12):
        cluster.run_for(5_000)
        row = b.member.peers.rows[a.alive.context.node_id]
        assert row.holds_until > b.alive.context.now


def test_a_coordinator_that_shuts_down_ends_what_is_open_first() -> None:
    cluster = Cluster()
    hub = cluster.add("hub", Role.COORDINATOR)
    agent, asker = cluster.puppet("agent", Role.AGENT), cluster.puppet("asker")
    cluster.drive()
    agent_link, asker_link = cluster.link(agent, hub), cluster.link(asker, hub)
    agent.say(agent_link, full_heartbeat())
    asker.say(asker_link, task_request())
    cluster.run_for(100)
    agent.say(agent_link, TaskResponse(task_id=TASK_ID, status=ResponseStatus.ACCEPTED, index=0))
    cluster.run_for(100)
    command = hub.ask(ShutDown)
    asker.say(asker_link, task_request(task_id=b"another task id."))
    cluster.run_for(100)
    assert command not in hub.replies
    assert asker.last(TaskResponse).reason is Reason.SHUTTING_DOWN
    agent.say(agent_link, TaskResponse(task_id=TASK_ID, status=ResponseStatus.DONE, index=1, tokens=1))
    cluster.run_for(100)
    assert hub.replies[command] is None


def test_a_coordinator_that_shuts_down_gives_up_at_the_drain_deadline() -> None:
    cluster = Cluster()
    hub = cluster.add("hub", Role.COORDINATOR, config=NodeConfig(drain_ms=5_000))
    agent, asker = cluster.puppet("agent", Role.AGENT), cluster.puppet("asker")
    cluster.drive()
    agent_link, asker_link = cluster.link(agent, hub), cluster.link(asker, hub)
    agent.say(agent_link, full_heartbeat())
    asker.say(asker_link, task_request())
    cluster.run_for(100)
    agent.say(agent_link, TaskResponse(task_id=TASK_ID, status=ResponseStatus.ACCEPTED, index=0))
    command = hub.ask(ShutDown)
    cluster.run_for(6_000)
    assert hub.replies[command] is None
    assert asker.last(TaskResponse).reason is Reason.SHUTTING_DOWN


def test_a_pull_that_ends_late_does_not_undo_a_later_wish() -> None:
    cluster = Cluster()
    agent = cluster.add("agent", Role.AGENT, platform=Platform.NODE, installed=[SMALL], active=None)
    cluster.drive()
    agent.plan(FetchFile, Outcome(after_us=5_000_000))
    late = agent.swap(LARGE.model_id, pull=True)
    cluster.run_for(1_000)
    wish = agent.swap(SMALL.model_id)
    cluster.drive()
    assert agent.result(wish, SwapResult).reason is None
    assert agent.result(late, SwapResult).reason is Reason.SUPERSEDED
    assert agent.member.swap.active is SMALL


@pytest.mark.parametrize("damaged", [b"\x00", b"\xff" * 8, b"12345"])
def test_a_damaged_epoch_is_never_one_that_was_used(damaged: bytes) -> None:
    cluster = Cluster()
    phone = cluster.add("phone", Role.PHONE)
    node = Node(phone.setup, *crypto(node_id("phone"), "edgecoder", encoded=False), rng_seed=1)
    node.handle(0, Started({EPOCH_KEY: damaged}, wall_ms=1_767_258_000_000))
    assert node.context.epoch == 1_767_258_000, "seconds of Unix time are more than any count of lives"


def test_heartbeats_of_members_are_taken_still() -> None:
    cluster = Cluster()
    hub = cluster.add("hub", Role.COORDINATOR)
    phone = cluster.puppet("phone", Role.PHONE)
    cluster.drive()
    phone.say(cluster.link(phone, hub), full_heartbeat())
    cluster.run_for(100)
    assert list(hub.hub.registry.rows) == [phone.node_id]
    assert cluster.sent(Heartbeat, phone)
