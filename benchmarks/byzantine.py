"""What bad peers cost those who are honest: free riders that never give, and poisoners whose bytes do not fit.

Free riders: 20 nodes and an origin, 32 MiB, uplinks of 2 MiB/s, a quarter of the nodes say that they give and are
always busy. The last honest finish stands beside the fluid bound of what uploads, the origin and the honest; all 20 are
served, as by libtorrent, which takes 1.70 times that bound. Poisoners: half of the nodes send one wrong leaf in each
piece. Each figure is the mean over seeds, the worst for what must be whole.

    python benchmarks/byzantine.py [--quick]
"""

from __future__ import annotations

import argparse
import json
from statistics import mean
from typing import NamedTuple

from edgecoder.trace import DownloadPhase, PieceKept, PieceLost, Record, SenderBanned, TransferBegan, TransferEnded
from edgecoder_sim.conduct import Conduct
from edgecoder_sim.recorder import Recorder
from edgecoder_sim.scenario import load_scenario
from edgecoder_sim.world import World

MIB = 1 << 20
FILE_MIB = 32
UP_MIB_PER_S = 2
MBIT = UP_MIB_PER_S * MIB * 8 / 1e6


class Outcome(NamedTuple):
    """One run, as the honest saw it."""

    honest: int
    done: int
    last_s: float
    wasted_bytes: int
    useful_bytes: int
    false_bans: int


class _Told(Recorder):
    """A recorder that keeps what nodes told of pieces."""

    def __init__(self, world: World) -> None:
        super().__init__(None, world.describe(), world.scenario.sample_interval_us)
        self.told: list[tuple[int, int, Record]] = []

    def record(self, at_us: int, node: int, record: Record) -> None:
        """Keep it too."""
        self.told.append((at_us, node, record))
        super().record(at_us, node, record)


def run(nodes: int, conduct: dict[str, float], rng_seed: int, duration_s: int) -> Outcome:
    """One flash crowd of a file of 32 MiB."""
    entry = {
        "modelId": "release",
        "displayName": "A release",
        "paramSize": 1,
        "quantization": "Q4",
        "fileSizeBytes": FILE_MIB * MIB,
        "sha256": "5c" * 32,
        "pieceRoot": "a7" * 32,
        "minMemoryMb": 512,
        "platforms": ["node"],
    }
    parts = ", ".join(f"{name}: {weight}" for name, weight in conduct.items())
    sets = [
        "radio.links_max=0",
        f"catalog=[{json.dumps(entry)}]",
        f"networks.line={{latency_ms: 5, up_mbit_per_s: {MBIT}, down_mbit_per_s: 1000}}",
        f"cdn={{egress_mbit_per_s: {MBIT}, per_connection_mbit_per_s: {MBIT}, ttfb_ms: 20}}",
        "phones={count: 0}",
        f"agents={{count: {nodes}, network: line, devices: {{laptop: 1}}, conduct: {{{parts}}}}}",
        "coordinators={count: 1, device: server, network: lan}",
        "workload={pulls: [{name: release, source: agents, at_s: 5}]}",
        f"duration_s={duration_s}",
        "config={}",
        "checkers=false",
        f"rng_seed={rng_seed}",
    ]
    world = World(load_scenario("flash_crowd", sets))
    told = _Told(world)
    world.start_users(told)
    world.kernel.run(world.scenario.duration_us)
    return _judge(world, told.told)


def _judge(world: World, told: list[tuple[int, int, Record]]) -> Outcome:
    honest = {place.sim.index for place in world.agents if place.conduct is Conduct.HONEST}
    honest_ids = {place.sim.node_id for place in world.agents if place.conduct is Conduct.HONEST}
    began_us = min((at_us for at_us, _, record in told if type(record) is TransferBegan), default=0)
    ended: dict[int, int] = {}
    installed: set[int] = set()
    wasted = useful = false_bans = 0
    for at_us, node, record in told:
        if node not in honest:
            continue
        if isinstance(record, TransferEnded) and record.reason is None:
            ended[node] = at_us
        elif isinstance(record, DownloadPhase) and record.phase == "installed":
            installed.add(node)
        elif isinstance(record, PieceKept):
            useful += record.size_bytes if record.is_new else 0
            wasted += 0 if record.is_new else record.size_bytes
        elif isinstance(record, PieceLost):
            useful += record.size_bytes
            wasted += record.wasted_bytes
        elif isinstance(record, SenderBanned):
            false_bans += record.peer in honest_ids
    last_s = (max(ended.values()) - began_us) / 1e6 if len(ended) == len(honest) else float("inf")
    bound_s = _bound_s(len(honest), len(world.agents))
    if last_s < bound_s:
        raise RuntimeError(f"the honest were done after {last_s} s, before the fluid bound of {bound_s} s")
    return Outcome(len(honest), len(installed), last_s, wasted, useful, false_bans)


def _bound_s(receivers: int, senders: int) -> float:
    """No policy serves so many sooner, from an origin and so many others that all give: its uplink carries each byte
    once at least, and all uplinks together what is received."""
    return FILE_MIB / UP_MIB_PER_S * max(1.0, receivers / (1 + senders))


def main() -> None:
    """Print one line of JSON."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="one seed each, and 40 nodes with poisoners, not 200")
    quick: bool = arguments.parse_args().quick
    seeds = range(1, 2 if quick else 6)
    nodes = 40 if quick else 200
    riders = [run(20, {"honest": 3, "free_rider": 1}, seed, 120) for seed in seeds]
    poisoned = [run(nodes, {"honest": 1, "poisoner": 1}, seed, 300) for seed in seeds]
    bound_s = 20 * FILE_MIB / (UP_MIB_PER_S * (1 + 15))
    metrics = {
        "honest_finish_free_riders": round(mean(outcome.last_s for outcome in riders) / bound_s, 4),
        "complete_half_poisoned": min(outcome.done / outcome.honest for outcome in poisoned),
        "waste_half_poisoned": round(max(outcome.wasted_bytes / outcome.useful_bytes for outcome in poisoned), 6),
        "false_bans": sum(outcome.false_bans for outcome in (*riders, *poisoned)),
    }
    conditions = {
        "free_riders": "20 nodes, a quarter always busy, and an origin; 32 MiB, uplinks of 2 MiB/s",
        "fluid_bound_s": bound_s,
        "poisoners": f"{nodes} nodes, half of which send a wrong leaf in each piece",
        "seeds": len(seeds),
        "poisoned_last_finish_s": round(mean(outcome.last_s for outcome in poisoned), 2),
    }
    print(json.dumps({"benchmark": "byzantine", "metrics": metrics, "conditions": conditions}))


if __name__ == "__main__":
    main()
