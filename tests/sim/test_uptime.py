"""When a node runs: its person, its battery and the faults each hold it down for themselves, and the last one that
lets go starts it."""

from __future__ import annotations

import pytest

from edgecoder_sim.faults.draw import resolve
from edgecoder_sim.host import Disk
from edgecoder_sim.scenario import load_scenario
from edgecoder_sim.uptime import Hold
from edgecoder_sim.world import World

SECOND_US = 1_000_000
FEW = ("agents.count=0", "coordinators={}", "workload={}", "phones.count=3", "duration_s=600")
MORNING = ("presence.phones={by_day: true}", "day={starts_h: 6, arrive_h: 9, arrive_spread_h: 0}")


def world_of(*sets: str) -> World:
    """A few phones by themselves."""
    return World(resolve(load_scenario("office", [*FEW, *sets])))


def plan(*faults: str) -> str:
    """Faults of phone-0."""
    return f"faults.plan=[{', '.join(f'{{{fault}, nodes: [phone-0]}}' for fault in faults)}]"


def up_at(world: World, *seconds: float) -> list[bool]:
    """Whether phone-0 is up at these times."""
    seen = []
    for second in seconds:
        world.kernel.run(round(second * SECOND_US))
        seen.append(world.nodes[0].is_up)
    return seen


def test_the_end_of_a_crash_switches_on_nobody_who_is_away() -> None:
    world = world_of(*MORNING, plan("kind: crash, at_s: 20, for_s: 5"))
    assert up_at(world, 15, 21, 60) == [False, False, False]


def test_who_comes_during_a_crash_waits_for_its_end() -> None:
    day = "day={starts_h: 8.99, arrive_h: 9, arrive_spread_h: 0, leave_h: 17}"
    world = world_of(MORNING[0], day, plan("kind: crash, at_s: 20, for_s: 60"))
    assert up_at(world, 35, 40, 79, 81) == [False, False, False, True]


def test_of_two_crashes_the_last_one_to_end_counts_and_a_disk_that_is_lost_stays_so() -> None:
    long, short = "kind: crash, at_s: 20, for_s: 100", "kind: crash, at_s: 30, for_s: 5, disk: lost"
    world = world_of(plan(long, short))
    world.kernel.run(19 * SECOND_US)
    disk = world.nodes[0].disk
    assert up_at(world, 25, 36, 119, 121) == [False, False, False, True]
    assert world.nodes[0].disk is not disk
    assert world.nodes[1].disk


@pytest.mark.parametrize("kind", ["crash", "presence"])
def test_a_node_reads_its_own_wrong_clock_whoever_starts_it(kind: str) -> None:
    jump = "kind: clock_jump, at_s: 10, by_s: -86400"
    day = "day={starts_h: 8.99, arrive_h: 9, arrive_spread_h: 0, leave_h: 17}"
    sets = (plan(jump), MORNING[0], day) if kind == "presence" else (plan(jump, "kind: crash, at_s: 20, for_s: 5"),)
    world = world_of(*sets)
    world.kernel.run(60 * SECOND_US)
    sim = world.nodes[0]
    assert sim.is_up
    assert sim.node.context.wall_ms == pytest.approx(world.wall_ms(sim), abs=60_000)  # as of its last event


def test_a_battery_that_is_charged_does_not_end_a_crash() -> None:
    world = world_of()
    world.kernel.run(10 * SECOND_US)
    sim = world.nodes[0]
    world.uptime.hold(sim, Hold.EMPTY)
    world.uptime.hold(sim, Hold.CRASHED)
    world.kernel.run(20 * SECOND_US)
    world.uptime.release(sim, Hold.EMPTY)
    assert not sim.is_up
    world.uptime.release(sim, Hold.CRASHED)
    assert sim.is_up


def test_a_crash_while_a_node_shuts_down_does_not_bring_it_back() -> None:
    world = world_of()
    world.kernel.run(10 * SECOND_US)
    sim = world.nodes[0]
    world.uptime.hold(sim, Hold.AWAY, after_us=5 * SECOND_US)
    assert up_at(world, 11) == [True]
    world.uptime.hold(sim, Hold.CRASHED)
    world.kernel.run(12 * SECOND_US)
    world.uptime.release(sim, Hold.CRASHED)
    assert up_at(world, 12.5, 30) == [False, False]
    world.uptime.release(sim, Hold.AWAY)
    assert sim.is_up


def test_who_comes_back_while_it_shuts_down_is_switched_off_and_on() -> None:
    world = world_of()
    world.kernel.run(10 * SECOND_US)
    sim, life = world.nodes[0], world.nodes[0].life
    world.uptime.hold(sim, Hold.AWAY, after_us=5 * SECOND_US)
    world.kernel.run(12 * SECOND_US)
    world.uptime.release(sim, Hold.AWAY)
    assert up_at(world, 14.9, 15.5, 16.5) == [True, False, True]
    assert sim.life == life + 1


def test_a_life_begins_no_sooner_than_a_tick_after_the_last_one() -> None:
    world = world_of()
    world.kernel.run(10 * SECOND_US)
    sim = world.nodes[0]
    world.uptime.hold(sim, Hold.CRASHED)
    world.uptime.release(sim, Hold.CRASHED, Disk.LOST)
    assert not sim.is_up
    world.kernel.run(world.kernel.now + 2 * world.kernel.tick_us)
    assert sim.is_up
