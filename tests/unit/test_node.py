"""The node itself: the start of a life, early events, wake-ups, what it refuses of a host, and its last hour."""

from __future__ import annotations

import msgspec
import pytest

from edgecoder.core.effects import (
    Effect,
    MeshCapabilities,
    ModelStatus,
    Persist,
    PullResult,
    Reply,
    RunTask,
    Send,
    SwapResult,
    Trace,
    WakeAt,
)
from edgecoder.core.events import (
    Command,
    Event,
    LinkUp,
    ModelLoaded,
    Persisted,
    PullModel,
    QueryMesh,
    QueryModels,
    QueryStatus,
    ShutDown,
    Started,
    SubmitTask,
    SwapModel,
    Wake,
)
from edgecoder.core.ids import Medium, Role
from edgecoder.core.node import EARLY_COMMAND_MS, EARLY_EVENTS_MAX, EPOCH_KEY
from edgecoder.errors import LocalProtocolError, Reason
from edgecoder.trace import Dropped, NodeReady
from edgecoder.wire.messages import Probe, ResponseStatus, TaskRequest, TaskResponse
from tests.catalogs import LARGE, SMALL
from tests.harness import Cluster
from tests.hosts import HANGS, Host, Outcome, fails
from tests.strategies import capabilities, task_request


class Unheard(Event, frozen=True):
    """An event that no part of a node knows."""


class Wish(Command, frozen=True):
    """A command that no part of a node knows."""


@pytest.fixture
def phone(cluster: Cluster) -> Host:
    """A phone that serves `small`."""
    host = cluster.add("phone", installed=[SMALL, LARGE], active=SMALL)
    cluster.drive()
    host.effects.clear()
    return host


# -- the start of a life -----------------------------------------------------------------------------------------------


def test_nothing_is_sent_before_the_epoch_is_durable(cluster: Cluster) -> None:
    phone, other = cluster.add("phone", start=False), cluster.puppet("other")
    phone.start()
    assert [type(effect) for effect in phone.effects] == [Persist]
    cluster.link(other, phone)
    cluster.run_for(0)
    assert phone.did(Send) == []
    cluster.drive()
    assert phone.did(Send)
    assert phone.traced(NodeReady) == [NodeReady(1)]


def test_the_epoch_grows_by_one_a_life(cluster: Cluster) -> None:
    phone = cluster.add("phone")
    for epoch in (1, 2, 3):
        cluster.drive()
        assert phone.alive.context.epoch == epoch
        assert int.from_bytes(phone.disk[EPOCH_KEY], "big") == epoch
        cluster.restart(phone)


def test_an_epoch_that_cannot_be_written_is_tried_until_it_is(cluster: Cluster) -> None:
    phone = cluster.add("phone", start=False)
    phone.plan(Persist, fails(Reason.DISK_FULL), fails(Reason.DISK_FULL))
    phone.start()
    cluster.run_for(500)
    assert phone.did(Send) == []
    assert phone.traced(Dropped) == [Dropped("epoch", Reason.DISK_FULL)]
    cluster.run_for(3_000)
    assert phone.traced(NodeReady) == [NodeReady(1)]


def test_what_comes_early_is_kept_in_order(cluster: Cluster) -> None:
    phone = cluster.add("phone", installed=[SMALL], active=SMALL, start=False)
    phone.plan(Persist, Outcome(after_us=50_000))
    phone.start()
    other = cluster.puppet("other")
    links = [cluster.link(other, phone), cluster.link(other, phone)]
    command = phone.ask(QueryStatus)
    assert command not in phone.replies
    cluster.run_for(60)
    assert command in phone.replies
    assert list(phone.alive.gate.links) == links


def test_what_comes_early_is_bounded(cluster: Cluster) -> None:
    phone = cluster.add("phone", start=False)
    phone.plan(Persist, Outcome(after_us=50_000))
    phone.start()
    room = EARLY_EVENTS_MAX + phone.alive.setup.config.links_max
    commands = [phone.ask(QueryStatus) for _ in range(EARLY_EVENTS_MAX + 1)]
    assert phone.replies == {commands[-1]: Reason.OVERFLOW}
    for link in range(room + 1):
        phone.take(LinkUp(link, Medium.LAN))
    assert phone.traced(Dropped) == [Dropped("LinkUp", Reason.OVERFLOW)]
    cluster.drive()
    assert len(phone.replies) == len(commands)


def test_a_user_waits_for_the_epoch_for_a_while(cluster: Cluster) -> None:
    phone = cluster.add("phone", start=False)
    phone.plan(Persist, HANGS)
    phone.start()
    command = phone.ask(QueryStatus)
    cluster.run_for(EARLY_COMMAND_MS - 1)
    assert phone.replies == {}
    cluster.run_for(2)
    assert phone.replies == {command: Reason.STORE_FAILED}


def test_a_user_is_told_at_once_that_the_epoch_cannot_be_written(cluster: Cluster) -> None:
    phone = cluster.add("phone", start=False)
    phone.plan(Persist, fails(Reason.DISK_FULL))
    phone.start()
    early = phone.ask(QueryStatus)
    cluster.run_for(10)
    late = phone.ask(QueryStatus)
    assert phone.replies == {early: Reason.DISK_FULL, late: Reason.DISK_FULL}
    cluster.run_for(2_000)
    assert isinstance(phone.replies[phone.ask(QueryStatus)], ModelStatus)


def test_a_task_that_came_early_is_routed_by_all_that_came_with_it(cluster: Cluster) -> None:
    phone, peer = cluster.add("phone", start=False), cluster.puppet("peer")
    phone.plan(Persist, Outcome(after_us=50_000))
    phone.start()
    link = cluster.link(peer, phone)
    peer.say(link, capabilities(peer.node_id))
    cluster.run_for(30)
    phone.submit()
    cluster.unlink(link)
    cluster.run_for(60)
    assert phone.traced(NodeReady)
    assert not peer.all(TaskRequest)
    assert not peer.all(Probe)


def test_a_link_that_came_and_went_before_the_start_is_not_used(cluster: Cluster) -> None:
    phone, hub = cluster.add("phone", start=False), cluster.puppet("hub", Role.COORDINATOR)
    phone.plan(Persist, Outcome(after_us=50_000))
    phone.start()
    links = [cluster.link(hub, phone) for _ in range(2)]
    cluster.run_for(30)
    cluster.unlink(links[0])
    cluster.run_for(60)
    assert {effect.link for effect in phone.did(Send)} == {links[1]}


def test_frames_before_the_start_wait_too(cluster: Cluster) -> None:
    """The other end says who it is only once."""
    phone = cluster.add("phone", start=False)
    phone.plan(Persist, Outcome(after_us=50_000))
    phone.start()
    other = cluster.puppet("other")
    link = cluster.link(other, phone, latency_us=1_000)
    cluster.run_for(10)
    assert phone.alive.part is None
    cluster.run_for(100)
    assert phone.alive.gate.links[link].peer == other.node_id


def test_a_life_starts_once(phone: Host) -> None:
    with pytest.raises(
        LocalProtocolError, match=r"^node \w{8} got Started in the life .* epoch \d+: a life starts once"
    ):
        phone.alive.handle(phone.alive.context.now, Started({}))


def test_time_does_not_run_backwards(cluster: Cluster, phone: Host) -> None:
    cluster.run_for(1_000)
    phone.take(Wake())
    with pytest.raises(LocalProtocolError, match=r"^node \w{8} got Wake at \d+ µs, after .*: time went back"):
        phone.alive.handle(cluster.now - 1, Wake())


# -- events ------------------------------------------------------------------------------------------------------------


def test_a_spurious_wake_up_does_nothing(cluster: Cluster, phone: Host) -> None:
    cluster.run_for(100)
    for _ in range(3):
        effects = phone.take(Wake())
        assert all(type(effect) is WakeAt for effect in effects)
    assert phone.wake_at > cluster.now


def test_the_host_holds_the_earliest_deadline(cluster: Cluster, phone: Host) -> None:
    heartbeat = phone.wake_at
    phone.plan(RunTask, HANGS)
    phone.submit(deadline_ms=50)
    assert phone.wake_at == min(heartbeat, cluster.now + 50_000)
    assert phone.alive.context.timers.next_deadline == phone.wake_at


def test_a_completion_that_nobody_waits_for_is_counted(phone: Host) -> None:
    assert phone.take(Persisted(12345)) == [Trace(Dropped("completion", Reason.RESTARTED))]
    assert phone.take(ModelLoaded((1 << 32) + 1, 5)) == [Trace(Dropped("completion", Reason.RESTARTED))]


def test_an_unknown_event_is_counted(phone: Host) -> None:
    assert phone.take(Unheard()) == [Trace(Dropped("Unheard", Reason.OTHER_ROLE))]


@pytest.mark.parametrize("role", Role)
def test_an_unknown_command_is_answered(role: Role, cluster: Cluster) -> None:
    host = cluster.add("host", role)
    cluster.drive()
    assert host.replies[host.ask(Wish)] is Reason.OTHER_ROLE


@pytest.mark.parametrize(
    ("role", "command", "fields"),
    [
        (Role.COORDINATOR, SwapModel, {"model": "small"}),
        (Role.COORDINATOR, PullModel, {"model": "small"}),
        (Role.COORDINATOR, SubmitTask, {"prompt": "p"}),
        (Role.COORDINATOR, QueryStatus, {}),
        (Role.COORDINATOR, QueryModels, {}),
        (Role.PHONE, QueryMesh, {}),
        (Role.AGENT, QueryMesh, {}),
    ],
)
def test_commands_that_are_not_for_this_role(
    role: Role, command: type[Command], fields: dict[str, object], cluster: Cluster
) -> None:
    host = cluster.add("host", role)
    cluster.drive()
    assert host.replies[host.ask(command, **fields)] is Reason.OTHER_ROLE


def test_effects_come_back_and_are_kept_nowhere(phone: Host) -> None:
    first: list[Effect] = phone.alive.handle(phone.alive.context.now, QueryStatus(901))
    second = phone.alive.handle(phone.alive.context.now, QueryStatus(902))
    assert [type(effect) for effect in first] == [type(effect) for effect in second] == [Reply]
    assert first is not second


@pytest.mark.parametrize("kind", [Started, SwapModel, Persisted, Send, Trace, WakeAt])
def test_events_and_effects_cannot_be_changed(kind: type[msgspec.Struct]) -> None:
    assert kind.__struct_config__.frozen


# -- status ------------------------------------------------------------------------------------------------------------


def test_status_of_an_empty_node(cluster: Cluster) -> None:
    phone = cluster.add("phone")
    cluster.drive()
    status = phone.result(phone.ask(QueryStatus), ModelStatus)
    assert (status.model, status.param_size, status.status, status.online) == (None, None, "no_model", False)


def test_status_of_a_serving_node(phone: Host) -> None:
    current = phone.member.announcer.current
    assert current is not None
    status = phone.result(phone.ask(QueryStatus), ModelStatus)
    assert (status.model, status.param_size, status.status) == ("small", 1.5, "ready")
    assert status.generation == current.generation


# -- shut down ---------------------------------------------------------------------------------------------------------


def test_an_idle_node_shuts_down_at_once(phone: Host) -> None:
    assert phone.replies.get(phone.ask(ShutDown), "nothing") is None


def test_a_node_that_shuts_down_ends_what_runs_and_takes_no_more(cluster: Cluster, phone: Host) -> None:
    asker = cluster.puppet("asker")
    link = cluster.link(asker, phone)
    phone.plan(RunTask, Outcome(after_us=2_000_000))
    asker.say(link, task_request())
    cluster.run_for(15)
    own = phone.submit()
    shut = phone.ask(ShutDown)
    assert phone.task(own).reason is Reason.SHUTTING_DOWN
    assert phone.replies[phone.submit()] is Reason.SHUTTING_DOWN
    assert phone.result(phone.swap("large"), SwapResult).reason is Reason.SHUTTING_DOWN
    asker.say(link, task_request(task_id=b"later" + bytes(11)))
    cluster.run_for(25)
    assert asker.last(TaskResponse).reason is Reason.SHUTTING_DOWN
    assert shut not in phone.replies
    cluster.drive()
    answers = [message.status for message in asker.all(TaskResponse)]
    assert answers[-1] is ResponseStatus.DONE
    assert shut in phone.replies


def test_a_shut_down_has_a_deadline(cluster: Cluster, phone: Host) -> None:
    asker = cluster.puppet("asker")
    link = cluster.link(asker, phone)
    phone.plan(RunTask, HANGS)
    asker.say(link, task_request())
    cluster.run_for(15)
    began = cluster.now
    first, second = phone.ask(ShutDown), phone.ask(ShutDown)
    cluster.drive()
    assert {first, second} <= set(phone.replies)
    assert asker.last(TaskResponse).reason is Reason.DRAINED
    assert cluster.now - began < phone.setup.config.drain_ms * 1000 + 100_000


def test_a_pull_goes_on_while_a_node_shuts_down(cluster: Cluster, phone: Host) -> None:
    pull = phone.ask(PullModel, model="tiny")
    phone.ask(ShutDown)
    cluster.drive()
    assert phone.result(pull, PullResult).reason is None


def test_a_coordinator_shuts_down(cluster: Cluster) -> None:
    hub = cluster.add("hub", Role.COORDINATOR)
    cluster.drive()
    assert hub.replies.get(hub.ask(ShutDown), "nothing") is None
    assert isinstance(hub.replies[hub.ask(QueryMesh)], MeshCapabilities)
