"""The route view: what its charts count."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from edgecoder_sim.results import Run
from edgecoder_sim.route_charts import ROUTERS, WAYS, decisions, hedges, probes, route_figures, ways
from tests.sim import made_runs as made

NODES = pd.DataFrame({"node": [0, 1, 2, 3], "role": ["phone", "phone", "agent", "coordinator"]})


def tasks(**columns: list[object]) -> pd.DataFrame:
    """Rows of `tasks`; what is not said is the same in all."""
    count = len(next(iter(columns.values())))
    rest = {"kind": "chat", "reason": None, "via": "peer", "served_by": 1, "ended_s": 1.0, "probes": 0, "hedge": None}
    return pd.DataFrame({name: [value] * count for name, value in rest.items()} | columns)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A made-up minute."""
    return made.made_run(Path(tmp_path_factory.mktemp("run")))


def test_a_way_says_who_answered_from_where() -> None:
    frame = tasks(
        via=["self", "peer", "peer", "coordinator", "federation", "peer"],
        served_by=[0, 1, 2, 2, 2, 1],
        reason=[None, None, None, None, None, "deadline"],
    )
    assert dict(zip(*(ways(frame, NODES)[column] for column in ("way", "tasks")), strict=True)) == dict.fromkeys(
        WAYS, 1
    )


def test_reasons_count_once_a_task_and_are_told_apart_by_who_decided() -> None:
    waits = "nobody can take it now"
    rows = [("a", 0, "soonest"), ("b", 1, "soonest"), ("a", 3, "soonest"), *[("b", 3, waits)] * 31]
    routes = pd.DataFrame(rows, columns=["task_id", "node", "why"])
    found = decisions(routes, NODES).to_dict("records")
    assert {(row["why"], row["router"]): row["tasks"] for row in found} == {
        ("soonest", ROUTERS[0]): 2,
        ("soonest", ROUTERS[1]): 1,
        (waits, ROUTERS[1]): 1,
    }


def test_probes_are_counted_by_task() -> None:
    frame = probes(tasks(probes=[0, 3, 3, 12, 6], ended_s=[1.0, 1.0, 1.0, 1.0, None]))
    counts = dict(zip(frame["probes"], frame["tasks"], strict=True))
    assert {label: count for label, count in counts.items() if count} == {"0": 1, "3": 2, "9+": 1}
    assert not len(probes(tasks(probes=[0, 0]))), "by cost nobody is probed"


def test_hedges_are_counted_by_winner() -> None:
    frame = hedges(tasks(hedge=["won", "lost", "lost", None, "lost"], reason=[None, None, "deadline", None, None]))
    assert dict(zip(frame["winner"], frame["tasks"], strict=True)) == {"the second": 1, "the first": 2, "nobody": 1}


def test_a_run_has_the_charts_that_it_has_something_for(run: Run) -> None:
    assert [figure.key for figure in route_figures(run)] == ["routes-ways", "routes-why"]
