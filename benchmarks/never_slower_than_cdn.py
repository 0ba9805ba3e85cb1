"""Is a download from peers and CDN ever slower than one from the CDN alone? Random worlds, each run both ways.

A world is drawn from a seed: 1 to 60 nodes on one or two kinds of access, a file that takes the CDN from ten seconds to
an hour, an origin with or without a limit, when each node asks, who has the file already, coordinators, and in some
worlds nodes that crash and come back. Both runs have the same seed, so that the same nodes ask and crash at the same
times. A node counts where it lived through both and the CDN alone took it 10 s or more; its ratio is (t - 1 s) ÷ t_cdn.

Offload is the share of a world's bytes that did not come from the CDN; the median is over all worlds, those with a
single node included. `bad_worlds` names the seeds of the worlds above the goal: `--world SEED` shows one, node by node.

Prints one JSON line. Goal: worst_ratio 1.05 in 200 worlds or more.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from edgecoder.core.effects import Effect, FetchFile, PullResult, Reply
from edgecoder.core.events import Event, FetchProgressed, FileFetched, PullModel
from edgecoder.core.ids import CommandId
from edgecoder.trace import PieceKept, Record
from edgecoder_sim.host import SimNode
from edgecoder_sim.scenario import load_scenario
from edgecoder_sim.world import World

GOAL = 1.05
COUNTS_FROM_US = 10_000_000
"""Nodes that the CDN alone served sooner are left out."""
ALLOWED_US = 1_000_000
FILE_BYTES_MAX = 40 << 30
Document = dict[str, Any]


class Took(NamedTuple):
    """One node's download."""

    began_us: int
    took_us: int


class Watcher:
    """When each node was told to pull, when it was done, and what the CDN sent. A checker and a sink."""

    name = "downloads"

    def __init__(self) -> None:
        self.took: dict[str, Took] = {}
        self.cdn_bytes = self.peer_bytes = 0
        self._asked: dict[CommandId, tuple[int, int]] = {}
        self._offset: dict[tuple[int, int], int] = {}

    def saw(self, at_us: int, node: SimNode, event: Event, effects: list[Effect]) -> None:
        """See `watch.Checker`."""
        if isinstance(event, PullModel):
            self._asked[event.command] = (node.index, at_us)
        elif isinstance(event, FetchProgressed | FileFetched):
            self._whole_file(node, event)
        for effect in effects:
            if isinstance(effect, FetchFile):
                self._offset[node.index, effect.op] = effect.offset_bytes
            elif isinstance(effect, Reply) and isinstance(effect.result, PullResult):
                _, began_us = self._asked.pop(effect.command)
                if effect.result.reason is None:
                    self.took[node.name] = Took(began_us, at_us - began_us)

    def _whole_file(self, node: SimNode, event: FetchProgressed | FileFetched) -> None:
        done = event.size_bytes if isinstance(event, FileFetched) else event.bytes_done
        self.cdn_bytes += done - self._offset[node.index, event.op]
        self._offset[node.index, event.op] = done

    @property
    def open(self) -> int:
        """Downloads that have not ended."""
        return len(self._asked)

    def died(self, at_us: int, node: SimNode) -> None:  # noqa: ARG002
        """See `watch.Checker`."""
        for command in [command for command, (index, _) in self._asked.items() if index == node.index]:
            del self._asked[command]

    def finish(self, at_us: int) -> None:
        """See `watch.Checker`."""

    def record(self, at_us: int, node: int, record: Record) -> None:  # noqa: ARG002
        """See `watch.TraceSink`."""
        if isinstance(record, PieceKept):
            if record.source == "cdn":
                self.cdn_bytes += record.size_bytes
            else:
                self.peer_bytes += record.size_bytes

    def message(self, type_name: str, medium: str, size_bytes: int) -> None:
        """See `watch.TraceSink`."""

    def command(self, command: int, kind: str) -> None:
        """See `watch.TraceSink`."""


def draw(seed: int) -> Document:
    """A world."""
    rng = random.Random(seed)

    def log_uniform(low: float, high: float) -> float:
        return math.exp(rng.uniform(math.log(low), math.log(high)))

    nodes = round(log_uniform(1, 60))
    phones = rng.choice((0, 0, rng.randint(0, nodes)))
    networks = {}
    for name in ("near", "far"):
        down = log_uniform(10, 1000)
        up = down * log_uniform(0.02, 1)
        networks[name] = {"latency_ms": log_uniform(1, 150), "up_mbit_per_s": up, "down_mbit_per_s": down}
        networks[name]["metered"] = rng.random() < 0.1
    connection = log_uniform(10, 1000)
    egress = rng.choice((None, log_uniform(20, 4000)))
    alone_mbit_per_s = min(connection, networks["near"]["down_mbit_per_s"], egress or math.inf)
    alone_s = log_uniform(10, 3600 if rng.random() < 0.3 else 300)
    size = min(FILE_BYTES_MAX, round(alone_s * alone_mbit_per_s * 125_000))
    wait_s = rng.choice((0.0, 1.0, alone_s * log_uniform(0.1, 5)))
    least = min(connection, *(networks[name]["down_mbit_per_s"] for name in networks))
    longest_s = size / 125_000 * max(1 / least, 0 if egress is None else nodes / egress)
    model = {
        "modelId": "release", "displayName": "Release", "paramSize": 1, "quantization": "Q4_K_M",
        "fileSizeBytes": size, "sha256": f"{seed:064x}", "pieceRoot": f"{seed:064x}", "minMemoryMb": 512,
        "platforms": ["ios", "node"],
    }  # fmt: skip
    seeders = rng.choice((0, 0, 0, rng.uniform(0.02, 0.5)))
    group: Document = {"installed": {"release": seeders}} if seeders else {}
    document: Document = {
        "name": "world", "duration_s": 60 + wait_s + 4 * longest_s, "rng_seed": seed, "catalog": [model],
        "networks": networks, "radio": {"links_max": 0},
        "devices": {name: {"memory_mb": 262_144} for name in ("phone_high", "laptop")},  # the file may be large
        "cdn": {"per_connection_mbit_per_s": connection, "ttfb_ms": log_uniform(20, 500)},
        "phones": {"count": phones, "network": "far", "devices": {"phone_high": 1}, **group},
        "agents": {"count": nodes - phones, "network": "near", "devices": {"laptop": 1}, **group},
        "coordinators": {
            "count": rng.choice((0, 1, 1, 1, 1, 1, 2, 3)), "device": "server", "network": "lan",
            "federation_network": "wan",
        },
        "workload": {"pulls": [{"name": "release", "at_s": 20, "within_s": wait_s}]},
    }  # fmt: skip
    if egress is not None:
        document["cdn"]["egress_mbit_per_s"] = egress
    if nodes > 2 and rng.random() < 0.25:
        members = [f"phone-{i}" for i in range(phones)] + [f"agent-{i}" for i in range(nodes - phones)]
        document["faults"] = {
            "plan": [
                {"kind": "crash", "at_s": 20 + rng.uniform(0, wait_s + longest_s), "for_s": log_uniform(1, 300),
                 "nodes": [who], "silent": rng.random() < 0.3}
                for who in rng.sample(members, rng.randint(1, nodes // 2))
            ]
        }  # fmt: skip
    return document


def run(document: Document, policy: str) -> Watcher:
    """One run of a world."""
    with tempfile.TemporaryDirectory(prefix="world-") as folder:
        path = Path(folder) / "world.yaml"
        path.write_text(json.dumps({**document, "config": {"distribution": policy}}), encoding="utf-8")
        scenario = load_scenario(path)
    watcher = Watcher()
    world = World(scenario, [watcher])
    world.start_users(watcher)
    asked_by_us = round((21 + document["workload"]["pulls"][0]["within_s"]) * 1_000_000)
    step_us = max(1_000_000, scenario.duration_us // 50)
    while world.kernel.now < scenario.duration_us and (world.kernel.now < asked_by_us or watcher.open):
        world.kernel.run(min(scenario.duration_us, world.kernel.now + step_us))
    return watcher


class Compared(NamedTuple):
    """Both runs of a world."""

    ratios: dict[str, float]
    """By node."""
    offload: float
    missing: int
    """Nodes that the CDN alone served, and that got nothing with peers."""


def compare(document: Document) -> Compared:
    """Run a world both ways."""
    alone, portfolio = run(document, "cdn"), run(document, "portfolio")
    ratios, missing = {}, 0
    crashed = {who for fault in document.get("faults", {"plan": []})["plan"] for who in fault["nodes"]}
    for name, took in alone.took.items():
        other = portfolio.took.get(name)
        if other is None:
            missing += name not in crashed
        elif took.took_us >= COUNTS_FROM_US:
            ratios[name] = (other.took_us - ALLOWED_US) / took.took_us
    total = portfolio.cdn_bytes + portfolio.peer_bytes
    return Compared(ratios, portfolio.peer_bytes / total if total else 0.0, missing)


def show(seed: int) -> None:
    """One world, node by node."""
    document = draw(seed)
    print(json.dumps(document, indent=1))
    alone, portfolio = run(document, "cdn"), run(document, "portfolio")
    for name, took in sorted(alone.took.items()):
        other = portfolio.took.get(name)
        after = "never" if other is None else f"{other.took_us / 1e6:10.1f}"
        ratio = "" if other is None else f"{(other.took_us - ALLOWED_US) / took.took_us:6.3f}"
        print(
            f"{name:12} asked {took.began_us / 1e6:8.1f} s, CDN {took.took_us / 1e6:10.1f} s, portfolio {after} {ratio}"
        )
    print(f"CDN bytes {alone.cdn_bytes} and {portfolio.cdn_bytes}, from peers {portfolio.peer_bytes}")


def main() -> None:
    """Run all worlds and print the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20 worlds")
    parser.add_argument("--worlds", type=int, default=200)
    parser.add_argument("--first", type=int, default=1, help="seed of the first world")
    parser.add_argument("--world", type=int, help="show this one")
    arguments = parser.parse_args()
    if arguments.world is not None:
        show(arguments.world)
        return
    count = 20 if arguments.quick else arguments.worlds
    seeds = range(arguments.first, arguments.first + count)
    compared = {seed: compare(draw(seed)) for seed in seeds}
    worst = {seed: max(world.ratios.values()) for seed, world in compared.items() if world.ratios}
    missing = sum(world.missing for world in compared.values())
    ratios = sorted(ratio for world in compared.values() for ratio in world.ratios.values())
    metrics = {
        "worst_ratio": round(max(worst.values()), 4) if not missing else math.inf,
        "median_offload": round(statistics.median(world.offload for world in compared.values()), 4),
        "worlds": count,
    }
    conditions = {
        "bad_worlds": {seed: round(ratio, 3) for seed, ratio in worst.items() if ratio > GOAL},
        "never_ended": missing,
        "nodes": len(ratios),
        "ratio_p50": round(ratios[len(ratios) // 2], 4),
        "ratio_p99": round(ratios[len(ratios) * 99 // 100], 4),
        "first_seed": arguments.first,
        "quick": arguments.quick,
    }
    print(json.dumps({"benchmark": "never_slower_than_cdn", "metrics": metrics, "conditions": conditions}))


if __name__ == "__main__":
    main()
