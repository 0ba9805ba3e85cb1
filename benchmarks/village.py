"""A village without internet: bytes that came, over what those who met could have carried to each other.

Runs `scenarios/village.yaml` twice, with Wi-Fi Direct and over Bluetooth alone. The bound is a maximal flow through the
measured contacts for each phone and file (`edgecoder_sim.bounds.meetings`): links carry what the simulated radios agree
on, less the least time in which they come up; each receiver has the air to itself, so the sum need not be reached. The
naive policy stands beside it, on the same graph: files in order, one partner at a time, nobody to be discovered, and
links as in the bound.

Prints one JSON line. There is no goal: the ratios are reported.
"""

from __future__ import annotations

import argparse
import json
from typing import cast

from edgecoder.mesh.member import Member
from edgecoder.models.catalog import CatalogEntry
from edgecoder.seeding.pieces import LEAF_BYTES
from edgecoder_sim.bounds.epidemic import spread
from edgecoder_sim.bounds.meetings import Meeting, MeetingGraph, steps_of
from edgecoder_sim.encounters import Radio, meetings_of
from edgecoder_sim.recorder import Recorder
from edgecoder_sim.scenario import load_scenario
from edgecoder_sim.traces import STEP_S, load_trace
from edgecoder_sim.world import World


def meetings(world: World) -> list[Meeting]:
    """The contacts of the run as links could use them."""
    scenario, antennas = world.scenario, world.antennas
    replay = scenario.contacts
    assert replay is not None, "the village replays a trace"
    ends = {place.sim.index: antennas.of(place.sim) for place in world.phones}
    radios = {index: Radio(end.system_name, antennas.has_wifi_direct(end)) for index, end in ends.items()}
    trace = load_trace(replay.trace).window(round(replay.starts_at_s), round(scenario.duration_s))
    contacts = ((float(each.begin_s), float(each.end_s), each.first, each.second) for each in trace)
    return meetings_of(scenario, contacts, radios)


def held_bytes(world: World, index: int, entry: CatalogEntry) -> int:
    """What a phone has of a file."""
    member = cast("Member", world.phones[index].sim.node.part)
    holding = member.swarms.held(bytes.fromhex(entry.sha256))
    if holding is None:
        return 0
    return holding.layout.held_bytes(holding.have) + LEAF_BYTES * sum(holding.leaves.values())


def measure(name: str, sets: list[str]) -> tuple[dict[str, float], dict[str, int]]:
    """Metrics and conditions of one run."""
    world = World(load_scenario("village", ["checkers=false", *sets]))
    scenario, phones = world.scenario, range(len(world.phones))
    recorder = Recorder(None, world.describe(), scenario.sample_interval_us)
    world.start_users(recorder)
    world.kernel.run(2_000_000)
    seeds = {
        index: [n for n, entry in enumerate(scenario.catalog) if world.phones[index].has(entry)] for index in phones
    }
    wants = {index: [n for n in range(len(scenario.catalog)) if n not in seeds[index]] for index in phones}
    world.kernel.run(scenario.duration_us)
    recorder.close(world.kernel.now)
    steps = steps_of(meetings(world), STEP_S, scenario.duration_s)
    graph = MeetingGraph(steps)
    sizes = [entry.file_size_bytes for entry in scenario.catalog]
    naive = spread(steps, sizes, seeds, wants)
    came = bound = by_naive = 0.0
    done = could = naive_done = 0
    for index, files in wants.items():
        for number in files:
            size = sizes[number]
            holders = [seed for seed, held in seeds.items() if number in held]
            most = graph.most_bytes(holders, index, size)
            got = held_bytes(world, index, scenario.catalog[number])
            carried = naive.get(index, [0.0] * len(sizes))[number]
            came, bound, by_naive = came + got, bound + most, by_naive + carried
            done, could, naive_done = done + (got == size), could + (most == size), naive_done + (carried == size)
    metrics = {
        f"{name}_delivered_over_bound": round(came / bound, 4),
        f"{name}_naive_over_bound": round(by_naive / bound, 4),
        f"{name}_files_over_bound": round(done / could, 4),
        f"{name}_naive_files_over_bound": round(naive_done / could, 4),
    }
    conditions = {"bound_bytes": round(bound), "delivered_bytes": round(came), "files": done, "files_bound": could}
    return metrics, conditions


def main() -> None:
    """Run both and print the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two hours of the day")
    arguments = parser.parse_args()
    sets = ["duration_s=7200"] if arguments.quick else []
    wide, wide_conditions = measure("wide", sets)
    ble, ble_conditions = measure("ble", [*sets, "radio.wifi_direct=null"])
    conditions = {"quick": arguments.quick, "wide": wide_conditions, "ble": ble_conditions}
    print(json.dumps({"benchmark": "village", "metrics": wide | ble, "conditions": conditions}))


if __name__ == "__main__":
    main()
