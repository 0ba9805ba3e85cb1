"""Contacts: people who come into range get a link, people who part lose it, whoever tells of it."""

from __future__ import annotations

import math

from edgecoder.core.ids import Medium
from edgecoder_sim.scenario import load_scenario
from edgecoder_sim.world import World

FAR = (
    "coordinators={}",
    "agents.count=0",
    "radio.area_m=[5000, 5000]",
    "radio.links_max=2",
    "radio.scanning=false",
    "workload={}",
)


def world_of(phones: int) -> World:
    """A few phones that nobody is near to, after their boot."""
    world = World(load_scenario("office", [*FAR, f"phones.count={phones}", "duration_s=60"]))
    world.kernel.run(5_000_000)
    return world


def linked(world: World) -> set[tuple[int, int]]:
    """Pairs of nodes with a link, as both ends see it."""
    ends: dict[int, list[int]] = {}
    for sim in world.nodes:
        for link in sim.links:
            ends.setdefault(link, []).append(sim.index)
    return {(pair[0], pair[1]) for pair in ends.values()}


def test_a_contact_links_and_its_end_parts() -> None:
    world = world_of(3)
    a, b, c = world.nodes
    world.contacts.contact_begins(a, b, 3.0)
    world.contacts.contact_begins(c, b, 4.0)
    world.contacts.contact_begins(b, a, 2.0)  # told again
    world.kernel.run(15_000_000)
    assert linked(world) == {(0, 1), (1, 2)}
    world.contacts.contact_ends(b, a)
    world.contacts.contact_ends(a, c)  # never met
    world.kernel.run(16_000_000)
    assert linked(world) == {(1, 2)}


def parted(*, while_down: bool) -> World:
    """Two who met, one of whom restarted, and who parted before or after it was up again."""
    world = world_of(2)
    a, b = world.nodes
    world.contacts.contact_begins(a, b, 3.0)
    world.kernel.run(10_000_000)
    b.crash()
    world.kernel.run(20_000_000)
    assert linked(world) == set()
    if while_down:
        world.contacts.contact_ends(a, b)
    b.restart(world.wall_ms(b))
    world.kernel.run(40_000_000)
    return world


def test_a_contact_that_lasts_is_linked_again_and_ends() -> None:
    world = parted(while_down=False)
    assert linked(world) == {(0, 1)}
    world.contacts.contact_ends(*world.nodes)
    world.kernel.run(60_000_000)
    assert linked(world) == set()


def test_a_contact_that_ended_meanwhile_is_not_linked_again() -> None:
    assert linked(parted(while_down=True)) == set()


def test_two_who_meet_while_one_is_down_are_linked_when_it_is_up() -> None:
    world = world_of(3)
    a, b, c = world.nodes
    b.crash()
    world.contacts.contact_begins(a, b, 3.0)
    world.contacts.contact_begins(c, b, 3.0)
    a.crash()
    world.kernel.run(10_000_000)
    b.restart(world.wall_ms(b))
    world.kernel.run(20_000_000)
    assert linked(world) == {(1, 2)}
    a.restart(world.wall_ms(a))
    world.kernel.run(30_000_000)
    assert linked(world) == {(0, 1), (1, 2)}


def test_the_slot_of_a_node_that_is_down_is_free_and_there_are_never_too_many_links() -> None:
    world = world_of(4)
    a, b, c, d = world.nodes
    world.contacts.contact_begins(a, b, 3.0)
    world.contacts.contact_begins(a, c, 3.0)
    b.crash()
    world.contacts.contact_begins(a, d, 4.0)
    world.kernel.run(10_000_000)
    assert linked(world) == {(0, 2), (0, 3)}
    b.restart(world.wall_ms(b))
    world.kernel.run(30_000_000)
    assert linked(world) == {(0, 2), (0, 3)}


def test_a_contact_that_is_over_before_its_link_is_up_leaves_none() -> None:
    world = world_of(2)
    a, b = world.nodes
    world.contacts.contact_begins(a, b, 3.0)
    world.contacts.contact_ends(a, b)
    world.kernel.run(15_000_000)
    assert linked(world) == set()


def test_links_hold_to_contacts_and_slots_while_people_come_and_go() -> None:
    """The ghosts of an office: at any moment every link over Bluetooth is between two in range, up, and in a slot."""
    stay = "presence.phones={session_s: 60, gap_s: 30}"
    sets = [
        "radio.scanning=false",
        "agents.count=0",
        "phones.count=40",
        "workload={}",
        stay,
        "mobility.phones=random_waypoint",
        "mobility.step_s=1",
    ]
    scenario = load_scenario("office", [*sets, "radio.area_m=[60, 60]", "duration_s=600"])
    world = World(scenario)
    for second in range(10, 300, 7):
        world.kernel.run(second * 1_000_000)
        for place in world.phones:
            links = [link for link in place.sim.links.values() if link.medium is Medium.BLE]
            assert len(links) <= scenario.radio.links_max
            for link in links:
                ends = [world.people.position(end) for end in (link.first, link.second)]
                assert link.first.is_up
                assert link.second.is_up
                assert None not in ends
                assert math.dist(*ends) <= scenario.radio.range_m  # type: ignore[arg-type]  # none is None
    assert sum(place.sim.life for place in world.phones) > 100
