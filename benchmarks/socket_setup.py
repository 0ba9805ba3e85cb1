"""What a swarm over real sockets is asked to do, and what it came to: plain data, the same in every process of it.

Rates are in bytes a second, sizes in bytes, times in seconds after the moment at which all nodes want the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

MIB: Final = 1 << 20
ORIGIN: Final = -1
"""Stands for the origin where a node's number is asked for."""


class SetUp(msgspec.Struct, frozen=True, kw_only=True):
    """One swarm: nodes that all want one file in the same moment, and an origin that has it."""

    uplinks_bytes_per_s: tuple[int, ...]
    """Of each node, the first is number 0. A node is told its uplink in kbit/s, so it may be 124 bytes/s less."""
    file_size_bytes: int = 32 * MIB
    piece_size_bytes: int = 256 * 1024
    origin_bytes_per_s: int = 2 * MIB
    """Of the origin to all nodes together, in one connection or several."""
    deaths_s: dict[int, float] = {}
    """When a node dies, by its number: its sockets close in the middle of what they send, and it says no word."""
    broker_delay_ms: int = 200
    """What the coordinator allows for news and answer to cross the network (`NodeConfig.broker_delay_ms`)."""
    first_byte_ms: int = 100
    """What nodes are told of how long the origin takes to its first byte (`ClusterConfig.cdn_first_byte_ms`)."""
    content_seed: int = 1
    """The bytes of the file are drawn from it."""
    processes: int = 1
    """That the nodes are divided among. The coordinator and the origin are in one more."""
    limit_s: float = 300.0
    """All that live must have finished by then."""
    journals: bool = False
    """Whether every node and the coordinator keep a journal, `node-N/journal` and `coordinator/journal`."""


class Arrival(msgspec.Struct, frozen=True):
    """A piece is verified and synced at a node."""

    at_s: float
    piece: int
    sender: int
    """Number of a node, or ORIGIN."""
    size_bytes: int
    """What this sender gave of it."""


class NodeOutcome(msgspec.Struct, frozen=True):
    """What one node came to."""

    number: int
    finish_s: float | None
    """When its last piece was there; None: it died before."""
    installed_s: float | None
    """When the SHA-256 of the whole file was found right, and its row in the store was durable; None: it died before,
    or nobody waited for it."""
    arrivals: tuple[Arrival, ...]
    """In their order."""
    wasted_bytes: int
    """That came again, or did not fit."""

    @property
    def origin_bytes(self) -> int:
        """What the origin gave it, as it counts."""
        return sum(each.size_bytes for each in self.arrivals if each.sender == ORIGIN)

    @property
    def peer_bytes(self) -> int:
        """What other nodes gave it."""
        return sum(each.size_bytes for each in self.arrivals if each.sender != ORIGIN)


class Outcome(msgspec.Struct, frozen=True):
    """What a swarm came to."""

    nodes: tuple[NodeOutcome, ...]
    """In the order of their numbers."""
    origin_bytes: int
    """What the origin sent, leaf hashes included."""
    file_size_bytes: int
    late_p99_s: tuple[float, ...]
    """How late a coroutine that sleeps was woken, 99th percentile, on the loop of each process: that of the coordinator
    and the origin, then those of the nodes."""
    cpu_s: tuple[float, ...]
    """CPU time of each process from the moment that all want the file to the end, in the same order."""

    @property
    def last_finish_s(self) -> float:
        """When the last node had all pieces. Nodes that died do not count."""
        return max(node.finish_s for node in self.nodes if node.finish_s is not None)

    @property
    def origin_copies(self) -> float:
        """What the origin sent, in files."""
        return self.origin_bytes / self.file_size_bytes

    def reached_s(self, share: float) -> float:
        """When so much of all bytes had come (0.5: half), that the nodes which finished wanted."""
        finished = [node for node in self.nodes if node.finish_s is not None]
        wanted, came = share * self.file_size_bytes * len(finished), 0
        for arrival in _by_time(finished):
            came += arrival.size_bytes
            if came >= wanted:
                return arrival.at_s
        raise ValueError(f"{share} of all bytes never came")


def _by_time(nodes: Sequence[NodeOutcome]) -> Iterator[Arrival]:
    yield from sorted((arrival for node in nodes for arrival in node.arrivals), key=lambda arrival: arrival.at_s)
