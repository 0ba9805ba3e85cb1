"""A flash crowd in the simulator: how near the last finish is to the piece bound, and what a piece costs to simulate.

The world is scenarios/flash_crowd.yaml: nodes that all want one file of 280 pieces in the same second, from an origin
that has the uplink of one of them; the core's own swarm and broker. An access is 50 ms from everything, so that a grant
is there 100 ms after the news that it answers, and a piece comes 100 ms after its last byte has left. The finish is the
time from the first want to the last piece of the last node; the bound that of Mundinger, Weber and Weiss with the same
pieces and uplinks. Copies are what the origin has sent, in files. `us_per_piece` is the CPU time of the whole run by
pieces received, checkers off.

With `--quick` 200 nodes, and keys that say so; with `--nodes 10000` the larger crowd alone, which has ten times the
pieces to simulate. Prints one JSON line. Goals: finish_over_bound_1k 1.03,
finish_over_bound_10k 1.05, origin_copies_1k 1.05, us_per_piece 100.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import NamedTuple

from edgecoder.trace import PieceKept, Record, TransferBegan, TransferEnded
from edgecoder_sim.bounds.closed import pieces_s
from edgecoder_sim.host import SimNode
from edgecoder_sim.recorder import Recorder
from edgecoder_sim.runner import rare_collections
from edgecoder_sim.scenario import load_scenario
from edgecoder_sim.world import World

SECOND_US = 1_000_000
ACCESS_MS = 50
STEP_S = 20


class Result(NamedTuple):
    """What one crowd came to."""

    finish_over_bound: float
    origin_copies: float
    us_per_piece: float


class Crowd:
    """One run, and what is read from its records."""

    def __init__(self, nodes: int) -> None:
        sets = [f"agents.count={nodes}", f"networks.fibre.latency_ms={ACCESS_MS}", "checkers=false"]
        self.scenario = load_scenario("flash_crowd", sets)
        self.nodes = nodes
        self.world = World(self.scenario)
        self.began_us: list[int] = []
        self.ended_us: list[int] = []
        self.pieces = self.cdn_bytes = 0
        self._traced = self.world.watch.traced
        self.world.watch.traced = self._note  # type: ignore[method-assign]  # to read along
        self.world.start_users(Recorder(None, self.world.describe(), self.scenario.sample_interval_us))

    def _note(self, node: SimNode, record: Record) -> None:
        if type(record) is PieceKept:
            self.pieces += 1
            self.cdn_bytes += record.size_bytes if record.source == "cdn" else 0
        elif type(record) is TransferBegan:
            self.began_us.append(self.world.kernel.now)
        elif type(record) is TransferEnded and record.reason is None:
            self.ended_us.append(self.world.kernel.now)
        self._traced(node, record)

    def run(self) -> Result:
        """Run until everybody has the file. Raises RuntimeError where some do not get it, or sooner than can be."""
        kernel, entry = self.world.kernel, self.scenario.catalog[0]
        begin_s = time.process_time()
        with rare_collections():
            while len(self.ended_us) < self.nodes and kernel.now < self.scenario.duration_us:
                kernel.run(kernel.now + STEP_S * SECOND_US)
        cpu_s = time.process_time() - begin_s
        if len(self.ended_us) < self.nodes:
            raise RuntimeError(f"{self.nodes - len(self.ended_us)} of {self.nodes} nodes have not got the file")
        uplink = self.scenario.networks["fibre"].up_bytes_per_s
        bound_s = pieces_s(entry.file_size_bytes, entry.layout.piece_size_bytes, self.nodes, uplink)
        finish_s = (max(self.ended_us) - min(self.began_us)) / SECOND_US
        if finish_s < bound_s:
            raise RuntimeError(f"{self.nodes} nodes were done after {finish_s} s, before the bound of {bound_s} s")
        return Result(finish_s / bound_s, self.cdn_bytes / entry.file_size_bytes, cpu_s * 1e6 / self.pieces)


def main() -> None:
    """Measure every row and print the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="200 nodes")
    parser.add_argument("--nodes", type=int, help="one crowd of so many nodes alone")
    arguments = parser.parse_args()
    sizes = [arguments.nodes] if arguments.nodes else [200] if arguments.quick else [1_000, 10_000]
    metrics: dict[str, float] = {}
    for nodes in sizes:
        result = Crowd(nodes).run()
        name = f"{nodes // 1000}k" if nodes % 1000 == 0 else str(nodes)
        metrics[f"finish_over_bound_{name}"] = round(result.finish_over_bound, 4)
        metrics[f"origin_copies_{name}"] = round(result.origin_copies, 4)
        metrics["us_per_piece" if nodes == 1_000 else f"us_per_piece_{name}"] = round(result.us_per_piece, 1)
    conditions = {
        "nodes": sizes,
        "pieces": load_scenario("flash_crowd", []).catalog[0].layout.piece_count,
        "uplinks": "equal, the origin's too",
        "access_ms": ACCESS_MS,
        "grant_after_news_ms": 2 * ACCESS_MS,
        "bound": "pieces",
        "checkers": False,
    }
    print(json.dumps({"benchmark": "flash_crowd_sim", "metrics": metrics, "conditions": conditions}))


if __name__ == "__main__":
    main()
