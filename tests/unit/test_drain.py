"""Draining: what came after the engine crashed, to a model that is back, is not cut off with what ran before."""

from __future__ import annotations

from edgecoder.config import NodeConfig
from edgecoder.core.effects import RunTask
from edgecoder.errors import Reason
from edgecoder.trace import TaskStopped
from tests.catalogs import SMALL
from tests.harness import Cluster
from tests.hosts import HANGS, Outcome


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
