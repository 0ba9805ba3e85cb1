"""Same scenario and seed, same run: in any process, under any hash seed, in both wire modes; what a tick moves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgecoder.core.effects import Effect, Trace
from edgecoder.core.events import Event
from edgecoder.trace import NodeReady
from edgecoder_sim.faults.model import FaultKind
from edgecoder_sim.host import SimNode
from edgecoder_sim.runner import run_scenario
from edgecoder_sim.scenario import load_scenario
from edgecoder_sim.world import World

SMALL = ("phones.count=20", "agents.count=4", "radio.area_m=[20, 15]", "duration_s=400", "checkers=false")
LIVELY = (
    "radio.scanning=true",
    "mobility.phones=random_waypoint",
    "presence.phones={session_s: 100, gap_s: 30, charging: {}}",
    "faults.random={count: [12, 12]}",
    "workload.swaps=[{name: mind, per_node_per_hour: 60}]",
    "duration_s=200",
)
"""Radios that scan, people who move, come and go, and things that go wrong."""
PROGRAM = """
import sys
from edgecoder_sim.runner import run_scenario
from edgecoder_sim.scenario import load_scenario
scenario = load_scenario("office", sys.argv[1:])
print(run_scenario(scenario, root=None, reproduce="").summary["digest"])
"""


def run(*sets: str, rng_seed: int | None = None) -> dict[str, Any]:
    """The summary of a small office."""
    scenario = load_scenario("office", [*SMALL, *sets], rng_seed)
    return run_scenario(scenario, root=None, reproduce="").summary


def digest_in_a_process(hash_seed: str, *sets: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", PROGRAM, *SMALL, *sets]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def test_one_digest_in_any_process_and_under_any_hash_seed() -> None:
    here = run()["digest"]
    assert len(here) == 32
    assert [digest_in_a_process(hash_seed) for hash_seed in ("0", "1", "4242")] == [here] * 3


def test_radios_people_and_faults_are_the_same_under_any_hash_seed() -> None:
    scenario = load_scenario("office", [*SMALL, *LIVELY])
    world = World(scenario)
    assert {fault.kind for fault in world.scenario.faults.plan} > {FaultKind.CRASH}
    here = run(*LIVELY)
    assert here["events"] > 2_000
    assert here["metrics"]["swaps_done"] > 10
    assert [digest_in_a_process(hash_seed, *LIVELY) for hash_seed in ("0", "77")] == [here["digest"]] * 2


def test_encoding_every_envelope_changes_nothing() -> None:
    assert run("wire=encoded")["digest"] == run("wire=reference")["digest"]


def test_another_seed_is_another_run() -> None:
    assert run(rng_seed=1)["digest"] != run(rng_seed=2)["digest"]


def test_tables_on_disk_change_nothing(tmp_path: Path) -> None:
    scenario = load_scenario("office", SMALL)
    with_tables = run_scenario(scenario, root=tmp_path, reproduce="").summary
    without = run_scenario(scenario, root=None, reproduce="").summary
    for key in ("digest", "events", "metrics"):
        assert with_tables[key] == without[key]


def test_checkers_change_nothing() -> None:
    watched = run("checkers=true")
    assert watched["digest"] == run()["digest"]
    assert watched["invariants"]["checked"] == watched["events"]
    assert watched["invariants"]["violated"] == 0


@pytest.mark.parametrize("key", ["tasks_done", "messages", "task_latency_mean_s"])
def test_a_tick_of_a_millisecond_moves_little(key: str) -> None:
    """`tick_us: 1` is exact. A tick delays each delivery by half of it on average, which is little against the tens of
    milliseconds that a message takes and nothing against a task."""
    exact, coarse = run("tick_us=1")["metrics"][key], run("tick_us=1000")["metrics"][key]
    assert coarse == pytest.approx(exact, rel=0.02)


class Boots:
    """A checker that keeps when each node was ready."""

    name = "boots"

    def __init__(self) -> None:
        self.ready_us: dict[str, int] = {}

    def died(self, at_us: int, node: SimNode) -> None:
        """See `watch.Checker`."""

    def saw(self, at_us: int, node: SimNode, event: Event, effects: list[Effect]) -> None:  # noqa: ARG002 - a checker's
        """Keep the moment of NodeReady."""
        if any(isinstance(effect, Trace) and isinstance(effect.record, NodeReady) for effect in effects):
            self.ready_us[node.name] = at_us

    def finish(self, at_us: int) -> None:
        """Nothing is judged here."""


def test_one_more_node_leaves_the_draws_of_the_others() -> None:
    """The agents of an office have the same devices, models and places, and boot at the same moments, however many
    phones there are."""

    def agents(phones: int) -> list[tuple[object, ...]]:
        world, boots = World(load_scenario("office", [*SMALL, f"phones.count={phones}"])), Boots()
        world.watch.checkers = [boots]
        world.kernel.run(30_000_000)
        assert len(boots.ready_us) == phones + 4 + 2
        rows = [row for row in world.describe() if row.role == "agent"]
        return [(row.name, row.device, row.model, row.x_m, row.y_m, boots.ready_us[row.name]) for row in rows]

    few = agents(20)
    assert agents(21) == few
    placed = [(x_m, y_m) for *_, x_m, y_m, _ in few if x_m is not None]
    assert len(set(placed)) == len(placed) > 1
    assert len({ready_us for *_, ready_us in few}) == len(few)
