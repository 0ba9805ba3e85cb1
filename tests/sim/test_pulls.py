"""Swaps that may fetch a file first, and removals: who takes part, and what is on the disks afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecoder_sim.population import Place
from edgecoder_sim.recorder import Recorder
from edgecoder_sim.scenario import load_scenario
from edgecoder_sim.world import World
from tests.sim.broken_scenarios.base import BASE

SMALL, MIDDLE, LARGE = "qwen2.5-coder-1.5b", "qwen2.5-coder-3b", "qwen2.5-coder-7b"
MIXED = ("phones.count=8", "phones.devices={phone_mid: 1, phone_high: 1}")
FITS_HIGH_ALONE = {"phone_mid": False, "phone_high": True}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(BASE, encoding="utf-8")
    return path


def phones_after(base: Path, swap: str, *sets: str) -> list[Place]:
    """The phones after ten minutes, in which a storm with these settings began early."""
    storm = f"workload.swaps=[{{name: storm, source: phones, at_s: 10, {swap}}}]"
    scenario = load_scenario(base, ["duration_s=600", "workload.tasks=[]", *sets, storm])
    world = World(scenario)
    recorder = Recorder(None, world.describe(), scenario.sample_interval_us)
    world.start_users(recorder)
    world.kernel.run(scenario.duration_us)
    recorder.close(world.kernel.now)
    return world.phones


def active(place: Place) -> str | None:
    entry = place.active()
    return None if entry is None else entry.model_id


def installed(place: Place) -> set[str]:
    return {entry.model_id for entry in place.catalog.entries if place.has(entry)}


def test_a_pull_brings_a_file_that_nobody_had(base: Path) -> None:
    phones = phones_after(base, f"pull: true, to: {{{MIDDLE}: 1}}")
    assert [active(place) for place in phones] == [MIDDLE] * 3
    assert all(MIDDLE in installed(place) for place in phones)


def test_without_pull_only_those_that_have_the_file_swap(base: Path) -> None:
    sets = ("phones.count=8", f"phones.installed.{SMALL}=0.5")
    before = [installed(place) for place in phones_after(base, "share_pct: 1", *sets)]
    after = phones_after(base, f"to: {{{SMALL}: 1}}", *sets)
    assert [installed(place) for place in after] == before
    assert [active(place) == SMALL for place in after] == [SMALL in files for files in before]
    assert {SMALL in files for files in before} == {True, False}


def test_nobody_picks_what_does_not_fit(base: Path) -> None:
    phones = phones_after(base, f"pull: true, to: {{{LARGE}: 1}}", *MIXED)
    assert {place.sim.device_name for place in phones} == set(FITS_HIGH_ALONE)
    for place in phones:
        assert (active(place) == LARGE) is FITS_HIGH_ALONE[place.sim.device_name]


def test_a_pull_of_anything_stays_within_what_fits(base: Path) -> None:
    for place in phones_after(base, "pull: true", *MIXED):
        now = place.active()
        assert now is not None
        assert now is not place.first
        assert place.fits(now)


def test_removals_leave_what_serves_and_nothing_else(base: Path) -> None:
    rare = "share_pct: 1"
    before = phones_after(base, rare, f"phones.installed.{SMALL}=1")
    removals = "workload.removals=[{name: room, source: phones, per_node_per_hour: 200}]"
    after = phones_after(base, rare, f"phones.installed.{SMALL}=1", removals)
    assert {len(installed(place)) for place in before} == {2}
    assert [installed(place) for place in after] == [{active(place)} for place in after]
