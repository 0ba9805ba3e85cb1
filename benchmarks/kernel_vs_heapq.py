"""The simulation kernel against a bare heapq loop, and against SimPy as a newcomer writes it.

It decides what the kernel costs beside the cheapest loop that Python allows, on one workload: each node sends a
heartbeat every 15 s to 1 peer and gossip every 60 s to 3 peers, with latencies of 20-220 ms, and the same handler of
about 2 us runs for every timer and every delivery. What a real core costs per event is for other benchmarks.

Prints one JSON line. A ratio is handler calls per CPU second of the kernel divided by those of the other side; each
repeat is a fresh process in which both sides take turns. Usage: python benchmarks/kernel_vs_heapq.py [--quick]
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import subprocess
import sys
import time
import timeit
from collections.abc import Callable, Generator
from heapq import heappop, heappush
from importlib.metadata import version
from itertools import count
from typing import Any, NamedTuple

import simpy

from edgecoder_sim.kernel import Kernel

HEARTBEAT_US = 15_000_000
GOSSIP_US = 60_000_000
GOSSIP_PEERS = 3
LATENCY_MIN_US = 20_000
LATENCY_SPAN_US = 200_000
US_PER_S = 1_000_000
HANDLER_ROUNDS = range(10)
SLICES = 20
WARM_UP_S = 1
DRAW_MASK = (1 << 30) - 1
RNG_SEED = 7
CALLS_TOLERANCE = 0.01

Run = Callable[[int], None]
"""Runs a prepared world up to a time in microseconds."""
Process = Generator[simpy.Event, Any, None]


class Node:
    """What one participant keeps: a table that the handler touches, and its own stream of draws."""

    __slots__ = ("draw", "gossip_offset_us", "handled", "heartbeat_offset_us", "inbox", "table")
    inbox: simpy.Store

    def __init__(self, draw: int, heartbeat_offset_us: int, gossip_offset_us: int) -> None:
        self.draw = draw
        self.heartbeat_offset_us = heartbeat_offset_us
        self.gossip_offset_us = gossip_offset_us
        self.handled = 0
        self.table: dict[int, int] = {}


class World:
    """The nodes and their draws. Every side makes its own from the same seed, and so does the same work."""

    def __init__(self, node_count: int) -> None:
        rng = random.Random(RNG_SEED)
        self.nodes = [
            Node(rng.randrange(DRAW_MASK), rng.randrange(HEARTBEAT_US), rng.randrange(GOSSIP_US))
            for _ in range(node_count)
        ]

    def next_peer(self, node: Node) -> Node:
        """The peer of the next message of `node`."""
        node.draw = draw = (node.draw * 1103515245 + 12345) & DRAW_MASK
        return self.nodes[(draw >> 8) % len(self.nodes)]

    def latency_us(self, node: Node) -> int:
        """The latency of the message whose peer was drawn last."""
        return LATENCY_MIN_US + node.draw % LATENCY_SPAN_US

    def calls(self) -> int:
        """How often the handler ran so far."""
        return sum(node.handled for node in self.nodes)


def handle(node: Node, message: int) -> None:
    """About 2 us of work, such as one touch of a routing table; the same for every side."""
    node.handled += 1
    table = node.table
    for key in HANDLER_ROUNDS:
        table[key] = message
        message = (message * 1103515245 + 12345) & 0x7FFFFFFF


def prepare_kernel(world: World) -> Run:
    """The project's kernel: periodic calls in static slots, deliveries in tick lists."""
    kernel = Kernel()
    call_at = kernel.call_at
    next_peer, latency_us = world.next_peer, world.latency_us

    def heartbeat(node: Node, _: None) -> None:
        handle(node, 1)
        peer = next_peer(node)
        call_at(kernel.now + latency_us(node), handle, peer, 2)

    def gossip(node: Node, _: None) -> None:
        handle(node, 3)
        for _peer in range(GOSSIP_PEERS):
            peer = next_peer(node)
            call_at(kernel.now + latency_us(node), handle, peer, 4)

    for node in world.nodes:
        kernel.every(HEARTBEAT_US, node.heartbeat_offset_us, heartbeat, node)
        kernel.every(GOSSIP_US, node.gossip_offset_us, gossip, node)
    return kernel.run


def prepare_heapq(world: World) -> Run:
    """The cheapest loop: tuples on a heap, timers that push themselves again."""
    queue: list[tuple[int, int, Callable[..., None], Node, int | None]] = []
    serial = count()
    now = 0
    next_peer, latency_us = world.next_peer, world.latency_us

    def heartbeat(node: Node, _: None) -> None:
        handle(node, 1)
        peer = next_peer(node)
        heappush(queue, (now + latency_us(node), next(serial), handle, peer, 2))
        heappush(queue, (now + HEARTBEAT_US, next(serial), heartbeat, node, None))

    def gossip(node: Node, _: None) -> None:
        handle(node, 3)
        for _peer in range(GOSSIP_PEERS):
            peer = next_peer(node)
            heappush(queue, (now + latency_us(node), next(serial), handle, peer, 4))
        heappush(queue, (now + GOSSIP_US, next(serial), gossip, node, None))

    for node in world.nodes:
        heappush(queue, (node.heartbeat_offset_us, next(serial), heartbeat, node, None))
        heappush(queue, (node.gossip_offset_us, next(serial), gossip, node, None))

    def run(until_us: int) -> None:
        nonlocal now
        while queue[0][0] < until_us:
            now, _, fn, a, b = heappop(queue)
            fn(a, b)

    return run


def prepare_naive_simpy(world: World) -> Run:
    """SimPy with three processes and a Store per node, a process per message and float seconds."""
    env = simpy.Environment()

    def deliver(latency_s: float, inbox: simpy.Store, message: int) -> Process:
        yield env.timeout(latency_s)
        yield inbox.put(message)

    def send(node: Node, message: int) -> None:
        peer = world.next_peer(node)
        env.process(deliver(world.latency_us(node) / US_PER_S, peer.inbox, message))

    def heartbeat(node: Node, offset_us: int) -> Process:
        yield env.timeout(offset_us / US_PER_S)
        while True:
            handle(node, 1)
            send(node, 2)
            yield env.timeout(HEARTBEAT_US / US_PER_S)

    def gossip(node: Node, offset_us: int) -> Process:
        yield env.timeout(offset_us / US_PER_S)
        while True:
            handle(node, 3)
            for _ in range(GOSSIP_PEERS):
                send(node, 4)
            yield env.timeout(GOSSIP_US / US_PER_S)

    def receive(node: Node) -> Process:
        while True:
            message = yield node.inbox.get()
            handle(node, message)

    for node in world.nodes:
        node.inbox = simpy.Store(env)
        env.process(heartbeat(node, node.heartbeat_offset_us))
        env.process(gossip(node, node.gossip_offset_us))
        env.process(receive(node))

    def run(until_us: int) -> None:
        env.run(until=until_us / US_PER_S)

    return run


SIDES: dict[str, Callable[[World], Run]] = {
    "kernel": prepare_kernel,
    "heapq": prepare_heapq,
    "naive_simpy": prepare_naive_simpy,
}


class Size(NamedTuple):
    """How long one comparison runs. The simulated times bound the whole benchmark to about a minute."""

    nodes: int
    sim_s: int
    repeats: int


FULL: dict[str, tuple[str, Size]] = {
    "ratio_1k": ("heapq", Size(1_000, 300, 5)),
    "ratio_10k": ("heapq", Size(10_000, 40, 5)),
    "ratio_100k": ("heapq", Size(100_000, 10, 3)),
    "vs_naive_simpy_10k": ("naive_simpy", Size(10_000, 20, 3)),
    "vs_naive_simpy_100k": ("naive_simpy", Size(100_000, 10, 2)),
}
QUICK: dict[str, tuple[str, Size]] = {
    "ratio_1k": ("heapq", Size(1_000, 100, 1)),
    "ratio_10k": ("heapq", Size(10_000, 15, 1)),
    "ratio_100k": ("heapq", Size(100_000, 3, 1)),
    "vs_naive_simpy_10k": ("naive_simpy", Size(10_000, 5, 1)),
    "vs_naive_simpy_100k": ("naive_simpy", Size(100_000, 1, 1)),
}


def measure(other: str, node_count: int, sim_s: int) -> float:
    """Return the kernel's handler calls per CPU second divided by those of `other`, measured in this process.

    The sides take turns, a slice of simulated time each, because the clock rate of a shared machine changes by half
    within seconds. Set-up and the first simulated second are not timed (SimPy starts its processes in it), and what
    they allocated is hidden from the cyclic collector, for both alike.
    """
    sides = ["kernel", other]
    worlds = {side: World(node_count) for side in sides}
    runs = {side: SIDES[side](worlds[side]) for side in sides}
    for side in sides:
        runs[side](WARM_UP_S * US_PER_S)
    warm_up_calls = {side: worlds[side].calls() for side in sides}
    cpu_s = dict.fromkeys(sides, 0.0)
    gc.collect()
    gc.freeze()
    for turn in range(1, SLICES + 1):
        for side in sides if turn % 2 else reversed(sides):
            start_s = time.process_time()
            runs[side](WARM_UP_S * US_PER_S + turn * sim_s * US_PER_S // SLICES)
            cpu_s[side] += time.process_time() - start_s
    calls = {side: worlds[side].calls() - warm_up_calls[side] for side in sides}
    if abs(calls["kernel"] - calls[other]) > CALLS_TOLERANCE * calls[other]:
        raise RuntimeError(f"the two sides did different work: {calls} handler calls")
    return (calls["kernel"] / cpu_s["kernel"]) / (calls[other] / cpu_s[other])


def measure_afresh(other: str, size: Size) -> float:
    """The median of `size.repeats` calls of `measure`, each in a new process."""
    command = [sys.executable, __file__, "--measure", other, str(size.nodes), str(size.sim_s)]
    ratios = []
    for _ in range(size.repeats):
        child = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        ratios.append(float(child.stdout))
    return statistics.median(ratios)


def handler_us() -> float:
    """What one call of the handler costs when its node is in the cache."""
    node = Node(0, 0, 0)
    return min(timeit.repeat(lambda: handle(node, 1), number=20_000, repeat=10)) / 20_000 * US_PER_S


def main() -> None:
    """Print the JSON line, or the one ratio that a parent process asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short repeat of each size, under 20 s")
    parser.add_argument("--measure", nargs=3, metavar=("SIDE", "NODES", "SIM_S"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        other, node_count, sim_s = arguments.measure
        print(measure(other, int(node_count), int(sim_s)))
        return
    plan = QUICK if arguments.quick else FULL
    conditions = {
        "unit": "handler calls per CPU second, kernel / other side; median of the repeats, each a fresh process",
        "workload": "heartbeat 15 s to 1 peer, gossip 60 s to 3 peers, latency 20-220 ms, tick 1 ms",
        "warm_up_sim_s": WARM_UP_S,
        "handler_us_warm": round(handler_us(), 2),
        "python": sys.version.split()[0],
        "simpy": version("simpy"),
        "sizes": {key: {"against": other, **size._asdict()} for key, (other, size) in plan.items()},
    }
    metrics = {key: round(measure_afresh(other, size), 3) for key, (other, size) in plan.items()}
    print(json.dumps({"benchmark": "kernel_vs_heapq", "metrics": metrics, "conditions": conditions}))


if __name__ == "__main__":
    main()
