"""How many simulated seconds a CPU second buys: the real protocol core on the SimPy host, checkers off.

`idle` is scenarios/idle.yaml, a mesh at rest: heartbeats, gossip, one task in ten minutes and one swap an hour at each
node. `office` is the load of scenarios/office.yaml. Both keep the office's mix of phones, agents and coordinators and
its density on the floor. The first simulated minute (everybody boots, links up and loads) is run and not counted.

`core_us_per_event` and `rss_gib_100k` come from scenarios/city.yaml: the CPU time that a call of `Node.handle` takes,
and the largest resident memory of the process, which runs the city first of all. With `--quick` a fiftieth of the city,
named as such.

Prints one JSON line. Goals: idle_1k 300, idle_10k 30, office_1k 60, office_10k 6, core_us_per_event 10, rss_gib_100k 6.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

from edgecoder.core.effects import Effect
from edgecoder.core.events import Event
from edgecoder.core.node import Node
from edgecoder_sim.recorder import Recorder
from edgecoder_sim.runner import rare_collections
from edgecoder_sim.scenario import load_scenario
from edgecoder_sim.scenario_model import Scenario
from edgecoder_sim.world import World

SECOND_US = 1_000_000
WARM_UP_S = 60
SIM_S = {"idle_1k": 300, "office_1k": 120, "idle_10k": 60, "office_10k": 20}
"""Simulated seconds that are measured."""
QUICK = 3
"""`--quick` measures a third of them, once."""
CITY_NODES = 100_000
CITY_S = 120
"""Simulated seconds of the city; nothing in it grows after the first."""
QUICK_CITY = 50
"""`--quick` has a fiftieth of the city, with its density."""


def scenario(load: str, nodes: int) -> Scenario:
    """The office, or a mesh at rest, with `nodes` nodes in all."""
    coordinators = max(1, round(nodes * 2 / 222))
    agents = round(nodes * 20 / 222)
    phones = nodes - coordinators - agents
    scale = math.sqrt(phones / 200)
    sets = [
        f"phones.count={phones}",
        f"agents.count={agents}",
        f"coordinators.count={coordinators}",
        f"radio.area_m=[{60 * scale:.3f}, {40 * scale:.3f}]",
        "checkers=false",
    ]
    return load_scenario(load, sets)


def city(share: int) -> Scenario:
    """A part of the city, one in `share` of everybody on one in `share` of the ground."""
    side_m = 7000 / math.sqrt(share)
    counts = {"phones": 95_000, "agents": 4_900, "coordinators": 100}
    sets = [f"{group}.count={count // share}" for group, count in counts.items()]
    return load_scenario("city", [*sets, f"radio.area_m=[{side_m:.3f}, {side_m:.3f}]"])


def begin(described: Scenario) -> World:
    """A world with its users."""
    world = World(described)
    world.start_users(Recorder(None, world.describe(), described.sample_interval_us))
    return world


def factor(load: str, nodes: int, sim_s: int) -> tuple[float, float]:
    """Simulated seconds per CPU second, and CPU µs an event of the core with all that the simulator does for it."""
    world = begin(scenario(load, nodes))
    with rare_collections():
        world.kernel.run(WARM_UP_S * SECOND_US)
        events, begin_s = world.events, time.process_time()
        world.kernel.run((WARM_UP_S + sim_s) * SECOND_US)
        cpu_s = time.process_time() - begin_s
    return sim_s / cpu_s, cpu_s * 1e6 / (world.events - events)


def core(share: int, sim_s: int) -> dict[str, float]:
    """What the city costs, boot included: CPU µs in the core and in all, per event, and GiB of memory."""
    world = begin(city(share))
    begin_s = time.process_time()
    with rare_collections():
        world.kernel.run(sim_s // 2 * SECOND_US)
        half_events, half_s = world.events, time.process_time() - begin_s
        with timed_core() as spent_ns:
            world.kernel.run(sim_s * SECOND_US)
    events = world.events - half_events
    suffix = "100k" if share == 1 else f"{CITY_NODES // share // 1000}k"
    return {
        "core_us_per_event": round(spent_ns[0] / events / 1000, 2),
        f"city_{suffix}_us_per_event": round(half_s * 1e6 / half_events, 2),
        f"rss_gib_{suffix}": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3),
    }


@contextmanager
def timed_core() -> Iterator[list[int]]:
    """Add up the CPU time of all calls of `Node.handle`, ns, without what looking at the clock takes."""
    handle, now_ns, spent_ns = Node.handle, time.thread_time_ns, [0]
    looks = [now_ns() for _ in range(20_001)]
    look_ns = statistics.median(after - before for before, after in pairwise(looks))

    def timed(self: Node, now: int, event: Event) -> list[Effect]:
        begin_ns = now_ns()
        effects = handle(self, now, event)
        spent_ns[0] += int(now_ns() - begin_ns - look_ns)
        return effects

    Node.handle = timed  # type: ignore[method-assign]  # for the time of the measurement
    try:
        yield spent_ns
    finally:
        Node.handle = handle  # type: ignore[method-assign]


def main() -> None:
    """Measure every row and print the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1,000 nodes and a fiftieth of the city, shorter, once")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each row of real time; the median counts")
    arguments = parser.parse_args()
    metrics = core(QUICK_CITY if arguments.quick else 1, CITY_S)  # first: memory is the most there ever was
    per_event: dict[str, float] = {}
    for name, sim_s in SIM_S.items():
        load, _, size = name.partition("_")
        if arguments.quick and size != "1k":
            continue
        runs = 1 if arguments.quick else arguments.repeats
        nodes = {"1k": 1000, "10k": 10_000}[size]
        results = [factor(load, nodes, sim_s // QUICK if arguments.quick else sim_s) for _ in range(runs)]
        metrics[name] = round(statistics.median(result[0] for result in results), 1)
        per_event[f"{name}_us_per_event"] = round(statistics.median(result[1] for result in results), 2)
    conditions = {
        "unit": "simulated s per CPU s",
        "warm_up_s": WARM_UP_S,
        "sim_s": SIM_S,
        "city_s": CITY_S,
        "city_nodes": CITY_NODES // (QUICK_CITY if arguments.quick else 1),
        "quick": arguments.quick,
        "checkers": False,
        "tables": "in memory",
    }
    print(json.dumps({"benchmark": "real_time_factor", "metrics": {**metrics, **per_event}, "conditions": conditions}))


if __name__ == "__main__":
    main()
