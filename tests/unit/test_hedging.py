"""A task that is late to be taken up is asked of a second node; whoever begins first keeps it, and one reply comes."""

from __future__ import annotations

from typing import Any

import pytest

from edgecoder.config import NodeConfig, Routing
from edgecoder.core.effects import RunTask
from edgecoder.core.events import CancelTask
from edgecoder.errors import Reason
from edgecoder.mesh.pace import Pace
from edgecoder.mesh.router import Why
from edgecoder.trace import TaskEnded, TaskRouted
from edgecoder.wire.messages import Cancel, Load, Probe, ResponseStatus, TaskRequest, TaskResponse
from tests.catalogs import SMALL
from tests.harness import Cluster, Puppet
from tests.hosts import HANGS
from tests.invariants import assert_nothing_left
from tests.scenes import Scene
from tests.strategies import capabilities

ACCEPTED, CHUNK, DONE, REFUSED, FAILED = ResponseStatus
LATE_MS = NodeConfig().hedge_ms_min


class Late(Scene):
    """A phone that has measured enough to know what is late, one peer that has its task, and another one."""

    def __init__(self, cluster: Cluster, **config: Any) -> None:
        super().__init__(cluster, hedge_samples_min=2, **config)
        paces = self.phone.member.origin._paces
        for pace in (paces.accepted, paces.begun):
            pace.add(20)
            pace.add(20)
        self.first = self.peer("first")
        self.second = self.peer("second", Load.of(1))

    def late(self, **fields: object) -> int:
        """A task that the first has, and that is late."""
        command = self.ask(**fields)
        self.cluster.run_for(LATE_MS)
        return command

    def done(self, puppet: Puppet, index: int) -> None:
        """The end of an answer."""
        self.say(puppet, DONE, index, served_by=puppet.node_id, model="small", tokens=1)

    @property
    def ended(self) -> TaskEnded:
        """The one end."""
        (ended,) = self.phone.traced(TaskEnded)
        return ended


@pytest.fixture
def scene(cluster: Cluster) -> Late:
    """Nobody has been asked yet."""
    return Late(cluster)


def test_what_is_late_is_what_few_have_exceeded() -> None:
    pace = Pace(NodeConfig(hedge_samples_min=20, hedge_samples_max=100, hedge_ms_min=1))
    for taken_ms in range(1, 20):
        pace.add(taken_ms)
    assert pace.late_ms() is None, "too few to know"
    pace.add(20)
    assert pace.late_ms() == 19
    for taken_ms in range(1, 101):
        pace.add(taken_ms)
    assert (len(pace), pace.late_ms()) == (100, 95)
    assert Pace(NodeConfig()).late_ms() is None


def test_nothing_is_late_at_once() -> None:
    pace = Pace(NodeConfig(hedge_samples_min=1))
    pace.add(3)
    assert pace.late_ms() == LATE_MS


def test_a_task_that_is_not_taken_up_is_asked_of_a_second(scene: Late) -> None:
    command = scene.late()
    assert scene.second.all(TaskRequest)
    assert not scene.first.all(Cancel)
    scene.say(scene.second, ACCEPTED, 0)
    scene.say(scene.second, CHUNK, 1, text="a", tokens=1)
    assert scene.first.last(Cancel).reason is Reason.CANCELLED
    scene.say(scene.first, ACCEPTED, 0)
    scene.say(scene.first, CHUNK, 1, text="late", tokens=1)
    scene.done(scene.second, 2)
    assert (scene.phone.task(command).text, scene.phone.task(command).served_by) == ("a", scene.second.node_id)
    assert (scene.ended.hedge_won, scene.ended.attempts) == (True, 1)
    assert [record.why for record in scene.phone.traced(TaskRouted)] == [Why.CHEAPEST.value, Why.HEDGED.value]
    assert_nothing_left(scene.phone.alive)


def test_the_first_may_still_win(scene: Late) -> None:
    command = scene.late()
    scene.say(scene.second, ACCEPTED, 0)
    scene.say(scene.first, ACCEPTED, 0)
    scene.say(scene.first, CHUNK, 1, text="b", tokens=1)
    assert scene.second.last(Cancel).reason is Reason.CANCELLED
    scene.say(scene.second, CHUNK, 1, text="late", tokens=1)
    scene.done(scene.first, 2)
    assert scene.phone.task(command).text == "b"
    assert scene.ended.hedge_won is False


def test_one_that_is_accepted_and_does_not_begin_is_late_too(scene: Late) -> None:
    scene.ask()
    scene.say(scene.first, ACCEPTED, 0)
    assert not scene.second.all(TaskRequest)
    scene.cluster.run_for(LATE_MS)
    assert scene.second.all(TaskRequest)


def test_one_that_is_not_streamed_begins_in_silence(scene: Late) -> None:
    command = scene.ask(stream=False)
    scene.say(scene.first, ACCEPTED, 0)
    scene.cluster.run_for(10 * LATE_MS)
    assert not scene.second.all(TaskRequest)
    scene.say(scene.first, DONE, 1, text="whole", served_by=scene.first.node_id, model="small", tokens=1)
    assert scene.phone.task(command).text == "whole"


def test_one_that_is_not_streamed_and_takes_longer_than_whole_answers_do_is_asked_of_a_second(scene: Late) -> None:
    for _ in range(2):
        scene.phone.member.origin._paces.whole.add(LATE_MS + 500)
    command = scene.ask(stream=False)
    scene.say(scene.first, ACCEPTED, 0)
    scene.cluster.run_for(LATE_MS + 450)
    assert not scene.second.all(TaskRequest)
    scene.cluster.run_for(60)
    assert len(scene.second.all(TaskRequest)) == 1
    assert not scene.first.all(Cancel)
    scene.say(scene.second, ACCEPTED, 0)
    scene.say(scene.second, DONE, 1, text="whole", served_by=scene.second.node_id, model="small", tokens=1)
    assert scene.first.last(Cancel).reason is Reason.CANCELLED
    scene.say(scene.first, DONE, 1, text="late", served_by=scene.first.node_id, model="small", tokens=1)
    assert (scene.phone.task(command).text, scene.ended.hedge_won) == ("whole", True)
    assert len(scene.phone.member.origin._paces.whole) == 4
    assert_nothing_left(scene.phone.alive)


def test_whole_answers_are_measured_where_they_are_not_streamed(scene: Late) -> None:
    paces = scene.phone.member.origin._paces
    for stream, count in ((True, 0), (False, 1)):
        scene.ask(stream=stream)
        scene.say(scene.first, ACCEPTED, 0)
        scene.done(scene.first, 1)
        assert len(paces.whole) == count


def test_of_two_that_are_not_streamed_the_first_to_end_wins(scene: Late) -> None:
    command = scene.late(stream=False)
    scene.say(scene.second, ACCEPTED, 0)
    scene.say(scene.first, ACCEPTED, 0)
    scene.say(scene.second, DONE, 1, text="whole", served_by=scene.second.node_id, model="small", tokens=1)
    assert scene.phone.task(command).text == "whole"
    assert scene.first.last(Cancel).reason is Reason.CANCELLED
    assert scene.ended.hedge_won is True


@pytest.mark.parametrize("who", ["first", "second"])
@pytest.mark.parametrize("how", [REFUSED, FAILED, "gone"])
def test_one_of_two_that_cannot_leaves_it_to_the_other(who: str, how: object, scene: Late) -> None:
    command = scene.late()
    loser, winner = (scene.first, scene.second) if who == "first" else (scene.second, scene.first)
    if how == "gone":
        scene.cluster.unlink(scene.links[who])
    else:
        assert isinstance(how, ResponseStatus)
        scene.say(loser, how, 0, reason=Reason.BUSY)
    assert len(winner.all(TaskRequest)) == 1
    scene.say(winner, ACCEPTED, 0)
    scene.done(winner, 1)
    assert scene.phone.task(command).served_by == winner.node_id
    assert_nothing_left(scene.phone.alive)


def test_when_both_fail_it_goes_on(scene: Late) -> None:
    third = scene.peer("third", Load.of(2))
    scene.late()
    scene.say(scene.first, ACCEPTED, 0)
    scene.say(scene.first, FAILED, 1, reason=Reason.ENGINE_CRASHED)
    assert not third.all(TaskRequest)
    scene.say(scene.second, REFUSED, 0, reason=Reason.BUSY)
    assert third.all(TaskRequest)
    scene.cluster.run_for(10 * LATE_MS)
    assert len(scene.phone.traced(TaskRouted)) == 3, "a task is hedged once"


def test_whoever_had_it_twice_is_told_when_it_ends(scene: Late) -> None:
    task = scene.late()
    scene.phone.ask(CancelTask, task=task)
    scene.cluster.run_for(15)
    assert scene.first.all(Cancel)
    assert scene.second.all(Cancel)
    assert_nothing_left(scene.phone.alive)


def test_without_another_way_it_stays_where_it_is(cluster: Cluster) -> None:
    scene = Late(cluster)
    cluster.unlink(scene.links["second"])
    scene.late()
    assert len(scene.first.all(TaskRequest)) == 1
    assert not scene.first.all(Cancel)


def test_the_coordinator_may_be_the_second(cluster: Cluster) -> None:
    scene = Late(cluster)
    cluster.unlink(scene.links["second"])
    hub = scene.coordinator()
    scene.late()
    assert hub.all(TaskRequest)


def test_hedging_can_be_turned_off(cluster: Cluster) -> None:
    scene = Late(cluster, hedging=False)
    scene.late()
    assert not scene.second.all(TaskRequest)


def test_the_second_is_probed_where_that_is_the_policy(cluster: Cluster) -> None:
    scene = Late(cluster, routing=Routing.PROBE)
    scene.ask()
    scene.offer(scene.first)
    scene.offer(scene.second, queue_ms=100)
    assert scene.first.all(TaskRequest)
    cluster.run_for(LATE_MS)
    assert len(scene.second.all(Probe)) == 2
    assert len(scene.first.all(Probe)) == 1, "whoever has it is not asked again"
    scene.offer(scene.second)
    assert scene.second.all(TaskRequest)
    scene.say(scene.second, ACCEPTED, 0)
    scene.say(scene.second, CHUNK, 1, text="a", tokens=1)
    assert scene.first.all(Cancel)


def test_a_round_for_a_second_ends_with_the_first_part(cluster: Cluster) -> None:
    scene = Late(cluster, routing=Routing.PROBE)
    scene.ask()
    scene.offer(scene.first)
    scene.offer(scene.second, queue_ms=100)
    cluster.run_for(LATE_MS)
    scene.say(scene.first, ACCEPTED, 0)
    scene.say(scene.first, CHUNK, 1, text="a", tokens=1)
    scene.offer(scene.second)
    assert not scene.second.all(TaskRequest)
    assert len(scene.phone.member.origin._prober or ()) == 0


def test_what_was_called_off_counts_for_what_is_late(scene: Late) -> None:
    begun = scene.phone.member.origin._paces.begun
    scene.late()
    scene.say(scene.second, ACCEPTED, 0)
    scene.say(scene.second, CHUNK, 1, text="a", tokens=1)
    assert len(begun) == 4
    assert max(begun._ms) > LATE_MS


@pytest.mark.parametrize("who", ["the other", "nobody"])
def test_this_node_itself_may_be_the_second(who: str, cluster: Cluster) -> None:
    """Found by the office: the queue of the node's own engine gives a task back while it is being called off."""
    config = NodeConfig(routing=Routing.COST, hedge_samples_min=1)
    phone = cluster.add("phone", config=config, installed=[SMALL], active=SMALL)
    cluster.drive()
    phone.plan(RunTask, HANGS)
    phone.submit()
    phone.member.origin._paces.accepted.add(20)
    peer = cluster.puppet("peer")
    link = cluster.link(peer, phone)
    peer.say(link, capabilities(peer.node_id))
    cluster.run_for(25)
    command = phone.submit()
    cluster.run_for(LATE_MS + 25)
    task_id = peer.last(TaskRequest).task_id
    assert phone.member.executor.tasks == 2
    if who == "nobody":
        phone.ask(CancelTask, task=command)
        assert phone.task(command).reason is Reason.CANCELLED
    else:
        peer.say(link, TaskResponse(task_id=task_id, status=ACCEPTED, index=0))
        peer.say(link, TaskResponse(task_id=task_id, status=CHUNK, index=1, text="a", tokens=1))
        peer.say(link, TaskResponse(task_id=task_id, status=DONE, index=2, tokens=1, served_by=peer.node_id))
        cluster.run_for(25)
        assert phone.task(command).served_by == peer.node_id
    assert phone.member.executor.tasks == 1
