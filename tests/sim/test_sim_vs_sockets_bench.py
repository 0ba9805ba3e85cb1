"""What the benchmark of the simulator against sockets prints is what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.sim_vs_sockets import (
    CROWDS,
    FIGURES,
    RATE,
    Arrived,
    Measured,
    errors,
    figures_of,
    finished,
    means,
    scenario_of,
)
from edgecoder_sim.world import World
from tests.sim.crowd import YAML


def test_figures_are_of_those_who_finished_but_copies_of_all() -> None:
    arrivals = [
        Arrived(2.0, 1, 0, 50, is_from_origin=False),
        Arrived(1.0, 1, 1, 50, is_from_origin=True),
        Arrived(4.0, 2, 0, 20, is_from_origin=False),  # the rest of it came from somebody who left
        Arrived(3.0, 2, 1, 50, is_from_origin=True),
        Arrived(0.5, 3, 1, 50, is_from_origin=True),  # it died
    ]
    assert figures_of(arrivals, file_bytes=100, pieces=2) == Measured(1.0, 2.0, 4.0, 4.0, 1.5)
    assert finished(arrivals, pieces=2) == 2
    with pytest.raises(ValueError, match="nobody finished"):
        figures_of(arrivals[-1:], file_bytes=100, pieces=2)


def test_errors_are_those_of_the_means_relative_to_the_sockets() -> None:
    sockets = means([Measured(1, 2, 4, 8, 1.0), Measured(3, 2, 4, 8, 1.0)])
    simulated = means([Measured(3, 2, 2, 8, 1.5)])
    assert list(errors(simulated, sockets).values()) == [0.5, 0.0, -0.5, 0.0, 0.5]
    assert tuple(sockets) == FIGURES


@pytest.mark.parametrize("crowd", CROWDS, ids=lambda crowd: crowd.name)
def test_a_set_up_is_the_same_on_both_sides(crowd: Any, tmp_path: Path) -> None:
    path = tmp_path / "recorded.yaml"
    path.write_text(YAML.replace("  line:", "  agent:").replace("network: line", "network: agent"), encoding="utf-8")
    scenario = scenario_of(crowd, path, 7)
    sockets = crowd.set_up(1)
    world = World(scenario)
    uplinks = [row.up_bytes_per_s for row in world.describe() if row.role == "agent"]
    recorded = 16.777216 * 125_000
    assert sorted(uplinks) == sorted(round(recorded * uplink / RATE) for uplink in sockets.uplinks_bytes_per_s)
    assert sum(fault.count or 0 for fault in scenario.faults.plan) == len(sockets.deaths_s)
    at_s = scenario.workload.pulls[0].at_s
    assert at_s is not None
    assert {fault.at_s - at_s for fault in scenario.faults.plan} == set(sockets.deaths_s.values())
    assert scenario.rng_seed == 7


def test_one_set_up_loses_a_fifth_of_its_nodes_and_one_is_heterogeneous() -> None:
    assert len(CROWDS) == 4
    assert 0.2 in {len(crowd.deaths_s) / len(crowd.uplinks) for crowd in CROWDS}
    assert max(len(set(crowd.uplinks)) for crowd in CROWDS) == 3
