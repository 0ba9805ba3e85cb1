"""Draining: what runs ends, or is cut off at the deadline; what came after the engine crashed, to a model that is back,
is not cut off with what ran before."""

from __future__ import annotations

import pytest

from edgecoder.config import NodeConfig
from edgecoder.core.effects import RunTask
from edgecoder.core.events import ShutDown
from edgecoder.core.ids import Medium
from edgecoder.errors import Reason
from edgecoder.mesh.open_task import Ask
from edgecoder.trace import TaskStopped
from edgecoder.wire.messages import Cancel
from tests.catalogs import LARGE, SMALL
from tests.harness import Cluster
from tests.hosts import HANGS, Host, Outcome, fails


def test_a_task_of_after_the_crash_does_not_end_with_those_of_before(cluster: Cluster) -> None:
    phone = cluster.add("phone", config=NodeConfig(slots=2), installed=[SMALL], active=SMALL)
    cluster.drive()
    drain_ms = phone.setup.config.drain_ms
    phone.plan(RunTask, HANGS, Outcome(after_us=1000 * (drain_ms + 5_000)))
    phone.submit()
    phone.crash_engine(tasks_fail=False)
    cluster.run_for(100)
    assert phone.member.swap.serving is SMALL
    later = phone.submit()
    cluster.run_for(2 * drain_ms + 10_000)
    assert phone.task(later).reason is None
    drained = [record for record in phone.traced(TaskStopped) if record.reason is Reason.DRAINED]
    assert len(drained) == 1


@pytest.fixture
def phone(cluster: Cluster) -> Host:
    """Serves, and has one slot and a peer that serves too."""
    phone = cluster.add("phone", config=NodeConfig(slots=1), installed=[SMALL, LARGE], active=SMALL)
    peer = cluster.add("peer", installed=[SMALL], active=SMALL)
    cluster.drive()
    cluster.link(phone, peer, Medium.LAN)
    cluster.run_for(1_500)
    return phone


def test_the_own_users_task_that_runs_is_drained_when_the_node_shuts_down(cluster: Cluster, phone: Host) -> None:
    phone.plan(RunTask, Outcome(after_us=2_000_000))
    task = phone.submit()
    cluster.run_for(10)
    shut = phone.ask(ShutDown)
    cluster.run_for(1_000)
    assert task not in phone.replies
    assert shut not in phone.replies
    cluster.run_for(1_500)
    assert phone.task(task).reason is None
    assert shut in phone.replies


def test_what_does_not_run_here_ends_at_once_when_the_node_shuts_down(cluster: Cluster, phone: Host) -> None:
    phone.plan(RunTask, HANGS)
    cluster.hosts["peer"].plan(RunTask, HANGS, HANGS)
    tasks = [phone.submit() for _ in range(4)]
    cluster.run_for(200)
    assert cluster.hosts["peer"].member.executor.tasks, "one is asked of the peer"
    phone.ask(ShutDown)
    (running,) = [task for task in tasks if task not in phone.replies]
    ended = [phone.task(task).reason for task in tasks if task != running]
    assert ended == [Reason.SHUTTING_DOWN] * 3
    cluster.run_for(phone.setup.config.drain_ms + 1_000)
    assert phone.task(running).reason is Reason.DRAINED
    assert cluster.hosts["peer"].member.executor.tasks == 0


def test_a_task_whose_engine_fails_while_the_node_shuts_down_goes_nowhere_else(cluster: Cluster, phone: Host) -> None:
    """Nobody would be here to take the answer."""
    phone.plan(RunTask, fails(Reason.ENGINE_CRASHED, after_us=1_000_000))
    task = phone.submit()
    cluster.run_for(10)
    phone.ask(ShutDown)
    cluster.drive()
    assert phone.task(task).reason is Reason.ENGINE_CRASHED


def test_of_two_that_were_asked_the_own_engine_is_left_when_the_node_shuts_down(cluster: Cluster) -> None:
    """A second node was asked as the first was late; nothing has been shown yet."""
    phone, late = cluster.add("phone", installed=[SMALL], active=SMALL), cluster.puppet("late")
    cluster.drive()
    link = cluster.link(late, phone)
    phone.plan(RunTask, Outcome(after_us=2_000_000))
    task = phone.submit()
    cluster.run_for(10)
    (open_task,) = phone.member.origin._tasks.values()
    open_task.asked.append(Ask(late.node_id, link, cluster.now, ("task.answer.second", open_task.id), attempt=7))
    phone.ask(ShutDown)
    cluster.drive()
    assert [told.attempt for told in late.all(Cancel)] == [7]
    assert phone.task(task).reason is None
