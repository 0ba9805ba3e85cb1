"""Presence: nodes that leave and come back, working days, and what charging does; with the checkers on."""

from __future__ import annotations

import pytest

from edgecoder.core.ids import Role
from edgecoder.trace import NodeReady, Record
from edgecoder_sim.battery import BOOT_PCT
from edgecoder_sim.checkers import make_checkers
from edgecoder_sim.population import Place
from edgecoder_sim.recorder import Recorder
from edgecoder_sim.runner import run_scenario
from edgecoder_sim.scenario import load_scenario
from edgecoder_sim.world import World

SECOND_US = 1_000_000
SMALL = ("phones.count=60", "agents.count=6", "workload.swaps=[]")


def _world(*sets: str, checked: bool = True) -> World:
    scenario = load_scenario("office", [*SMALL, *sets])
    world = World(scenario, make_checkers(1, "") if checked else [])
    world.start_users(Recorder(None, world.describe(), scenario.sample_interval_us))
    return world


def _up(places: list[Place]) -> int:
    return sum(place.sim.is_up for place in places)


def test_churn_keeps_the_share_that_is_there() -> None:
    world = _world("presence.phones={session_s: 300, gap_s: 100}", "duration_s=3600", "workload.tasks=[]")
    counts = []
    for minute in range(1, 31):
        world.kernel.run(minute * 60 * SECOND_US)
        counts.append(_up(world.phones))
    world.watch.finish()
    assert sum(counts) / len(counts) == pytest.approx(45, abs=4)  # 60 phones, three quarters of the time
    assert len(set(counts)) > 5
    lives = [place.sim.life for place in world.phones]
    assert sum(lives) > 60 * 4  # half an hour is 4.5 rounds
    assert all(place.sim.life == 1 for place in world.agents)


def test_who_vanishes_is_missed_and_who_shuts_down_is_known_to_be_gone() -> None:
    def registered(vanish_pct: int) -> int:
        """Phones in the registries a few seconds after all have left."""
        stay = f"presence.phones={{by_day: true, vanish_pct: {vanish_pct}}}"
        day = "day={starts_h: 17, leave_h: 17.1, leave_spread_h: 0}"
        sets = (stay, day, "workload.tasks=[]")
        world = _world(*sets)
        world.kernel.run(350 * SECOND_US)
        assert _up(world.phones) == 60
        world.kernel.run(372 * SECOND_US)  # 360 s is six minutes past five
        assert _up(world.phones) == 0
        agents = [
            row
            for sim in world.coordinators
            for row in sim.node.part.registry.availability().values()  # type: ignore[union-attr]
        ]
        return sum(row.agent_count for row in agents)

    assert registered(100) > 50
    assert registered(0) < 10


def test_a_working_day_switches_on_in_the_morning_and_off_in_the_evening() -> None:
    day = "day={starts_h: 8, arrive_h: 9, leave_h: 10, arrive_spread_h: 0.25, leave_spread_h: 0.1}"
    world = _world("presence.agents={by_day: true}", day, "workload.tasks=[]", checked=False)
    seen = {}
    for minute in (1, 95, 170):
        world.kernel.run(minute * 60 * SECOND_US)
        seen[minute] = _up(world.agents)
    assert seen == {1: 0, 95: 6, 170: 0}


def test_phones_are_charged_and_told_so() -> None:
    charging = "{below_pct: [30, 60], after_min: 5, until_pct: [80, 90], pct_per_h: 120}"
    world = _world(f"presence.phones.charging={charging}", "duration_s=7200", checked=False)
    plugged, moved = set(), {place.sim.index: place.charge_pct or 0 for place in world.phones}
    rises = set()
    for minute in range(1, 121):
        world.kernel.run(minute * 60 * SECOND_US)
        for place in world.phones:
            charge_pct = place.charge_pct or 0
            if charge_pct > moved[place.sim.index]:
                rises.add(place.sim.index)
            moved[place.sim.index] = charge_pct
            if place.is_plugged:
                plugged.add(place.sim.index)
    assert len(rises) > 8
    assert rises <= plugged
    assert min(moved.values()) > 10
    on_mains = [place for place in world.phones if place.is_plugged]
    assert all(place.sim.node.part.offer.power().on_external_power for place in on_mains)  # type: ignore[union-attr]


def test_an_empty_phone_is_gone_until_it_is_charged() -> None:
    scenario = load_scenario(
        "office",
        [
            *SMALL, "duration_s=3600", "workload.tasks=[]",
            "devices.phone_mid={battery_pct: [1, 1], battery_idle_pct_per_h: 12}", "phones.devices={phone_mid: 1}",
            "presence.phones.charging={below_pct: [15, 15], after_min: 30, pct_per_h: 60}",
        ],
    )  # fmt: skip
    world = World(scenario, make_checkers(1, ""))
    world.start_users(Recorder(None, world.describe(), scenario.sample_interval_us))
    empty = set()
    for minute in range(1, 61):
        world.kernel.run(minute * 60 * SECOND_US)
        for place in world.phones:
            assert place.sim.is_up is not place.is_empty
            if place.is_empty:
                empty.add(place.sim.index)
    back = [place for place in world.phones if place.sim.index in empty and place.sim.is_up]
    assert len(empty) > 30
    assert len(back) > 20
    assert all((place.charge_pct or 0) >= BOOT_PCT - 1 for place in back)


class _Lives:
    """Counts lives that came so far as to speak."""

    def __init__(self) -> None:
        self.ready = 0

    def record(self, _at_us: int, _node: int, record: Record) -> None:
        self.ready += isinstance(record, NodeReady)

    def message(self, *_: object) -> None:
        """Not looked at."""

    def command(self, *_: object) -> None:
        """Not looked at."""


def test_who_is_away_at_first_begins_later() -> None:
    scenario = load_scenario("office", [*SMALL, "presence.phones={session_s: 1, gap_s: 100}"])
    world = World(scenario)
    assert _up(world.phones) < 10
    lives = _Lives()
    world.start_users(lives)
    world.kernel.run(300 * SECOND_US)
    assert lives.ready > 60


@pytest.mark.parametrize("rng_seed", [1, 2, 3])
def test_a_run_with_all_of_it_breaks_no_rule(rng_seed: int) -> None:
    sets = [
        *SMALL, "duration_s=600", "mobility.phones=random_waypoint",
        "presence.phones={session_s: 100, gap_s: 50, charging: {}}",
        "presence.agents={session_s: 200, gap_s: 60, vanish_pct: 0}",
    ]  # fmt: skip
    outcome = run_scenario(load_scenario("office", sets, rng_seed), root=None, reproduce="")
    assert outcome.violation is None
    assert outcome.summary["metrics"]["tasks_done_share"] > 0.8
    again = run_scenario(load_scenario("office", sets, rng_seed), root=None, reproduce="")
    assert again.summary["digest"] == outcome.summary["digest"]


def test_roles_are_kept_apart() -> None:
    world = _world("presence.agents={session_s: 60, gap_s: 60}", "workload.tasks=[]", checked=False)
    world.kernel.run(300 * SECOND_US)
    assert {place.role for place in world.members if place.sim.life > 1} == {Role.AGENT}
