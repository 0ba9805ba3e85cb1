"""The view of trouble: what its charts count, and when there are any."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import vl_convert

from edgecoder_sim.results import Run
from edgecoder_sim.runner import run_scenario
from edgecoder_sim.scenario import load_scenario
from edgecoder_sim.trouble_charts import (
    BINS_MIN,
    LANES_MAX,
    STEPS,
    WAYS,
    answered_share,
    answers_by_way,
    fault_times,
    nodes_over_time,
    receipts_over_time,
    trouble_figures,
)
from tests.sim import made_runs as made


@pytest.fixture(scope="module")
def blackout(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Ten minutes of the blackout, of which the third to the eighth are dark, with a crash of an engine."""
    faults = (
        "faults.plan=[{name: line, kind: partition, at_s: 120, for_s: 300, nodes: [coordinators], media: [lan]}, "
        "{name: bang, kind: engine_crash, at_s: 200, nodes: [phone-0]}, {name: late, kind: slow_disk, at_s: 500, "
        "delay_ms: 20}]"
    )
    scenario = load_scenario("blackout", ("duration_s=600", "phones.count=20", "agents.count=4", faults))
    outcome = run_scenario(scenario, root=tmp_path_factory.mktemp("runs"), reproduce="")
    assert outcome.directory is not None
    return Run(outcome.directory)


def test_a_quiet_run_has_no_such_view(tmp_path: Path) -> None:
    assert trouble_figures(made.made_run(tmp_path)) == []


def test_a_dark_run_has_all_of_it_and_vega_draws_it(blackout: Run) -> None:
    figures = trouble_figures(blackout)
    keys = ["faults-when", "faults-outcome", "offline-nodes", "offline-ways", "offline-receipts"]
    assert [figure.key for figure in figures] == keys
    for figure in figures:
        assert "NaN" not in vl_convert.vegalite_to_svg({**figure.spec, "width": 400}), figure.key


def test_faults_begin_and_end_as_the_plan_says(blackout: Run) -> None:
    rows = fault_times(blackout, 600.0).to_dict("records")
    assert [(row["name"], row["kind"], row["begin_s"], row["end_s"]) for row in rows] == [
        ("line", "partition", 120.0, 420.0),
        ("bang", "engine_crash", 200.0, 200.0),
        ("late", "slow_disk", 500.0, 600.0),
    ]


def test_nodes_are_offline_while_it_is_dark(blackout: Run) -> None:
    frame = nodes_over_time(blackout.timeline, 600.0)

    def counts(at_s: float) -> tuple[int, int]:
        row = frame[frame["at_s"] <= at_s].iloc[-1]
        return int(row["online"]), int(row["offline"])

    assert [counts(at_s) for at_s in (100, 300, 599)] == [(24, 0), (0, 24), (24, 0)]


def test_a_node_that_dies_is_neither_online_nor_offline() -> None:
    rows = [(1.0, "node_online", "0", 1), (2.0, "node_online", "0", 0), (3.0, "node_up", "0", 0)]
    frame = nodes_over_time(pd.DataFrame(rows, columns=["at_s", "metric", "key", "value"]), 10.0)
    assert frame[["online", "offline"]].to_numpy().tolist() == [[0, 0], [1, 0], [0, 1], [0, 0], [0, 0]]


def test_receipts_are_signed_wait_and_arrive(blackout: Run) -> None:
    frame = receipts_over_time(blackout.receipts, 600.0)
    metrics = blackout.summary["metrics"]
    dark, end = (
        dict(zip(part["step"], part["value"], strict=True))
        for part in (frame[(frame["at_s"] - 410).abs() < 1.1].drop_duplicates("step"), frame[frame["at_s"] == 600])
    )
    assert dark[STEPS[0]] == dark[STEPS[1]] > 0
    assert dark[STEPS[2]] == 0
    assert [end[step] for step in STEPS] == [metrics["receipts_signed"], 0, metrics["receipts_taken"]]


def test_a_copy_and_a_repetition_count_once() -> None:
    steps = ["signed", "queued", "queued", "taken", "copied", "synced"]
    receipts = pd.DataFrame({"at_s": range(6), "receipt": "r", "step": steps})
    frame = receipts_over_time(receipts, 10.0)
    assert frame[frame["at_s"] == 10.0]["value"].tolist() == [1, 0, 1]
    assert frame["value"].max() == 1


def test_shares_and_ways_are_of_the_tasks_of_their_time() -> None:
    tasks = pd.DataFrame(
        {
            "ended_s": [1.0, 2.0, 55.0, None, 99.9],
            "reason": [None, "deadline", None, None, None],
            "via": ["self", None, "peer", None, "coordinator"],
        }
    )
    shares = answered_share(tasks, 100.0)
    assert dict(zip(shares["at_s"], shares["value"], strict=True)) == {5.0: 50.0, 55.0: 100.0, 95.0: 100.0}
    ways = answers_by_way(tasks, 100.0)
    found = {(row.at_s, row.way): row.value for row in ways.itertuples() if row.value}
    assert found == {
        (0.0, WAYS["self"]): 6.0,
        (50.0, WAYS["peer"]): 6.0,
        (90.0, WAYS["coordinator"]): 6.0,
        (100.0, WAYS["coordinator"]): 6.0,
    }
    assert len(ways) == (BINS_MIN + 1) * len(WAYS)


def test_of_many_faults_the_longest_are_shown(tmp_path: Path) -> None:
    plan = ", ".join(
        f"{{name: f{number}, kind: slow_disk, at_s: {number / 10}, for_s: {1 + number}, delay_ms: 5}}"
        for number in range(LANES_MAX + 6)
    )
    sets = ("duration_s=50", "phones.count=2", "agents.count=0", "workload={}", f"faults.plan=[{plan}]")
    outcome = run_scenario(load_scenario("blackout", sets), root=tmp_path, reproduce="")
    assert outcome.directory is not None
    lanes = trouble_figures(Run(outcome.directory))[0]
    assert f"The longest {LANES_MAX} of {LANES_MAX + 6}." in lanes.caption
    assert '"f5"' not in str(lanes.spec).replace("'", '"')
    assert '"f6"' in str(lanes.spec).replace("'", '"')
