"""Tasks of the node's own user: routed, routed again, queued, streamed, cancelled, and always answered once."""

from __future__ import annotations

import pytest

from edgecoder.config import NodeConfig
from edgecoder.core.effects import LoadModel, Progress, RunTask, TaskResult
from edgecoder.core.events import CancelTask
from edgecoder.core.ids import Medium, Role
from edgecoder.errors import Reason
from edgecoder.mesh.router import Why
from edgecoder.trace import TaskEnded, TaskRouted, TaskSubmitted
from edgecoder.wire.messages import (
    Cancel,
    Heartbeat,
    Load,
    ResponseStatus,
    TaskRequest,
    TaskResponse,
)
from tests.catalogs import LARGE, SMALL
from tests.harness import Cluster, Pair
from tests.hosts import HANGS, Outcome, fails
from tests.invariants import assert_nothing_left
from tests.scenes import Scene
from tests.strategies import capabilities

ACCEPTED, CHUNK, DONE, REFUSED, FAILED = ResponseStatus


@pytest.fixture
def scene(cluster: Cluster) -> Scene:
    """The phone, and nobody yet."""
    return Scene(cluster)


# -- whom it goes to ---------------------------------------------------------------------------------------------------


def test_a_node_answers_itself(cluster: Cluster) -> None:
    phone = cluster.add("phone", installed=[SMALL], active=SMALL)
    cluster.drive()
    command = phone.submit("hello")
    cluster.drive()
    assert phone.task(command) == TaskResult("one two three", 3, phone.node_id, "small")
    assert [progress.text for progress in phone.progress] == ["one ", "two ", "three"]
    assert [record.why for record in phone.traced(TaskRouted)] == [Why.HERE.value]
    (submitted,) = phone.traced(TaskSubmitted)
    (ended,) = phone.traced(TaskEnded)
    assert (submitted.command, submitted.prompt_bytes, submitted.task_id) == (command, 5, ended.task_id)
    assert (ended.reason, ended.attempts, ended.tokens) == (None, 1, 3)


def test_an_ended_task_leaves_nothing_behind(both: Cluster) -> None:
    hub, phone = both.add("hub", Role.COORDINATOR), both.add("phone")
    agent = both.add("agent", Role.AGENT, installed=[SMALL], active=SMALL)
    both.link(phone, hub)
    both.link(agent, hub)
    both.drive()
    command = phone.submit()
    both.drive()
    assert phone.task(command).reason is None
    for host in (hub, phone, agent):
        assert_nothing_left(host.alive)


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("medium", Medium)
def test_a_peer_answers(medium: Medium, encoded: bool) -> None:
    pair = Pair(SMALL, medium=medium, encoded=encoded)
    command = pair.phone.submit(model="small-coder:1.5b")
    pair.drive()
    assert pair.phone.task(command) == TaskResult("one two three", 3, pair.laptop.node_id, "small")
    assert len(pair.laptop.did(RunTask)) == 1


@pytest.mark.parametrize("encoded", [False, True])
def test_an_answer_that_is_not_streamed_comes_at_once(encoded: bool) -> None:
    pair = Pair(SMALL, encoded=encoded)
    command = pair.phone.submit(stream=False)
    pair.drive()
    assert pair.phone.task(command) == TaskResult("one two three", 3, pair.laptop.node_id, "small")
    assert pair.phone.progress == []


def test_the_request_says_what_was_asked(scene: Scene) -> None:
    peer = scene.peer("peer")
    scene.ask(prompt="p", model="small", min_param_size=1.0, max_tokens=7, deadline_ms=9_000, stream=False)
    request = peer.last(TaskRequest)
    assert (request.prompt, request.model, request.min_param_size, request.max_tokens) == ("p", "small", 1.0, 7)
    assert (request.deadline_ms, request.stream, request.hops) == (9_000, False, 0)


def test_the_cheapest_peer_is_asked(scene: Scene) -> None:
    busy, idle = scene.peer("busy", Load.of(1)), scene.peer("idle")
    scene.ask()
    assert not busy.all(TaskRequest)
    assert idle.all(TaskRequest)


def test_a_costly_peer_is_asked_only_without_a_coordinator(scene: Scene) -> None:
    costly = scene.peer("costly", Load.of(4))  # more than local_cost_max, less than cost_max
    hub = scene.coordinator()
    scene.ask()
    assert hub.all(TaskRequest)
    scene.cluster.unlink(scene.links["hub"])
    scene.ask()
    assert costly.all(TaskRequest)


def test_without_an_online_coordinator_nobody_is_asked_there(scene: Scene) -> None:
    hub = scene.cluster.puppet("hub", Role.COORDINATOR)
    scene.cluster.link(hub, scene.phone)
    scene.cluster.run_for(25)
    assert hub.all(Heartbeat), "it is told, and has not answered"
    scene.ask()
    assert not hub.all(TaskRequest)
    assert scene.phone.traced(TaskRouted)[0].why == Why.NOBODY.value


# -- again, and elsewhere ----------------------------------------------------------------------------------------------


def test_a_refused_task_goes_to_the_next(scene: Scene) -> None:
    first, second = scene.peer("first"), scene.peer("second", Load.of(1))
    command = scene.ask()
    scene.say(first, REFUSED, 0, reason=Reason.BUSY)
    assert second.all(TaskRequest)
    scene.say(second, ACCEPTED, 0)
    scene.say(second, DONE, 1, served_by=second.node_id, model="small", tokens=5)
    assert scene.phone.task(command).served_by == second.node_id


@pytest.mark.parametrize("accepted", [False, True])
def test_a_failure_before_the_first_word_goes_to_the_next(accepted: bool, scene: Scene) -> None:
    first, second = scene.peer("first"), scene.peer("second", Load.of(1))
    scene.ask()
    if accepted:
        scene.say(first, ACCEPTED, 0)
    scene.say(first, FAILED, int(accepted), reason=Reason.ENGINE_CRASHED)
    assert second.all(TaskRequest)
    assert scene.phone.member.peers.rows[first.node_id].stats.failed == 1


def test_a_failure_that_is_not_its_fault_is_not_held_against_it(scene: Scene) -> None:
    first = scene.peer("first")
    scene.ask()
    scene.say(first, ACCEPTED, 0)
    scene.say(first, FAILED, 1, reason=Reason.DRAINED)
    assert scene.phone.member.peers.rows[first.node_id].stats.failed == 0


@pytest.mark.parametrize("accepted", [False, True])
def test_a_peer_that_is_lost_is_replaced(accepted: bool, scene: Scene) -> None:
    first, second = scene.peer("first"), scene.peer("second", Load.of(1))
    scene.ask()
    if accepted:
        scene.say(first, ACCEPTED, 0)
    scene.cluster.unlink(scene.links["first"])
    scene.cluster.run_for(15)
    assert second.all(TaskRequest)


def test_a_peer_that_is_lost_in_the_middle_of_an_answer_ends_it(scene: Scene) -> None:
    """What was shown cannot be taken back, and another's words would not follow on it."""
    first, second = scene.peer("first"), scene.peer("second", Load.of(1))
    command = scene.ask()
    scene.say(first, ACCEPTED, 0)
    scene.say(first, CHUNK, 1, text="half", tokens=1)
    scene.cluster.unlink(scene.links["first"])
    result = scene.phone.task(command)
    assert (result.text, result.tokens, result.reason) == ("half", 1, Reason.PEER_LOST)
    assert not second.all(TaskRequest)


def test_a_peer_that_does_not_answer_is_given_up_and_told(scene: Scene) -> None:
    silent, second = scene.peer("silent"), scene.peer("second", Load.of(1))
    scene.ask()
    scene.cluster.run_for(scene.phone.setup.config.task_answer_ms + 15)
    assert silent.last(Cancel).reason is Reason.NO_ANSWER
    assert second.all(TaskRequest)
    assert scene.phone.member.peers.rows[silent.node_id].stats.failed == 1


def test_a_long_prompt_has_the_time_that_it_takes_over_the_radio(scene: Scene) -> None:
    silent = scene.peer("silent", medium=Medium.BLE)
    config = scene.phone.setup.config
    scene.ask(prompt="x" * 30_000)
    scene.cluster.run_for(config.task_answer_ms + 30_000 * 8 // config.ble_kbit_per_s - 100)
    assert not silent.all(Cancel)
    scene.cluster.run_for(200)
    assert silent.last(Cancel).reason is Reason.NO_ANSWER


def test_a_peer_that_falls_silent_is_given_up(scene: Scene) -> None:
    silent = scene.peer("silent")
    command = scene.ask()
    scene.say(silent, ACCEPTED, 0)
    scene.say(silent, CHUNK, 1, text="a", tokens=1)
    scene.cluster.run_for(scene.phone.setup.config.task_silence_ms + 15)
    assert scene.phone.task(command).reason is Reason.NO_ANSWER


def test_answers_of_whom_the_task_was_taken_from_are_no_news(scene: Scene) -> None:
    late, second = scene.peer("late"), scene.peer("second", Load.of(1))
    command = scene.ask()
    scene.cluster.run_for(scene.phone.setup.config.task_answer_ms + 15)
    scene.say(late, ACCEPTED, 0)
    scene.say(late, CHUNK, 1, text="wrong", tokens=1)
    scene.say(second, ACCEPTED, 0)
    scene.say(second, CHUNK, 1, text="right", tokens=1)
    scene.say(second, DONE, 2, served_by=second.node_id, model="small", tokens=1)
    assert scene.phone.task(command).text == "right"


def test_a_task_fails_after_so_many_nodes(scene: Scene) -> None:
    peers = [scene.peer(f"peer {number}") for number in range(5)]
    command = scene.ask()
    for _ in range(scene.phone.setup.config.task_attempts_max):
        asked = next(peer for peer in peers if len(peer.all(TaskRequest)) == 1 and not peer.all(Cancel))
        scene.say(asked, FAILED, 0, reason=Reason.ENGINE_CRASHED)
        peers.remove(asked)
    assert scene.phone.task(command).reason is Reason.ENGINE_CRASHED
    assert scene.phone.traced(TaskEnded)[0].attempts == 4


def test_the_coordinator_is_asked_again_after_a_while(scene: Scene) -> None:
    hub = scene.coordinator()
    scene.ask()
    scene.say(hub, REFUSED, 0, reason=Reason.NO_ROUTE)
    assert len(hub.all(TaskRequest)) == 1
    scene.cluster.run_for(scene.phone.setup.config.task_retry_ms + 15)
    assert len(hub.all(TaskRequest)) == 2


# -- the answer is whole -----------------------------------------------------------------------------------------------


def test_an_answer_with_a_hole_is_not_called_whole(scene: Scene) -> None:
    peer = scene.peer("peer")
    command = scene.ask()
    scene.say(peer, ACCEPTED, 0)
    scene.say(peer, CHUNK, 1, text="def ", tokens=1)
    scene.say(peer, CHUNK, 3, text="return", tokens=1)
    scene.say(peer, DONE, 4, served_by=peer.node_id, model="small", tokens=3)
    result = scene.phone.task(command)
    assert (result.text, result.reason) == ("def ", Reason.NO_ANSWER)
    assert peer.last(Cancel).task_id == peer.last(TaskRequest).task_id


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("skip", range(5))
def test_one_lost_response_never_makes_a_wrong_answer(stream: bool, skip: int, cluster: Cluster) -> None:
    hub = cluster.add("hub", Role.COORDINATOR)
    phone, laptop = cluster.add("phone"), cluster.add("laptop", Role.AGENT, installed=[SMALL], active=SMALL)
    cluster.link(phone, hub)
    cluster.link(laptop, hub)
    cluster.drive()
    command = phone.submit(stream=stream)
    while command not in phone.replies and len(cluster.sent(TaskResponse, laptop)) < skip:
        cluster.step()
    cluster.drop(TaskResponse, source=laptop)
    cluster.drive()
    result = phone.task(command)
    whole = "one two three"
    assert result.text == whole if result.reason is None else whole.startswith(result.text)


# -- waiting -----------------------------------------------------------------------------------------------------------


def test_a_task_that_nobody_can_take_waits_for_somebody(scene: Scene) -> None:
    command = scene.ask()
    assert command not in scene.phone.replies
    peer = scene.peer("peer")
    scene.cluster.run_for(15)
    assert peer.all(TaskRequest), "whoever comes is asked at once"


def test_a_task_waits_for_a_peer_that_is_loading(scene: Scene) -> None:
    peer = scene.peer("peer", Load.LOADING)
    scene.ask()
    assert not peer.all(TaskRequest)
    peer.say(scene.links["peer"], capabilities(peer.node_id, 2))
    scene.cluster.run_for(25)
    assert peer.all(TaskRequest)


def test_a_task_that_waits_for_a_swap_here_runs_once(cluster: Cluster) -> None:
    phone = cluster.add("phone", installed=[SMALL])
    laptop = cluster.add("laptop", Role.AGENT, config=NodeConfig(has_radio=False), installed=[SMALL])
    cluster.link(phone, laptop)
    cluster.drive()
    command = phone.submit(model="small")
    phone.plan(RunTask, Outcome(after_us=20_000_000))
    phone.swap("small")
    laptop.swap("small")
    cluster.drive()
    assert phone.task(command).served_by == phone.node_id
    assert len(phone.did(RunTask)) == 1
    assert laptop.did(RunTask) == []


def test_a_waiting_task_looks_again_whatever_else_happens(scene: Scene) -> None:
    """News of others must not put off the second try for ever."""
    peer, other = scene.peer("peer"), scene.peer("other", active_model="large")
    scene.ask(model="small", deadline_ms=60_000)
    scene.say(peer, REFUSED, 0, reason=Reason.BUSY)
    for generation in range(2, 12):
        other.say(scene.links["other"], capabilities(other.node_id, generation, active_model="large"))
        scene.cluster.run_for(1_000)
    assert len(peer.all(TaskRequest)) > 1


def test_the_deadline_ends_what_waits_with_the_last_reason(scene: Scene) -> None:
    peer = scene.peer("peer")
    command, began = scene.phone.submit(deadline_ms=1_500), scene.cluster.now
    scene.cluster.run_for(15)
    scene.say(peer, REFUSED, 0, reason=Reason.BUSY)
    scene.cluster.drive()
    assert scene.phone.task(command).reason is Reason.BUSY
    assert scene.cluster.now == began + 1_500_000


def test_the_deadline_ends_what_nobody_took(scene: Scene) -> None:
    command = scene.ask(deadline_ms=700)
    scene.cluster.drive()
    assert scene.phone.task(command).reason is Reason.NO_ROUTE


def test_the_deadline_ends_what_runs(scene: Scene) -> None:
    peer = scene.peer("peer")
    command = scene.ask(deadline_ms=700)
    scene.say(peer, ACCEPTED, 0)
    scene.cluster.run_for(1_000)
    assert scene.phone.task(command).reason is Reason.DEADLINE
    assert peer.last(Cancel).reason is Reason.DEADLINE


def test_the_default_deadline_is_the_nodes(scene: Scene) -> None:
    command, began = scene.phone.submit(), scene.cluster.now
    scene.cluster.drive()
    assert scene.phone.task(command).reason is Reason.NO_ROUTE
    assert scene.cluster.now == began + scene.phone.setup.config.task_deadline_ms * 1000


@pytest.mark.parametrize("deadline_ms", [1 << 45, 1 << 62])
def test_a_far_deadline_can_be_sent(deadline_ms: int, both: Cluster) -> None:
    hub = both.add("hub", Role.COORDINATOR)
    phone, laptop = both.add("phone"), both.add("laptop", Role.AGENT, installed=[SMALL], active=SMALL)
    both.link(phone, hub)
    both.link(laptop, hub)
    both.drive()
    command = phone.submit(deadline_ms=deadline_ms)
    both.drive()
    assert phone.task(command).reason is None


# -- cancelling, and bounds --------------------------------------------------------------------------------------------


def test_cancelling_a_task_with_a_peer(scene: Scene) -> None:
    peer = scene.peer("peer")
    task = scene.ask()
    scene.say(peer, ACCEPTED, 0)
    scene.say(peer, CHUNK, 1, text="half", tokens=1)
    cancel = scene.phone.ask(CancelTask, task=task)
    assert scene.phone.replies[cancel] is True
    result = scene.phone.task(task)
    assert (result.text, result.reason) == ("half", Reason.CANCELLED)
    scene.cluster.run_for(15)
    assert peer.last(Cancel).reason is Reason.CANCELLED


def test_cancelling_a_task_here(cluster: Cluster) -> None:
    phone = cluster.add("phone", installed=[SMALL], active=SMALL)
    cluster.drive()
    phone.plan(RunTask, HANGS)
    task = phone.submit()
    phone.ask(CancelTask, task=task)
    assert phone.task(task).reason is Reason.CANCELLED
    cluster.drive()
    assert phone.member.executor.tasks == 0


def test_cancelling_a_task_that_waits(scene: Scene) -> None:
    task = scene.ask()
    scene.phone.ask(CancelTask, task=task)
    assert scene.phone.task(task).reason is Reason.CANCELLED


def test_cancelling_what_is_not_open(scene: Scene) -> None:
    assert scene.phone.replies[scene.phone.ask(CancelTask, task=77)] is False


def test_open_tasks_are_bounded(cluster: Cluster) -> None:
    scene = Scene(cluster, origin_tasks_max=2)
    scene.ask()
    scene.ask()
    assert scene.phone.replies[scene.ask()] is Reason.OVERFLOW
    assert len(scene.phone.member.origin) == 2


@pytest.mark.parametrize(
    ("prompt", "fits"), [("x" * 100, True), ("x" * 101, False), ("é" * 50, True), ("é" * 51, False)]
)
def test_prompts_are_bounded_in_bytes(prompt: str, fits: bool, cluster: Cluster) -> None:
    scene = Scene(cluster, prompt_bytes_max=100)
    command = scene.ask(prompt=prompt)
    assert (scene.phone.replies.get(command) is Reason.TOO_LARGE) is not fits


def test_progress_goes_to_the_command_that_asked(scene: Scene) -> None:
    peer = scene.peer("peer")
    first, second = scene.ask(), scene.ask()
    scene.say(peer, ACCEPTED, 0)
    scene.say(peer, CHUNK, 1, text="a", tokens=1)
    assert scene.phone.progress == [Progress(second, "a", 1)]
    assert first not in scene.phone.replies


def test_a_peer_that_streams_unasked_shows_nothing(scene: Scene) -> None:
    peer = scene.peer("peer")
    command = scene.ask(stream=False)
    scene.say(peer, ACCEPTED, 0)
    scene.say(peer, DONE, 1, text="whole", tokens=1, served_by=peer.node_id, model="small")
    assert scene.phone.task(command).text == "whole"


def test_a_task_goes_from_a_failing_engine_to_a_peer(cluster: Cluster) -> None:
    phone = cluster.add("phone", installed=[SMALL, LARGE], active=SMALL)
    laptop = cluster.add("laptop", Role.AGENT, installed=[LARGE], active=LARGE)
    cluster.link(phone, laptop)
    cluster.drive()
    phone.plan(RunTask, fails(Reason.ENGINE_CRASHED))
    phone.plan(LoadModel, HANGS)
    command = phone.submit(model="small")
    other = phone.submit(model="large")
    cluster.drive()
    assert phone.task(command).served_by == phone.node_id
    assert phone.task(other).served_by == laptop.node_id
