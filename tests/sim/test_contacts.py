"""Contacts: people who come into range get a link, people who part lose it, whoever tells of it."""

from __future__ import annotations

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
