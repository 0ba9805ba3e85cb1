"""A few phones within reach of each other and of nothing else, some of which have a file that the others want.

A test says who meets whom and when; without that all stand together from the start.
"""

from __future__ import annotations

from pathlib import Path

from edgecoder.trace import PieceKept
from tests.sim.told import Told

KIB = 1 << 10
FILE_BYTES = 2048 * KIB
PIECES = 32
MODEL = "adapter"
YAML = f"""
name: air
duration_s: 120
catalog:
  - modelId: {MODEL}
    displayName: An adapter
    paramSize: 0.5
    quantization: F16
    fileSizeBytes: {FILE_BYTES}
    sha256: {"5c" * 32}
    pieceRoot: {"a7" * 32}
    minMemoryMb: 512
    platforms: [ios]
networks:
  line: {{latency_ms: 5, up_mbit_per_s: 20, down_mbit_per_s: 20}}
cdn: {{reachable: false}}
radio: {{area_m: [4, 4]}}
phones: {{count: 3, network: line, devices: {{phone_low: 1}}, installed: {{{MODEL}: 0.5}}}}
coordinators: {{count: 0}}
workload:
  pulls: [{{name: adapter, source: phones, at_s: 10, to: {{{MODEL}: 1}}}}]
"""


class Air(Told):
    """A world of phones."""

    def __init__(self, folder: Path, *sets: str) -> None:
        super().__init__(folder, YAML, *sets)

    @property
    def holders(self) -> list[int]:
        """The nodes that have the whole file."""
        entry = self.scenario.catalog[0]
        return [place.sim.index for place in self.world.members if place.has(entry)]

    def part(self, first: int, second: int) -> None:
        """Two phones go out of each other's reach."""
        a, b = self.world.nodes[first], self.world.nodes[second]
        self.world.contacts.contact_ends(a, b)

    def meet(self, first: int, second: int) -> None:
        """They come into it."""
        a, b = self.world.nodes[first], self.world.nodes[second]
        self.world.contacts.contact_begins(a, b, 2.0)

    def came(self, node: int) -> int:
        """Bytes of pieces that a node has kept."""
        return sum(record.size_bytes for record in self.of(PieceKept, node))
