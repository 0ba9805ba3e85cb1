"""The recorder keeps book of probes and of tasks that two nodes were asked for."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgecoder.mesh.router import Why
from tests.sim import made_runs as made
from tests.sim.made_runs import AGENT, HUB, PEER, PHONE, rows


@pytest.mark.parametrize(("won", "via"), [(True, "coordinator"), (False, "peer")])
def test_the_way_of_a_hedged_answer_is_the_winners(tmp_path: Path, won: bool, via: str) -> None:
    recorder = made.recorder(tmp_path)
    made.boot(recorder)
    first = msgspec.structs.replace(made.routed(1, PEER, Why.SOONEST, 900.0), probes=3, answered=2)
    recorder.record(2 * made.SECOND, PHONE, made.submitted(1))
    recorder.record(2 * made.SECOND, PHONE, first)
    recorder.record(3 * made.SECOND, PHONE, made.routed(1, HUB, Why.HEDGED))
    recorder.record(3 * made.SECOND, HUB, made.routed(1, AGENT, Why.SOONEST, 800.0))
    end = made.ended(1, AGENT if won else PEER)
    recorder.record(4 * made.SECOND, PHONE, msgspec.structs.replace(end, hedge_won=won))
    metrics = recorder.close(made.MINUTE)
    (task,) = rows(tmp_path, "tasks")
    assert (task["via"], task["hedge"], task["probes"], task["routes"]) == (via, "won" if won else "lost", 3, 3)
    assert (metrics["tasks_hedged"], metrics["hedges_won"]) == (1, int(won))
    assert metrics["probes_per_task_mean"] == 3
    assert metrics["probes_answered_share"] == pytest.approx(2 / 3)
