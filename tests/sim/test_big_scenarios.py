"""The large and the long scenarios at a small scale, with the checkers on: what they are for happens in them."""

from __future__ import annotations

import pytest

from edgecoder_sim.runner import run_scenario
from edgecoder_sim.scenario import load_scenario
from edgecoder_sim.world import World

SMALL = {
    "city": (
        "phones.count=190", "agents.count=10", "coordinators.count=8", "coordinators.federation.degree=4",
        "radio.area_m=[300, 300]", "duration_s=240", "checkers=true",
    ),
    "campus": ("phones.count=190", "agents.count=10", "radio.area_m=[200, 200]", "duration_s=240", "buildings.count=4"),
    "idle": ("phones.count=90", "agents.count=9", "coordinators.count=2", "radio.area_m=[40, 28]", "duration_s=240"),
    "office_day": ("phones.count=60", "agents.count=20", "duration_s=3600", "day.starts_h=8.5", "sample_interval_s=60"),
}  # fmt: skip
"""Flags that make a scenario one of 100 to 200 nodes and four minutes."""


SWARMS = {
    "flash_crowd": ("agents.count=30", "catalog[0].fileSizeBytes=268435456", "duration_s=300"),
    "steady_release": ("agents.count=30", "duration_s=900", "workload.pulls[0].per_node_per_hour=3"),
    "missing_piece": ("agents.count=100", "duration_s=1800"),
    "cdn_outage": ("agents.count=12", "duration_s=600", "faults.plan[0].for_s=200"),
    "mixed_city": ("phones.count=40", "agents.count=10", "radio.area_m=[60, 60]", "duration_s=300"),
    "village": ("duration_s=2400",),
}
"""Flags that make a scenario of files one of a minute or two of work for the swarm."""


@pytest.mark.parametrize("name", SWARMS)
def test_files_come_within_the_bounds(name: str) -> None:
    outcome = run_scenario(load_scenario(name, SWARMS[name]), root=None, reproduce="")
    assert outcome.violation is None
    assert outcome.summary["invariants"]["checked"] == outcome.summary["events"]
    assert outcome.summary["metrics"]["transfers_done"] >= 5


@pytest.mark.parametrize("name", SMALL)
def test_it_runs_and_serves(name: str) -> None:
    outcome = run_scenario(load_scenario(name, SMALL[name]), root=None, reproduce="")
    assert outcome.violation is None
    assert outcome.summary["invariants"]["checked"] == outcome.summary["events"]
    metrics = outcome.summary["metrics"]
    assert metrics["tasks_submitted"] > 20
    assert metrics["tasks_done_share"] > 0.9


@pytest.mark.parametrize("name", SMALL)
def test_its_full_size_is_what_it_says(name: str) -> None:
    scenario = load_scenario(name)
    counts = (scenario.phones.count, scenario.agents.count, scenario.coordinators.count)
    assert (
        counts
        == {"city": (95_000, 4_900, 100), "campus": (5_000, 250, 8), "idle": (901, 90, 9), "office_day": (100, 30, 2)}[
            name
        ]
    )


def test_what_few_can_answer_on_the_campus_crosses_coordinators() -> None:
    often = (
        "workload.tasks[2].per_node_per_hour=3",
        "agents.active={'qwen2.5-coder:7b': 0.5, 'qwen2.5-coder:14b': 0.5}",
    )
    outcome = run_scenario(load_scenario("campus", (*SMALL["campus"], *often)), root=None, reproduce="")
    assert outcome.violation is None
    assert outcome.summary["metrics"]["tasks_via_federation_share"] > 0.01


def test_laptops_open_in_the_morning() -> None:
    world = World(load_scenario("office_day", SMALL["office_day"]))
    there = []
    for minute in (1, 30, 59):
        world.kernel.run(minute * 60_000_000)
        there.append(sum(place.sim.is_up for place in world.agents))
    assert there[0] <= 6 < there[1] < there[2]
