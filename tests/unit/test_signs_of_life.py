"""A task that is silent for good reason, in a queue or not streamed, is not taken as lost; a lost one still is."""

from __future__ import annotations

import pytest

from edgecoder.config import NodeConfig
from edgecoder.core.effects import RunTask
from edgecoder.core.events import SubmitTask
from edgecoder.core.ids import Role
from edgecoder.errors import Reason
from edgecoder.wire.messages import ResponseStatus, TaskResponse
from tests.catalogs import LARGE, SMALL
from tests.harness import Cluster
from tests.hosts import HANGS, Host, Outcome

SILENCE_MS = 6_000
CONFIG = NodeConfig(slots=1, task_silence_ms=SILENCE_MS, has_radio=False)
LONG = 5 * SILENCE_MS * 1000


def pair() -> tuple[Cluster, Host, Host]:
    """A node whose model is too small for what it asks, and a peer with a larger one."""
    cluster = Cluster()
    origin = cluster.add("origin", Role.PHONE, config=CONFIG, installed=[SMALL], active=SMALL)
    server = cluster.add("server", Role.AGENT, config=CONFIG, installed=[LARGE], active=LARGE)
    cluster.drive()
    cluster.link(origin, server)
    cluster.run_for(2_000)
    return cluster, origin, server


@pytest.mark.parametrize("stream", [True, False])
def test_a_long_silence_with_signs_is_waited_for(stream: bool) -> None:
    cluster, origin, server = pair()
    server.plan(RunTask, Outcome(after_us=LONG))
    task = origin.ask(SubmitTask, prompt="x", min_param_size=LARGE.param_size, stream=stream, deadline_ms=600_000)
    cluster.run_for(2 * LONG // 1000)
    assert origin.task(task).reason is None
    assert origin.task(task).served_by == server.alive.context.node_id
    signs = [r for r in cluster.sent(TaskResponse, server) if r.status is ResponseStatus.CHUNK and not r.text]
    assert 5 * 3 - 2 <= len(signs) <= 5 * 3 + 2


def test_a_task_in_a_queue_gives_signs_too() -> None:
    cluster, origin, server = pair()
    server.plan(RunTask, Outcome(after_us=LONG), Outcome(after_us=1000))
    wish = {"min_param_size": LARGE.param_size, "deadline_ms": 600_000}
    tasks = [origin.ask(SubmitTask, prompt="x", **wish) for _ in range(2)]
    cluster.run_for(2 * LONG // 1000)
    assert [origin.task(task).reason for task in tasks] == [None, None]


def test_without_signs_it_is_taken_as_lost() -> None:
    cluster, origin, server = pair()
    server.plan(RunTask, HANGS)
    task = origin.ask(SubmitTask, prompt="x", min_param_size=LARGE.param_size, deadline_ms=20_000)
    cluster.run_for(1_000)
    cluster.drop(TaskResponse, times=1000, source=server)
    cluster.run_for(60_000)
    assert origin.task(task).reason in (Reason.NO_ANSWER, Reason.DEADLINE)
