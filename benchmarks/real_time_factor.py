"""How many simulated seconds a CPU second buys: the real protocol core on the SimPy host, checkers off.

`idle` is a mesh at rest: heartbeats, gossip, one task in ten minutes and one swap an hour at each node. `office` is the
load of scenarios/office.yaml. Both keep the office's mix of phones, agents and coordinators and its density on the
floor. The first simulated minute (everybody boots, links up and loads) is run and not counted.

Prints one JSON line. Goals: idle_1k 300, idle_10k 30, office_1k 60, office_10k 6.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time

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
SIZES = "prompt_bytes: {mean: 2500, max: 12000}, output_tokens: {mean: 100, max: 400}"
IDLE = (
    f"workload.tasks=[{{name: idle, source: all, per_node_per_hour: 6, {SIZES}}}]",
    "workload.swaps=[{name: idle, source: all, per_node_per_hour: 1}]",
)


def scenario(load: str, nodes: int) -> Scenario:
    """The office, or its nodes at rest, with `nodes` nodes in all."""
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
    return load_scenario("office", [*sets, *(IDLE if load == "idle" else ())])


def factor(load: str, nodes: int, sim_s: int) -> tuple[float, float]:
    """Simulated seconds per CPU second, and CPU µs an event of the core."""
    described = scenario(load, nodes)
    world = World(described)
    world.start_users(Recorder(None, world.describe(), described.sample_interval_us))
    with rare_collections():
        world.kernel.run(WARM_UP_S * SECOND_US)
        events, begin_s = world.events, time.process_time()
        world.kernel.run((WARM_UP_S + sim_s) * SECOND_US)
        cpu_s = time.process_time() - begin_s
    return sim_s / cpu_s, cpu_s * 1e6 / (world.events - events)


def main() -> None:
    """Measure every row and print the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only the rows of 1,000 nodes, shorter and once")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each row; the median counts")
    arguments = parser.parse_args()
    metrics: dict[str, float] = {}
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
        "quick": arguments.quick,
        "checkers": False,
        "tables": "in memory",
    }
    print(json.dumps({"benchmark": "real_time_factor", "metrics": {**metrics, **per_event}, "conditions": conditions}))


if __name__ == "__main__":
    main()
